"""What is kept of keys before they are removed, so that they can be put back.

It lies in a folder of evidence that is named after the run and the action: whoever goes on with it
finds it again. A file in it, `begun`, says that the removal may have begun at the server; another,
`ended`, that each piece of it has left its mark there.
"""

import base64
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from opskit.drivers.evidence import Evidence, EvidenceError, File, Folder, opened
from opskit.drivers.redis.connection import Reply, TooLongError
from opskit.drivers.redis.listing import (
    Listed,
    Listing,
    ListingError,
    Names,
    named,
    raise_refused,
)
from opskit.drivers.redis.session import Commands, Session
from opskit.drivers.redis.slots import Layout
from opskit.errors import InputError
from opskit.model.evidence import FORMAT, MANIFEST, Manifest, Source
from opskit.model.frozen import frozen
from opskit.model.keys import Keys
from opskit.settings import default_store

KEYS = "keys.jsonl"
MOST_BYTES = 256 * 1024 * 1024
"""So much of values is kept at most."""
CHUNK, CHUNK_BYTES = 250, 1024 * 1024
"""So much is removed at once: the server does nothing else meanwhile."""
_BEGUN, _ENDED = "begun", "ended"
SHAPE = "cluster"
"""What a manifest calls the way in which the slots of a cluster were spread."""
_COPY = ("DUMP", "PEXPIRETIME")
_DUMPS, _MORE_DUMPS, _LIGHT = 100, 500, 256 * 1024
"""So many values are asked for together; more, while that many are no more than so many bytes."""


@frozen
class Kept:
    """A key as it was: `dump` is what RESTORE takes, `end` ms of the server's clock or -1."""

    name: bytes
    end: int
    dump: bytes

    @property
    def known(self) -> str:
        """What tells this value, with this end, from another one."""
        return f"{hashlib.sha1(self.dump, usedforsecurity=False).hexdigest()} {self.end}"


@frozen
class Archive:
    """What is removed, in the order in which it is, and the digest of the manifest."""

    path: Path
    digest: str
    keys: tuple[Kept, ...]
    gone: int = 0
    """How many had gone by themselves between the listing and this."""
    shape: str = ""
    layout: Layout | None = None
    """Of a cluster: how its slots were spread when this was listed, and who has them."""

    @property
    def chunks(self) -> tuple[tuple[Kept, ...], ...]:
        """Return what is removed at once: the same pieces however often this is asked."""
        if self.layout is None:
            return tuple(_pieces(self.keys))
        shared = self.layout.shared(self.keys, lambda key: key.name)
        return tuple(piece for keys in shared for piece in _pieces(keys))

    @property
    def places(self) -> tuple[int, ...]:
        """Return the number of its primary for each piece, where there are several."""
        layout = self.layout
        return () if layout is None else tuple(layout.of(keys[0].name) for keys in self.chunks)


def _pieces(keys: Sequence[Kept]) -> Iterator[tuple[Kept, ...]]:
    piece: list[Kept] = []
    size = 0
    for key in keys:
        size += len(key.dump)
        if piece and (len(piece) >= CHUNK or size > CHUNK_BYTES):
            yield tuple(piece)
            piece, size = [], len(key.dump)
        piece.append(key)
    if piece:
        yield tuple(piece)


def folder_of(work: Keys, run: str, action: str) -> Path:
    """Return where the evidence of an action is: the same for whoever goes on with it."""
    return place_of(work.evidence, "keys", run, action)


def place_of(evidence: str, kind: str, run: str, action: str) -> Path:
    """Return the folder of an action; `evidence`: where that lies, "" beside the local record."""
    if evidence:
        base = Path(evidence).expanduser()
    else:
        base = Path(default_store(os.environ)).parent / "evidence"
    mark = hashlib.sha256(action.encode()).hexdigest()[:8]
    return base / f"{kind}-{run}-{mark}"


def begun(path: Path) -> bool:
    """Tell whether the removal may have begun at the server."""
    return (path / _BEGUN).exists()


def begin(path: Path) -> None:
    """Note, durably, that the removal may begin."""
    _note(path / _BEGUN)


def ended(path: Path) -> bool:
    """Tell whether all pieces of the removal were done."""
    return (path / _ENDED).exists()


def end(path: Path) -> None:
    """Note that all pieces of the removal are done; without it an undo can tell less."""
    with suppress(OSError):
        _note(path / _ENDED)


def _note(path: Path) -> None:
    with suppress(FileExistsError):
        File(path).close()
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def kept(session: Session, work: Keys, listing: Listing, path: Path, run: str) -> Archive:
    """Keep all of it on the disk."""

    def write(folder: Folder) -> tuple[list[Kept], Manifest]:
        found = _written(session, listing, folder.file(KEYS))
        return found, manifest(session, work, listing.found, run, len(found))

    found, digest = laid(path, write)
    gone = len(listing.keys) - len(found)
    return Archive(
        path=path, digest=digest, keys=tuple(found), gone=gone, shape=session.shape,
        layout=session.layout,
    )  # fmt: skip


T = TypeVar("T")


