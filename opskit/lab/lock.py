"""One command at a time in a lab's folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from opskit.errors import OpskitError


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time in a folder; the lock is on the folder itself."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OpskitError(
                "another `opskit lab` command is at work on this lab",
                where=str(folder),
                hint="wait for it to end, then try again",
            ) from None
        yield
    finally:
        os.close(handle)
