"""What an action is about to do with indexes, written down before it does it.

A build is no transaction, so no mark can be left with it. What is written down tells whoever comes
later what this action has built or dropped, and so what an undo may take back. It stands beside the
action's mark, which is left at the same time: an attempt that was barred writes nothing down.
"""

import json
from collections.abc import Sequence
from typing import Literal

from opskit.drivers.postgres.connection import Connection, Row, Taker
from opskit.drivers.postgres.fence import Fence
from opskit.drivers.postgres.marks import Marks
from opskit.model.frozen import frozen
from opskit.model.job import Job

_FIRST = 16
"""Parts of a mark below this are of other kinds."""


@frozen
class Entry:
    """One thing that was to be done. `oid`: the index that was there then, 0 for none.

    `nothing` is written down as well: what is not there at all has been deleted. `built`: what has
    come of it, so that an undo takes back nobody else's index of the same name.
    `definition`: what pg_get_indexdef said of it; `valid`: whether it was of use to anybody.
    """

    did: Literal["create", "built", "rebuild", "drop", "nothing"]
    schema: str = ""
    name: str = ""
    definition: str = ""
    oid: int = 0
    valid: bool = False


class BarredError(Exception):
    """This attempt has been given up by somebody who came later."""


class Ledger:
    """What the attempts of one action have written down."""

    def __init__(self, connection: Connection, marks: Marks, job: Job, action: str) -> None:
        self._connection = connection
        self._marks = marks
        self._job = job
        self._action = action
        self._count = 0

    def write(self, entry: Entry, fence: Fence | None) -> None:
        """Write down what is done next, while nobody else has a lock of this run."""
        connection = self._connection
        connection.own("BEGIN")
        if not self._count and not self._marks.leave(self._job):
            raise BarredError
        data = json.dumps([entry.did, entry.schema, entry.name, entry.definition, entry.oid,
                           entry.valid])  # fmt: skip
        self._marks.note(self._job, _FIRST + self._count, data.encode())
        if fence is not None:
            fence.hold(kept=True)
        connection.own("COMMIT")
        self._count += 1

    def read(self) -> Sequence[Entry]:
        """Return what all attempts have written down, the oldest first."""
        found: list[Entry] = []

        def take(row: Row) -> None:
            did, schema, name, definition, oid, valid = json.loads(
                bytes.fromhex((row[0] or b"").decode())
            )
            entry = Entry(
                did=did, schema=schema, name=name, definition=definition, oid=oid, valid=valid
            )
            found.append(entry)

        self._marks.notes(self._job.run, self._action, _FIRST, Taker(row=take))
        return found