def laid(path: Path, write: Callable[[Folder], tuple[T, Manifest]]) -> tuple[T, str]:
    """Write a folder of evidence, and return the digest of its manifest, too.

    What another attempt has left half-way is made anew: nothing was removed by it.
    """
    shutil.rmtree(path, ignore_errors=True)
    try:
        folder = Folder.made(path.parent, path.name)
    except InputError as error:
        raise ListingError(error.line) from None
    try:
        found, told = write(folder)
        return found, folder.close(told)
    except OSError as error:
        folder.remove()
        why = error.strerror or str(error)
        raise ListingError(f"what would be removed can't be kept at {path}: {why}") from None
    except BaseException:
        folder.remove()
        raise


def _written(session: Session, listing: Listing, file: File) -> list[Kept]:
    found: list[Kept] = []
    size = file.rows = 0
    for key, kind in _dumped(session, listing.keys):
        size += len(key.dump)
        if size > MOST_BYTES:
            told = f"more than {MOST_BYTES >> 20} MiB would have to be kept"
            raise ListingError(f"{told}: remove fewer keys at once")
        file.put(_line(key, kind))
        file.rows += 1
        found.append(key)
    return found


def read(path: Path) -> Archive:
    """Read an archive again; EvidenceError where it is not what it was."""
    evidence = opened(path / MANIFEST)
    keys, counts = tuple(_lines(evidence)), evidence.manifest.counts
    gone = counts["listed"] - counts["kept"]
    shape = evidence.manifest.asked.get(SHAPE, "")
    return Archive(path=path, digest=evidence.digest, keys=keys, gone=gone, shape=shape)


def _dumped(session: Session, keys: Sequence[Listed]) -> Iterator[tuple[Kept, str]]:
    """Yield what is still there. Where it changes between its value and its end it is neither of
    both: then the script that removes it sees so, and keeps what it takes away.
    """
    first, some = 0, keys[:_DUMPS]
    answers = _asked(session, some)
    while some:
        try:
            said = answers()
        except TooLongError as error:
            told = f"a value is too large to be kept ({error.what})"
            raise ListingError(f"{told}: see max_output of the server in the inventory") from None
        raise_refused(said)
        first += len(some)
        size = sum(len(dump) for dump in said[::2] if isinstance(dump, bytes))
        now, some = some, keys[first : first + (_MORE_DUMPS if size <= _LIGHT else _DUMPS)]
        if some:  # the server is at these while those are written down
            answers = _asked(session, some)
        for key, dump, end in zip(now, said[::2], said[1::2], strict=True):
            if isinstance(dump, bytes) and isinstance(end, int) and end != -2:
                yield Kept(name=key.name, end=end, dump=dump), key.kind


def copied(work: Keys) -> Commands:
    """Return what is asked to keep keys that are named, where these are few."""
    names = named(work, time.time()) if not work.pattern else []
    few = len(names) <= min(work.most, _DUMPS)
    return [(one, name) for name in names for one in _COPY] if few else ()


def _asked(session: Session, keys: Sequence[Listed]) -> Callable[[], list[Reply]]:
    return session.connection.of_each([key.name for key in keys], *_COPY)


def _line(key: Kept, kind: str) -> bytes:
    """Write an object of JSON by hand: that takes a third of the time."""
    shown = json.dumps(key.name.decode("utf-8", "backslashreplace"))
    return b'{"dump": "%b", "end": %d, "key": %b, "name": "%b", "type": %b}\n' % (
        base64.b64encode(key.dump), key.end, shown.encode(), base64.b64encode(key.name),
        json.dumps(kind).encode(),
    )  # fmt: skip


def _lines(evidence: Evidence) -> list[Kept]:
    """Return what was kept; what is read is what the manifest has."""
    path, digest, found = Path(evidence.folder) / KEYS, hashlib.sha256(), list[Kept]()
    piece = next((one for one in evidence.manifest.pieces if one.name == KEYS), None)
    try:
        with path.open("rb") as lines:
            for line in lines:  # not all of it at once: it may be of two million keys
                digest.update(line)
                found.append(_key(json.loads(line)))
    except (ValueError, KeyError, TypeError):
        piece = None  # this is no line that was written here
    if piece is None or digest.hexdigest() != piece.sha256:
        raise EvidenceError("it is not what it was", where=str(path))
    return found


def _key(row: Mapping[str, Any]) -> Kept:
    return Kept(
        name=base64.b64decode(row["name"]), end=row["end"], dump=base64.b64decode(row["dump"])
    )


def manifest(session: Session, work: Keys, found: Names, run: str, rows: int) -> Manifest:
    who = session.identity
    source = Source(
        run=run, database=work.server, system=who.run_id, server=f"Redis {who.version}",
        role=who.role, standby=who.role != "master", ledger="", description="",
        snapshot="", lsn="", now=f"{found.now:.6f}", catalog=str(found.index),
    )  # fmt: skip
    asked = {
        "pattern": work.pattern, "max_keys": str(work.most), "max_share": f"{work.share:g}",
        "override": work.override, "digest": found.digest,
    }  # fmt: skip
    if session.shape:
        asked[SHAPE] = session.shape
    return Manifest(
        format=FORMAT, source=source, asked=asked, rows=rows, totals=(), level="",
        counts={"listed": len(found.names), "kept": rows}, findings=[], pieces=(),
    )  # fmt: skip


__all__ = [
    "Archive",
    "EvidenceError",
    "Kept",
    "begin",
    "begun",
    "folder_of",
    "kept",
    "place_of",
    "read",
]
