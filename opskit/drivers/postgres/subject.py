# ruff: noqa: S608 (names are of the catalog and quoted, values are bound)
"""The table from which rows are to be removed: what it is, and why they may not be."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from opskit.drivers.postgres.connection import Connection
from opskit.model.frozen import frozen
from opskit.model.rows import Rows
from opskit.render.removals import Statement, counted, quoted, removed

BIG = 100_000
"""A table of more rows is not searched from end to end for each batch."""
_EXACT = 2_000_000
"""Up to so many rows the table is counted; of a larger one the server's estimate is taken."""
_TIMES = ("timestamptz", "timestamp", "date")
_TABLE = """
    SELECT n.nspname, c.relname, c.relkind::text, greatest(c.reltuples::bigint,
            pg_catalog.pg_relation_size(c.oid)
            / pg_catalog.current_setting('block_size')::bigint, c.relpages),
        EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid)::text,
        pg_catalog.row_security_active(c.oid)::text,
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, t.typname,
                a.attgenerated, a.attidentity) ORDER BY a.attnum)
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        (SELECT pg_catalog.json_agg(name ORDER BY name) FROM (
            SELECT tgname::text AS name FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid
                AND NOT tgisinternal AND tgenabled <> 'D' AND (tgtype & $2::integer) <> 0
            UNION ALL SELECT rulename::text FROM pg_catalog.pg_rewrite
                WHERE ev_class = c.oid AND ev_type IN ('3', '4')
            UNION ALL SELECT conname::text FROM pg_catalog.pg_constraint WHERE confrelid = c.oid
                AND contype = 'f' AND confdeltype IN ('c', 'n', 'd')) AS touched),
        (SELECT pg_catalog.string_agg(may, ', ') FROM pg_catalog.unnest($3::text[]) AS may
         WHERE NOT pg_catalog.has_table_privilege(session_user, c.oid, may)),
        (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
         WHERE i.indrelid = c.oid AND i.indisprimary)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass($1)
"""
_ON_DELETE, _ON_INSERT = 8, 4
"""Bits of pg_trigger.tgtype."""


class SubjectError(Exception):
    """Why nothing may be removed from the table."""


@frozen
class Column:
    """A column; `made`: the server writes it (generated), `always`: an identity of its own."""

    name: str
    type: str
    made: bool
    always: bool


