"""Removing sessions that are over, beside others who do, and beside a client that goes on writing.

Beside it: one big DELETE; Django's own `clearsessions`, whose query set sends that statement; and
batches that join by ctid, as is often advised, over some of the rows: what one costs does not
change.

All remove the same rows of the same table, which is made anew before each; the server waits for
the disk at each commit. None vacuums, nor holds back for the WAL: one DELETE can't.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

import psycopg
from psycopg.conninfo import conninfo_to_dict

from opskit.drivers.postgres.marks import ddl
from opskit.model.inventory import MARKERS
from tests.bench.apart import HEAD, Apart, beside, ended, first, p99
from tests.bench.figures import FailedError, Figure, Rounds, ratio
from tests.bench.peers import Bench
from tests.support.database import ROLES
from tests.support.postgres import Server, server

TABLE = """
    DROP TABLE IF EXISTS django_session;
    CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL);
    INSERT INTO django_session SELECT md5(n::text), repeat(md5(n::text), 6),
        now() + CASE WHEN n % 5 < 4 THEN -1 ELSE 1 END * (1 + n % 40000) * interval '1 minute'
        FROM generate_series(1, {rows}) AS n;
    CREATE INDEX ON django_session (expire_date);
    GRANT SELECT, INSERT, UPDATE, DELETE ON django_session TO app;
    GRANT SELECT ON django_session TO reader
"""
DELETE = "DELETE FROM django_session WHERE expire_date < now()"
JOINED = """
    WITH gone AS (SELECT ctid FROM django_session WHERE expire_date < now() LIMIT 1000)
    DELETE FROM django_session AS s USING gone WHERE s.ctid = gone.ctid
"""
CLEAR = """
import json, sys, time
import django
from django.conf import settings
base = {"ENGINE": "django.db.backends.postgresql", **json.loads(sys.argv[1])}
apps = ["django.contrib.sessions"]
settings.configure(USE_TZ=True, INSTALLED_APPS=apps, DATABASES={"default": base})
django.setup()
from django.core.management import call_command
from django.db import connection
connection.ensure_connection()
began = time.perf_counter()
call_command("clearsessions")
print(json.dumps([time.perf_counter() - began, django.get_version()]))
"""
"""What the command takes when Django has begun."""
BATCHES = 40
OURS, STEADY, DELETED, CLEARED, BY_CTID = (
    "opskit", "opskit without pauses", "one DELETE", "clearsessions", "batches joined by ctid",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleanup(Apart):
    """`session-cleanup` on a table of which four fifths are over."""

    rows: int
    rounds: int = 3

    @property
    def name(self) -> str:
        return f"cleanup-{self.rows // 1_000_000}m"

    @property
    def title(self) -> str:
        return f"{self.rows * 4 // 5:,} of {self.rows:,} sessions removed, in rounds of its own"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        with server(fsync="on", shared_buffers="512MB", max_wal_size="4GB") as found:
            place = _Place(found, found.database(empty=True), self.bench, self.rows)
            runs = place.rounds(self.bench.rounds or self.rounds)
        print(f"  clearsessions of Django {place.django}", flush=True)
        return [*_judged(runs), *_beside(runs)]


def _judged(runs: "Mapping[str, Sequence[Run]]") -> Iterator[Figure]:
    rates = {name: [one.rate for one in each] for name, each in runs.items()}
    yield Figure(what="rows/s", values=rates[OURS], limit=20_000, least=True)
    beside = ratio(rates[STEADY], rates[DELETED])
    yield Figure(what="without pauses beside one DELETE", values=beside, limit=0.5, least=True)
    for other in (DELETED, CLEARED, BY_CTID):
        yield Figure(what=f"rows/s beside {other}", values=ratio(rates[OURS], rates[other]))
    longest = [one.longest for one in runs[OURS]]
    yield Figure(what="longest transaction", values=longest, unit=" ms", limit=200)


def _beside(runs: "Mapping[str, Sequence[Run]]") -> Iterator[Figure]:
    for name, each in runs.items():
        yield Figure(what=f"{name}: rows/s", values=[one.rate for one in each])
        longest = [one.longest for one in each]
        yield Figure(what=f"{name}: longest transaction", values=longest, unit=" ms")
        yield Figure(what=f"{name}: a writer's p99", values=[o.p99 for o in each], unit=" ms")
        yield Figure(what=f"{name}: WAL a row", values=[one.wal for one in each], unit=" B")
    alone = [one.alone for each in runs.values() for one in each]
    yield Figure(what="a writer's p99 alone", values=alone, unit=" ms")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run came to: rows a second, the longest transaction, a writer beside it, in ms; and
    bytes of WAL for each row, the writer's with them."""

    rate: float
    longest: float
    p99: float
    alone: float
    wal: float


