# ruff: noqa: S608 (names are those of the catalog, quoted; values are bound)
"""What statements cost, by pg_stat_statements: two samples, and what lies between them.

Its columns change with the version of the extension, which stays what it was when the server gets a
new one: so it is asked which columns there are.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.marks import quoted
from opskit.model.frozen import frozen
from opskit.model.value import Json
from opskit.render.masking import masked

NAME = "pg_stat_statements"
OWN = "/* opskit */"
"""What stands in statements of opskit's own, so that they are told from others."""
_COLUMNS = """
    SELECT n.nspname, e.extversion, pg_catalog.to_regclass(
               pg_catalog.quote_ident(n.nspname) || '.pg_stat_statements_info') IS NOT NULL,
           (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped
            WHERE c.relnamespace = n.oid AND c.relname = e.extname)
    FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pg_stat_statements'
"""
_INFO = "SELECT /* opskit */ dealloc::text, stats_reset::text FROM {schema}.pg_stat_statements_info"
_TEXTS = """
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(
        s.queryid, pg_catalog.left(s.query, 4000)))
    FROM {schema}.pg_stat_statements s
    WHERE s.queryid = ANY ($1::bigint[]) AND s.dbid = (SELECT oid FROM pg_catalog.pg_database
        WHERE datname = pg_catalog.current_database())
"""
_MEASURES: Mapping[str, tuple[str, ...]] = {
    "calls": ("calls",),
    "total": ("total_exec_time", "total_time"),
    "planned": ("total_plan_time",),
    "rows": ("rows",),
    "hit": ("shared_blks_hit",),
    "read": ("shared_blks_read",),
    "temp": ("temp_blks_written",),
    "waited": ("shared_blk_read_time", "blk_read_time"),
}
"""What is measured → the columns that have it, the newest name first; times in milliseconds."""
_NEEDED = ("userid", "dbid", "queryid", "calls")

Key = tuple[str, ...]
"""Role, whether it was called by a client itself, number of the statement, since when it counts."""
Sample = Mapping[Key, Sequence[float]]


class NoStatementsError(Exception):
    """The statistics can't be had; says why, and what would help."""


@frozen
class Layout:
    """Where the extension is, of which version, and which columns its view has."""

    schema: str
    version: str
    columns: frozenset[str]
    info: bool

    def column(self, measure: str) -> str:
        """Return the column that has a measure; "" for none."""
        return next((name for name in _MEASURES[measure] if name in self.columns), "")


def layout(connection: Connection) -> Layout:
    """Ask for the extension; NoStatementsError says what it lacks."""
    found = connection.one(_COLUMNS)
    if not found:
        raise NoStatementsError(
            f"the extension {NAME} is not in this database: add it to shared_preload_libraries, "
            f"restart the server, CREATE EXTENSION {NAME}"
        )
    schema, version, info, columns = found
    made = Layout(
        schema=quoted(schema or ""), version=version or "", info=info == "t",
        columns=frozenset(json.loads(columns or "[]")),
    )  # fmt: skip
    lacking = [name for name in _NEEDED if name not in made.columns]
    lacking += [] if made.column("total") else [" or ".join(_MEASURES["total"])]
    if lacking:
        raise NoStatementsError(
            f"the view of {NAME} {version} has no {', '.join(lacking)}: opskit does not know it"
        )
    return made


@frozen
class Taken:
    """One sample. `hidden`: so many rows show nothing to this role."""

    sample: Sample
    hidden: int
    dealloc: str = ""
    reset: str = ""


