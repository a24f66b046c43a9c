"""Changes that were lost from sight, by a broken line or with the process that sent them."""

import time
from collections.abc import Mapping
from dataclasses import replace

from opskit.errors import UnreachableError
from opskit.execute.book import Book
from opskit.execute.fall import is_gate
from opskit.execute.gates import Gates
from opskit.execute.send import Outside, Ready, find
from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.model.job import Output
from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.queues import Messages, Queues
from opskit.model.rows import Rows
from opskit.model.value import Json
from opskit.model.warm import Warm
from opskit.model.work import (
    Command,
    Query,
    RedisCall,
    Remove,
    Repair,
    Request,
    Upload,
    Verify,
    Work,
)
from opskit.steps.health import answers, judge

_FIRST, _MOST = 0.5, 15.0
"""Pauses between two tries to come back to a target; seconds."""
_SLICE = 0.5
"""So often a pause asks whether it is still needed; seconds."""
_ENDED = "opskit ended while this was running"

Sizes = Mapping[str, Json]


def become_of(work: Work) -> str | None:
    """Return who a work is done as by sudo, where that is not who logs in."""
    return work.sudo if isinstance(work, (Command, Upload, Remove)) else None


class Search:
    """Comes back to targets until they tell, the action is out of time, or the run is stopped."""

    def __init__(self, book: Book, outside: Outside, gates: Gates) -> None:
        self.book = book
        self.outside = outside
        self.gates = gates

    def began(self, ready: Ready) -> tuple[Output, Sizes]:
        """Say what became of an attempt that another process began."""
        match ready.job.work:
            case (
                Command()
                | Upload()
                | Remove()
                | Query()
                | Repair()
                | Payouts()
                | Rows()
                | Sessions()
                | RedisCall()
                | Keys()
                | Warm()
                | Messages()
            ):
                lost = Output(outcome="unknown", lost=True, reason=_ENDED)
                return self.found(ready, lost, {})
            case Verify() | Activity() | Queues() | Bloat():
                reason = f"{_ENDED}; nothing of it was kept"
                return Output(outcome="failed", again=True, reason=reason), {}
            case Request(idempotency_key=True):
                reason = f"{_ENDED}; it may be sent again: the server honours Idempotency-Key"
                return Output(outcome="failed", again=True, reason=reason), {}
            case _:
                return Output(outcome="unknown", reason=_ENDED), {}

    def found(self, ready: Ready, output: Output, sizes: Sizes) -> tuple[Output, Sizes]:
        """Say what became of an attempt that was lost from sight; `output`: what is known of it."""
        stop, pause = self.outside.stop.soft, _FIRST
        while output.lost and not stop.is_set() and not self._vain(ready):
            if output.outcome == "unknown":
                output, sizes = self._look(ready)
            else:
                output = self._come_back(ready, output)
            if not output.lost or not ready.left:
                break
            self._rest(ready, min(pause, ready.left))
            pause = min(2 * pause, _MOST)
        if output.lost and answers(ready.job.work):
            output = judge(ready.job.work, replace(output, lost=False))
        return output, sizes

    def _vain(self, ready: Ready) -> bool:
        """Tell whether nothing depends any more on what is found."""
        return self.gates.over and is_gate(ready.job.work)

    def _rest(self, ready: Ready, seconds: float) -> None:
        """Pause until there is to be another look, or none."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._vain(ready):
            if self.outside.stop.soft.wait(min(left, _SLICE)):
                return

    def _look(self, ready: Ready) -> tuple[Output, Sizes]:
        contact = self.book.contact(ready.action, become_of(ready.job.work))
        return find(self.outside, replace(ready, job=replace(ready.job, contact=contact)))

    def _come_back(self, ready: Ready, output: Output) -> Output:
        """What changes nothing, or never left, is done again once the target is there again."""
        try:
            self.outside.targets.open(ready.action.target, writes=False)
        except UnreachableError:
            return output
        return replace(output, lost=False, again=True)
