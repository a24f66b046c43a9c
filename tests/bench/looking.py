"""One look at a database: python -m tests.bench.looking WHO URL MANIFEST FILE.

Adds a line to FILE: how many ms it took, by the clock and of this processor, how many queries, how
many of the planted faults it found, how much it reported that is none, and how much that only time
can tell (unused indexes).
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.model.expected import Expected
from tests.support.expecting import expected, findings, verified

INVALID = """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_stat_user_indexes s using (indexrelid)
    where not i.indisvalid
      and not exists (select from pg_stat_progress_create_index p where p.index_relid = c.oid)
"""
COVERED = """
    with plain as (
        select c.oid, c.relname, c.relam, i.indrelid, i.indisunique, i.indkey::text || ' ' as cols
        from pg_index i join pg_class c on c.oid = i.indexrelid
        join pg_stat_user_indexes s using (indexrelid)
        where i.indisvalid and i.indexprs is null and i.indpred is null)
    select distinct a.relname from plain a
    join plain b on b.indrelid = a.indrelid and b.relam = a.relam and b.oid <> a.oid
        and b.cols like a.cols || '%' and (b.cols <> a.cols or b.oid < a.oid)
    where not a.indisunique
"""
EQUAL = """
    select unnest((array_agg(c.relname order by c.oid))[2:]) from pg_index i
    join pg_class c on c.oid = i.indexrelid join pg_stat_user_indexes s using (indexrelid)
    group by i.indrelid, i.indkey::text, i.indclass::text, coalesce(i.indexprs::text, ''),
             coalesce(i.indpred::text, '')
    having count(*) > 1
"""
UNUSED = """
    select s.indexrelname from pg_stat_user_indexes s join pg_index i using (indexrelid)
    where s.idx_scan < 50 and not i.indisunique
"""
NULLS = """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_stats t on t.tablename = i.indrelid::regclass::text and t.null_frac > 0.5
    join pg_attribute a on a.attrelid = i.indrelid and a.attname = t.attname
    where i.indkey[0] = a.attnum and c.relpages > 128
"""
SWOLLEN = """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_stat_user_indexes s using (indexrelid)
    where c.relpages > 100 and c.relpages > 4 * (1 + c.reltuples * 40 / 8192)
"""
TOOLS: Mapping[str, tuple[str, ...]] = {
    "as PgHero": (INVALID, COVERED, UNUSED),
    "as pg-extras": (EQUAL, UNUSED, NULLS),
    "as check_postgres": (SWOLLEN, UNUSED),
}
Seen = tuple[int, set[str], int]
"""How many queries, what was reported, how many were said to be unused."""


def theirs(who: str, url: str, _: Expected) -> Seen:
    names: set[str] = set()
    idle = 0
    with psycopg.connect(url) as connection:
        for query in TOOLS[who]:
            found = {str(row[0]) for row in connection.execute(query.encode()).fetchall()}
            idle += len(found) if query is UNUSED else 0
            names |= set() if query is UNUSED else found
    return len(TOOLS[who]), names, idle


def ours(_: str, url: str, wanted: Expected) -> Seen:
    asked: list[str] = []
    run, own = Connection.run, Connection.own

    def counted(self: Connection, text: str, *rest: Any) -> Any:  # noqa: ANN401
        asked.append(text)
        return run(self, text, *rest)

    def begun(self: Connection, text: str) -> None:
        if text == SNAPSHOT:
            asked.clear()  # what sets the session up is no question to the catalog
        own(self, text)

    Connection.run, Connection.own = counted, begun  # type: ignore[method-assign, assignment]
    try:
        output, printed = verified(url, wanted)
    finally:
        Connection.run, Connection.own = run, own  # type: ignore[method-assign]
    assert output.outcome in ("succeeded", "failed"), output.reason
    assert len(findings(output)) <= len(printed.splitlines())
    rows = [line.split() for line in printed.splitlines()[1:-1]]
    told = {words[2] if words[1] in ("view", "columns", "function") else words[3] for words in rows}
    return len(asked), told, 0


def planted(manifest: Mapping[str, Any]) -> set[str]:
    """Return by which name each fault is told: what is there, or what is not."""
    functions = [o["name"] for o in manifest["objects"] if o["kind"] == "function"]
    found = set()
    for fault in manifest["faults"]:
        name = fault["object"] or fault["expected"]
        if fault["kind"] == "overloaded":
            name = next(f for f in functions if f.partition("(")[0] == name.partition("(")[0])
        found.add(str(name))
    return found


def main(who: str, url: str, manifest: str, file: str) -> None:
    given = json.loads(Path(manifest).read_text())
    wanted = expected(given)  # a file has been read when a run begins
    look: Callable[[str, str, Expected], Seen] = ours if who == "opskit" else theirs
    look(who, url, wanted)  # what is loaded and read for the first time is not measured
    began, busy = time.perf_counter(), time.process_time()
    queries, names, idle = look(who, url, wanted)
    took, cpu = (time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000
    faults = planted(given)
    line = {
        "ms": took, "cpu": cpu, "queries": queries, "found": len(names & faults),
        "false": len(names - faults), "unused": idle,
    }  # fmt: skip
    with Path(file).open("a") as out:
        out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
