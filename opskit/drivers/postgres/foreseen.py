# ruff: noqa: S608 (names are of the catalog and quoted, values are bound)
"""What in a table's definition stands in the way of a deed: seen before anything is touched."""

import json
from collections.abc import Iterator, Sequence

from opskit.drivers.postgres.connection import Connection, Row, Taker
from opskit.drivers.postgres.ledgers import Known, known
from opskit.drivers.postgres.session import Session
from opskit.model.payouts import Payouts
from opskit.render.guards import repeated
from opskit.render.ledgers import name, table
from opskit.render.payouts import array
from opskit.render.reversals import inserted

_SUPERUSER = "SELECT rolsuper, rolname FROM pg_catalog.pg_roles WHERE rolname = current_user"
_MAY = """
    SELECT pg_catalog.has_table_privilege($1::oid, 'select')
       AND pg_catalog.has_column_privilege($1::oid, $2::text, $3)
"""
_LABELS = """
    SELECT pg_catalog.array_agg(e.enumlabel)::text, pg_catalog.bool_or(e.enumlabel = $3)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_enum e ON e.enumtypid = a.atttypid
    WHERE a.attrelid = $1::oid AND a.attname = $2
"""
_CHECKS = """
    SELECT c.conname, pg_catalog.pg_get_expr(c.conbin, c.conrelid)
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a
      ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
    WHERE c.conrelid = $1::oid AND c.contype = 'c' AND a.attname = $2
    UNION ALL
    SELECT c.conname, pg_catalog.replace(pg_catalog.pg_get_expr(c.conbin, 0), 'VALUE',
                                         pg_catalog.quote_ident(a.attname))
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_constraint c ON c.contypid = a.atttypid
    WHERE a.attrelid = $1::oid AND a.attname = $2 AND c.contype = 'c'
    ORDER BY 1
"""
_TRIGGERS = r"""
    SELECT t.tgname, p.oid::pg_catalog.regprocedure::text
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.tgrelid AND a.attname = $2
    WHERE t.tgrelid = $1::oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
      AND t.tgtype::integer & 16 <> 0
      AND (pg_catalog.cardinality(t.tgattr::int2[]) = 0 OR a.attnum = ANY (t.tgattr))
      AND p.prosrc ~ ('\y' || pg_catalog.regexp_replace($2, '([^a-z0-9_])', '\\\1', 'gi') || '\y')
      AND pg_catalog.strpos(p.prosrc, $3) = 0
    ORDER BY 1
"""
# What the function of a trigger does, nobody can tell; one that looks at the status and has never
# heard of the word would rather refuse it than let it pass.
_UNIQUE = """
    SELECT count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
      ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = $1::oid AND a.attname = $2 AND i.indnkeyatts = 1
      AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate
      AND (i.indpred IS NULL OR pg_catalog.pg_get_expr(i.indpred, i.indrelid)
           = '(' || pg_catalog.quote_ident($2) || ' IS NOT NULL)')
"""
_IN_PARTS = """
    SELECT coalesce((SELECT pg_catalog.string_agg(k.attname, ', ') FROM pg_catalog.pg_attribute k
            WHERE k.attrelid = p.partrelid AND k.attnum = ANY (p.partattrs::int2[])),
            'an expression'),
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = p.partrelid
            AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate
            AND i.indpred IS NULL AND a.attnum = ANY (i.indkey::int2[])
            AND (SELECT pg_catalog.bool_and(u.k = a.attnum OR u.k = ANY (p.partattrs::int2[]))
                 FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY u (k, n)
                 WHERE u.n <= i.indnkeyatts))
    FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a
      ON a.attrelid = p.partrelid AND a.attname = $2
    WHERE p.partrelid = $1::oid
"""
# A unique index of a partitioned table has the columns in it by which that is parted.
_NEEDED = """
    SELECT pg_catalog.string_agg(attname, ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute
    WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND attnotnull
      AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AND attname <> ALL ($2::text[])
"""
_SWITCH = """
    SELECT (SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
              AND NOT a.attisdropped AND (a.attname = 'name'
                OR (a.attname = 'enabled' AND a.atttypid = 'pg_catalog.bool'::regtype)))::text,
           pg_catalog.has_schema_privilege(n.oid, 'usage')
             AND pg_catalog.has_table_privilege(c.oid, 'select')
             AND coalesce((SELECT pg_catalog.has_column_privilege(c.oid, a.attnum, 'update')
                  FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attname = 'enabled'), false)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
"""
_OWNER = """
    SELECT pg_catalog.pg_has_role(current_user, relowner, 'usage') FROM pg_catalog.pg_class
    WHERE oid = $1::oid
"""
_LOCKED = """
    SELECT pg_catalog.string_agg(attname, ', ') FROM pg_catalog.pg_attribute
    WHERE attrelid = $1::oid AND attname = ANY ($2::text[])
      AND NOT pg_catalog.has_column_privilege(attrelid, attnum, 'insert')
"""


def obstacles(session: Session, work: Payouts) -> Iterator[str]:
    """Say what stands in the way; LedgerError where the table is not what is described."""
    connection = session.connection
    superuser, role = connection.one(_SUPERUSER)
    if superuser == "t" and work.do not in ("guard", "freeze"):
        yield f"{role} is a superuser: payments are held and reversed by a role that may just that"
    found = known(connection, work.ledger)
    if work.do in ("hold", "reverse"):
        yield from _unique(connection, found, work)
    if work.do == "freeze":
        yield from _switching(connection, work)
    elif work.do == "hold":
        yield from _holding(connection, found, work)
    elif work.do == "reverse":
        yield from _reversing(connection, found, work)
    elif work.do == "guard":
        yield from _guarding(connection, found, work)


