"""The locks of runs as a database sees them: whoever came later counts, as on hosts.

For each lock and record there is one row with the number of the newest run that has shown itself.
A change looks at the rows in its own transaction, right before its commit, and keeps them from
being altered until then. So a newcomer, who alters them first, knows once that is done: what the
earlier one had open is committed or never will be.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from opskit.drivers.postgres.connection import Connection, Row, ServerError, Taker
from opskit.drivers.postgres.ending import terminate
from opskit.drivers.postgres.lease import Lease
from opskit.drivers.postgres.marks import LEASES, quoted
from opskit.errors import OpskitError

_LOCKED = "55P03"
_TRIES = 3
_ENDED = "(another one, which has ended since)"


class FencedError(OpskitError):
    """Somebody else has a lock of this run there by now; `what` says who."""


class Fence:
    """The leases of one database; used within a session there."""

    def __init__(self, connection: Connection, schema: str, lease: Lease) -> None:
        self._connection = connection
        self._lease = lease
        self._name = f"{quoted(schema)}.{LEASES}"
        self._locks = "{" + ",".join(lease.locks) + "}"

    def raise_(self) -> None:
        """Show that this run has its locks, then look whether somebody else does: FencedError."""
        lease = self._lease
        if lease.steal:
            self._insist(_TAKE, self._locks, lease.store, lease.steal)
        shown = (lease.store, str(lease.number), lease.run, lease.about)
        self._insist(_SHOW, self._locks, *shown)
        try:
            self.hold(kept=False)
        except FencedError:
            self._insist(_WITHDRAW, self._locks, lease.store, str(lease.number))
            raise

    def hold(self, *, kept: bool) -> None:
        """Make sure that nobody else has these locks: FencedError says who.

        `kept`: within a transaction, and so that nobody has until it ends.
        """
        rows: list[Any] = []

        def take(row: Row) -> None:
            rows.append(json.loads(row[0] or b"[]"))

        statement = self._worded(_LOOK) + (" FOR SHARE OF l" if kept else "")
        self._connection.run(statement, (self._locks,), Taker(row=take))
        for lock in self._lease.locks:
            if by := self._other([rest for name, *rest in rows if name == lock]):
                raise FencedError(by)

    def free(self) -> None:
        """Show that the locks of this run are free."""
        lease = self._lease
        self._insist(_FREE, self._locks, lease.store, str(lease.number))

    def _other(self, rows: Sequence[Sequence[Any]]) -> str:
        """Return who else has a lock by now; "" for nobody."""
        own = self._lease
        for store, number, about, free in rows:
            if store == own.store and number > own.number:
                return _ENDED if free else str(about)
            if store != own.store and not free:
                return str(about)
        held = any((s, n, f) == (own.store, own.number, False) for s, n, _, f in rows)
        return "" if held else _ENDED

    def _insist(self, statement: str, *values: str) -> None:
        """Alter rows; who keeps them from it has been overtaken, and its session is ended."""
        for _ in range(_TRIES):
            try:
                self._connection.run(self._worded(statement), values, Taker())
            except ServerError as error:
                if error.code != _LOCKED:
                    raise
                self._end_holders()
            else:
                return
        raise ServerError("a transaction of the run that had the lock can't be ended")

    def _end_holders(self) -> None:
        found: list[str] = []

        def take(row: Row) -> None:
            found.append((row[0] or b"").decode())

        name = self._name
        with suppress(ServerError):
            self._connection.run(self._worded(_HOLDERS), (name, self._locks), Taker(row=take))
        if found:
            terminate(self._connection, tuple(found))

    def _worded(self, statement: str) -> str:
        return statement.replace("LEASES", self._name)


_TAKE = """
    UPDATE LEASES SET free = true, at = pg_catalog.clock_timestamp()
    WHERE lock = ANY ($1::text[]) AND store <> $2 AND run = $3 AND NOT free
"""
_SHOW = """
    INSERT INTO LEASES AS l (lock, store, number, run, about)
    SELECT name, $2, $3::bigint, $4, $5 FROM pg_catalog.unnest($1::text[]) AS name ORDER BY name
    ON CONFLICT (lock, store) DO UPDATE SET number = excluded.number, run = excluded.run,
        about = excluded.about, free = false, at = excluded.at
    WHERE l.number < excluded.number
"""
_FREE = """
    UPDATE LEASES SET free = true, at = pg_catalog.clock_timestamp()
    WHERE lock = ANY ($1::text[]) AND store = $2 AND number = $3::bigint AND NOT free
"""
_WITHDRAW = """
    UPDATE LEASES SET free = true, number = number - 1
    WHERE lock = ANY ($1::text[]) AND store = $2 AND number = $3::bigint AND NOT free
"""
"""Whoever was refused may show the same number once more; who was overtaken may not."""
_LOOK = """
    SELECT pg_catalog.json_build_array(l.lock, l.store, l.number, l.about, l.free)
    FROM LEASES l WHERE l.lock = ANY ($1::text[]) ORDER BY l.lock, l.store
"""
_HOLDERS = """
    SELECT DISTINCT a.pid FROM pg_catalog.pg_locks k
    JOIN pg_catalog.pg_stat_activity a ON a.pid = k.pid
    JOIN LEASES l ON l.lock = ANY ($2::text[])
        AND pg_catalog.right(a.application_name, pg_catalog.length(l.run) + 1) = ':' || l.run
    WHERE k.relation = $1::regclass AND k.mode = 'RowShareLock' AND k.granted
        AND a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
"""
