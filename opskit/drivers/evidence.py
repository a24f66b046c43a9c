"""A folder of evidence: written once, closed by a manifest, read only where nothing has changed.

Tables are CSV with a heading. A cell that a spreadsheet would take for a formula gets a `'` in
front, as does one that begins with that; `rows` takes it off again. What is to be masked keeps its
last four characters.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from opskit.errors import InputError
from opskit.model.codec import from_json, to_json
from opskit.model.evidence import FORMAT, MANIFEST, Manifest, Piece
from opskit.model.frozen import frozen

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
_KEPT, _LONG = 4, 8
_PIECE = 1 << 20
_LARGEST = 16 << 20
"""Of a manifest that is read, in bytes."""
_MOST = 1000


def guarded(value: str) -> str:
    """Write a cell so that no spreadsheet takes it for a formula."""
    return f"'{value}" if value.startswith(_RISKY) else value


def plain(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell.startswith("'") else cell


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
        data = text.encode("utf-8", "surrogateescape")
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
        assert _NAME.fullmatch(name), name
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


class EvidenceError(InputError):
    """Evidence that is not what it was: nothing is done by it."""


@frozen
class Evidence:
    """A folder whose every file is as it was when it was closed."""

    folder: str
    manifest: Manifest
    digest: str

    def rows(self, name: str) -> Iterator[Mapping[str, str]]:
        """Yield the rows of a table; EvidenceError after them if it is not what it was.

        So nothing may be done by them before all have come.
        """
        piece = next((one for one in self.manifest.pieces if one.name == name), None)
        path = Path(self.folder) / name
        if piece is None or piece.rows < 0:
            raise _changed(path, f"there is no table {name}")
        digest = hashlib.sha256()
        try:
            with _reading(path) as file:
                lines = csv.reader(_lines(file, digest), strict=True)
                columns = [plain(cell) for cell in next(lines, [])]
                for cells in lines:
                    yield dict(zip(columns, map(plain, cells), strict=True))
        except (OSError, ValueError, csv.Error):
            raise _changed(path) from None
        if digest.hexdigest() != piece.sha256:
            raise _changed(path)


def opened(path: Path, sha256: str = "") -> Evidence:
    """Read a manifest and look at each file; EvidenceError says what is not as it was.

    `sha256`: what the manifest's must be, where that is known (the record has it).
    """
    try:
        with _reading(path) as file:
            raw = file.read(_LARGEST + 1)
        digest = hashlib.sha256(raw).hexdigest()
        if len(raw) > _LARGEST or (sha256 and digest != sha256):
            raise _changed(path, f"the manifest's SHA-256 is {digest}, and not {sha256}")
        manifest = from_json(Manifest, json.loads(raw.decode()))
        if manifest.format != FORMAT:
            raise _changed(path, f"its format is {manifest.format}, and this opskit reads {FORMAT}")
        _looked(path.parent, manifest)
    except OSError as error:
        raise _changed(path, f"it can't be read: {error.strerror}") from None
    except ValueError:
        raise _changed(path, "this is no manifest of evidence") from None
    return Evidence(folder=str(path.parent), manifest=manifest, digest=digest)


def _looked(folder: Path, manifest: Manifest) -> None:
    for piece in manifest.pieces:
        if not _NAME.fullmatch(piece.name):
            raise _changed(folder, f"{piece.name[:80]!r} is no name of a piece")
        digest = hashlib.sha256()
        with _reading(folder / piece.name) as file:
            while data := file.read(_PIECE):
                digest.update(data)
        if digest.hexdigest() != piece.sha256:
            raise _changed(folder / piece.name)


def _reading(path: Path) -> BinaryIO:
    """Open what is a file of one's own, and what only those could change who may anyway."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    about = os.fstat(handle)
    wrong = ""
    if not stat.S_ISREG(about.st_mode):
        wrong = "it is no file"
    elif about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong = "others may write it"
    elif about.st_uid not in (0, os.geteuid()):
        wrong = "it is somebody else's"
    if wrong:
        os.close(handle)
        raise _changed(path, wrong)
    return os.fdopen(handle, "rb", _PIECE)


def _lines(file: BinaryIO, digest: "hashlib._Hash") -> Iterator[str]:
    for line in file:
        digest.update(line)
        yield line.decode("utf-8", "surrogateescape")


def _changed(
    path: Path, why: str = "it is not what it was when the report was made"
) -> EvidenceError:
    return EvidenceError(why, where=str(path), hint="make the report again, and name its manifest")