def _unique(connection: Connection, found: Known, work: Payouts) -> Iterator[str]:
    """Say that an id may be that of several rows: what is said of one would be done to all.

    In a partitioned table an id is as good as unique where it is in each part: rows of one id in
    two of them are seen when they are held.
    """
    ledger = found.ledger
    if connection.one(_UNIQUE, found.oid, ledger.id) != ("0",):
        return
    by, each = connection.one(_IN_PARTS, found.oid, ledger.id) or (None, None)
    if each == "t" and work.do == "hold":
        return
    yield (
        f"nothing keeps two rows from having one {ledger.id}: it is no primary key of"
        f" {ledger.name}, and has no unique index → {_cure(found, ledger.id, by)} or name another"
        " column as the ledger's `id`"
    )


def _cure(found: Known, column: str, by: str | None) -> str:
    """Return what makes a column unique; `by`: how its table is partitioned, where it is."""
    if by:
        return f"no such index can be built, since the table is partitioned by {by}: do it by hand,"
    return f"CREATE UNIQUE INDEX CONCURRENTLY ON {table(found.ledger)} ({name(column)});"


def _switching(connection: Connection, work: Payouts) -> Iterator[str]:
    assert work.switch is not None
    schema, table = work.switch.schema, work.switch.table
    found = connection.one(_SWITCH, schema, table)
    if not found:
        yield (
            f"there is no table {schema}.{table} with a switch → name the one at which workers look"
            " (`table`, `schema`), or stop them in another way and prove it with `do: quiet`"
        )
        return
    columns, may = found
    if columns != "2":
        yield f"{schema}.{table} is no table of switches: those have name and enabled (boolean)"
    elif may != "t":
        yield f"its role may not change enabled of {schema}.{table}, or not read it"


def _holding(connection: Connection, found: Known, work: Payouts) -> Iterator[str]:
    status = found.ledger.status
    assert status is not None
    word, column = status.held[0], status.column
    if connection.one(_MAY, found.oid, column, "update") != ("t",):
        yield f"its role may not change {column} of {found.ledger.name}"
    labels, has = connection.one(_LABELS, found.oid, column, word)
    if labels is not None and has != "t":
        yield f"{word!r} is no value of {column}, which has {labels}"
        return
    yield from _checked(connection, found, work, column, word)
    triggers = _rows(connection, _TRIGGERS, found.oid, column, word)
    for trigger, function in triggers:
        if trigger not in work.triggers:
            yield (
                f"the trigger {trigger} ({function}) looks at {column} and does not know"
                f" {word!r}: it may forbid it → name it under `triggers` if it does not"
            )


def _checked(
    connection: Connection, found: Known, work: Payouts, column: str, word: str
) -> Iterator[str]:
    """Ask each CHECK that looks at the status what it would say of the rows as they would be."""
    changed = json.dumps({column: word})
    for constraint, expression in _rows(connection, _CHECKS, found.oid, column):
        count = connection.one(
            f"SELECT count(*) FROM {table(found.ledger)} AS t"
            f" WHERE t.{name(found.ledger.id)} = ANY ($1) AND (SELECT ({expression})"
            f" FROM pg_catalog.jsonb_populate_record(t, $2::jsonb) AS changed) IS FALSE",
            array(work.ids),
            changed,
        )
        if count != ("0",):
            yield f"the CHECK {constraint} forbids {word!r}: {expression}"


def _guarding(connection: Connection, found: Known, work: Payouts) -> Iterator[str]:
    """Say what would make the building of the index fail."""
    (ahead,) = connection.one("SELECT $1::timestamptz > pg_catalog.now()", work.since)
    if ahead == "t":
        yield f"since {work.since}: that has not come, so until then nothing would be guarded"
    by, _ = connection.one(_IN_PARTS, found.oid, found.ledger.created_at) or (None, None)
    if by:
        yield (
            f"{found.ledger.name} is partitioned by {by}: no index can be built CONCURRENTLY on it,"
            f" and a unique one has {by} in it → let the application claim each key in a table of"
            " its own, with the key as primary key"
        )
    if connection.one(_OWNER, found.oid) != ("t",):
        yield f"its role does not own {found.ledger.name}, and may build no index on it"
    keys, some = connection.one(repeated(found.ledger, work.since))
    if keys != "0":
        yield (
            f"{keys} keys are used more than once since {work.since} ({some}): hold or void what"
            " repeats them, or begin later (`since`)"
        )


def _reversing(connection: Connection, found: Known, work: Payouts) -> Iterator[str]:
    ledger, reversal = found.ledger, found.ledger.reversal
    assert reversal is not None
    at = reversal.reverses
    if connection.one(_UNIQUE, found.oid, at) == ("0",):
        by, _ = connection.one(_IN_PARTS, found.oid, at) or (None, None)
        yield (
            f"nothing keeps a row from being reversed twice: {at} has no unique index"
            f" → {_cure(found, at, by)}"
        )
    columns = list(inserted(ledger))
    lacking = connection.one(_NEEDED, found.oid, array(columns))[0]
    if lacking:
        yield (
            f"a row that reverses would lack {lacking} → say in the ledger's `reversal` what"
            " is copied (`copy`) and what is set (`set`)"
        )
    forbidden = connection.one(_LOCKED, found.oid, array(columns))[0]
    if forbidden:
        yield f"its role may not write {forbidden} of {ledger.name}"
    if connection.one(_MAY, found.oid, ledger.id, "update") == ("f",):
        yield f"its role may not lock rows of {ledger.name} (UPDATE of {ledger.id})"


def _rows(connection: Connection, text: str, *values: str) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def take(row: Row) -> None:
        first, second = ((cell or b"").decode() for cell in row)
        found.append((first, second))

    connection.run(text, values, Taker(row=take))
    return found
