"""What has been written on a host, to compare before and after."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path


def read(folders: tuple[tuple[str, Path], ...]) -> Mapping[str, str]:
    """Every path below the folders, with its type, permissions, owner and content as one text.

    Times are left out: reading a file changes some of them.
    """
    found = {}
    for prefix, folder in folders:
        for path in _walk(folder):
            found[f"{prefix}/{path.relative_to(folder)}"] = _describe(path)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder on its own file system."""
    device = folder.stat().st_dev
    for entry in os.scandir(folder):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False) and path.lstat().st_dev == device:
            yield from _walk(path)


def _describe(path: Path) -> str:
    try:
        info = path.lstat()
        head = f"{stat.filemode(info.st_mode)} {info.st_uid}:{info.st_gid}"
        if stat.S_ISLNK(info.st_mode):
            return f"{head} -> {path.readlink()}"
        if stat.S_ISREG(info.st_mode):
            return f"{head} {info.st_size} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except FileNotFoundError:
        return "gone while it was read"
    return head
