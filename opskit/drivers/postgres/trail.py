"""What an action has done batch by batch, each entry written in the batch's own transaction.

The entries of an attempt stand beside its mark, numbered. Whoever wants to know what became of an
attempt takes the next number himself: that waits for a transaction which is about to, and keeps the
attempt from committing another batch. So what is counted is what was done, no more and no less.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.connection import Connection, Row, ServerError, Taker
from opskit.drivers.postgres.fence import Fence
from opskit.drivers.postgres.marks import Marks
from opskit.model.job import Job

_FIRST = 16
"""Parts of a mark below this are of other kinds."""
MOST = 32_000
"""So many entries an attempt can have."""
_UNIQUE = "23505"

Entry = Mapping[str, Any]
HEAD, BATCH, END, CLOSED = "head", "batch", "end", "closed"


class ClosedError(Exception):
    """Somebody who came later has ended this attempt."""


class Trail:
    """What the attempts of one action have written down; `job` is the one that writes."""

    def __init__(self, connection: Connection, marks: Marks, job: Job, fence: Fence | None) -> None:
        self._connection = connection
        self._marks = marks
        self._job = job
        self._fence = fence
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count >= MOST

    def read(self, action: str = "") -> Sequence[Entry]:
        """Return what all attempts at an action have written down, the oldest first."""
        found: list[Entry] = []

        def take(row: Row) -> None:
            found.append(json.loads(bytes.fromhex((row[0] or b"").decode())))

        self._marks.notes(self._job.run, action or self._job.key, _FIRST, Taker(row=take))
        return found

    def begin(self, head: Entry) -> None:
        """Leave the attempt's mark with what is known before the first batch."""
        self._connection.own("BEGIN")
        if not self._marks.leave(self._job):
            raise ClosedError
        self.add(head)
        self._connection.own("COMMIT")

    def add(self, entry: Entry) -> None:
        """Write an entry in the transaction that is open, while the run has its locks."""
        entry = {**entry, "attempt": self._job.attempt}  # a head may be that of an earlier one
        try:
            self._marks.note(self._job, _FIRST + self.count, json.dumps(entry).encode())
        except ServerError as error:
            if error.code == _UNIQUE:
                raise ClosedError from None
            raise
        if self._fence is not None:
            self._fence.hold(kept=True)
        self.count += 1

    def close(self) -> Sequence[Entry]:
        """Keep the attempt from going on; return the entries of all, its own end among them.

        StillOpenError while a batch of it is under way.
        """
        known = -1
        while True:
            entries = self.read()
            own = [one for one in entries if one["attempt"] == self._job.attempt]
            if any(one["did"] in (END, CLOSED) for one in own):
                return entries
            if len(own) == known:
                raise ServerError("the entries beside its mark are not whole")
            known = len(own)
            closing = json.dumps({"attempt": self._job.attempt, "did": CLOSED}).encode()
            if self._marks.claim(self._job, _FIRST + len(own), closing):
                return entries


def removed(entries: Sequence[Entry]) -> int:
    """Return how many rows the batches have removed, or put back."""
    return sum(one["rows"] for one in entries if one["did"] == BATCH)
