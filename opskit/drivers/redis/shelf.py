"""What is written into a cache, on the disk before any of it is: the list, and what it replaces.

The list is there as a whole before the first key is written, with its SHA-256 in the manifest.
Beside it grow `old`, what each key was before (on the disk before it is overwritten), and `said`,
which keys were there already. What is cut off at its end was never acted on.
"""

import hashlib
import os
import shutil
import struct
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from opskit.drivers.evidence import EvidenceError, Folder, opened
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.supply import Heap, Item
from opskit.errors import InputError
from opskit.model.evidence import FORMAT, MANIFEST, Manifest, Source
from opskit.model.frozen import frozen
from opskit.model.warm import Warm

LIST, OLD, SAID = "list", "old", "said"
RECORD, RECORD_BYTES = 500, 1 << 20
"""So much is read from the list and written at once: the server does nothing else meanwhile."""
MOST_BYTES = 1 << 30
"""So much is written at once at most; keys with their values."""
_HEAD = struct.Struct("<IQQ")
_OLD = struct.Struct("<IqI")
NOTHING = -2
"""The end of a key that is not there."""


@frozen
class Was:
    """What a key was before: when it ended (ms of the server's clock, -1 never), and its DUMP."""

    end: int
    dump: bytes


@frozen
class Totals:
    """What the list comes to. `digest` tells it from any other, whenever it was made."""

    count: int
    size: int
    shortest: int
    longest: int
    largest: int
    digest: str

    @property
    def said(self) -> str:
        keys = f"{self.count} key{'' if self.count == 1 else 's'}, {self.size} bytes"
        first, last = (f"{ms / 1000:g} s" for ms in (self.shortest, self.longest))
        time = f"for {first}" if first == last else f"for {first} to {last}"
        return f"{keys}, {time}; digest {self.digest}"


