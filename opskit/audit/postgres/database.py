"""The record in a PostgreSQL database: any number of processes, on any number of machines."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from opskit.audit.postgres import guards, schema
from opskit.audit.postgres.address import Address
from opskit.audit.postgres.patience import Patience
from opskit.audit.postgres.reading import Reading
from opskit.audit.postgres.rows import Connection, PostgresRows, queries
from opskit.audit.postgres.session import connect, identity, let_be, transaction
from opskit.audit.postgres.watchdog import Watchdog
from opskit.audit.postgres.words import AwayError, told

T = TypeVar("T")

_EVICTION = 10.0
"""Seconds that a session of ours that has broken may take to be gone from the server."""

_BRIEF = b"""
set synchronous_commit = off;
set lock_timeout = '2s';
set statement_timeout = '5s'
"""
"""For what may be lost, and should not wait."""


class PostgresDatabase:
    """One database, whose schema `opskit` was made by `opskit store init`.

    What is written goes through one session; when that breaks, the next one ends it at the server
    first.
    """

    def __init__(self, address: Address) -> None:
        self.location = address.location
        self.patience = Patience(address.patience)
        self._address = address
        self._lock = threading.RLock()
        self._pool = threading.Lock()
        self._idle: list[Connection] = []
        self._watchdog = Watchdog()
        self._beside: Connection | None = None
        self._beside_lock = threading.Lock()
        self._writer: Connection | None = None
        self._self: dict[str, Any] = {}
        with told(address):
            try:
                self._writer = self._open()
                with self._watchdog.over(self._writer):
                    schema.refuse_other(self._writer, self.location)
                    self._self = identity(self._writer)
            except BaseException:
                let_be(self._writer)
                self._watchdog.close()
                raise

    def _open(self, more: bytes = b"") -> Connection:
        return connect(self._address, self._watchdog.over, more)

    def attend(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        self.patience.tell, self.patience.stopped = tell, stopped

    # ---- reading

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        with told(self._address):
            view = Reading(
                self._take_idle, self._give_idle, self._address, self.patience, self._watchdog
            )
            try:
                yield view
            finally:
                view.end()

    def _take_idle(self) -> Connection:
        with self._pool:
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_idle(self, connection: Connection) -> None:
        if connection.closed:
            let_be(connection)
            return
        with self._pool:
            self._idle.append(connection)

    # ---- writing

    @contextmanager
    def writing(self) -> Iterator[PostgresRows]:
        with self._lock:
            self._look()
            with self._transaction() as rows:
                yield rows

    def _look(self) -> None:
        """See that the session lives: a transaction that is begun on a dead one can't be saved."""
        with suppress(psycopg.Error, AwayError):
            session = self._session()
            with self._watchdog.over(session):
                session.execute(b"select 1")

    @contextmanager
    def _transaction(self) -> Iterator[PostgresRows]:
        with self._lock, told(self._address):
            session = self._session()
            with self._watchdog.over(session), transaction(session, self._watchdog.touch) as rows:
                yield rows

    def transact(
        self, work: Callable[[PostgresRows], T], landed: Callable[[PostgresRows], bool]
    ) -> T:
        waiting = self.patience.begin()
        done: list[T] = []
        with self._lock:
            while True:
                try:
                    with self._transaction() as rows:
                        # Asked with the store to ourselves: what a session of ours that broke
                        # had still sent has been carried out by now, or never will be.
                        if not (done and landed(rows)):
                            done = [work(rows)]
                    waiting.over()
                    return done[0]
                except AwayError as error:
                    waiting.pause(error)

    def _session(self) -> Connection:
        """Return the session that writes, another one where it has broken."""
        if self._writer is None or self._writer.closed:
            let_be(self._writer)
            self._writer = None
            fresh = self._open()
            try:
                with self._watchdog.over(fresh):
                    self._end_old(fresh)
                    self._self = identity(fresh)
            except BaseException:
                let_be(fresh)
                raise
            self._writer = fresh
        return self._writer

    def _end_old(self, connection: Connection) -> None:
        """End our session that has broken, where the server has not missed it yet: it could have
        the store to itself, in the middle of something that nobody waits for any more."""
        end = time.monotonic() + _EVICTION
        while self._self and time.monotonic() < end:
            if connection.execute(queries()["end_session"], self._self).fetchone() is None:
                return
            time.sleep(0.05)

    # ---- beside that

    @contextmanager
    def aside(self) -> Iterator[PostgresRows]:
        with self._beside_lock, told(self._address):
            session = self._beside = self._beside or self._open(_BRIEF)
            try:
                with self._watchdog.over(session):
                    yield PostgresRows(session)
            except BaseException:
                let_be(session)
                self._beside = None
                raise

    # ---- the rest

    def damage(self) -> list[str]:
        with self.reading() as rows:
            return guards.missing(rows)

    def secret_key(self, store: str = "") -> bytes:
        with self.reading() as rows:
            here = rows.one("store")
            found = rows.one("key", store=store or (here["id"] if here else ""))
        return bytes(found["body"]) if found else b""

    def close(self) -> None:
        self._watchdog.close()
        with self._lock:
            for connection in (*self._idle, self._writer, self._beside):
                let_be(connection)
            self._idle.clear()
            self._writer = self._beside = None
