"""How far a build has come, as the server tells it."""

import time
from contextlib import suppress

from opskit.drivers.postgres.connection import BrokenError, ServerError
from opskit.drivers.postgres.session import Access, Session, opened
from opskit.drivers.session import Write
from opskit.errors import UnreachableError

_FIRST, _EVERY = 1.0, 1.0
_TOLD = 15.0
"""Seconds after which the same phase is told once more."""
_PROGRESS = """
    SELECT phase, blocks_done::text, blocks_total::text, tuples_done::text, tuples_total::text,
           lockers_done::text, lockers_total::text
    FROM pg_catalog.pg_stat_progress_create_index WHERE pid = $1::integer
"""


class Progress:
    """Tells how a build goes on, over a session of its own, once it takes longer than a second."""

    def __init__(self, access: Access, write: Write) -> None:
        self._access = access
        self._write = write
        self._session: Session | None = None
        self._next = time.monotonic() + _FIRST
        self._said = ("", 0.0)
        self._gone = False

    def look(self, process: str) -> None:
        """Tell, where it is time to; nothing here can hold the build up or end it."""
        if self._gone or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        try:
            if self._session is None:
                self._session = opened(self._access)
            found = self._session.connection.one(_PROGRESS, process)
        except (BrokenError, ServerError, UnreachableError):
            self._gone = True
            return
        if found and found[0]:
            self._tell(found[0], _amount(found[1:]))

    def _tell(self, phase: str, amount: str) -> None:
        before, at = self._said
        if phase == before and time.monotonic() - at < _TOLD:
            return
        self._said = (phase, time.monotonic())
        self._write("stdout", f"{phase}{amount}\n".encode())

    def close(self) -> None:
        if self._session is not None:
            with suppress(Exception):
                self._session.close()


def _amount(numbers: tuple[str | None, ...]) -> str:
    """Say how much is done, of the first of blocks, rows and transactions that is counted."""
    pairs = zip(numbers[::2], numbers[1::2], ("blocks", "rows", "transactions"), strict=True)
    for done, whole, what in pairs:
        if int(whole or 0) > 0:
            return f": {100 * int(done or 0) // int(whole or 1)} % of {whole} {what}"
    return ""
