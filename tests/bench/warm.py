"""Filling a cache beside redis-py, redis-benchmark and `COPY … TO STDOUT`, and beside a bystander.

All write keys of the same length with values of the same length and an end, to one server which is
emptied before each. What opskit took is what it says that writing took; the list is made before.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from tests.bench.apart import HEAD, Apart, asking, ended, first, p99
from tests.bench.figures import FailedError, Figure, Rounds, ratio
from tests.bench.peers import Bench
from tests.support.database import ROLES
from tests.support.postgres import server as postgres
from tests.support.redis import Server, server

ROUNDS = 5
VALUE = 100
BOOK = """opskit: 1
name: bench-warm
version: 1.0.0
summary: b
params:
  rows: {type: file, default: }
  do: {default: fill}
  rate: {type: number, default: 0}
steps:
  - warm:
      do: '{{ do }}'
      file: "{{ rows or '' }}"
      sql: SELECT key, value FROM item
      ttl: 1h
      allow: ['key:']
      max_keys: 2000000
      rate: '{{ rate }}'
      breaches: 1000000
"""
PEER = """
import json, sys, time
import redis
port, path = int(sys.argv[1]), sys.argv[2]
rows = [json.loads(line) for line in open(path)]
rows = [(row["key"], row["value"]) for row in rows]
client = redis.Redis(port=port)
client.ping()
began = time.perf_counter()
for first in range(0, len(rows), 1000):
    pipe = client.pipeline(transaction=False)
    for key, value in rows[first : first + 1000]:
        pipe.set(key, value, ex=3600)
    assert all(pipe.execute())
print(json.dumps([time.perf_counter() - began, redis.__version__]))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Warm(Apart):
    """Keys written as quickly as they go, and politely beside a bystander."""

    rows: int
    rate: int = 5_000

    @property
    def name(self) -> str:
        return f"warm-{self.rows // 1000}k"

    @property
    def title(self) -> str:
        return f"{self.rows:,} keys of {VALUE} bytes, {ROUNDS} rounds of its own"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        with server(maxmemory="2gb") as found, postgres() as database:
            place = _Place(found, database.database(empty=True), self.bench, self.rows)
            ways: dict[str, Callable[[], float]] = {
                "opskit": place.opskit, "redis-py": place.redis_py,
                "redis-benchmark": place.redis_benchmark, "copy": place.copied,
                "listed": place.listed,
            }  # fmt: skip
            if place.missing:
                print(f"  {place.missing}", flush=True)
                del ways["redis-benchmark"]
            rates, spent = place.rounds(ways)
            beside = [place.beside(self.rate) for _ in range(3)]
        return [*_speed(rates), *_server(spent), *_bystander(beside)]


