"""Looks after the session that holds claims while nothing is written: a step may be silent for an
hour, and a claim that is lost meanwhile must not wait for the next entry to be taken again."""

import threading
from collections.abc import Callable

EVERY = 5.0
"""Seconds between two looks."""

_ENOUGH = 6.0
"""Seconds for which a look that is under way is waited for: one that can't connect takes five."""


class Keeper:
    """Calls `look` now and then, in a thread of its own, from `start` until `close`."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look; a second time does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_ENOUGH)

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            self._look()
