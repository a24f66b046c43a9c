"""What an execution needs of the record: to write there before it acts."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from opskit.model.event import Chunk, Event
from opskit.model.value import Json, Secret

Stream = Literal["stdout", "stderr"]
Watcher: TypeAlias = Callable[[Event | Chunk], None]
"""Sees everything that happens; it can neither steer nor stop a run."""


class Sink(Protocol):
    """Takes the output of one attempt, as it arrives."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Keep some output; waits while the store is behind, so that memory stays bounded."""

    def close(self) -> Mapping[str, Json]:
        """End the output; return what was stored: {"stdout": {"bytes", "sha256", "cut"}, …}."""


class Journal(Protocol):
    """The record of one run, open for writing."""

    @property
    def run(self) -> str:
        """The run's id."""

    def append(self, *events: Event, wait: bool = True) -> None:
        """Write events; with `wait` they are durable on return.

        Raises StoreError when they can't be written: then nothing more may be sent anywhere.
        """

    def output(self, key: str, host: str, attempt: int) -> Sink:
        """Open the output of one attempt at an action."""

    def hide(self, secret: Secret) -> None:
        """Mask one more secret from now on (a value that the run itself has just fetched)."""
