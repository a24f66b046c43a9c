"""The chain: each entry's hash covers the entry and the hash before it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from opskit.audit import fold
from opskit.audit.database import Row, Rows
from opskit.audit.masking import WORDS, Masker
from opskit.model.codec import canonical, to_json
from opskit.model.event import Event
from opskit.model.frozen import frozen
from opskit.model.states import RunState


@frozen
class Dated:
    """An event with its time (UTC seconds) and its text, ready to be added. Secrets are masked."""

    at: float
    event: Event
    body: bytes


@frozen
class Finding:
    """Something that an intact record would not have.

    `run`: its id, or "" for the store as a whole; `number`: the entry, 0 for none in particular.
    """

    run: str
    number: int
    what: str
    damage: bool = False
    """Not somebody's edit: the file itself can't be read there."""

    def __str__(self) -> str:
        place = self.run + (f", entry {self.number}" if self.number else "")
        return f"{place}: {self.what}" if place else self.what


_OURS = frozenset(
    {"digest", "documents", "hosts", "number", "plan", "previous", "seals", "secrets", "stderr",
     "stdout", "store"}
)  # fmt: skip
"""Data that holds digests, counts and states: masked by chance it would prove or say nothing."""


def dated(event: Event, at: float, masker: Masker) -> Dated:
    """Mask an event and write it down."""
    body = canonical(to_json(event))
    if masker.holds(body):
        data = {
            name: value if name in _OURS or str(value) in WORDS else masker.mask_json(value)
            for name, value in event.data.items()
        }
        event = replace(event, data=data)
        body = canonical(to_json(event))
    return Dated(at=at, event=event, body=body)


def link(*, run: str, number: int, at: float, previous: str, body: bytes) -> str:
    """Return the hash of an entry: SHA-256 of its canonical JSON, in hex.

    That JSON is the object of at, event, number, previous and run; anyone can check it without us.
    """
    head = b'{"at":%s,"event":' % repr(at).encode()
    tail = b',"number":%d,"previous":"%s","run":"%s"}' % (number, previous.encode(), run.encode())
    return hashlib.sha256(head + body + tail).hexdigest()


@frozen
class End:
    """Where a run ends: the number and the hash of its last entry."""

    number: int = 0
    hash: str = ""


def stands(rows: Rows, run: Row, end: End) -> bool:
    """Tell whether a run has this entry."""
    found = rows.one("event_hash", run=run["number"], number=end.number)
    return found is not None and bool(found["hash"] == end.hash)


def extend(rows: Rows, run: Row, entries: Sequence[Dated]) -> End:
    """Add entries at the end of a run, and move its head there; return that end."""
    head = rows.one("head", run=run["number"])
    assert head is not None
    number, previous = head["entries"], head["hash"]
    standing = fold.Standing(state=cast(RunState, head["state"]), ended=head["ended"])
    added = []
    for entry in entries:
        number += 1
        previous = link(
            run=run["id"], number=number, at=entry.at, previous=previous, body=entry.body
        )
        added.append(_row(run["number"], number, previous, entry))
        standing = fold.moved(standing, entry.event, entry.at)
    rows.many("add_event", added)
    rows.run(
        "move_head",
        run=run["number"],
        entries=number,
        hash=previous,
        state=standing.state,
        ended=standing.ended,
    )
    return End(number=number, hash=previous)


def _row(run: int, number: int, hash_: str, entry: Dated) -> Row:
    return {
        "run": run,
        "number": number,
        "at": entry.at,
        "kind": entry.event.kind,
        "key": entry.event.key,
        "host": entry.event.host,
        "body": entry.body,
        "hash": hash_,
    }
