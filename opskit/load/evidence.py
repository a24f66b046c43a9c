"""A folder of evidence is read again: only where nothing of it has changed.

opskit.drivers.evidence writes such folders, and says how their tables are written.
"""

import csv
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from opskit.errors import InputError
from opskit.model.codec import from_json
from opskit.model.evidence import FORMAT, Manifest
from opskit.model.frozen import frozen

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
_PIECE = 1 << 20
_LARGEST = 16 << 20
"""Of a manifest that is read, in bytes."""
_LONGEST = 1 << 30
"""Of a cell: no value of the server's is longer, and Python's own limit is 128 KiB."""


def plain(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell.startswith("'") else cell


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
                csv.field_size_limit(_LONGEST)
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
        if not NAME.fullmatch(piece.name):
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
