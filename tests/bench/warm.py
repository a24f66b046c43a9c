"""Filling a cache beside clients, programs and `COPY … TO STDOUT`, and beside a bystander.

All write keys of the same length with values of the same length and an end, to one server which is
emptied before each. What opskit took is what it says that writing took; the list is made before.

Listing and COPY are of more rows, and less what each takes of one row: the library for PostgreSQL
that is started and the looks at both servers take as long as some hundred thousand rows.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import psycopg

from tests.bench.apart import HEAD, Apart, ended, first
from tests.bench.caches import (
    SET,
    SET_MANY,
    bystander,
    children,
    has_django,
    part,
    piped,
    program,
    scripted,
)
from tests.bench.figures import FailedError, Figure, Rounds, ratio
from tests.bench.peers import Bench
from tests.support.database import ROLES
from tests.support.postgres import server as postgres
from tests.support.redis import Server, server

ROUNDS = 3
SECONDS = 2
"""So long a bystander looks, idle and beside a rate."""
VALUE = 100
LISTED = 1_000_000
OF_A_QUERY = ("copy", "listed")
BOOK = """opskit: 1
name: bench-warm
version: 1.0.0
summary: b
params:
  rows: {type: file, default: }
  do: {default: fill}
  rate: {type: number, default: 0}
  first: {type: int, default: 1}
