"""What the counters of large tables say: statistics that are stale, and reading all of a table."""

import json
from collections.abc import Iterator, Mapping, Sequence

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.findings import Found
from opskit.model.frozen import frozen
from opskit.steps.units import figure

_TABLES = """
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(
        oid::bigint, nspname, relname, rows, reltuples, changed, analyzed::text, scans, read))
    FROM (
        SELECT c.oid, n.nspname, c.relname, c.reltuples,
            greatest(c.reltuples::float8, pg_catalog.pg_stat_get_live_tuples(c.oid)) AS rows,
            pg_catalog.pg_stat_get_mod_since_analyze(c.oid) AS changed,
            pg_catalog.date_trunc('second', greatest(
                pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid))) AS analyzed,
            pg_catalog.pg_stat_get_numscans(c.oid) AS scans,
            pg_catalog.pg_stat_get_tuples_returned(c.oid) AS read
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS each
    WHERE rows >= $1::float8
"""
_RESET = """
    SELECT /* opskit */ pg_catalog.date_trunc('second', stats_reset)::text
    FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()
"""
_SHOWN = 20
"""So many tables are told of by themselves; of the rest how many there are."""


@frozen
class Table:
    """A large table. `counted`: the rows of the last count; 0 or less: there has never been one."""

    schema: str
    name: str
    rows: float
    counted: float
    changed: float
    analyzed: str
    scans: float
    read: float


@frozen
class Tables:
    """The large tables at one moment. `reset`: since when it is counted."""

    every: Mapping[int, Table]
    reset: str


def tables(connection: Connection, large: int) -> Tables:
    """Ask for all tables with so many rows and what is counted of them."""
    (text,) = connection.one(_TABLES, str(large))
    every = {
        oid: Table(
            schema=schema, name=name, rows=rows, counted=counted, changed=changed or 0,
            analyzed=analyzed or "", scans=scans or 0, read=read or 0,
        )
        for oid, schema, name, rows, counted, changed, analyzed, scans, read in json.loads(
            text or "[]"
        )
    }  # fmt: skip
    found = connection.one(_RESET)
    return Tables(every=every, reset=(found[0] if found else None) or "")


def stale(now: Tables, most: float) -> Iterator[Found]:
    """Tell of tables of whose rows more than `most` percent have changed since ANALYZE."""
    found: list[tuple[float, Table, str]] = []
    for one in now.every.values():
        share = 100 * one.changed / max(one.rows, 1)
        since = f"since it was analysed ({one.analyzed})" if one.analyzed else "since it is counted"
        if one.counted <= 0:
            found.append((101.0, one, f"its {one.rows:,.0f} rows were never analysed"))
        elif share > most:
            told = f"{one.changed:,.0f} of {one.rows:,.0f} rows ({share:.0f}%) have changed {since}"
            found.append((share, one, told))
    found.sort(key=lambda each: (-each[0], each[1].schema, each[1].name))
    yield from _told("stale", [(one, f"{told}: ANALYZE it") for _, one, told in found])


def scans(first: Tables | None, now: Tables, since: str) -> Iterator[Found]:
    """Tell of tables that were read as a whole, by how many rows that was."""
    found: list[tuple[float, Table, str]] = []
    lower = first is not None and first.reset != now.reset
    for oid, one in now.every.items():
        before = first.every.get(oid) if first is not None else None
        times = one.scans - (before.scans if before is not None else 0)
        rows = one.read - (before.read if before is not None else 0)
        lower = lower or times < 0 or rows < 0
        if first is not None and before is None:
            continue  # it has become large meanwhile: what it was before is not known
        if times > 0:
            told = f"{rows:,.0f} rows were read from end to end of it {since}"
            found.append((rows, one, f"{told}, in {figure(times)} scans; it has {one.rows:,.0f}"))
    if lower:
        text = "counters of tables were reset meanwhile: look again"
        yield Found(check="scan", name="tables", text=text, unknown=True)
        return
    found.sort(key=lambda each: (-each[0], each[1].schema, each[1].name))
    yield from _told("scan", [(one, told) for _, one, told in found])


def _told(check: str, found: Sequence[tuple[Table, str]]) -> Iterator[Found]:
    for one, text in found[:_SHOWN]:
        yield Found(check=check, table=f"{one.schema}.{one.name}", text=text)
    if len(found) > _SHOWN:
        left = len(found) - _SHOWN
        yield Found(check=check, name="tables", text=f"and {left} more tables")