def _speed(rates: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    yield Figure(what="keys/s", values=rates["opskit"], limit=500_000, least=True)
    yield Figure(what="keys/s of redis-py", values=rates["redis-py"])
    beside = ratio(rates["opskit"], rates["redis-py"])
    yield Figure(what="beside redis-py, pipelines of 1000", values=beside, limit=3, least=True)
    if "redis-benchmark" in rates:
        yield Figure(what="keys/s of redis-benchmark", values=rates["redis-benchmark"])
        beside = ratio(rates["opskit"], rates["redis-benchmark"])
        yield Figure(what="beside redis-benchmark -P 500", values=beside, limit=0.7, least=True)
    yield Figure(what="rows/s listed from a query", values=rates["listed"])
    beside = ratio(rates["listed"], rates["copy"])
    yield Figure(what="listed beside COPY TO STDOUT", values=beside, limit=0.8, least=True)


def _server(spent: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    for name in ("opskit", "redis-py", "redis-benchmark"):
        if name in spent:
            yield Figure(
                what=f"the server's processor, {name}", values=spent[name], unit=" us a key"
            )


def _bystander(beside: Sequence["Beside"]) -> Iterator[Figure]:
    yield Figure(what="p99 of a bystander, idle", values=[one.idle for one in beside], unit=" ms")
    yield Figure(what="p99 beside it", values=[one.during for one in beside], unit=" ms")
    ratios = [one.during / one.idle for one in beside]
    yield Figure(what="p99 beside a polite fill, beside idle", values=ratios, limit=2)
    yield Figure(what="rate held", values=[one.rate for one in beside], unit=" keys/s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What a bystander waited, the 99th of a hundred times, in ms; and how quickly was written."""

    idle: float
    during: float
    rate: float


class _Place:
    """A cache, a database with the same rows, and ways to bring them there."""

    def __init__(self, cache: Server, url: str, bench: Bench, rows: int) -> None:
        self._cache, self._url, self._bench, self._rows = cache, url, bench, rows
        folder = bench.hosts.folder
        self._file, self._book = folder / "warm.jsonl", folder / "warm.yaml"
        self._book.write_text(BOOK)
        self._file.write_text("".join(
            json.dumps({"key": f"key:{n:012}", "value": "x" * VALUE}) + "\n" for n in range(rows)
        ))  # fmt: skip
        self._inventory = folder / "warm-hosts.yaml"
        app = url.replace("//owner@", "//app@")
        self._inventory.write_text(
            f"{HEAD}redis: {{main: {{url: 'redis://127.0.0.1:{cache.port}/0'}}}}\n"
            f"databases: {{main: {{url: '{app}'}}}}\n"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ROLES.encode())
            connection.execute(
                "CREATE TABLE item AS SELECT 'key:' || lpad(n::text, 12, '0') AS key,"
                f" repeat('x', {VALUE}) AS value FROM generate_series(0, {rows - 1}) n"
            )
            connection.execute("GRANT SELECT ON item TO app; GRANT USAGE ON SCHEMA public TO app")
            connection.execute("VACUUM ANALYZE item")
        self._program = shutil.which("redis-benchmark") or os.environ.get("REDIS_BENCHMARK", "")
        self.missing = (
            "" if self._program else "redis-benchmark is not there: not measured beside it"
        )

    def rounds(
        self, ways: Mapping[str, Callable[[], float]]
    ) -> tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]:
        """Run all ways by turns, one unmeasured round first.

        Returns how many keys each wrote a second, and what a key cost the server.
        """
        rates: dict[str, list[float]] = {name: [] for name in ways}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                self._cache.call("FLUSHALL")
                before, rate = self._processor(), self._rows / way()
                if turn:
                    rates[name].append(rate)
                    spent[name].append(1e6 * (self._processor() - before) / self._rows)
        return rates, spent

    def _processor(self) -> float:
        lines = self._cache.call("INFO", "cpu").decode().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def _counted(self) -> None:
        keys = [n for n in self._cache.call("INFO", "keyspace").decode().split() if "keys=" in n]
        found = int(re.findall(r"keys=(\d+)", keys[0])[0]) if keys else 0
        if not self._rows <= found <= self._rows + 10:  # with the marks of a run
            raise FailedError(f"{found} keys are there")

    def opskit(self, *more: str) -> float:
        evidence = self._ran("-p", f"rows={self._file}", *more)
        self._counted()
        return float(evidence["seconds"])  # type: ignore[arg-type]

    def listed(self) -> float:
        return float(self._ran("-p", "do=show")["took"])  # type: ignore[arg-type]

    def _ran(self, *more: str) -> Mapping[str, object]:
        folder = self._bench.hosts.folder
        words = [str(self._book), "-i", str(self._inventory), "--store", str(folder / "store.db"),
                 *more]  # fmt: skip
        try:
            event = ended(self._bench, words, first, XDG_STATE_HOME=str(folder / "state"))
        finally:
            shutil.rmtree(folder / "state", ignore_errors=True)
        return {**event["evidence"], "took": event["seconds"]}

    def redis_py(self) -> float:
        path = self._bench.hosts.folder / "redis_peer.py"
        path.write_text(PEER)
        words = [str(self._bench.redis), str(path), str(self._cache.port), str(self._file)]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        self._counted()
        return float(json.loads(done.stdout)[0])

    def redis_benchmark(self) -> float:
        words = [self._program, "-p", str(self._cache.port), "-n", str(self._rows), "-P", "500",
                 "-c", "1", "-r", str(self._rows), "--csv", "SET", "key:__rand_int__",
                 "x" * VALUE, "EX", "3600"]  # fmt: skip
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        rate = float(done.stdout.splitlines()[-1].split('","')[1])
        return self._rows / rate

    def copied(self) -> float:
        began = time.perf_counter()
        size = 0
        command = b"COPY (SELECT key, value FROM item) TO STDOUT"
        with (
            psycopg.connect(self._url) as connection,
            connection.cursor() as cursor,
            cursor.copy(command) as copy,
        ):
            size += sum(map(len, copy))
        if size < self._rows * VALUE:
            raise FailedError(f"{size} bytes were copied")
        return time.perf_counter() - began

    def beside(self, rate: int) -> Beside:
        """Write so many keys a second while somebody else asks for one 500 times a second."""
        self._cache.call("FLUSHALL")
        short = self._file.with_name("short.jsonl")
        with self._file.open() as lines:
            short.write_text("".join(line for _, line in zip(range(rate * 4), lines, strict=False)))
        with asking(self._cache.port, "key:000000000000") as idle:
            time.sleep(4)
        with asking(self._cache.port, "key:000000000000") as during:
            evidence = self._ran("-p", f"rows={short}", "-p", f"rate={rate}")
        seconds = float(evidence["seconds"])  # type: ignore[arg-type]
        last = during[-int(500 * seconds) :]
        return Beside(idle=p99(idle), during=p99(last), rate=rate * 4 / seconds)