steps:
  - warm:
      do: '{{ do }}'
      file: "{{ rows or '' }}"
      sql: SELECT key, value FROM item LIMIT {{ first }}
      ttl: 1h
      allow: ['key:']
      max_keys: 2000000
      rate: '{{ rate }}'
      breaches: 1000000
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Warm(Apart):
    """Keys written as quickly as they go, and politely beside a bystander."""

    rows: int
    rates: tuple[int, ...] = (5_000, 50_000)

    @property
    def name(self) -> str:
        return f"warm-{self.rows // 1000}k"

    @property
    def title(self) -> str:
        return f"{self.rows:,} keys of {VALUE} bytes, in rounds of its own"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        count = self.bench.rounds or ROUNDS
        with server(maxmemory="2gb") as found, postgres() as database:
            place = _Place(found, database.database(empty=True), self.bench, self.rows)
            for name in place.missing:
                print(f"  {name} is not there: not measured beside it", flush=True)
            made = place.rounds(count)
            waits = [place.beside(self.rates) for _ in range(count)]
        return [*_speed(made), *_cost(made), *_waits(waits, self.rates)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What a way came to: keys a second; what a key cost the client (the whole process) and the
    server, µs; how many keys were there after it; seconds from the first end of these to the last.
    """

    rate: float
    client: float
    server: float
    keys: int
    spread: float


Made = Mapping[str, Sequence[Round]]
LIMITS = {"redis-py": 3.0, "redis-benchmark -P 500": 0.85}


def _speed(made: Made) -> Iterator[Figure]:
    rates = {name: [one.rate for one in each] for name, each in made.items()}
    ours = rates["opskit"]
    yield Figure(what="keys/s", values=ours, limit=500_000, least=True)
    for name in made:
        if name not in ("opskit", *OF_A_QUERY):
            yield Figure(what=f"keys/s of {name}", values=rates[name])
            limit = LIMITS.get(name)
            yield Figure(what=f"beside {name}", values=ratio(ours, rates[name]), limit=limit,
                         least=True)  # fmt: skip
    yield Figure(what="rows/s listed from a query", values=rates["listed"])
    besides = ratio(rates["listed"], rates["copy"])
    yield Figure(what="listed beside COPY TO STDOUT", values=besides, limit=0.8, least=True)


def _cost(made: Made) -> Iterator[Figure]:
    for name, each in made.items():
        if name in OF_A_QUERY:
            continue
        yield Figure(what=f"processor of {name}, the whole process, a key",
                     values=[one.client for one in each], unit=" µs")  # fmt: skip
        yield Figure(what="… and of the server", values=[one.server for one in each], unit=" µs")
        yield Figure(what="… keys there after it", values=[one.keys for one in each])
        yield Figure(what="… first end to last", values=[one.spread for one in each], unit=" s")


Waits = Mapping[str, tuple[Sequence[float], float]]
"""How long a bystander waited, each time, and how many keys a second were written meanwhile."""


def _waits(rounds: Sequence[Waits], rates: Sequence[int]) -> Iterator[Figure]:
    parts = (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    for name in rounds[0]:
        for said, share in parts:
            values = [part(one[name][0], share) for one in rounds]
            yield Figure(what=f"wait of a GET, {name}, {said}", values=values, unit=" ms")
    for rate in rates:
        name = f"{rate} keys/s"
        held = [one[name][1] for one in rounds]
        yield Figure(what=f"rate held of {rate} keys/s", values=held, unit=" keys/s")
        besides = [
            part(one[name][0], 0.99) / max(part(one["idle"][0], 0.99), 1.0) for one in rounds
        ]
        what = f"p99 beside {rate} keys/s, beside idle or 1 ms where that is more"
        yield Figure(what=what, values=besides, limit=2)


def less(way: Callable[[int], float]) -> float:
    """Return what all rows took, less what one did."""
    alone = way(1)
    return way(LISTED) - alone


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
                f" repeat('x', {VALUE}) AS value FROM generate_series(0, {LISTED - 1}) n"
            )
            connection.execute("GRANT SELECT ON item TO app; GRANT USAGE ON SCHEMA public TO app")
            connection.execute("VACUUM ANALYZE item")
        self._pipe = folder / "warm.resp"
        piped(self._pipe, {f"key:{n:012}": "x" * VALUE for n in range(rows)}, 3600)
        self._benchmark, self._cli = program("redis-benchmark"), program("redis-cli")
        django = has_django(bench.redis)
        self.missing = [name for name, there in (
            ("redis-benchmark", self._benchmark), ("redis-cli", self._cli), ("django-redis", django)
        ) if not there]  # fmt: skip
        self._ways: dict[str, Callable[[], float]] = {
            "opskit": self.opskit, "redis-py": partial(self._client, SET),
            **({"django-redis set_many": partial(self._client, SET_MANY)} if django else {}),
            **({"redis-cli --pipe": self._piped} if self._cli else {}),
            **{f"redis-benchmark -P {n}": partial(self._benchmarked, n)
               for n in (16, 500) if self._benchmark},
            "copy": partial(less, self.copied), "listed": partial(less, self.listed),
        }  # fmt: skip

    def rounds(self, count: int) -> Made:
        """Run all ways by turns; the first time that anything is written is not measured."""
        self._once(self.opskit, self._rows)
        made: dict[str, list[Round]] = {name: [] for name in self._ways}
        for _ in range(count):
            for name, way in self._ways.items():
                rows = LISTED - 1 if name in OF_A_QUERY else self._rows
                made[name].append(self._once(way, rows))
        return made

    def _once(self, way: Callable[[], float], rows: int) -> Round:
        self._cache.call("FLUSHALL")
        client, used = children(), self._processor()
        seconds = way()
        used, client = self._processor() - used, children() - client
        keys, ends = self._there(), self._ends()
        return Round(
            rate=rows / seconds, client=1e6 * client / rows, server=1e6 * used / rows, keys=keys,
            spread=(max(ends) - min(ends)) / 1000 if ends else 0,
        )  # fmt: skip

    def _ends(self) -> list[int]:
        """Return in how many ms some of the keys end."""
        with self._cache.peer() as peer:
            names = peer.call("SCAN", "0", "MATCH", "*key:*", "COUNT", "1000")[1]
            return [peer.call("PTTL", name) for name in names]

    def _processor(self) -> float:
        lines = self._cache.call("INFO", "cpu").decode().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def _there(self) -> int:
        """Return how many keys are there, less the marks of a run."""
        with self._cache.peer() as peer:
            found = peer.call("EVAL", "return #redis.call('KEYS', 'opskit:*')", "0")
            return int(peer.call("DBSIZE") - found)

    def _counted(self) -> None:
        if (found := self._there()) != self._rows:
            raise FailedError(f"{found} keys are there")

    def opskit(self, *more: str) -> float:
        evidence = self._ran("-p", f"rows={self._file}", *more)
        self._counted()
        return float(evidence["seconds"])  # type: ignore[arg-type]

    def listed(self, first: int) -> float:
        evidence = self._ran("-p", "do=show", "-p", f"first={first}")
        if evidence["keys"] != first:
            raise FailedError(f"{evidence['keys']} keys were listed")
        return float(evidence["took"])  # type: ignore[arg-type]

    def _ran(self, *more: str) -> Mapping[str, object]:
        folder = self._bench.hosts.folder
        words = [str(self._book), "-i", str(self._inventory), "--store", str(folder / "store.db"),
                 *more]  # fmt: skip
        try:
            event = ended(self._bench, words, first, XDG_STATE_HOME=str(folder / "state"))
        finally:
            shutil.rmtree(folder / "state", ignore_errors=True)
        return {**event["evidence"], "took": event["seconds"]}

    def _client(self, script: str) -> float:
        seconds = scripted(self._bench.redis, script, self._cache.port, self._file)
        self._counted()
        return seconds

    def _piped(self) -> float:
        """Read a file of commands that was made before, and send them."""
        words = [self._cli, "-p", str(self._cache.port), "--pipe"]
        began = time.perf_counter()
        with self._pipe.open("rb") as commands:
            subprocess.run(words, stdin=commands, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - began
        self._counted()
        return seconds

    def _benchmarked(self, depth: int) -> float:
        words = [self._benchmark, "-p", str(self._cache.port), "-n", str(self._rows), "-P",
                 str(depth), "-c", "1", "-r", str(self._rows), "--csv", "SET", "key:__rand_int__",
                 "x" * VALUE, "EX", "3600"]  # fmt: skip
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        rate = float(done.stdout.splitlines()[-1].split('","')[1])
        return self._rows / rate

    def copied(self, first: int) -> float:
        began = time.perf_counter()
        size = 0
        command = b"COPY (SELECT key, value FROM item LIMIT %d) TO STDOUT" % first
        with (
            psycopg.connect(self._url) as connection,
            connection.cursor() as cursor,
            cursor.copy(command) as copy,
        ):
            size += sum(map(len, copy))
        if size < first * VALUE:
            raise FailedError(f"{size} bytes were copied")
        return time.perf_counter() - began

    def beside(self, rates: Sequence[int]) -> Waits:
        """Write at once, and politely, while somebody else asks for a key 500 times a second."""
        with bystander(self._cache.port, "nothing") as idle:
            time.sleep(SECONDS)
        found = {"idle": (idle.before(SECONDS), 0.0), "at once": self._beside(self._rows, 0)}
        found |= {f"{rate} keys/s": self._beside(SECONDS * rate, rate) for rate in rates}
        return found

    def _beside(self, count: int, rate: int) -> tuple[Sequence[float], float]:
        self._cache.call("FLUSHALL")
        short = self._file.with_name("short.jsonl")
        with self._file.open() as lines:
            short.write_text("".join(islice(lines, count)))
        with bystander(self._cache.port, f"key:{count - 1:012}") as asked:
            evidence = self._ran("-p", f"rows={short}", "-p", f"rate={rate}")
        seconds = float(evidence["seconds"])  # type: ignore[arg-type]
        return asked.before(seconds), count / seconds
