"""Files that are made aside and get their name when they are whole.

Who dies within that leaves a file of the form NAME.new-XXXXXXXX. It is locked while its maker
lives, so that the next one that comes by can tell it from one that is being made, and removes it.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_MARK = ".new-"
_COMPANIONS = ("", "-wal", "-shm", "-journal")


def make(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a file, for its owner only, by filling another that then gets its name; where there is
    one of that name by then, another process was quicker, and that one stays."""
    sweep(path)
    aside, descriptor = _begun(path)
    try:
        fill(aside)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _begun(path: Path) -> tuple[Path, int]:
    """Make a file that nobody else has, and lock it."""
    while True:
        aside = path.with_name(f"{path.name}{_MARK}{secrets.token_hex(4)}")
        # SQLite would obey the umask; its companions (-wal, -shm) take their mode from this file.
        descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        with suppress(OSError):  # there may be no locks here; then nothing is ever swept either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if aside.exists():
            return aside, descriptor
        os.close(descriptor)  # it was swept before it was locked


def sweep(path: Path) -> None:
    """Remove what processes have left aside that died while they made this file."""
    form = re.compile(re.escape(path.name + _MARK) + "[0-9a-f]{8}")
    with suppress(OSError):
        for aside in path.parent.iterdir():
            if form.fullmatch(aside.name):
                _remove(aside, path)


def _remove(aside: Path, path: Path) -> None:
    with suppress(OSError):
        # To open and close the file that has its name already would break SQLite's locks on it.
        if path.exists() and aside.samefile(path):
            aside.unlink()
            return
        descriptor = os.open(aside, os.O_RDWR)
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # BlockingIOError: its maker lives
            for companion in _COMPANIONS:
                Path(f"{aside}{companion}").unlink(missing_ok=True)
        finally:
            os.close(descriptor)
