# ruff: noqa: S608 (names are those of the catalog, quoted; values are bound)
"""How the server would carry out the dearest statements, and which index might help.

They are planned for any values (a generic plan), and nothing is carried out: in a transaction that
can't write, as the role that reads. Their texts are other people's, so only one statement is sent
at a time, by the protocol that takes no second one, and none that a read may not have.

Without HypoPG in the database nothing is said of indexes that are not there: only the planner knows
whether it would take one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.lookups import nodes, ways
from opskit.drivers.postgres.marks import quoted
from opskit.drivers.postgres.statements import OWN, Cost, Layout
from opskit.drivers.postgres.told import aligned
from opskit.model.frozen import frozen
from opskit.render.masking import masked
from opskit.render.sql import denied, statements

HYPO = "hypopg"
_PLANNED = ("select", "with", "insert", "update", "delete", "merge", "values", "table")
_MOST = 20_000
"""A longer text is not planned."""
_LIMITS = """
    SET LOCAL lock_timeout = 100; SET LOCAL statement_timeout = 2000;
    SET LOCAL plan_cache_mode = force_generic_plan
"""
"""Somebody's lock is the trouble that is looked into: nobody waits for it in line with others."""
_TEXTS = """
    SELECT /* opskit */ pg_catalog.json_object_agg(s.queryid::text, s.query)
    FROM {schema}.pg_stat_statements s
    WHERE s.queryid = ANY ($1::bigint[]) AND pg_catalog.length(s.query) <= {most}
        AND s.dbid = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database())
"""
_PLACES = """
    SELECT /* opskit */ pg_catalog.cardinality(parameter_types)::text
    FROM pg_catalog.pg_prepared_statements WHERE name = 'opskit_plan'
"""
_ROWS = """
    SELECT /* opskit */ greatest(c.reltuples::float8, pg_catalog.pg_stat_get_live_tuples(c.oid)),
        pg_catalog.to_json(ARRAY(SELECT pg_catalog.quote_ident(a.attname)
              FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
"""
_WHERE = """
    SELECT /* opskit */ n.nspname FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hypopg'
"""
_WORTH = 0.5
"""An index is told of where the statement would cost no more than this share of what it does."""
_WIDE = 60
_COMPARED = r"(?<![\w\"]){}\)?(?:::[\w ]+)? {} "
"""A column in a condition, as the server writes it, perhaps with another type."""


@frozen
class Planned:
    """A statement with its plan, or with why it has none."""

    cost: Cost
    plan: Mapping[str, Any]
    why: str = ""

    @property
    def units(self) -> float:
        return float(self.plan.get("Total Cost", 0))


@frozen
class Plans:
    """What planning came to. `table`: for people."""

    findings: Sequence[Found]
    table: str


def plans(connection: Connection, where: Layout, costs: Sequence[Cost], large: int) -> Plans:
    """Plan statements; tell of those that read all of a large table, and of what might help."""
    words = "{" + ",".join(sorted({cost.query for cost in costs})) + "}"
    query = _TEXTS.replace("{schema}", where.schema).replace("{most}", str(_MOST))
    (text,) = connection.one(query, words)
    known = json.loads(text or "{}")
    hypo = connection.one(_WHERE)
    planner = _Planner(connection, large, quoted(hypo[0] or "") if hypo else "")
    rows: list[Sequence[str]] = [("COST", "USER", "PLAN", "STATEMENT")]
    said: list[Found] = []
    for cost in {one.query: one for one in costs}.values():
        one, found = planner.look(cost, known.get(cost.query, ""))
        said += found
        told = one.why or ways(one.plan)
        units = f"{one.units:.0f}" if one.plan else "-"
        rows.append((units, cost.user, told, masked(cost.text, _WIDE)))
    hints = "" if hypo else f"no index is suggested: the extension {HYPO} is not in this database\n"
    head = "plans of these statements for any values; COST is the planner's own unit\n"
    return Plans(findings=said, table=head + aligned(rows) + hints)


