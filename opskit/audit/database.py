"""What a store needs of a database. All SQL is named (`queries.py`), so that another can join."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

Row = Mapping[str, Any]
T = TypeVar("T")


class Rows(Protocol):
    """Named queries inside one transaction."""

    def all(self, query: str, **values: object) -> list[Row]:
        """Return every row."""

    def each(self, query: str, **values: object) -> Iterator[Row]:
        """Yield the rows, a few in memory at a time."""

    def one(self, query: str, **values: object) -> Row | None:
        """Return the first row, if there is one."""

    def run(self, query: str, **values: object) -> None:
        """Carry out a query that returns nothing."""

    def many(self, query: str, values: Sequence[Row]) -> None:
        """Carry it out once for each of these."""


class Database(Protocol):
    """Where the record is kept. Every failure is a StoreError that names `location`."""

    @property
    def location(self) -> str:
        """Where it is, for messages."""

    def attend(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Name who is told when it is away and when it is back, and who may cut waiting short."""

    def reading(self) -> AbstractContextManager[Rows]:
        """Return a view of one moment; nothing can be written through it."""

    def writing(self) -> AbstractContextManager[Rows]:
        """Return a transaction that has the store to itself.

        When it is left, all of it is durable; when it is left by an error, nothing of it is there.
        """

    def transact(self, work: Callable[[Rows], T], landed: Callable[[Rows], bool]) -> T:
        """Carry out work in a transaction of its own, once, though the store be away meanwhile.

        Where it went away in the middle, it is waited for, with bounded patience, and the work is
        done anew, unless `landed` finds in the store that it is there: the answer may have been
        lost and not the work.
        """

    def aside(self) -> AbstractContextManager[Rows]:
        """Return a connection for small things that may be lost: each query is a transaction.

        Nothing else waits for it, and it waits for little: soon it is a StoreError.
        """

    def damage(self) -> list[str]:
        """Return what is wrong with the database itself: broken pages, guards taken away."""

    def secret_key(self, store: str = "") -> bytes:
        """Return the random key for digests of secrets; it is kept apart from the data.

        `store`: the id of the store in which a run began, where that may be another.
        """

    def close(self) -> None:
        """End all connections."""
