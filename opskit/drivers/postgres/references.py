"""Rows of other tables that keep rows from being removed, found before the first one is.

A foreign key with CASCADE or SET NULL has to be named (`touches`). One that forbids it would end
the step in the middle, again and again at the same row. So does one of the table to itself, also
where both rows are meant: what refers to another row has to go before that one, or with it.
"""

import json
from collections.abc import Iterator, Sequence

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.subject import Count, Subject
from opskit.drivers.postgres.walking import blocks
from opskit.model.rows import Rows
from opskit.render.removals import Sql, Statement, referenced, referred

_MOST = 10_000
"""Rows that are held are counted up to here."""
_KEYS = """
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(con.conname, n.nspname, c.relname,
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(one.attname, own.attname))
         FROM ROWS FROM (pg_catalog.unnest(con.conkey), pg_catalog.unnest(con.confkey))
             AS pair (theirs, ours)
         JOIN pg_catalog.pg_attribute one ON (one.attrelid, one.attnum) = (con.conrelid, theirs)
         JOIN pg_catalog.pg_attribute own ON (own.attrelid, own.attnum) = (con.confrelid, ours)),
        pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
        con.conrelid = con.confrelid) ORDER BY con.conname)
    FROM pg_catalog.pg_constraint con JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE con.confrelid = $1::regclass AND con.contype = 'f'
        AND con.confdeltype IN ('a', 'r') AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint whole
            WHERE whole.oid = con.conparentid AND whole.confrelid = con.confrelid)
"""
# Of a table in partitions that refers to this one each has the key once more: the whole will do.
# Where this is a partition itself, its key stands below that of the table which it is a part of.


def held(
    connection: Connection, made: Subject, work: Rows, found: Count
) -> tuple[list[str], list[str]]:
    """Return what keeps rows from being removed, and what this role can't be told of that."""
    (told,) = connection.one(_KEYS, made.full)
    wrong: list[str] = []
    unseen: list[str] = []
    for name, schema, table, pairs, may, itself in json.loads(told or "[]"):
        if not may:
            unseen.append(
                f"whether {schema}.{table} refers to rows that are meant ({name}) is not told to"
                " this role: if so, it would stop there → GRANT SELECT on it"
            )
            continue
        statement = Statement(work.chosen, made.full, found.began)
        if itself:
            wrong += _itself(connection, made, work, found, (name, statement, pairs))
            continue
        asked = referenced(statement, (schema, table), pairs, _MOST + 1)
        if many := _many(connection, asked):
            wrong.append(
                f"{schema}.{table} refers to {many} of the rows that are meant ({name}), and keeps"
                " them from being removed → remove those first, or leave these out with `where`"
            )
    return wrong, unseen


def _many(connection: Connection, asked: Sql) -> str:
    """Return how many are held, in words; "" where none is."""
    number = int(connection.one(asked.text, *asked.values)[0] or 0)
    if not number:
        return ""
    return f"{number}" if number <= _MOST else f"more than {_MOST}"


def _itself(
    connection: Connection, made: Subject, work: Rows, found: Count,
    key: tuple[str, Statement, Sequence[tuple[str, str]]],
) -> Iterator[str]:  # fmt: skip
    """Say which rows others of the table hold: that stay, or any where not all go at once."""
    name, statement, pairs = key
    first = min(work.limits.first, work.limits.batch)
    apart = found.rows > first or (
        found.total > first and blocks(connection, made, work, found.began, found.share) > 0
    )
    if many := _many(connection, referred(statement, pairs, _MOST + 1, apart=apart)):
        held = f"{made.said} itself refers to {many} of the rows that are meant ({name})"
        if apart:
            yield (
                f"{held}, and what is meant may not all go in the first batch (first: {first})"
                " → remove first, with `where`, those to which none refers, and then the others"
            )
        else:
            yield (
                f"{held}, by rows that are not meant, which keeps them from being removed"
                " → leave these out with `where`"
            )
