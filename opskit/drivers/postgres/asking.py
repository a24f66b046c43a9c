"""Asking a database for its catalog: two questions, whatever is expected of it.

What there is much of comes column by column: the server then looks up once how to write a column,
and not for every value. To write an expression down it takes the lock of a SELECT on its table,
until the transaction ends. Rows are not read: sizes and counts come from the catalog.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.catalog import (
    Actual,
    Collation,
    Facts,
    ForeignKey,
    Numbers,
    Relation,
    Routine,
    Width,
)
from opskit.drivers.postgres.connection import Connection
from opskit.model.expected import Expected
from opskit.render.definitions import operator_class, relation_name, signature

_PARTS = """(
        WITH RECURSIVE part AS (
            SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = c.oid
            UNION ALL
            SELECT i.inhrelid FROM part
            JOIN pg_catalog.pg_inherits i ON i.inhparent = part.inhrelid)
        SELECT coalesce(pg_catalog.sum(greatest(l.reltuples, 0)), 0)
        FROM part JOIN pg_catalog.pg_class l ON l.oid = part.inhrelid WHERE l.relkind <> 'p')"""
"""Rows of the parts of a partitioned table. Nobody counts the table's own: autovacuum never looks
at it, and PostgreSQL 13 does not where it is told to. (pg_partition_tree would lock each part.)"""
_RELATIONS = """
WITH rel AS MATERIALIZED (
    SELECT DISTINCT c.oid, n.nspname, c.relname, c.relkind, c.relispopulated,
        CASE WHEN c.relkind = 'p' THEN {parts} ELSE c.reltuples END AS reltuples
    FROM pg_catalog.json_array_elements($1::json) w
    JOIN pg_catalog.pg_class c ON c.relname = w ->> 1
    JOIN pg_catalog.pg_namespace n
        ON n.oid = c.relnamespace AND (w ->> 0 = '' OR n.nspname = w ->> 0)
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND c.relkind IN ('r', 'p', 'm', 'v', 'f')),
col AS (
    SELECT a.attrelid::bigint AS relation, a.attname AS name, a.attnum AS number,
        a.atttypid::bigint AS type, a.atttypmod AS modifier, a.attcollation::bigint AS ordering
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY (ARRAY(SELECT oid FROM rel)) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum),
idx AS (
    SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS relation, c.relname AS name,
        CASE WHEN i.indexprs IS NOT NULL AND EXISTS (
            SELECT FROM pg_catalog.unnest(i.indcollation) one WHERE one NOT IN (0, 100))
            THEN pg_catalog.pg_get_indexdef(i.indexrelid) END AS text,
        i.indisvalid AND i.indisready AND i.indislive AS valid,
        i.indisunique AS uniq, k.oid IS NOT NULL AS constrains, i.indisreplident AS identity,
        c.relispartition AS child, c.relpages AS pages, i.indkey::text AS columns,
        i.indclass::text AS classes, i.indcollation::text AS collations,
        i.indoption::text AS options, i.indnkeyatts AS width,
        CASE WHEN i.indexprs IS NOT NULL THEN pg_catalog.pg_get_expr(i.indexprs, i.indrelid) END
            AS expressions,
        CASE WHEN i.indpred IS NOT NULL THEN pg_catalog.pg_get_expr(i.indpred, i.indrelid) END
            AS condition,
        am.amname AS method, {distinct} AS apart, c.reltuples AS rows
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = c.relam
    LEFT JOIN pg_catalog.pg_constraint k
        ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = ANY (ARRAY(SELECT oid FROM rel)))
