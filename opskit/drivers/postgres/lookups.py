"""Whether queries are planned with the index that is meant for them, or with one that is equal.

The server plans them (EXPLAIN) and carries nothing out. Where a table is small it rightly reads
all of it, whatever indexes it has: then it is asked whether it could use one.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opskit.drivers.postgres.catalog import Actual, Relation
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.matching import Matcher
from opskit.drivers.postgres.meaning import Meanings
from opskit.model.expected import Index, Lookup
from opskit.model.frozen import frozen
from opskit.model.value import Json
from opskit.render.definitions import Definition
from opskit.render.sql import places, tokens

SMALL = 10_000
"""With fewer rows, or when nobody has counted them, a plan does not show what an index is for."""
_BEGIN = "SAVEPOINT opskit_lookup; SET LOCAL plan_cache_mode = force_generic_plan"
_FORCED = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"
_END = "ROLLBACK TO SAVEPOINT opskit_lookup; DEALLOCATE ALL"
_PARTS = """
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname))
    FROM pg_catalog.pg_partition_tree($1::oid::regclass) p
    JOIN pg_catalog.pg_class c ON c.oid = p.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
_DENIED = "42501"
_SHOWN = 80


@frozen
class Proof:
    """A query that is planned with the index that is meant: it is used, or could be."""

    table: str
    query: str
    index: str
    how: str

    def as_json(self) -> Json:
        return {"table": self.table, "query": self.query, "index": self.index, "how": self.how}


def prove(
    connection: Connection, matchers: Mapping[str, Matcher], meanings: Meanings
) -> Iterator[Found | Proof]:
    """Look at every query of the file; the transaction is the caller's."""
    for name, matcher in matchers.items():
        for index, definition in zip(matcher.indexes, matcher.wanted, strict=True):
            if not index.used_by:
                continue
            matcher.meanings = meanings
            equal = [
                a for a in matcher.relation.indexes if a.valid and _serves(matcher, definition, a)
            ]
            # Without it there is nothing to look for: that it is missing or invalid is told anyway.
            for lookup in index.used_by if equal else ():
                look = _Look(
                    connection=connection, table=name, relation=matcher.relation, index=index
                )
                yield look.at(lookup, equal)


def _serves(matcher: Matcher, wanted: Definition, one: Actual) -> bool:
    """Tell whether an index finds the same rows in the same way; it may enforce more."""
    alike = wanted._replace(unique=one.unique, nulls_distinct=one.nulls_distinct)
    return matcher.same(alike, one)


