"""What a database has: indexes, tables, functions and the rest, in two queries for all of them.

To write an expression down the server takes the lock of a SELECT on its table, until the
transaction ends. Rows are not read: sizes and counts come from the catalog.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from opskit.drivers.postgres.connection import Connection
from opskit.model.expected import Expected
from opskit.model.frozen import frozen
from opskit.render.definitions import operator_class, pieces, relation_name


class Actual(NamedTuple):
    """An index as the catalog has it, in the order of the query below."""

    oid: int
    relation: int
    name: str
    text: str | None
    """What pg_get_indexdef says, where the rest does not tell all: to write it takes long."""
    valid: bool
    unique: bool
    constraint: bool
    """Whether a primary key, a unique or an exclusion constraint stands on it."""
    identity: bool
    """Whether logical replication tells rows apart by it."""
    child: bool
    """Whether it is a part of a partitioned index."""
    scans: int
    pages: int
    columns: str
    classes: str
    collations: str
    options: str
    width: int
    """How many of its columns are keys."""
    expressions: str | None
    where: str | None
    method: str
    nulls_distinct: bool


class ForeignKey(NamedTuple):
    """A foreign key as the catalog has it."""

    relation: int
    name: str
    columns: Sequence[int]
    references: str
    schema: str
    validated: bool


@frozen
class Relation:
    """A table, view or the like that has an expected name."""

    oid: int
    schema: str
    name: str
    kind: str
    populated: bool
    columns: Sequence[Sequence[Any]]
    """Of each: name, number, type, its modifier, collation."""
    indexes: Sequence[Actual] = ()
    foreign_keys: Sequence[ForeignKey] = ()

    @property
    def signature(self) -> str:
        """What decides how an expression over its columns is read."""
        return json.dumps([[name, *rest] for name, _, *rest in self.columns])

    def names(self) -> Mapping[int, str]:
        return {number: name for name, number, *_ in self.columns}


@frozen
class Facts:
    """All that was fetched."""

    relations: Mapping[str, Sequence[Relation]]
    """By name."""
    building: frozenset[int]
    """Tables on which an index is being built, as far as the role may see."""
    hidden: int
    """Builds of which the role may not see where."""
    functions: Mapping[str, tuple[bool, Sequence[str]]] = field(default_factory=dict)
    """Signature → whether it is there, and what else has its name."""
    extensions: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """Operator classes by number: name, and whether it is the default of its type."""
    collations: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    counted: float = 0.0
    """For how many seconds the server has counted who uses an index."""


_RELATIONS = """
WITH rel AS MATERIALIZED (
    SELECT DISTINCT c.oid, n.nspname, c.relname, c.relkind, c.relispopulated
    FROM pg_catalog.json_array_elements($1::json) w
    JOIN pg_catalog.pg_class c ON c.relname = w ->> 1
    JOIN pg_catalog.pg_namespace n
        ON n.oid = c.relnamespace AND (w ->> 0 = '' OR n.nspname = w ->> 0)
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND c.relkind IN ('r', 'p', 'm', 'v', 'f')),
col AS (
    SELECT a.attrelid, pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.attnum,
        a.atttypid::bigint, a.atttypmod, a.attcollation::bigint) ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY (ARRAY(SELECT oid FROM rel)) AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY a.attrelid),
idx AS (
    SELECT pg_catalog.json_build_array(i.indexrelid::bigint, i.indrelid::bigint, c.relname,
        CASE WHEN i.indexprs IS NOT NULL AND EXISTS (
            SELECT FROM unnest(i.indcollation) one WHERE one NOT IN (0, 100))
            THEN pg_catalog.pg_get_indexdef(i.indexrelid) END,
        i.indisvalid AND i.indisready AND i.indislive,
        i.indisunique, k.oid IS NOT NULL, i.indisreplident, c.relispartition,
        coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0), c.relpages,
        i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text, i.indnkeyatts,
        CASE WHEN i.indexprs IS NOT NULL THEN pg_catalog.pg_get_expr(i.indexprs, i.indrelid) END,
        CASE WHEN i.indpred IS NOT NULL THEN pg_catalog.pg_get_expr(i.indpred, i.indrelid) END,
        am.amname, NOT (i.indisunique AND coalesce((
            pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false))) AS found
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = c.relam
    LEFT JOIN pg_catalog.pg_constraint k
        ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = ANY (ARRAY(SELECT oid FROM rel)))