class _Planner:
    """Plans one statement after the other, each in a transaction of its own."""

    def __init__(self, connection: Connection, large: int, hypo: str) -> None:
        self.connection, self.large, self.hypo = connection, large, hypo

    def look(self, cost: Cost, text: str) -> tuple[Planned, list[Found]]:
        if why := _unfit(text):
            return Planned(cost=cost, plan={}, why=why), []
        try:
            self.connection.own(f"{SNAPSHOT}; {_LIMITS}")
            plan = self._planned(text)
            found = list(self._judged(cost, text, plan))
        except ServerError as error:
            # The message may quote what stands in the statement.
            why = f"can't be planned: {masked(error.what, 160)}"
            return Planned(cost=cost, plan={}, why=why), []
        finally:
            forget = f"; SELECT {OWN} {self.hypo}.hypopg_reset()" if self.hypo else ""
            self.connection.own(f"ROLLBACK; DEALLOCATE ALL{forget}")
        return Planned(cost=cost, plan=plan), found

    def _planned(self, text: str) -> Mapping[str, Any]:
        """Plan it anew, whatever is kept of it."""
        self.connection.own("DEALLOCATE ALL")
        self.connection.one(f"PREPARE {OWN} opskit_plan AS {text}")
        (count,) = self.connection.one(_PLACES)
        values = ", ".join(["NULL"] * int(count or 0))
        call = f"EXECUTE opskit_plan({values})" if values else "EXECUTE opskit_plan"
        (plan,) = self.connection.one(f"EXPLAIN {OWN} (VERBOSE, FORMAT JSON) {call}")
        found = json.loads(plan or "[]")[0].get("Plan", {})
        assert isinstance(found, dict)
        return found

    def _judged(self, cost: Cost, text: str, plan: Mapping[str, Any]) -> Iterator[Found]:
        """Tell of each large table that a statement reads as a whole, and sifts."""
        for node in nodes(plan):
            if node["Node Type"] != "Seq Scan" or "Filter" not in node:
                continue
            schema, name = str(node.get("Schema", "")), str(node["Relation Name"])
            known = self.connection.one(_ROWS, schema, name)
            if not known or float(known[0] or 0) < self.large:
                continue
            columns = _columns(node, json.loads(known[1] or "[]"))
            sifted = f" for {', '.join(columns)}" if columns else ""
            told = f"reads all {float(known[0] or 0):,.0f} rows{sifted} at each call"
            told += self._hint(text, plan, schema, name, columns)
            shown = f"{told}: {cost.text[:120]}"
            yield Found(check="plan", table=f"{schema}.{name}", name=cost.query, text=shown)

    def _hint(
        self, text: str, plan: Mapping[str, Any], schema: str, name: str, columns: Sequence[str]
    ) -> str:
        """Ask the planner whether it would take an index on these columns, were there one."""
        if not self.hypo or not columns:
            return ""
        table = f"{quoted(schema)}.{quoted(name)}"
        written = f"CREATE INDEX ON {table} ({', '.join(columns)})"
        (index,) = self.connection.one(
            f"SELECT {OWN} indexname FROM {self.hypo}.hypopg_create_index($1)", written
        )
        then = self._planned(text)
        self.connection.own(f"SELECT {OWN} {self.hypo}.hypopg_reset()")
        was, would = float(plan["Total Cost"]), float(then["Total Cost"])
        taken = any(node.get("Index Name") == index for node in nodes(then))
        if not taken or would > _WORTH * was:
            return ""
        where = f"{schema}.{name} ({', '.join(columns)})"
        return f"; an index on {where} would make it cost {would:.0f} in place of {was:.0f}"


def _unfit(text: str) -> str:
    """Say why a statement is not planned; "" where it can be."""
    if not text:
        return f"not planned: its text is gone, or longer than {_MOST} characters"
    found = statements(text)
    if len(found) != 1 or found[0].verb not in _PLANNED:
        return "not planned: nothing to plan"
    return "not planned: it calls what a read may not" if denied(text) else ""


def _columns(node: Mapping[str, Any], columns: Sequence[str]) -> Sequence[str]:
    """Return the columns that a scan compares: those that are to be equal first, then one range.

    Read from what the planner writes, and so perhaps not all of them: whether an index on them
    helps, the planner itself is asked.
    """
    sift = str(node["Filter"])
    if " OR " in sift or "SubPlan" in sift:
        return ()
    equal, ranges = (
        [one for one in columns if re.search(_COMPARED.format(re.escape(one), how), sift)]
        for how in ("=", "(?:<|>|<=|>=)")
    )
    return (*equal[:3], *[one for one in ranges if one not in equal][:1])
