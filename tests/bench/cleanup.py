"""Removing sessions that are over, beside one big DELETE and beside a client that goes on writing.

Django's `clearsessions` is that DELETE: its query set sends the one statement. The batches that are
often advised, which join by ctid, are measured over some of them: what one costs does not change.

Both remove the same rows of the same table, which is made anew before each; the server waits for
the disk at each commit. Neither vacuums, nor holds back for the WAL: one DELETE can't.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

import psycopg

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
BATCHES = 40
ROUNDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleanup(Apart):
    """`session-cleanup` on a table of which four fifths are over."""

    rows: int

    @property
    def name(self) -> str:
        return f"cleanup-{self.rows // 1_000_000}m"

    @property
    def title(self) -> str:
        return (
            f"{self.rows * 4 // 5:,} of {self.rows:,} sessions removed, {ROUNDS} rounds of its own"
        )

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        ours: list[Run] = []
        steady: list[Run] = []
        theirs: list[Run] = []
        joined: list[Run] = []
        with server(fsync="on", shared_buffers="512MB", max_wal_size="4GB") as found:
            place = _Place(found, found.database(empty=True), self.bench, self.rows)
            for turn in range(ROUNDS + 1):
                for runs, do in (
                    (ours, place.opskit),
                    (theirs, place.by_hand),
                    (steady, place.without_pauses),
                ):
                    one = place.measured(do)
                    runs += [one] if turn else []
                joined += [place.measured(place.joining, whole=False)] if turn else []
        return [
            Figure(what="rows/s", values=[one.rate for one in ours], limit=20_000, least=True),
            Figure(what="rows/s of one DELETE", values=[one.rate for one in theirs]),
            Figure(
                what="without pauses beside one DELETE",
                values=ratio([one.rate for one in steady], [one.rate for one in theirs]),
                limit=0.5,
                least=True,
            ),
            Figure(
                what="with pauses beside one DELETE",
                values=ratio([one.rate for one in ours], [one.rate for one in theirs]),
            ),
            Figure(
                what="longest transaction",
                values=[one.longest for one in ours], unit=" ms", limit=200,
            ),
            Figure(what="one DELETE", values=[one.longest for one in theirs], unit=" ms"),
            Figure(what="a writer's p99", values=[one.p99 for one in ours], unit=" ms"),
            Figure(
                what="a writer's p99 beside one DELETE",
                values=[one.p99 for one in theirs], unit=" ms",
            ),
            Figure(what="a writer's p99 alone", values=[one.alone for one in ours], unit=" ms"),
            Figure(what="WAL a row", values=[one.wal for one in ours], unit=" B"),
            Figure(what="WAL a row of one DELETE", values=[one.wal for one in theirs], unit=" B"),
            Figure(what="rows/s of batches joined by ctid", values=[one.rate for one in joined]),
            Figure(
                what="a writer's p99 beside those",
                values=[one.p99 for one in joined], unit=" ms",
            ),
        ]  # fmt: skip


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
    """A database with sessions, and two ways to remove those that are over."""

    def __init__(self, at: Server, url: str, bench: Bench, rows: int) -> None:
        self._url, self._bench, self._rows = url, bench, rows
        self._app = url.replace("//owner@", "//app@")
        self._do(";".join([ROLES, *ddl(MARKERS, "app"), "GRANT USAGE ON SCHEMA public TO PUBLIC"]))
        self._inventory = at.folder / "hosts.yaml"
        databases = f"databases: {{main: {{url: '{self._app}'}}}}\n"
        self._inventory.write_text(HEAD + databases)

    def _do(self, statement: str) -> int:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement.encode()).rowcount

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
            p99=p99(during),
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
    """Another client, which makes and prolongs sessions 200 times a second."""

    url: str
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, over: Event) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            number = 0
            while not over.wait(0.005):
                number += 1
                began = time.perf_counter()
                try:
                    connection.execute(WRITE, (f"w{number % 500}",))
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.times.append(time.perf_counter() - began)


WRITE = (
    "INSERT INTO django_session VALUES (%s, 'x', now() + interval '1 day') ON CONFLICT"
    " (session_key) DO UPDATE SET expire_date = excluded.expire_date"
)


@contextmanager
def writing(url: str) -> Iterator[Writer]:
    writer = Writer(url=url)
    with beside(writer.go):
        yield writer
