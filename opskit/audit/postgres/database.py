"""The record in a PostgreSQL database: any number of processes, on any number of machines."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from opskit.audit.postgres import guards, schema
from opskit.audit.postgres.address import Address
from opskit.audit.postgres.keeper import Keeper
from opskit.audit.postgres.patience import Patience
from opskit.audit.postgres.reading import Reading
from opskit.audit.postgres.rows import Connection, PostgresRows, queries
from opskit.audit.postgres.session import connect, identity, let_be, transaction
from opskit.audit.postgres.watchdog import Watchdog
from opskit.audit.postgres.words import AwayError, told
from opskit.errors import StoreError

T = TypeVar("T")

_EVICTION = 10.0
"""Seconds that a session of ours that has broken may take to be gone from the server."""

_GLANCE = 1.0
"""Seconds for which another process may hold our claim only to see whether we live."""


class PostgresClaim:
    """A session's lock: the server lets go of it when the session ends, however it ends."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def release(self) -> None:
        self._release()


class PostgresDatabase:
    """One database, whose schema `opskit` was made by `opskit store init`.

    What is written goes through the session that holds this process's claims, so that a process
    without them can't write: when that session breaks, the next one takes the claims first.
    """

    def __init__(self, address: Address) -> None:
        self.location = address.location
        self.patience = Patience(address.patience)
        self._address = address
        self._lock = threading.RLock()
        self._pool = threading.Lock()
        self._idle: list[Connection] = []
        self._watchdog = Watchdog()
        self._keeper = Keeper(self._keep)
        self._held: set[str] = set()
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

    def _open(self) -> Connection:
        return connect(self._address, self._watchdog.over)

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

    def _keep(self) -> None:
        """Take claims again whose session has broken, unless somebody is at it already."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._held:
                with suppress(StoreError):  # whoever writes next is told
                    self._look()
        finally:
            self._lock.release()

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
        """Return the session that writes; where it has broken, another one with our claims."""
        if self._writer is None or self._writer.closed:
            let_be(self._writer)
            self._writer = None
            fresh = self._open()
            try:
                with self._watchdog.over(fresh):
                    for name in sorted(self._held):
                        self._take_back(fresh, name)
                    self._self = identity(fresh)
            except BaseException:
                let_be(fresh)
                raise
            self._writer = fresh
        return self._writer

    def _take_back(self, connection: Connection, name: str) -> None:
        """Claim a name again that this process has had; another may have it by now."""
        began = time.monotonic()
        while not _taken(connection, name):
            # The server may not know yet that our session is gone. It must be: it could still
            # carry out what it was sent.
            ended = connection.execute(queries()["end_session"], self._self).fetchone()
            if time.monotonic() - began > (_GLANCE if ended is None else _EVICTION):
                raise StoreError(
                    f"the connection to the record broke; another process has taken over {name}",
                    where=self.location,
                    hint=f"`opskit status {name}` shows what it does; nothing was sent after this",
                )
            time.sleep(0.05)

    # ---- claims

    def claim(self, name: str) -> PostgresClaim | None:
        with self._lock, told(self._address):
            if name in self._held:
                return None
            session = self._session()
            with self._watchdog.over(session):
                if not _taken(session, name):
                    return None
            self._held.add(name)
            self._keeper.start()

        def release() -> None:
            with self._lock:
                if name not in self._held:
                    return
                self._held.discard(name)
                if self._writer is not None and not self._writer.closed:
                    # Where it fails the session is gone, and the claim with it.
                    with suppress(psycopg.Error), self._watchdog.over(self._writer):
                        self._writer.execute(queries()["unclaim"], {"name": name})

        return PostgresClaim(release)

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
        self._keeper.close()
        self._watchdog.close()
        with self._lock:
            for connection in (*self._idle, self._writer):
                let_be(connection)
            self._idle.clear()
            self._writer = None
            self._held.clear()


def _taken(connection: Connection, name: str) -> bool:
    found = connection.execute(queries()["claim"], {"name": name}).fetchone()
    return found is not None and bool(found["taken"])