SELECT pg_catalog.json_build_object(
    'relations', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        oid::bigint, nspname, relname, relkind, relispopulated, reltuples)) FROM rel),
    'columns', (SELECT pg_catalog.json_build_array({columns}) FROM col),
    'indexes', (SELECT pg_catalog.json_build_array({indexes}) FROM idx),
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
            p.oid IS NOT NULL,
            ARRAY(SELECT o.oid::regprocedure::text FROM pg_catalog.pg_proc o
                  WHERE o.proname = f ->> 1 ORDER BY 1),
            n.nspname, p.proname,
            ARRAY(SELECT pg_catalog.format_type(one, NULL)
                  FROM pg_catalog.unnest(p.proargtypes) one),
            pg_catalog.format_type(p.prorettype, NULL), pg_catalog.pg_get_userbyid(p.proowner),
            p.prosecdef, CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable'
                         ELSE 'volatile' END))
        FROM pg_catalog.json_array_elements($2::json) f
        LEFT JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regprocedure(f ->> 0)
        LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace),
    'numbers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(d.refobjid::bigint,
            a.attname, n.nspname || '.' || s.relname, pg_catalog.format_type(a.atttypid, NULL),
            seen.may, CASE WHEN seen.may THEN pg_catalog.pg_sequence_last_value(s.oid) END,
            CASE WHEN q.seqincrement > 0 THEN q.seqmin ELSE q.seqmax END,
            CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, kind.most)
                ELSE greatest(q.seqmin, -1 - kind.most) END))
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            AND s.relpersistence = 'p'
        JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
        JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid AND NOT q.seqcycle
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        CROSS JOIN LATERAL (SELECT pg_catalog.has_sequence_privilege(s.oid, 'SELECT,USAGE'))
            seen (may)
        CROSS JOIN LATERAL (SELECT CASE a.atttypid WHEN 'int2'::regtype THEN 32767
            WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END) kind (most)
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
            AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY (ARRAY(
                SELECT value::oid FROM pg_catalog.json_array_elements_text($1::json) value))),
    'extensions', (SELECT pg_catalog.json_agg(extname) FROM pg_catalog.pg_extension),
    'classes', (SELECT pg_catalog.json_object_agg(oid::text,
            pg_catalog.json_build_array(opcname, opcdefault))
        FROM pg_catalog.pg_opclass),
    'collations', (SELECT pg_catalog.json_object_agg(oid::text, pg_catalog.json_build_array(
            collname, collversion, pg_catalog.pg_collation_actual_version(oid)))
        FROM pg_catalog.pg_collation WHERE oid IN (
            SELECT value::oid FROM pg_catalog.json_array_elements_text($3::json) value)),
    'usual', {usual},
    'widths', {widths},
    'version', pg_catalog.current_setting('server_version_num')::integer,
    'counted', counted.seconds,
    'idle', CASE WHEN counted.seconds >= $4::double precision THEN (
        SELECT pg_catalog.json_agg(i.indexrelid::bigint) FROM pg_catalog.pg_index i
        WHERE NOT i.indisunique AND i.indrelid IN (
                SELECT value::oid FROM pg_catalog.json_array_elements_text($1::json) value)
            AND coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0) = 0) END)
FROM (SELECT coalesce(max(extract(epoch FROM now()
            - coalesce(stats_reset, pg_catalog.pg_postmaster_start_time()))), 0)::double precision
        AS seconds
    FROM pg_catalog.pg_stat_database WHERE datname = current_database()) counted
"""
_WIDTHS = """
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(i.indexrelid::bigint,
            w.bytes, w.unseen, coalesce((SELECT o.option_value::integer
                FROM pg_catalog.pg_options_to_table(c.reloptions) o
                WHERE o.option_name = 'fillfactor'), 90),
            pg_catalog.pg_stat_get_mod_since_analyze(t.oid) / greatest(t.reltuples, 1)))
        FROM pg_catalog.json_array_elements_text($5::json) big
        JOIN pg_catalog.pg_index i ON i.indexrelid = big.value::oid
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
        CROSS JOIN LATERAL (
            SELECT sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE coalesce(s.avg_width, 0) END)
                    AS bytes,
                count(*) FILTER (WHERE a.attlen < 0 AND s.avg_width IS NULL) AS unseen
            FROM pg_catalog.pg_attribute a
            LEFT JOIN pg_catalog.pg_attribute b
                ON b.attrelid = t.oid AND b.attnum = i.indkey[a.attnum - 1] AND b.attnum > 0
            LEFT JOIN LATERAL (
                SELECT max(avg_width) AS avg_width FROM pg_catalog.pg_stats
                WHERE schemaname = n.nspname
                    AND tablename = CASE WHEN b.attnum IS NULL THEN c.relname ELSE t.relname END
                    AND attname = coalesce(b.attname, a.attname)) s ON a.attlen < 0
            WHERE a.attrelid = i.indexrelid AND a.attnum > 0) w)
"""
_USUAL = """
    (SELECT pg_catalog.json_build_array('default', datcollversion,
            pg_catalog.pg_database_collation_actual_version(oid))
        FROM pg_catalog.pg_database WHERE datname = current_database())