def sample(connection: Connection, layout: Layout) -> Taken:
    """Read the counters of this database, without the texts."""
    measures = [f"s.{name}" if (name := layout.column(one)) else "0" for one in _MEASURES]
    top = "s.toplevel" if "toplevel" in layout.columns else "true"
    since = "s.stats_since::text" if "stats_since" in layout.columns else "''"
    (text,) = connection.one(
        f"SELECT {OWN} pg_catalog.json_agg(pg_catalog.json_build_array("
        f"pg_catalog.pg_get_userbyid(s.userid), {top}::text, s.queryid::text, {since},"
        f" {', '.join(measures)}))"
        f" FROM {layout.schema}.pg_stat_statements(false) s WHERE s.dbid = (SELECT oid"
        " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    )
    found: dict[Key, list[float]] = {}
    hidden = 0
    for user, toplevel, query, since, *values in json.loads(text or "[]"):
        if query is None:
            hidden += 1
        else:
            found[user, toplevel, query, since] = [float(value) for value in values]
    dealloc = reset = None
    if layout.info:
        dealloc, reset = connection.one(_INFO.replace("{schema}", layout.schema))
    return Taken(sample=found, hidden=hidden, dealloc=dealloc or "", reset=reset or "")


@frozen
class Cost:
    """What one statement of one role came to; times in seconds."""

    query: str
    user: str
    calls: float
    total: float
    planned: float
    rows: float
    hit: float
    read: float
    temp: float
    waited: float
    inner: bool = False
    """Whether a function called it, and no client itself."""
    text: str = ""

    @property
    def mean(self) -> float:
        return self.total / self.calls

    @property
    def found(self) -> float | None:
        """The part of its blocks that was in memory; None where it needed none."""
        blocks = self.hit + self.read
        return self.hit / blocks if blocks else None

    def as_json(self) -> dict[str, Json]:
        return {
            "queryid": self.query, "user": self.user, "calls": int(self.calls),
            "total_s": round(self.total, 6), "mean_s": round(self.mean, 6),
            "rows": int(self.rows), "temp_blocks": int(self.temp),
            "planned_s": round(self.planned, 6),
            "hit_ratio": None if self.found is None else round(self.found, 4),
            "toplevel": not self.inner, "text": self.text,
        }  # fmt: skip


def costs(first: Taken | None, second: Taken) -> tuple[list[Cost], str]:
    """Return what was called between two samples, the dearest first, and why that is not certain.

    Without a first one it is what the counters have; nothing makes that uncertain.
    """
    found: list[Cost] = []
    lower = 0
    for key, values in second.sample.items():
        before = first.sample.get(key) if first is not None else None
        if before is not None and any(v < b for v, b in zip(values, before, strict=True)):
            lower += 1
            continue
        calls, total, planned, rows, *rest = (
            value - (before[n] if before is not None else 0) for n, value in enumerate(values)
        )
        if calls > 0:
            hit, read, temp, waited = rest
            found.append(
                Cost(query=key[2], user=key[0], calls=calls, total=total / 1000,
                     planned=planned / 1000, rows=rows, hit=hit, read=read, temp=temp,
                     waited=waited / 1000, inner=key[1] == "false")
            )  # fmt: skip
    found.sort(key=lambda cost: -cost.total)
    return found, _uncertain(first, second, lower) if first is not None else ""


def ranked(found: Sequence[Cost], by: str) -> list[Cost]:
    """Put statements in order, what is worst by this first; else the dearest."""
    keys: Mapping[str, Callable[[Cost], float]] = {
        "total": lambda cost: cost.total,
        "mean": lambda cost: cost.mean,
        "calls": lambda cost: cost.calls,
        "rows": lambda cost: cost.rows / cost.calls,
        "temp": lambda cost: cost.temp,
        "hit": lambda cost: -2.0 if cost.found is None else -cost.found,
    }
    return sorted(found, key=lambda cost: (-keys[by](cost), -cost.total))


def _uncertain(first: Taken, second: Taken, lower: int) -> str:
    """Say what makes a difference of counters say too little."""
    gone = len(first.sample.keys() - second.sample.keys())
    if first.reset != second.reset or lower or (gone and first.dealloc == second.dealloc):
        return "counters were reset meanwhile, or have lost statements: look again"
    if first.dealloc != second.dealloc:
        return (
            "statements were dropped from the counters meanwhile to make room for others: "
            "look again with a shorter window, or raise pg_stat_statements.max"
        )
    return ""


def texts(connection: Connection, layout: Layout, queries: Sequence[str]) -> Mapping[str, str]:
    """Return what the statements say, each literal masked: not all of them are normalised."""
    words = "{" + ",".join(queries) + "}"
    (found,) = connection.one(_TEXTS.replace("{schema}", layout.schema), words)
    return {
        str(query): OWN if OWN in (text or "") else masked(text or "")
        for query, text in json.loads(found or "[]")
    }
