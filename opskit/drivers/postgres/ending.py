"""Ending what a session does: cancelled at the server, and seen to be gone there."""

import time
from contextlib import suppress

from opskit.drivers.postgres.connection import (
    BrokenError,
    Connection,
    Row,
    ServerError,
    Taker,
)
from opskit.drivers.postgres.session import Access, Identity, opened
from opskit.drivers.stop import Verdict
from opskit.errors import UnreachableError

_GRACE = 5.0
_LOOK = 0.1
_RUNS = """
    SELECT state FROM pg_catalog.pg_stat_activity
    WHERE pid = $1::integer AND backend_start = $2::timestamptz
"""
_END = """
    SELECT pg_catalog.{}(pid) FROM pg_catalog.pg_stat_activity
    WHERE pid = $1::integer AND backend_start = $2::timestamptz AND state NOT LIKE 'idle%'
"""


def end(access: Access, whose: Identity, grace: float = _GRACE) -> Verdict:
    """End the statement of a session, over a session of its own; say how far that is proved."""
    try:
        other = opened(access)
    except UnreachableError:
        return "can't tell"
    try:
        for how in ("pg_cancel_backend", "pg_terminate_backend"):
            other.connection.one(_END.format(how), whose.process, whose.began)
            if _gone(other.connection, whose, grace):
                return "confirmed gone"
        return "still there"
    except (BrokenError, ServerError):
        return "can't tell"
    finally:
        other.close()


def _gone(connection: Connection, whose: Identity, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        state = connection.one(_RUNS, whose.process, whose.began)
        if not state or (state[0] or "").startswith("idle"):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)


_OTHERS = """
    SELECT pid::text FROM pg_catalog.pg_stat_activity
    WHERE application_name = $1 AND datname = pg_catalog.current_database()
      AND usename = session_user AND pid <> pg_catalog.pg_backend_pid()
      AND (state NOT LIKE 'idle' OR state IS NULL)
    ORDER BY backend_start
"""


def others(connection: Connection, access: Access) -> tuple[str, ...]:
    """Return the processes that do something for this run at the server besides this session."""
    found: list[str] = []

    def take(row: Row) -> None:
        found.append((row[0] or b"").decode())

    connection.run(_OTHERS, (access.application,), Taker(row=take))
    return tuple(found)


def terminate(connection: Connection, processes: tuple[str, ...]) -> None:
    """End sessions of this run that nobody holds any more; what they have open is rolled back."""
    for process in processes:
        with suppress(ServerError):
            connection.one("SELECT pg_catalog.pg_terminate_backend($1::integer)", process)
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        alive = connection.one(
            "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1::integer[])",
            "{" + ",".join(processes) + "}",
        )
        if not alive:
            return
        time.sleep(_LOOK)