"""
"""The collation of the database: its version is noted since PostgreSQL 15."""


_DISTINCT = "NOT i.indnullsnotdistinct"
_FIFTEEN = 150000
_USUAL_OID = "100"
_COLUMNS = ("relation", "name", "number", "type", "modifier", "ordering")
_INDEXES = (
    "oid", "relation", "name", "text", "valid", "uniq", "constrains", "identity", "child", "pages",
    "columns", "classes", "collations", "options", "width", "expressions", "condition", "method",
    "apart", "rows",
)  # fmt: skip
"""In the order of `Actual`."""


def fetch(connection: Connection, expected: Expected, unused_after: float = math.inf) -> Facts:
    """Fetch what concerns the expected objects; the transaction is the caller's.

    Indexes that nobody uses are asked for where that was counted for `unused_after` seconds.
    """
    first = _first(connection, expected)
    indexes = _by_relation(map(Actual._make, _rows(first["indexes"])))
    rest = _rest(connection, first, indexes, expected.functions, unused_after)
    building = first["building"] or ()
    return Facts(
        relations=_relations(first, indexes, rest),
        building=frozenset(oid for oid in building if oid),
        hidden=sum(not oid for oid in building),
        functions={text: Routine(*rest) for text, *rest in rest["functions"] or ()},
        extensions=frozenset(rest["extensions"] or ()),
        classes={
            oid: (operator_class(name), default) for oid, (name, default) in rest["classes"].items()
        },
        collations=_collations(rest),
        widths={row[0]: Width(*row) for row in rest["widths"] or ()},
        version=rest["version"],
        numbers=_by_relation(Numbers(*row) for row in rest["numbers"] or ()),
        counted=float(rest["counted"] or 0),
        idle=frozenset(rest["idle"] or ()),
    )


def _first(connection: Connection, expected: Expected) -> Mapping[str, Any]:
    names = [list(relation_name(one.name)) for one in expected.relations]
    query = _RELATIONS.replace("{parts}", _PARTS)
    for name, columns in (("{columns}", _COLUMNS), ("{indexes}", _INDEXES)):
        query = query.replace(name, ", ".join(f"pg_catalog.json_agg({one})" for one in columns))
    distinct = _DISTINCT if connection.version >= _FIFTEEN else "true"
    query = query.replace("{distinct}", distinct)
    return _json(connection, query, json.dumps(names))  # type: ignore[no-any-return]


def _relations(
    first: Mapping[str, Any], indexes: Mapping[int, Sequence[Actual]], rest: Mapping[str, Any]
) -> Mapping[str, Sequence[Relation]]:
    keys = _by_relation(ForeignKey(*row) for row in rest["foreign_keys"] or ())
    columns: dict[int, list[Sequence[Any]]] = {}
    for relation, *column in _rows(first["columns"]):
        columns.setdefault(relation, []).append(column)
    found: dict[str, list[Relation]] = {}
    for oid, schema, name, kind, populated, rows in first["relations"] or ():
        one = Relation(
            oid=oid,
            schema=schema,
            name=name,
            kind=kind,
            populated=populated,
            columns=columns.get(oid, ()),
            rows=rows,
            indexes=indexes.get(oid, ()),
            foreign_keys=keys.get(oid, ()),
        )
        found.setdefault(name, []).append(one)
    return found


def _rows(columns: Sequence[Sequence[Any] | None]) -> Iterator[tuple[Any, ...]]:
    """Put columns together to rows; without rows there are none."""
    return zip(*(column or () for column in columns), strict=True)


def _rest(
    connection: Connection,
    first: Mapping[str, Any],
    indexes: Mapping[int, Sequence[Actual]],
    functions: Sequence[str],
    unused_after: float,
) -> Mapping[str, Any]:
    every = [one for group in indexes.values() for one in group]
    used = {oid for words in {one.collations for one in every} for oid in words.split()}
    big = [one.oid for one in every if one.big]
    values = [
        json.dumps([row[0] for row in first["relations"] or ()]),
        json.dumps([[text, signature(text)[1]] for text in functions]),
        json.dumps(sorted(used)),
        "Infinity" if math.isinf(unused_after) else str(unused_after),
        *([json.dumps(big)] if big else []),
    ]
    usual = _USUAL if connection.version >= _FIFTEEN else "NULL"
    query = _REST.replace("{usual}", usual).replace("{widths}", _WIDTHS if big else "NULL")
    return _json(connection, query, *values)  # type: ignore[no-any-return]


def _collations(rest: Mapping[str, Any]) -> Mapping[str, Collation]:
    """Return the collations; of the database's own one the version stands elsewhere."""
    found = {oid: Collation(*words) for oid, words in (rest["collations"] or {}).items()}
    if _USUAL_OID in found and rest["usual"]:
        found[_USUAL_OID] = Collation(*rest["usual"])
    return found


def _json(connection: Connection, query: str, *values: str) -> Any:  # noqa: ANN401 - any JSON
    (text,) = connection.one(query, *values)
    assert text is not None
    return json.loads(text)


def _by_relation(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.relation, []).append(row)
    return found