@frozen
class Subject:
    """A table as the server has it. `rows` is an estimate, `touches` what else a DELETE does."""

    schema: str
    name: str
    rows: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def full(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def said(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def shape(self) -> list[list[str]]:
        """The columns with their types, to know them again."""
        return [[one.name, one.type] for one in self.columns]


def subject(connection: Connection, work: Rows, own: str) -> Subject:
    """Look at the table; SubjectError says why nothing may be removed from it.

    `own`: the schema of opskit's own tables.
    """
    bits = _ON_DELETE | (_ON_INSERT if work.archive else 0)
    rights = ["SELECT", "UPDATE", "DELETE", *(["INSERT"] if work.archive else [])]
    table = work.chosen.table
    found = connection.one(_TABLE, table, str(bits), "{" + ",".join(rights) + "}")
    if not found:
        raise SubjectError(f"there is no table {table}")
    schema, name, kind, rows, parent, hidden, columns, touched, lacking, key = found
    made = Subject(
        schema=schema or "",
        name=name or "",
        rows=int(rows or 0),
        columns=tuple(
            Column(name=n, type=t, made=g != "", always=i == "a")
            for n, t, g, i in json.loads(columns or "[]")
        ),
        key=tuple(json.loads(key or "[]")),
    )
    if made.schema in (own, "information_schema") or made.schema.startswith("pg_"):
        whose = "opskit's own" if made.schema == own else "the server's own"
        raise SubjectError(f"{made.said} is {whose}: nothing is removed from it")
    if kind != "r" or parent == "true":
        what = "is partitioned, or others inherit from it" if kind in ("r", "p") else "is no table"
        raise SubjectError(f"{made.said} {what}: rows are removed from one table → name that")
    if hidden == "true":
        raise SubjectError(f"row security hides rows of {made.said} from this role")
    if lacking:
        raise SubjectError(f"the role may not do this on {made.said}: {lacking} → GRANT it")
    _columns(made, work)
    _touches(made, work, json.loads(touched or "[]"))
    return made


def _columns(made: Subject, work: Rows) -> None:
    known = {one.name: one for one in made.columns}
    for name in (work.chosen.time, *work.chosen.order):
        if name and name not in known:
            raise SubjectError(f"{made.said} has no column {name}")
    if work.chosen.time and known[work.chosen.time].type not in _TIMES:
        kind = known[work.chosen.time].type
        raise SubjectError(f"{work.chosen.time} of {made.said} is {kind}, and no time")


def _touches(made: Subject, work: Rows, touched: list[str]) -> None:
    more = [one for one in touched if one not in work.touches]
    if more:
        raise SubjectError(
            f"{', '.join(more)} of {made.said} may do more than remove its rows"
            " → look at what it does, then name it under `touches`"
        )


@frozen
class Count:
    """How many rows are meant at one moment, of how many; `exact`: these were counted, too."""

    began: str
    rows: int
    oldest: str
    newest: str
    live: int
    total: int
    exact: bool

    @property
    def share(self) -> float:
        return self.rows / self.total if self.total else 0.0

    def lines(self, table: str) -> Iterator[str]:
        about = "" if self.exact else "about "
        yield f"{table}: {self.rows} of {about}{self.total} rows ({self.share:.1%})"
        if self.oldest:
            yield f"from {self.oldest} to {self.newest}"
        yield f"as of {self.began}"


def count(connection: Connection, made: Subject, work: Rows, began: str = "") -> Count:
    """Count what is meant, as of a moment: now, where none is given."""
    if not began:
        (now,) = connection.one("SELECT pg_catalog.clock_timestamp()::text")
        began = now or ""
    statement = counted(Statement(work.chosen, made.full, began))
    rows, oldest, newest, live = connection.one(statement.text, *statement.values)
    exact = made.rows <= _EXACT
    total = made.rows
    if exact:
        (all_rows,) = connection.one(f"SELECT count(*) FROM {made.full}")
        total = int(all_rows or 0)
    return Count(
        began=began, rows=int(rows or 0), oldest=oldest or "", newest=newest or "",
        live=int(live or 0), total=max(total, int(rows or 0)), exact=exact,
    )  # fmt: skip


def excess(found: Count, work: Rows, said: str) -> Iterator[str]:
    """Yield by which limits this is too much."""
    limits = work.limits
    if found.rows > limits.rows:
        yield (
            f"{found.rows} rows of {said} are meant, and max_rows is {limits.rows}"
            " → look at what they are, and raise it knowingly"
        )
    if found.share > limits.share:
        yield (
            f"{found.share:.1%} of the rows of {said} are meant, and max_share is"
            f" {limits.share:.1%} → look at what they are, and raise it knowingly"
        )
    if found.live > limits.needed:
        yield f"{found.live} of the rows meant are still needed (`live`), max_live: {limits.needed}"


def planned(connection: Connection, made: Subject, work: Rows, found: Count) -> Iterator[str]:
    """Yield what is wrong with how the server would find the rows of a batch.

    A table that nobody has analyzed is as large as it was counted, or as its file is.
    """
    number = max(made.rows, found.total)
    statement = removed(Statement(work.chosen, made.full, found.began), work.limits.first)
    (told,) = connection.one(f"EXPLAIN (FORMAT JSON) {statement.text}", *statement.values)
    parts = list(nodes(json.loads(told or "[]")[0]["Plan"]))
    own = [one for one in parts if one.get("Relation Name") == made.name]
    inner = [one for one in own if one["Node Type"] != "Tid Scan" and "Operation" not in one]
    unbound = work.chosen.older is None and work.chosen.newer is None
    if unbound and any(not _CONDITIONS & one.keys() for one in inner):
        yield "the condition holds for every row, as the server sees it"
    if number > BIG and any(one["Node Type"] == "Seq Scan" for one in own):
        yield (
            f"{made.said} has about {number} rows, and each batch would read all of it: no index"
            f" leads to them → build one on {work.chosen.time or 'what the condition asks for'}"
        )


_CONDITIONS = frozenset({"Filter", "Index Cond", "Recheck Cond", "TID Cond"})


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a node of a plan, and all that it is made of."""
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)
