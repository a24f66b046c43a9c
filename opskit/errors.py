"""Every error that a person can meet, and the exit status each ends with.

OpskitError
├── InputError        2   bad usage or input; nothing was touched
│   └── ProblemsError 2   the same, with every problem found in the files (model.problem)
├── RefusedError      5   refused before the first change started (lock, preflight, drift, policy)
│   └── LockedError   5   the same, as another run has a lock: to wait may help
├── UnreachableError  1   a host could not be reached or is not a POSIX shell
├── StoreError        2   the record can't be read or written; nothing was touched
│   ├── DamagedError  2   the same: its file is damaged
│   ├── UnrecordedError 130  it takes no more of a run that is under way; nothing was sent after it
│   │                     (where a run can't even be begun: RefusedError)
│   └── TakenOverError 130  another process goes on with the run that this one was carrying out
└── WaitingError      4   a person must answer, and nobody can be asked here
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the command line (docs/reference/exit-status.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNDONE = 3
    WAITING = 4
    REFUSED = 5
    UNKNOWN = 6
    BUG = 70
    INTERRUPTED = 130


class OpskitError(Exception):
    """Something that a person has to know: what happened, where, and what to do next."""

    exit = Exit.FAILED

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  → {self.hint}" if self.hint else text

    @property
    def line(self) -> str:
        """The same on one line, as the record keeps it."""
        return " ".join(str(self).split())


class InputError(OpskitError):
    """What was asked for can't be done as it was asked; nothing was touched."""

    exit = Exit.USAGE


class RefusedError(OpskitError):
    """opskit declines to begin: somebody holds the lock, a check failed, the world has drifted."""

    exit = Exit.REFUSED


class LockedError(RefusedError):
    """Another run has a lock; it may give it back."""


class UnreachableError(OpskitError):
    """A host that no action was sent to, because no shell could be had there."""


class StoreError(OpskitError):
    """The record could not be written or read."""

    exit = Exit.USAGE


class DamagedError(StoreError):
    """What the record's file holds can't be made sense of."""


class UnrecordedError(StoreError):
    """A run was left in its middle because its record took no more; it can be resumed."""

    exit = Exit.INTERRUPTED


class TakenOverError(StoreError):
    """A person has let another process go on with a run, or has given its locks to another run."""

    exit = Exit.INTERRUPTED


class WaitingError(OpskitError):
    """A run needs a person's answer and there is no terminal to ask on."""

    exit = Exit.WAITING


@contextmanager
def writing(path: object) -> Iterator[None]:
    """Say of a file that a person named, and that can't be written, that it is so and why."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"it can't be written: {error.strerror or error}",
            where=str(error.filename or path),
            hint="name a file in a folder that is there and where you may write",
        ) from error
