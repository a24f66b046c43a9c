"""What the executor needs of a record; `opskit.audit` has one that lasts."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from opskit.model.event import Chunk, Event
from opskit.model.value import Json, Secret

Stream: TypeAlias = Literal["stdout", "stderr"]
Watcher: TypeAlias = Callable[[Event | Chunk], None]
"""Sees everything that happens; it can neither steer nor stop a run."""


class Sink(Protocol):
    """Where the output of one attempt goes. Each stream is fed by one thread at a time."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Take the next bytes as they came; StoreError when they can't be kept."""

    def close(self) -> Mapping[str, Json]:
        """End both streams: stream → {bytes, sha256, cut} of what is stored, masked.

        A stream that nothing came from is left out. What was written is durable with the next
        event that is waited for. A second close returns the same.
        """


class Journal(Protocol):
    """The record of one run. All of it may be called from several threads."""

    @property
    def run(self) -> str:
        """The id of the run."""

    def append(self, *events: Event, wait: bool = True) -> None:
        """Add events, in this order. With `wait`, return once they are durable.

        Without it they become durable with the next ones that are waited for. StoreError when the
        record can't be written; then none of these events may be acted on, and none follows.
        """

    def output(self, key: str, host: str, attempt: int, *, again: bool = False) -> Sink:
        """Return the sink for the output of this attempt.

        With `again` the output is told from its beginning once more, after another sink took some
        of it, perhaps of a process that has died: what is stored already is passed over.
        """

    def hide(self, secret: Secret) -> None:
        """Mask one more secret from now on: a value that the run itself has just fetched."""