@frozen
class _Look:
    connection: Connection
    table: str
    relation: Relation
    index: Index

    def at(self, lookup: Lookup, equal: Sequence[Actual]) -> Found | Proof:
        small = self.relation.rows < SMALL
        self.connection.own(_BEGIN + (_FORCED if small else ""))
        try:
            plan = _planned(self.connection, lookup)
            names = self._names(equal)
        except ServerError as error:
            self.connection.own(_END)
            return self._unseen(lookup, error)
        self.connection.own(_END)
        used = [scan for scan in _scans(plan) if scan.index in names]
        if small:
            return self._judged_small(lookup, plan, used)
        if used:
            return self._proof(lookup, used[0], "used")
        found = self._found(lookup, f"it does not use {self.index}: {ways(plan)}")
        whole = any(s.sought and not s.sifted and s.table == self._own for s in _scans(plan))
        return replace(found, weight="WARN") if whole else found

    def _judged_small(
        self, lookup: Lookup, plan: Mapping[str, Any], used: Sequence["_Scan"]
    ) -> Found | Proof:
        """Judge a plan that had to use an index: one that is only read as a whole finds nothing."""
        ordered = _orders(lookup.query) and "Sort" not in {n["Node Type"] for n in nodes(plan)}
        for scan in used:
            if scan.sought or self.index.where or ordered:
                return self._proof(lookup, scan, "usable")
        others = [scan for scan in _scans(plan) if scan.sought and scan.table == self._own]
        if others and not used:
            text = f"with so few rows another index does as well: {others[0].index[1]}"
            return replace(self._found(lookup, text), weight="INFO")
        told = f"it can't use {self.index}: {ways(plan)}"
        return self._found(lookup, told)

    @property
    def _own(self) -> tuple[str, str]:
        return self.relation.schema, self.relation.name

    def _proof(self, lookup: Lookup, scan: "_Scan", how: str) -> Proof:
        return Proof(table=self.table, query=lookup.query, index=scan.index[1], how=how)

    def _names(self, equal: Sequence[Actual]) -> Collection[tuple[str, str]]:
        """Return the indexes that will do, with their schemas; of a partitioned one its parts."""
        found = {(self.relation.schema, one.name) for one in equal}
        for one in equal if self.relation.kind == "p" else ():
            (text,) = self.connection.one(_PARTS, str(one.oid))
            found |= {(schema, name) for schema, name in json.loads(text or "[]")}
        return found

    def _unseen(self, lookup: Lookup, error: ServerError) -> Found:
        why = error.what
        if error.code == _DENIED:
            why += ": the role needs SELECT on what it names, to have it planned"
        return self._found(lookup, f"it can't be planned: {why}", unknown=True)

    def _found(self, lookup: Lookup, text: str, *, unknown: bool = False) -> Found:
        query = " ".join(lookup.query.split())
        shown = query if len(query) <= _SHOWN else query[: _SHOWN - 1] + "…"
        return Found(
            check="lookup",
            table=self.table,
            name=self.index.name,
            text=f"{shown}: {text}",
            unknown=unknown,
            definition=str(self.index),
        )


def _planned(connection: Connection, lookup: Lookup) -> Mapping[str, Any]:
    """Return the plan for the sample values; without them the one that does for all values."""
    query, values = lookup.query, lookup.values
    count = len(places(query))
    if count and not values:
        connection.one(f"PREPARE opskit_lookup AS {query}")
        query = f"EXECUTE opskit_lookup({', '.join(['NULL'] * count)})"
    (text,) = connection.one(f"EXPLAIN (VERBOSE, FORMAT JSON) {query}", *values)
    plan = json.loads(text or "[]")[0]["Plan"]
    assert isinstance(plan, dict)
    return plan


@frozen
class _Scan:
    """An index in a plan, with schemas.

    `sought`: rows are found by it, not read through it; `sifted`: not all that it finds are wanted.
    """

    index: tuple[str, str]
    table: tuple[str, str]
    sought: bool
    sifted: bool


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def _scans(
    plan: Mapping[str, Any], table: tuple[str, str] = ("", ""), *, sifted: bool = False
) -> Iterator[_Scan]:
    """Yield the indexes that a plan uses, from the top. Of a bitmap the table stands above it."""
    if "Relation Name" in plan:
        table = str(plan.get("Schema", "")), str(plan["Relation Name"])
        sifted = "Filter" in plan
    if "Index Name" in plan:
        name = table[0], str(plan["Index Name"])
        sought = "Index Cond" in plan or "Order By" in plan
        yield _Scan(index=name, table=table, sought=sought, sifted=sifted)
    for inner in plan.get("Plans", ()):
        yield from _scans(inner, table, sifted=sifted)


def _orders(query: str) -> bool:
    """Tell whether a query wants rows in an order, or the first or last of them."""
    return any(token.key in ("order", "min", "max") for token in tokens(query))


def ways(plan: Mapping[str, Any]) -> str:
    """Say how the rows are found instead."""
    ways = [
        f"{node['Node Type']} on {node.get('Index Name') or node.get('Relation Name')}"
        for node in nodes(plan)
        if "Index Name" in node or "Relation Name" in node
    ]
    return ", ".join(ways[:3]) or str(plan.get("Node Type", "no rows at all"))
