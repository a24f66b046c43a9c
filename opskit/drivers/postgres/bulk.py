# ruff: noqa: S608 (it is put together of its own pieces; values are bound)
"""Tables and indexes with what was counted of them, and how much of each is air by that.

One that was counted is as large here as it was then, so that rows and pages belong together; that
also asks for no lock.
"""

import json
from collections.abc import Sequence
from typing import Any

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.packing import Column, Packed, entry, packed, pieces, row, tree
from opskit.model.frozen import frozen

_FILL = """
        coalesce((SELECT option_value::int FROM pg_catalog.pg_options_to_table(c.reloptions)
                  WHERE option_name = 'fillfactor'), {usual})
"""
_TABLES = f"""
    WITH chosen AS (
        SELECT c.*, coalesce(o.oid, c.oid) AS owner, n.nspname,
            coalesce(o.relname, c.relname) AS shown
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_am am ON am.oid = c.relam AND am.amname = 'heap'
        LEFT JOIN pg_catalog.pg_class o ON c.relkind = 't' AND o.reltoastrelid = c.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(o.relnamespace, c.relnamespace)
        WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'
            AND CASE WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.relpages
                ELSE pg_catalog.pg_relation_size(c.oid) / $2::bigint END >= $1::bigint)
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(
        c.oid::bigint, c.relkind, c.nspname, c.shown, c.relpages, c.reltuples,
        {_FILL.format(usual=100)}, coalesce(CASE WHEN c.relkind = 't'
            THEN pg_catalog.pg_stat_get_dead_tuples(c.oid)
                + pg_catalog.pg_stat_get_ins_since_vacuum(c.oid)
            ELSE pg_catalog.pg_stat_get_mod_since_analyze(c.oid) END, 0),
        pg_catalog.has_table_privilege(c.owner, 'SELECT'),
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.owner AND i.indisvalid
            AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.owner
                AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)),
        (SELECT o.relpages + coalesce(t.relpages, 0) + coalesce((
                SELECT sum(x.relpages) FROM pg_catalog.pg_index i
                JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = ANY (ARRAY[o.oid, o.reltoastrelid])), 0)
         FROM pg_catalog.pg_class o LEFT JOIN pg_catalog.pg_class t ON t.oid = o.reltoastrelid
         WHERE o.oid = c.owner)::bigint,
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                a.attlen, a.attalign, a.attisdropped, s.null_frac, s.avg_width) ORDER BY a.attnum)
         FROM pg_catalog.pg_attribute a
         LEFT JOIN (SELECT attname, null_frac, avg_width FROM pg_catalog.pg_stats
                    WHERE schemaname = c.nspname AND tablename = c.relname AND NOT inherited) s
             ON s.attname = a.attname
         WHERE c.relkind <> 't' AND a.attrelid = c.oid AND a.attnum > 0
             AND a.attgenerated <> 'v')))
    FROM chosen c
"""
_INDEXES = f"""
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(
        c.oid::bigint, 'i', n.nspname, c.relname, c.relpages, c.reltuples,
        {_FILL.format(usual=90)}, coalesce(pg_catalog.pg_stat_get_mod_since_analyze(t.oid), 0),
        pg_catalog.has_table_privilege(t.oid, 'SELECT'), true, c.relpages,
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                a.attlen, a.attalign, false, s.null_frac, s.avg_width) ORDER BY a.attnum)
         FROM pg_catalog.pg_attribute a
         LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid = t.oid
             AND b.attnum = i.indkey[a.attnum - 1] AND b.attnum > 0
         LEFT JOIN (SELECT tablename, attname, null_frac, avg_width FROM pg_catalog.pg_stats
                    WHERE schemaname = n.nspname AND tablename = ANY (ARRAY[t.relname, c.relname])
                        AND NOT inherited) s
             ON s.tablename = CASE WHEN b.attnum IS NULL THEN c.relname ELSE t.relname END
                 AND s.attname = coalesce(b.attname, a.attname)
         WHERE a.attrelid = c.oid AND a.attnum > 0)))
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_am am ON am.oid = c.relam AND am.amname = 'btree'
    JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid AND i.indisvalid
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'i' AND c.relpersistence <> 't' AND c.relpages >= $1::bigint
"""
_STALE = 0.2
"""So large a part of a table's rows was changed since they were counted: the count says nothing."""
HIDDEN, NEVER = "hidden", "never"


@frozen
class Bulk:
    """A table, the TOAST of one or an index, as it was when its rows were counted.

    `changed`: rows since then; `seen`: the role may see what was counted; `key`: it has a unique
    one without NULL; `copy`: pages with TOAST and indexes.
    """

    oid: int
    kind: str
    schema: str
    name: str
    pages: int
    rows: float
    fill: int
    changed: float
    seen: bool
    key: bool
    copy: int
    columns: Sequence[Column]

    @property
    def shown(self) -> str:
        name = f"{self.schema}.{self.name}"
        return f"TOAST of {name}" if self.kind == "t" else name

    @property
    def stale(self) -> bool:
        return not self.lacks and self.changed > _STALE * max(self.rows, 1)

    @property
    def lacks(self) -> str:
        """What keeps it from being estimated; "" for nothing."""
        counted = self.pages > 0 and self.rows >= 0
        if counted and all(column.known for column in self.columns):
            return ""
        return HIDDEN if counted and not self.seen else NEVER


@frozen
class Air:
    """How much of a table is air, as a part; `how`: by what that is known; `note`: why not more."""

    bulk: Bulk
    share: float
    slack: float
    size: float
    how: str = "estimate"
    note: str = ""

    @property
    def bytes(self) -> float:
        return self.share * self.size


def bulks(connection: Connection, least: float, page: int) -> list[Bulk]:
    """Return the tables and indexes of so many bytes, or more."""
    words = (str(int(least // page)), str(page))
    rows = _json(connection, _TABLES, *words) + _json(connection, _INDEXES, words[0])
    return [
        Bulk(
            oid=oid, kind=kind, schema=schema, name=name, pages=pages, rows=rows, fill=fill,
            changed=changed, seen=seen, key=key, copy=copy or 0,
            columns=[Column(*column) for column in columns or ()],
        )
        for oid, kind, schema, name, pages, rows, fill, changed, seen, key, copy, columns in rows
    ]  # fmt: skip


def estimate(one: Bulk, page: int) -> Air | None:
    """Return how much is air by what was counted; None where that does not tell."""
    if one.lacks:
        return None
    need = _need(one, page)
    share = max(0.0, 1 - need.pages / one.pages)
    return Air(bulk=one, share=share, slack=need.slack, size=float(one.pages * page))


def _need(one: Bulk, page: int) -> Packed:
    if one.kind == "t":
        return pieces(one.rows)
    if one.kind == "i":
        return tree(one.rows, entry(one.columns), one.fill, page)
    return packed(one.rows, row(one.columns), one.fill, page)


def _json(connection: Connection, query: str, *values: str) -> list[list[Any]]:
    (text,) = connection.one(query, *values)
    found: list[list[Any]] = json.loads(text or "[]")
    return found
