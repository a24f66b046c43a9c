"""How the indexes of a table stand: which there are, whether they are of use, who works on them."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from opskit.drivers.postgres.asking import fetch
from opskit.drivers.postgres.comparing import matchers, resolved, unclear
from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.meaning import NONE, ask
from opskit.model.expected import Expected, Relation
from opskit.model.frozen import frozen
from opskit.model.work import Repair
from opskit.render.building import full_name
from opskit.render.definitions import relation_name

LEFT = re.compile(r"_cc(new|old)[0-9]*$")


class StandError(Exception):
    """It can't be told how an index stands, or it must not be touched; the message says why."""


class Standing(NamedTuple):
    """An index as it is now, in the order of the query below."""

    oid: int
    schema: str
    name: str
    table: str
    valid: bool
    """Valid, ready and live: of use to everybody."""
    definition: str
    constraint: str
    """The constraint that stands on it; "" for none."""
    tied: bool
    """Whether it is a part of a partitioned index, or tells rows apart for replication."""
    size: int
    busy: int
    """The process that builds or drops an index of this table; 0 for none."""

    @property
    def full(self) -> str:
        return full_name(self.schema, self.name)


_BUSY = """
    SELECT l.pid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = TABLE_ AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                        WHERE d.datname = pg_catalog.current_database())
      AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
                      WHERE a.pid = l.pid AND a.usesysid IS NULL)
    LIMIT 1
"""
"""Who builds an index keeps this lock on its table from beginning to end, and everybody may see
locks, also who may not see in pg_stat_progress_create_index what others build. An autovacuum
worker, which gives way, is told by its having no user: its kind is not shown to everybody."""
_STANDING = """
    SELECT pg_catalog.json_build_array(i.indexrelid::bigint, n.nspname, c.relname,
        pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.relname),
        i.indisvalid AND i.indisready AND i.indislive, pg_catalog.pg_get_indexdef(i.indexrelid),
        coalesce((SELECT k.conname FROM pg_catalog.pg_constraint k
            WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') LIMIT 1), ''),
        c.relispartition OR c.relkind = 'I' OR i.indisreplident,
        pg_catalog.pg_relation_size(i.indexrelid),
        coalesce((BUSY), 0))
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
""".replace("BUSY", _BUSY.replace("TABLE_", "i.indrelid"))


_ALL = "SELECT coalesce(pg_catalog.json_agg(found), '[]') FROM (EACH) q (found)"


def busy_on(connection: Connection, table: int) -> int:
    """Return the process that builds or drops an index of a table; 0 for none."""
    found = connection.one(_BUSY.replace("TABLE_", "$1::oid"), str(table))
    return int(found[0] or 0) if found else 0


def of_table(connection: Connection, table: int) -> list[Standing]:
    """Return the indexes of a table, by its number."""
    query = _STANDING + "WHERE i.indrelid = $1::oid ORDER BY c.relname"
    return _standing(connection, query, str(table))


def named(connection: Connection, name: str) -> list[Standing]:
    """Return the indexes of a name, with its schema or without."""
    schema, own = relation_name(name)
    query = _STANDING + (
        "WHERE c.relname = $1 AND ($2 = '' OR n.nspname = $2)"
        " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY n.nspname"
    )
    return _standing(connection, query, own, schema)


def numbered(connection: Connection, oid: int) -> Standing | None:
    found = _standing(connection, _STANDING + "WHERE i.indexrelid = $1::oid", str(oid))
    return found[0] if found else None


def _standing(connection: Connection, query: str, *values: str) -> list[Standing]:
    (text,) = connection.one(_ALL.replace("EACH", query), *values)
    return [Standing(*row) for row in json.loads(text or "[]")]


@frozen
class Table:
    """The table of an index, and which of its indexes is the one that is meant."""

    oid: int
    schema: str
    name: str
    indexes: Sequence[Standing]
    match: Standing | None = None
    partitioned: bool = False


def look(connection: Connection, work: Repair) -> Table:
    """Find the table that is meant, and on it the index that is the expected one."""
    indexes = (work.index,) if work.index is not None else ()
    wanted = Relation(name=work.relation, view=work.view, indexes=indexes)
    expected = Expected(relations=(wanted,))
    connection.own(SNAPSHOT)
    try:
        facts = fetch(connection, expected)
        made = matchers(expected, facts, resolved(expected, facts))
        asked = unclear(made)
        meanings = ask(connection, asked) if asked else NONE
    finally:
        connection.own("ROLLBACK")
    matcher = made.get(work.relation)
    if matcher is None:
        raise StandError(_why_not(connection, work))
    pairs = matcher.pairs(meanings)
    relation = matcher.relation
    denied, maybe = matcher.denied(matcher.wanted[0]) if pairs and pairs[0] is None else ("", ())
    if denied:
        names = ", ".join(one.name for one in maybe)
        raise StandError(f"{names} may be {work.index}, and this role can't see: {denied}")
    found = pairs[0] if pairs else None
    there = of_table(connection, relation.oid)
    match = next((one for one in there if found is not None and one.oid == found.oid), None)
    return Table(
        oid=relation.oid, schema=relation.schema, name=relation.name, indexes=there, match=match,
        partitioned=relation.kind == "p",
    )  # fmt: skip


_MAY = """
    SELECT pg_catalog.concat_ws('; ', CASE WHEN NOT pg_catalog.pg_has_role(c.relowner, 'usage')
            THEN current_user::text || ' does not own it, which ' ||
                pg_catalog.pg_get_userbyid(c.relowner)::text || ' does' END,
        CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'create')
            THEN current_user::text || ' may not CREATE in schema ' || n.nspname::text END)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1::oid
"""


def forbidden(connection: Connection, table: int) -> str:
    """Say why the session's role may build no index on a table; "" where it may."""
    found = connection.one(_MAY, str(table))
    return (found[0] or "") if found else ""


def _why_not(connection: Connection, work: Repair) -> str:
    schema, name = relation_name(work.relation)
    (places,) = connection.one(
        "SELECT pg_catalog.string_agg(n.nspname, ', ' ORDER BY n.nspname)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = $1 AND ($2 = '' OR n.nspname = $2) AND c.relkind IN ('r', 'p', 'm')"
        " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
        name,
        schema,
    )
    what = "materialized view" if work.view else "table"
    if places and "," in places:
        return f"{work.relation} is in several schemas ({places}): write SCHEMA.{name}"
    return f"there is no {what} {work.relation}"
