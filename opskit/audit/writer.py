"""One thread that writes: whatever waits when it is free goes into one commit."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from opskit.errors import OpskitError, StoreError, TakenOverError

T = TypeVar("T")

ENOUGH = 4 * 1024 * 1024
"""Bytes that are worth a commit even though nobody waits for them."""

LINGER = 0.1
"""Seconds that items stay in memory for which nobody waits: what a crash may lose."""


class Writer(Generic[T]):
    """A queue before `commit`, which makes all that it is given durable or raises.

    It is called when somebody waits, when enough has gathered, or after a moment.
    After the first failure nothing more is written, and every caller is told why.
    """

    def __init__(self, commit: Callable[[Sequence[T]], None], *, limit: int, name: str) -> None:
        self._commit = commit
        self._limit = limit
        """How many bytes may wait; beyond that, `put` waits too."""
        self._queue: list[T] = []
        self._bytes = 0
        self._put = self._wanted = self._taken = self._done = 0
        self._closed = False
        self._error: BaseException | None = None
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._progress = threading.Condition(lock)
        # A daemon: an interpreter that ends without closing must not hang. Nothing is lost by it
        # that anyone was told is durable.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, items: Sequence[T], size: int) -> int:
        """Queue items, in this order, `size` bytes in all; return the ticket to wait for them."""
        with self._progress:
            while self._bytes > self._limit and self._error is None:
                self._progress.wait()
            self._check()
            if self._closed:
                raise StoreError("the record of this run is closed already")
            self._queue += items
            self._bytes += size
            self._put += 1
            if self._put == self._taken + 1 or self._bytes >= ENOUGH:
                self._work.notify()
            return self._put

    def wait(self, ticket: int) -> None:
        """Return once the items of this ticket, and all before them, are durable."""
        with self._progress:
            self._wanted = max(self._wanted, ticket)
            self._work.notify()
            while self._done < ticket and self._error is None:
                self._progress.wait()
            if self._done < ticket:
                self._check()

    @property
    def done(self) -> int:
        """The last ticket of which is known that it, and all before it, is durable."""
        with self._progress:
            return self._done

    def close(self) -> None:
        """Write what is queued and end the thread; StoreError when that failed, now or before."""
        with self._work:
            self._closed = True
            self._work.notify()
        self._thread.join()
        with self._work:
            self._check()

    def _check(self) -> None:
        error = self._error
        if isinstance(error, TakenOverError):
            raise TakenOverError(error.what, where=error.where, hint=error.hint) from error
        if isinstance(error, OpskitError):
            raise StoreError(error.what, where=error.where, hint=error.hint) from error
        if error is not None:
            raise StoreError(f"the record can't be written: {error!r}") from error

    def _run(self) -> None:
        while self._turn():
            pass

    def _gather(self) -> None:
        """Wait until there is something that should be written now."""
        while self._taken == self._put and not self._closed:
            self._work.wait()
        until = time.monotonic() + LINGER
        while self._wanted <= self._taken and self._bytes < ENOUGH and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not self._work.wait(left):
                return

    def _turn(self) -> bool:
        with self._work:
            self._gather()
            if self._taken == self._put:
                return False
            batch, self._queue = self._queue, []
            size, self._taken = self._bytes, self._put
        error: BaseException | None = None
        try:
            if batch:
                self._commit(batch)
        except BaseException as caught:  # noqa: BLE001 (those who wait must hear of anything)
            error = caught
        with self._progress:
            self._bytes -= size
            self._error = error
            if error is None:
                self._done = self._taken
            self._progress.notify_all()
        return error is None