SELECT pg_catalog.json_build_object(
    'relations', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        rel.oid::bigint, nspname, relname, relkind, relispopulated, columns))
        FROM rel LEFT JOIN col ON col.attrelid = rel.oid),
    'indexes', (SELECT pg_catalog.json_agg(found) FROM idx),
    'building', (SELECT pg_catalog.json_agg(relid::bigint)
        FROM pg_catalog.pg_stat_progress_create_index WHERE datname = current_database()))
"""
_REST = """
SELECT pg_catalog.json_build_object(
    'foreign_keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conrelid::bigint,
            k.conname, k.conkey, c.relname, n.nspname, k.convalidated) ORDER BY k.conname)
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype = 'f' AND k.conrelid IN (
            SELECT value::oid FROM pg_catalog.json_array_elements_text($1::json) value)),
    'functions', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(f ->> 0,
            pg_catalog.to_regprocedure(f ->> 0) IS NOT NULL,
            ARRAY(SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p
                  WHERE p.proname = f ->> 1 ORDER BY 1)))
        FROM pg_catalog.json_array_elements($2::json) f),
    'extensions', (SELECT pg_catalog.json_agg(extname) FROM pg_catalog.pg_extension),
    'classes', (SELECT pg_catalog.json_object_agg(oid::text,
            pg_catalog.json_build_array(opcname, opcdefault))
        FROM pg_catalog.pg_opclass),
    'collations', (SELECT pg_catalog.json_object_agg(oid::text, collname)
        FROM pg_catalog.pg_collation WHERE oid IN (
            SELECT value::oid FROM pg_catalog.json_array_elements_text($3::json) value)),
    'version', pg_catalog.current_setting('server_version_num')::integer,
    'counted', (SELECT extract(epoch FROM now()
            - coalesce(stats_reset, pg_catalog.pg_postmaster_start_time()))
        FROM pg_catalog.pg_stat_database WHERE datname = current_database()))
"""


def fetch(connection: Connection, expected: Expected) -> Facts:
    """Fetch what concerns the expected objects; the transaction is the caller's."""
    names = [list(relation_name(one.name)) for one in expected.relations]
    first = _json(connection, _RELATIONS, json.dumps(names))
    indexes = _by_relation(Actual(*row) for row in first["indexes"] or ())
    used = {oid for group in indexes.values() for one in group for oid in one.collations.split()}
    oids = [row[0] for row in first["relations"] or ()]
    functions = [[text, function_name(text)] for text in expected.functions]
    rest = _json(
        connection, _REST, json.dumps(oids), json.dumps(functions), json.dumps(sorted(used))
    )
    keys = _by_relation(ForeignKey(*row) for row in rest["foreign_keys"] or ())
    relations: dict[str, list[Relation]] = {}
    for oid, schema, name, kind, populated, columns in first["relations"] or ():
        found = Relation(
            oid=oid,
            schema=schema,
            name=name,
            kind=kind,
            populated=populated,
            columns=columns or (),
            indexes=indexes.get(oid, ()),
            foreign_keys=keys.get(oid, ()),
        )
        relations.setdefault(name, []).append(found)
    building = first["building"] or ()
    return Facts(
        relations=relations,
        building=frozenset(oid for oid in building if oid),
        hidden=sum(not oid for oid in building),
        functions={text: (found, others) for text, found, others in rest["functions"] or ()},
        extensions=frozenset(rest["extensions"] or ()),
        classes={
            oid: (operator_class(name), default) for oid, (name, default) in rest["classes"].items()
        },
        collations=rest["collations"] or {},
        version=rest["version"],
        counted=float(rest["counted"] or 0),
    )


def function_name(signature: str) -> str:
    """Return the bare name in a signature."""
    found = pieces(signature)
    at = next(n for n, token in enumerate(found) if token.text == "(")
    return relation_name("".join(token.text for token in found[:at]))[1]


def _json(connection: Connection, query: str, *values: str) -> Any:  # noqa: ANN401 - any JSON
    (text,) = connection.one(query, *values)
    assert text is not None
    return json.loads(text)


def _by_relation(rows: Any) -> dict[int, list[Any]]:  # noqa: ANN401 - rows of either kind
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.relation, []).append(row)
    return found
