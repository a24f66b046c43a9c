"""A folder of evidence: written once, closed by a manifest, read only where nothing has changed.

Tables are CSV with a heading. A cell that a spreadsheet would take for a formula gets a `'` in
front, as does one that begins with that; `rows` takes it off again. What is to be masked keeps its
last four characters.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from opskit.errors import InputError
from opskit.load.evidence import NAME, Evidence, EvidenceError, opened, plain
from opskit.model.codec import to_json
from opskit.model.evidence import MANIFEST, Manifest, Piece

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_KEPT, _LONG = 4, 8
_PIECE = 1 << 20
_MOST = 1000

__all__ = [
    "Evidence",
    "EvidenceError",
    "File",
    "Folder",
    "Sheet",
    "guarded",
    "masked",
    "opened",
    "plain",
]


def guarded(value: str) -> str:
    """Write a cell so that no spreadsheet takes it for a formula."""
    return f"'{value}" if value.startswith(_RISKY) else value


def masked(value: str) -> str:
    """Hide a value but for its end; one so short that the end would tell it, wholly."""
    return "****" + (value[-_KEPT:] if len(value) >= _LONG else "") if value else ""


class File:
    """A new file that nobody else may read, with the digest of what was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size, self.rows = 0, -1
        self._digest = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o600), "wb", _PIECE)

    def write(self, text: str) -> None:
        self.put(text.encode("utf-8", "surrogateescape"))

    def put(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)
        self._file.write(data)

    def close(self) -> Piece:
        """Bring it to the disk."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return Piece(
            name=self.path.name, sha256=self._digest.hexdigest(), size=self.size, rows=self.rows
        )

    def leave(self) -> None:
        with suppress(OSError):
            self._file.close()


class Sheet:
    """A table that is being written, row by row."""

    def __init__(self, file: File, columns: Sequence[str], mask: Sequence[str]) -> None:
        self._file = file
        self._hidden = [column in mask for column in columns]
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow([guarded(column) for column in columns])
        file.rows = 0

    def row(self, values: Sequence[str | None]) -> None:
        """Write a row; None is an empty cell."""
        cells = [
            guarded(masked(value) if hidden else value) if value else ""
            for value, hidden in zip(values, self._hidden, strict=True)
        ]
        self._writer.writerow(cells)
        self._file.rows += 1

    @property
    def rows(self) -> int:
        return self._file.rows


class Folder:
    """A folder of evidence under way. It is evidence once it is closed, and not before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: list[File] = []

    @classmethod
    def made(cls, base: Path, name: str) -> "Folder":
        """Make a folder of its own in `base`; InputError says why that can't be."""
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, _MOST):
                path = base / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700)
                    return cls(path)
        except OSError as error:
            why = error.strerror or str(error)
            hint = "name a folder where you may write under `evidence`"
            raise InputError(
                f"no evidence can be kept: {why}", where=str(base), hint=hint
            ) from None
        raise InputError("it is full of evidence of this name", where=str(base / name))

    def file(self, name: str) -> File:
        assert NAME.fullmatch(name), name
        made = File(self.path / name)
        self._files.append(made)
        return made

    def text(self, name: str, text: str) -> None:
        self.file(name).write(text)

    def sheet(self, name: str, columns: Sequence[str], mask: Sequence[str] = ()) -> Sheet:
        """Begin a table; the columns in `mask` are hidden but for their ends."""
        return Sheet(self.file(name), columns, mask)

    def close(self, manifest: Manifest) -> str:
        """Bring all of it to the disk, with the manifest; return the manifest's SHA-256."""
        pieces = tuple(file.close() for file in self._files)
        whole = replace(manifest, pieces=pieces)
        text = json.dumps(to_json(whole), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        last = File(self.path / MANIFEST)
        last.write(text)
        digest = last.close().sha256
        for folder in (self.path, self.path.parent):
            _synced(folder)
        return digest

    def remove(self) -> None:
        """Leave nothing of what did not come to its end."""
        for file in self._files:
            file.leave()
        shutil.rmtree(self.path, ignore_errors=True)


def _synced(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