class Counting:
    """Adds up what goes by."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._parts = [hashlib.sha256() for _ in range(5)]
        self.count = self.size = self.longest = self.largest = 0
        self.shortest = 1 << 62

    def add(self, heap: Heap) -> None:
        names, values = b"".join(heap.keys), b"".join(heap.values)
        widths, sizes = list(map(len, heap.keys)), list(map(len, heap.values))
        numbers = (array("Q", some).tobytes() for some in (widths, sizes, heap.times))
        parts = (*numbers, names, values)
        for digest, part in zip(self._parts, parts, strict=True):  # however many come at once
            digest.update(part)
        self.count += len(heap.keys)
        self.size += len(names) + len(values)
        self.largest = max(self.largest, *sizes)
        shortest, longest = _span(heap.times)
        self.shortest, self.longest = min(self.shortest, shortest), max(self.longest, longest)

    def totals(self) -> Totals:
        """Return what it comes to; ListingError where there was nothing."""
        if not self.count:
            raise ListingError("the source has no row: nothing would be written")
        whole = hashlib.sha256(b"%d\n" % self._index)
        for one in self._parts:
            whole.update(one.digest())
        return Totals(
            count=self.count, size=self.size, shortest=self.shortest, longest=self.longest,
            largest=self.largest, digest=whole.hexdigest(),
        )  # fmt: skip


def _span(times: Sequence[int]) -> tuple[int, int]:
    """Return the shortest and the longest; mostly all are alike, which is quicker to see."""
    first = times[0]
    return (first, first) if times.count(first) == len(times) else (min(times), max(times))


@frozen
class Shelf:
    """A list that lies there whole; `digest` is that of its manifest. `fills`: only what is not
    there is written.
    """

    path: Path
    digest: str
    count: int
    fills: bool

    def items(self, first: int = 0) -> Iterator[tuple[int, list[Item]]]:
        """Yield the keys from `first` on, with the number of the first of each piece."""
        for number, heap in self.heaps(first):
            yield number, heap.items

    def heaps(self, first: int = 0) -> Iterator[tuple[int, Heap]]:
        """The same, as it is written."""
        at = 0
        with (self.path / LIST).open("rb") as file:
            while head := file.read(_HEAD.size):
                count, names, values = _HEAD.unpack(head)
                if at + count <= first:
                    file.seek(count * 16 + names + values, os.SEEK_CUR)
                else:
                    found = _unpacked(file.read(count * 16 + names + values), count)
                    skip = max(0, first - at)
                    yield at + skip, found.cut(skip, count) if skip else found
                at += count

    def picked(self, numbers: Sequence[int]) -> dict[int, Item]:
        """Return some keys by their numbers, without cutting out all others."""
        found: dict[int, Item] = {}
        wanted, at = sorted(numbers, reverse=True), 0
        with (self.path / LIST).open("rb") as file:
            while wanted and (head := file.read(_HEAD.size)):
                count, names, values = _HEAD.unpack(head)
                data = file.read(count * 16 + names + values)
                ends, marks = _marks(data, count)
                while wanted and wanted[-1] < at + count:
                    number = wanted.pop()
                    n = number - at
                    key, value = (data[marks[m] : marks[m + 1]] for m in (n, count + n))
                    found[number] = (key, value, ends[n])
                at += count
        return found

    def old(self) -> dict[int, Was]:
        """Return what keys were before they were overwritten, by their numbers."""
        found: dict[int, Was] = {}
        path = self.path / OLD
        data = path.read_bytes() if path.exists() else b""
        at = 0
        while at + _OLD.size <= len(data):
            number, end, size = _OLD.unpack_from(data, at)
            at += _OLD.size
            if at + size > len(data):
                break
            found[number] = Was(end=end, dump=data[at : at + size])  # the last one counts
            at += size
        return found

    def there(self) -> tuple[list[range], set[int]]:
        """Return of which keys it is known how they ended, and which of these stood there."""
        known: list[range] = []
        stood: set[int] = set()
        path = self.path / SAID
        for line in path.read_text("ascii").splitlines() if path.exists() else ():
            words = line.split()
            if len(words) == 4 and words[3] == ".":
                first, count = int(words[0]), int(words[1])
                known.append(range(first, first + count))
                stood.update(first + int(n) for n in words[2].split(",") if n != "-")
        return known, stood


def _packed(heap: Heap) -> bytes:
    names, values = heap.keys, heap.values
    lengths = array("I", [*map(len, names), *map(len, values)])
    head = _HEAD.pack(len(names), sum(map(len, names)), sum(map(len, values)))
    return b"".join([head, lengths.tobytes(), array("Q", heap.times).tobytes(), *names, *values])


def _marks(data: bytes, count: int) -> tuple["array[int]", list[int]]:
    """Return for how long keys stay, and where names and values begin."""
    lengths, ends = array("I"), array("Q")
    lengths.frombytes(data[: count * 8])
    ends.frombytes(data[count * 8 : count * 16])
    return ends, list(accumulate(lengths, initial=count * 16))


def _unpacked(data: bytes, count: int) -> Heap:
    lengths = struct.unpack_from(f"<{2 * count}I", data)
    cut = _cutter(lengths).unpack_from(data, 16 * count)
    ends = struct.unpack_from(f"<{count}Q", data, 8 * count)
    return Heap(keys=cut[:count], values=cut[count:], times=ends)


@lru_cache(4)
def _cutter(lengths: tuple[int, ...]) -> struct.Struct:
    """Return what cuts texts of these lengths out of one: pieces are often alike."""
    return struct.Struct("".join([f"{length}s" for length in lengths]))


def records(heap: Heap, ends: Sequence[int]) -> Iterator[Heap]:
    """Cut keys, which end at `ends`, into what is written at once: neither many nor large."""
    whole = Heap(keys=heap.keys, values=heap.values, times=ends)
    for first in range(0, len(whole), RECORD):
        some = whole.cut(first, RECORD)
        size, at = 0, 0
        for number, length in enumerate(map(len, some.values)):
            if number > at and size + length > RECORD_BYTES:
                yield some.cut(at, number - at)
                at, size = number, 0
            size += length
        yield some.cut(at, RECORD) if at else some


def laid(
    pieces: Iterator[tuple[Heap, Sequence[int]]], session: Session, work: Warm,
    path: Path, run: str,
) -> tuple[Shelf, Totals]:  # fmt: skip
    """Bring all of it to the disk: keys with their values, and for how long each is to stay.

    What another attempt has left half-way is made anew: nothing was written by it.
    """
    shutil.rmtree(path, ignore_errors=True)
    try:
        folder = Folder.made(path.parent, path.name)
    except InputError as error:
        raise ListingError(error.line) from None
    counting = Counting(session.index)
    try:
        file = folder.file(LIST)
        for heap, ends in pieces:
            counting.add(heap)
            within(counting, work)
            file.put(b"".join(map(_packed, records(heap, ends))))
        totals = counting.totals()
        digest = folder.close(_manifest(session, work, totals, run))
    except OSError as error:
        folder.remove()
        why = error.strerror or str(error)
        raise ListingError(f"what would be written can't be kept at {path}: {why}") from None
    except BaseException:
        folder.remove()
        raise
    return Shelf(
        path=folder.path, digest=digest, count=totals.count, fills=work.do == "fill"
    ), totals


def within(counting: Counting, work: Warm) -> None:
    """Refuse more than may be written, as soon as that is known."""
    if counting.count > work.most:
        told = f"there are more than {work.most} keys (max_keys)"
        raise ListingError(f"{told}: narrow the source, or let it be more")
    if counting.size > MOST_BYTES:
        raise ListingError(f"more than {MOST_BYTES >> 20} MiB would be written: make several of it")


def _manifest(session: Session, work: Warm, totals: Totals, run: str) -> Manifest:
    who, source = session.identity, work.source
    assert source is not None
    origin = Source(
        run=run, database=work.server, system=who.run_id, server=f"Redis {who.version}",
        role=who.role, standby=who.role != "master", ledger=source.path or source.database,
        description=source.sha256, snapshot="", lsn="", now="", catalog=str(session.index),
    )  # fmt: skip
    asked = {
        "do": work.do, "key": source.key, "value": source.value, "ttl": source.ttl,
        "jitter": f"{work.jitter:g}", "digest": totals.digest, "override": work.override,
        "keep_old": str(work.keep),
    }  # fmt: skip
    return Manifest(
        format=FORMAT, source=origin, asked=asked, rows=totals.count, totals=(), level="",
        counts={"keys": totals.count, "bytes": totals.size}, findings=totals.said, pieces=(),
    )  # fmt: skip


def read(path: Path) -> Shelf:
    """Find a list again; EvidenceError where it is not what it was."""
    evidence = opened(path / MANIFEST)
    piece = next((one for one in evidence.manifest.pieces if one.name == LIST), None)
    digest = hashlib.sha256()
    with (path / LIST).open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if piece is None or digest.hexdigest() != piece.sha256:
        raise EvidenceError("it is not what it was", where=str(path / LIST))
    return Shelf(
        path=path, digest=evidence.digest, count=evidence.manifest.rows,
        fills=evidence.manifest.asked["do"] == "fill",
    )  # fmt: skip


class Notes:
    """Notes, while keys are written, what they were before and which were there already."""

    def __init__(self, shelf: Shelf) -> None:
        self._old = _appended(shelf.path / OLD, shelf.old())
        self._said = _appended(shelf.path / SAID, None)

    def keep(self, first: int, was: Sequence[Was]) -> None:
        """Bring to the disk what keys are before they are overwritten."""
        pieces = [
            _OLD.pack(first + n, one.end, len(one.dump)) + one.dump for n, one in enumerate(was)
        ]
        _all(self._old, b"".join(pieces))
        os.fsync(self._old)

    def said(self, first: int, count: int, stood: Sequence[int]) -> None:
        """Note how keys ended. The server knows it too: this may be lost with the machine."""
        numbers = ",".join(map(str, stood)) or "-"
        _all(self._said, f"{first} {count} {numbers} .\n".encode())

    def close(self) -> None:
        for handle in (self._old, self._said):
            os.fsync(handle)
            os.close(handle)


def _appended(path: Path, old: dict[int, Was] | None) -> int:
    """Open a file that grows; what is cut off at its end is taken away."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    data = path.read_bytes()
    if old is None:
        os.ftruncate(handle, data.rfind(b"\n") + 1)
    else:
        os.ftruncate(handle, _whole(data))
    return handle


def _whole(data: bytes) -> int:
    at = 0
    while at + _OLD.size <= len(data):
        following = at + _OLD.size + _OLD.unpack_from(data, at)[2]
        if following > len(data):
            break
        at = following
    return at


def _all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


__all__ = ["EvidenceError", "Notes", "Shelf", "Totals", "Was", "laid", "read"]