class _Place:
    """A database with sessions, and ways to remove those that are over."""

    def __init__(self, at: Server, url: str, bench: Bench, rows: int) -> None:
        self.django = ""
        self._url, self._bench, self._rows = url, bench, rows
        self._app = url.replace("//owner@", "//app@")
        self._do(";".join([ROLES, *ddl(MARKERS, "app"), "GRANT USAGE ON SCHEMA public TO PUBLIC"]))
        self._inventory = at.folder / "hosts.yaml"
        databases = f"databases: {{main: {{url: '{self._app}'}}}}\n"
        self._inventory.write_text(HEAD + databases)

    def _do(self, statement: str) -> int:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement.encode()).rowcount

    def rounds(self, count: int) -> "Mapping[str, Sequence[Run]]":
        """Run all ways by turns, one unmeasured round first."""
        ways = {OURS: self.opskit, STEADY: self.without_pauses, DELETED: self.by_hand,
                CLEARED: self.cleared, BY_CTID: self.joining}  # fmt: skip
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        for turn in range(count + 1):
            for name, way in ways.items():
                one = self.measured(way, whole=name != BY_CTID)
                runs[name] += [one] if turn else []
        return runs

    def measured(self, do: Callable[[], tuple[float, float]], *, whole: bool = True) -> Run:
        """Make the rows anew, and remove them beside a writer; see that they are gone."""
        self._do(TABLE.format(rows=self._rows))
        self._do("VACUUM (ANALYZE) django_session")
        self._do("CHECKPOINT")
        over = self._count("expire_date < now()")
        with writing(self._app) as writer:
            time.sleep(2)
            before, wal = len(writer.times), self._wal()
            seconds, longest = do()
            wal = self._wal() - wal
            during = writer.times[before:]
        left = self._count("expire_date < now()")
        if (whole and left > self._rows // 1000) or writer.errors:
            raise FailedError(f"{left} rows are left; {writer.errors[:3]}")
        return Run(
            rate=(over - left) / seconds,
            longest=longest,
            p99=slowest(during, seconds),
            alone=p99(writer.times[:before]),
            wal=wal / max(1, over - left),
        )

    def _wal(self) -> int:
        with psycopg.connect(self._url) as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            return int((row.fetchone() or (0,))[0])

    def _count(self, where: str) -> int:
        with psycopg.connect(self._url) as connection:
            row = connection.execute(f"SELECT count(*) FROM django_session WHERE {where}".encode())
            return int((row.fetchone() or (0,))[0])

    def by_hand(self) -> tuple[float, float]:
        with psycopg.connect(self._app, autocommit=True) as connection:
            began = time.perf_counter()
            connection.execute(DELETE.encode())
            seconds = time.perf_counter() - began
        return seconds, 1000 * seconds

    def cleared(self) -> tuple[float, float]:
        known = conninfo_to_dict(self._app)
        base = {"NAME": known["dbname"], **{
            key.upper(): str(known[key]) for key in ("user", "host", "port") if known.get(key)
        }}  # fmt: skip
        words = [sys.executable, "-c", CLEAR, json.dumps(base)]
        done = subprocess.run(words, capture_output=True, check=False, text=True)
        if done.returncode:
            raise FailedError(done.stderr)
        seconds, self.django = json.loads(done.stdout)
        return seconds, 1000 * seconds

    def joining(self) -> tuple[float, float]:
        with psycopg.connect(self._app, autocommit=True) as connection:
            times = []
            for _ in range(BATCHES):
                began = time.perf_counter()
                connection.execute(JOINED.encode())
                times.append(time.perf_counter() - began)
        return sum(times), 1000 * max(times)

    def without_pauses(self) -> tuple[float, float]:
        return self.opskit("-p", "pause=0")

    def opskit(self, *more: str) -> tuple[float, float]:
        """Run it as a person does; the time is that of the step, which counts before and after."""
        store = self._bench.hosts.folder / "store.db"
        words = ["session-cleanup", "-i", str(self._inventory), "--store", str(store),
                 "-p", "max_rows=100000000", "-p", "rest=ok",
                 "-p", "max_wal=0", "-p", "vacuum=false", *more]  # fmt: skip
        event = ended(self._bench, words, first)
        return float(event["seconds"]), float(event["evidence"]["longest_ms"])


@dataclass(kw_only=True, slots=True)
class Writer:
    """Another client, which makes and prolongs sessions 200 times a second.

    What it waits counts from when its turn was: also what came due while it waited has waited.
    """

    url: str
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, over: Event) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            number, due = 0, time.perf_counter()
            while not over.wait(max(0.0, due - time.perf_counter())):
                number += 1
                try:
                    connection.execute(WRITE, (f"w{number % 500}",))
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.times.append(time.perf_counter() - due)
                due += EVERY


def slowest(times: Sequence[float], seconds: float) -> float:
    """Return the 99th of a hundred (ms) of what came due in so many seconds, within which the
    slowest are: a program has begun before, and ends after.
    """
    found = sorted(times, reverse=True)
    return 1000 * found[min(len(found) - 1, int(seconds / EVERY / 100))]


EVERY = 1 / 200
WRITE = (
    "INSERT INTO django_session VALUES (%s, 'x', now() + interval '1 day') ON CONFLICT"
    " (session_key) DO UPDATE SET expire_date = excluded.expire_date"
)


@contextmanager
def writing(url: str) -> Iterator[Writer]:
    writer = Writer(url=url)
    with beside(writer.go):
        yield writer
