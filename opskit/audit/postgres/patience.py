"""Waiting for a store that has gone away: a little longer each time, and not for ever."""

import time
from collections.abc import Callable

from opskit.audit.postgres.words import AwayError

_FIRST, _LONGEST = 0.05, 2.0
_SOON = 1.0
"""Seconds after which the person is told: shorter breaks are nobody's business."""


_STOPPED = 3.0
"""Seconds that remain once a person has stopped the run: enough for a break, not for a restart."""


class Patience:
    """How long a database is waited for, over all its callers: who has given up once gives up."""

    def __init__(self, seconds: float) -> None:
        self.tell: Callable[[str], None] = lambda _: None
        self.stopped: Callable[[], bool] = lambda: False
        self._seconds = seconds
        self._spent = False

    def begin(self) -> "Waiting":
        return Waiting(self)

    def give_up(self) -> None:
        """Wait no more, now and later: the process wants to end."""
        self._spent = True

    @property
    def seconds(self) -> float:
        if self._spent:
            return 0.0
        return min(self._seconds, _STOPPED) if self.stopped() else self._seconds


class Waiting:
    """One wait; `pause` between tries, `over` after the one that was answered."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began: float | None = None
        self._delay = _FIRST
        self._told = False

    def pause(self, error: AwayError) -> None:
        """Sleep before the next try; raise the error when there has been enough of it."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        waited = now - self._began
        if waited >= self._patience.seconds:
            if self._patience.seconds:
                error.hint = f"{error.hint}; it was waited for, {waited:.0f} s"
            self._patience.give_up()
            raise error
        if waited >= _SOON and not self._told:
            self._told = True
            limit = self._patience.seconds
            self._patience.tell(
                f"{error.what}; nothing new is sent; waiting for it, up to {limit:.0f} s"
            )
        time.sleep(self._delay)
        self._delay = min(self._delay * 2, _LONGEST)

    def over(self) -> None:
        """Say that the store is back, to whoever was told that it was away."""
        if self._told and self._began is not None:
            waited = time.monotonic() - self._began
            self._patience.tell(f"the record is back after {waited:.0f} s; the run goes on")
            self._told = False
        self._began, self._delay = None, _FIRST
