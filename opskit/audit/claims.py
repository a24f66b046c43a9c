"""Names that one process has to itself: a lock on a file, which the kernel frees when it dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class FileClaim:
    """A lock on a file: the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def claim_file(path: Path) -> FileClaim | None:
    """Take the lock on a file; None when a living process has it."""
    for _ in range(50):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return FileClaim(path, descriptor)
        os.close(descriptor)  # its holder has just removed it: this name now stands for another
    return None
