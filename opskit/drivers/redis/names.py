"""The list of names that is kept of keys of which no values are: for a cache that fills itself."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from opskit.drivers.evidence import EvidenceError, Folder, opened
from opskit.drivers.redis.archive import SHAPE, laid, manifest
from opskit.drivers.redis.listing import LINES, Names
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.slots import Layout
from opskit.model.evidence import MANIFEST, Manifest
from opskit.model.frozen import frozen
from opskit.model.keys import Keys

NAMES = "names"
PIECE, PIECE_BYTES = 1000, 256 * 1024
"""So many names, and about so many bytes of them, are removed at once: others wait meanwhile."""


@frozen
class Roll:
    """What is removed, in the order in which it is, and the digest of the manifest."""

    path: Path
    digest: str
    names: Sequence[bytes]
    chunks: Sequence[Sequence[bytes]]
    """What is removed at once: the same pieces whoever goes on with it."""
    shape: str = ""
    layout: Layout | None = None
    """As for an archive."""

    @classmethod
    def of(
        cls,
        path: Path,
        digest: str,
        names: Sequence[bytes],
        shape: str = "",
        layout: Layout | None = None,
    ) -> "Roll":
        longest = max(map(len, names), default=1) or 1
        many = max(1, min(PIECE, PIECE_BYTES // longest))
        shared: Sequence[Sequence[bytes]] = [names]
        if layout is not None:
            shared = layout.shared(names, lambda name: name)
        chunks = [
            some[first : first + many] for some in shared for first in range(0, len(some), many)
        ]
        return cls(path=path, digest=digest, names=names, chunks=chunks, shape=shape, layout=layout)

    @property
    def places(self) -> Sequence[int]:
        """Return the number of its primary for each piece, where there are several."""
        layout = self.layout
        return () if layout is None else [layout.of(some[0]) for some in self.chunks]


def kept(session: Session, work: Keys, found: Names, path: Path, run: str) -> Roll:
    """Keep the names on the disk. The digest of the file is the one that is shown of them."""

    def write(folder: Folder) -> tuple[int, Manifest]:
        file, count = folder.file(NAMES), len(found.names)
        file.put(found.text)
        file.rows = count
        return count, manifest(session, work, found, run, count)

    _, digest = laid(path, write)
    return Roll.of(path, digest, found.names, session.shape, session.layout)


def read(path: Path) -> Roll:
    """Read a list again; EvidenceError where it is not what it was."""
    evidence = opened(path / MANIFEST)
    file = path / NAMES
    piece = next((one for one in evidence.manifest.pieces if one.name == NAMES), None)
    data = file.read_bytes()
    if piece is None or hashlib.sha256(data).hexdigest() != piece.sha256:
        raise EvidenceError("it is not what it was", where=str(file))
    shape = evidence.manifest.asked.get(SHAPE, "")
    return Roll.of(path, evidence.digest, parsed(data), shape)


def parsed(data: bytes) -> list[bytes]:
    """Take names out of a list: of a line each, or each after its length."""
    head, _, rest = data.partition(b"\n")
    if head.endswith(LINES):
        return rest.removesuffix(b"\n").split(b"\n")
    found: list[bytes] = []
    at = len(head) + 1
    while at < len(data):
        start = data.index(b"\n", at) + 1
        end = start + int(data[at : start - 1])
        found.append(data[start:end])
        at = end + 1
    return found
