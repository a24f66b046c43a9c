"""Time that a run lets pass, counted from its record: a crash or a stop is no new beginning.

The record's times are those of whoever wrote it. Where another machine goes on and its clock is
behind, nothing has passed yet; where it is ahead, all of it has: no pause gets longer than it is.
"""

import time
from collections.abc import Callable

from opskit.execute.book import Book
from opskit.execute.stop import Stop
from opskit.model.job import Output
from opskit.model.plan import Action, Stage
from opskit.model.work import Wait

_LOOK = 0.2
"""How often, between two tries, it is looked whether there may be another; seconds."""


class Pauses:
    """Waits, the pauses between two tries, and since when a deadline counts."""

    def __init__(self, book: Book, stop: Stop) -> None:
        self.book = book
        self.stop = stop

    def wait(self, action: Action, work: Wait) -> Output | None:
        """Let the time of a `wait` step pass; None when the run was stopped meanwhile."""
        record = self.book.records.get(action.key)
        began = record.started if record and record.started else time.time()
        if self.stop.soft.wait(_left(began, work.seconds)):
            return None
        return Output(outcome="succeeded")

    def due(self, action: Action, stage: Stage) -> float:
        """Return how long the next try of what has failed must wait still."""
        record = self.book.records.get(action.key)
        if record is None or record.state != "failed" or stage.retry is None:
            return 0.0
        left = record.data.get("tries_left")
        if not isinstance(left, int) or record.ended is None:
            return 0.0
        return _left(record.ended, backoff(stage, left))

    def rests(self, seconds: float, spent: Callable[[], bool]) -> bool:
        """Wait before the next try; tell whether it may come."""
        end = time.monotonic() + seconds
        while not self.stop.pressed and not spent():
            left = end - time.monotonic()
            if left <= 0:
                return True
            self.stop.soft.wait(min(left, _LOOK))
        return False

    def first(self, action: Action) -> float | None:
        """Return when an attempt that is gone on with was first begun, monotonic; else None."""
        record = self.book.records.get(action.key)
        if record is None or record.first is None:
            return None
        goes_on = record.state == "started" or record.data.get("again") is True
        return time.monotonic() - max(0.0, time.time() - record.first) if goes_on else None


def backoff(stage: Stage, left: int) -> float:
    """Return the pause before the next try, of which `left` are allowed still."""
    assert stage.retry is not None
    return stage.retry.backoff * 2.0 ** (stage.retry.times - left)


def _left(began: float, seconds: float) -> float:
    """Return what is left of some seconds since `began`, UTC."""
    return min(seconds, max(0.0, began + seconds - time.time()))
