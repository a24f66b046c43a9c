"""Keys being written, a batch at a time, each as a transaction that notes how far it is.

`MULTI`, the keys, and the mark come and go together: what the mark does not have was not written.
A batch that lies in a buffer somewhere when its sender is gone can't be done late: the sender has
watched a fence before, and whoever goes on with the run moves that first.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import lru_cache

from opskit.drivers.redis.connection import (
    BrokenError,
    Refusal,
    Reply,
    ServerError,
    packed,
)
from opskit.drivers.redis.fates import LostError
from opskit.drivers.redis.listing import raise_refused
from opskit.drivers.redis.marks import LIFE, Marks
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.shelf import NOTHING, Was
from opskit.drivers.redis.supply import Heap, Item
from opskit.model.frozen import frozen, mutable

_MS = str(LIFE * 1000).encode()
_MULTI, _EXEC, _DISCARD = packed(("MULTI",)), packed(("EXEC",)), packed(("DISCARD",))
_OK, _QUEUED = b"+OK\r\n", b"+QUEUED\r\n"
_LOST = (
    "the key of this run is gone from there (FLUSHALL, a restart without its data, or more than 7"
    " days), or another process goes on with it"
)
_HOLE = (
    "the mark that says how far it is has gone from there meanwhile (evicted, or removed): nobody"
    " can tell any more what was done"
)
_ALWAYS = b"*5\r\n$3\r\nSET\r\n$%d\r\n%%b\r\n$%d\r\n%%b\r\n$4\r\nPXAT\r\n$13\r\n%%d\r\n"
_ABSENT = b"*6\r\n$3\r\nSET\r\n$%d\r\n%%b\r\n$%d\r\n%%b\r\n$4\r\nPXAT\r\n$13\r\n%%d\r\n$2\r\nNX\r\n"
"""A key and its value with their lengths, and its end: 13 digits from 2001 until the year 2286."""


@frozen
class Range:
    """Keys that are written, and the time that the end of each is counted from."""

    first: int
    count: int
    base: int


@mutable
class Batch:
    """Keys on their way to the server; `line` is what its mark grows by.

    `data` is what the server takes in and does not do yet. `taken`: it has been sent.
    """

    first: int
    count: int
    data: bytes
    line: bytes
    taken: bool = False


@frozen
class Fate:
    """What became of a batch. `stood`: which of its keys were there before, and are as they were.

    `why`: it was refused as a whole, and nothing of it was written. `changed`: so it was, as a key
    changed after it was looked at. `wrong`: keys that the server refused, by kind of error.
    """

    stood: tuple[int, ...] = ()
    why: str = ""
    changed: bool = False
    wrong: Counter[str] = field(default_factory=Counter)


class Writer:
    """Writes the keys of one action at one server; nobody else does at the same time."""

    def __init__(self, session: Session, run: str, action: str, word: str) -> None:
        """`word`: what the key of the run must have there."""
        self.session = session
        self._marks = Marks(session.connection, run)
        head = f"opskit:mark:{run}:{action}:"
        self.list, self._fence, self._done = f"{head}list", f"{head}fence", f"{head}done"
        self._word = word.encode()
        self._token = b""
        self._length = 0
        keys = (self._fence, self._marks.of_run)
        self._go = b"".join((_EXEC, packed(("WATCH", *keys)), packed(("MGET", *keys))))
        """What does a batch, and looks whether the next one may be done."""

    def begun_by(self) -> str:
        """Return by which list it was begun; "" where it was not, or its marks are gone."""
        found = self.session.connection.call("GET", self.list)
        return found.decode(errors="replace") if isinstance(found, bytes) else ""

    def raise_unable(self) -> None:
        """Raise ServerError where keys and their mark can't come together.

        Without MULTI, each of the words after it would be done at once, and by itself.
        """
        raise_refused(self.session.connection.calls([("MULTI",), ("EXEC",)]))

    def agreed(self, digest: str) -> None:
        """Note at the server by which list this is done; another one must not be begun."""
        found = self._marks.once(self.list, digest, self._word.decode())
        if found is None:
            raise LostError(_LOST)
        if found != digest:
            raise LostError("it was begun by another list before: see the folder of evidence")

    def seize(self) -> tuple[Range, ...]:
        """Keep any other process from writing, and return what is written by now."""
        call = self.session.connection.call
        if call("GET", self._marks.of_run) != self._word:
            raise LostError(_LOST)
        self._token = b"%d" % _whole(call("INCR", self._fence))
        call("PEXPIRE", self._fence, _MS)
        return self.progress()

    @property
    def fence(self) -> tuple[str, bytes]:
        """Return the key that who goes on moves first, and what it must have until then."""
        return self._fence, self._token

    def whole(self) -> bool:
        """Tell whether no mark of this run can have gone with all keys."""
        return self._marks.has(self._word.decode())

    def progress(self) -> tuple[Range, ...]:
        """Return what is written so far."""
        said = self.session.connection.call("GET", self._done)
        text = said if isinstance(said, bytes) else b""
        self._length = len(text)
        words = (line.split() for line in text.splitlines())
        found = tuple(Range(first=int(a), count=int(b), base=int(c)) for a, b, c in words)
        if any(one.first != at for one, at in zip(found, _firsts(found), strict=False)):
            raise LostError(_HOLE)
        return found

    def watch(self, names: Sequence[bytes] = ()) -> None:
        """Let nothing be written once another process has moved the fence, or a key changes."""
        words: tuple[bytes | str, ...] = (self._fence, self._marks.of_run, *names)
        said = self.session.connection.calls(
            [("WATCH", *words), ("MGET", self._fence, self._marks.of_run)]
        )
        raise_refused(said)
        self._sure(said[1])

    def _sure(self, said: Reply) -> None:
        if said != [self._token, self._word]:
            raise LostError(_LOST)

    def before(self, names: Sequence[bytes]) -> list[Was]:
        """Return what keys are; they are watched by now."""
        asked = [words for name in names for words in (("DUMP", name), ("PEXPIRETIME", name))]
        said = self.session.connection.calls(asked)
        raise_refused(said)
        return [
            Was(end=end, dump=dump)
            if isinstance(dump, bytes) and isinstance(end, int)
            else Was(end=NOTHING, dump=b"")
            for dump, end in zip(said[::2], said[1::2], strict=True)
        ]

    def made(self, first: int, heap: Heap, base: int, *, absent: bool) -> Batch:
        """Write a batch out as it is sent; `absent`: only what is not there."""
        count = len(heap)
        words: list[bytes | int] = [0] * (3 * count)
        form = _form(
            _ABSENT if absent else _ALWAYS, tuple(map(len, heap.keys)), tuple(map(len, heap.values))
        )
        words[::3], words[1::3] = heap.keys, heap.values
        words[2::3] = [base + ms for ms in heap.times]
        line = b"%d %d %d\n" % (first, count, base)
        data = b"".join((
            _MULTI, packed(("APPEND", self._done, line)), packed(("PEXPIRE", self._done, _MS)),
            form % tuple(words),
        ))  # fmt: skip
        return Batch(first=first, count=count, data=data, line=line)

    def send(self, batch: Batch, following: Batch | None = None) -> None:
        """Let a batch be done. `following`: what the server takes in as soon as it has done it.

        That is done by a word that is sent once it is known how this one ended, and not before.
        """
        data = [b"" if batch.taken else batch.data, self._go]
        if following is not None:
            data.append(following.data)
            following.taken = True
        self.session.connection.send(b"".join(data))

    def drop(self, batch: Batch) -> None:
        """Let what the server has taken in of a batch not be done."""
        connection, count = self.session.connection, batch.count + 3
        connection.send(_DISCARD)
        said = connection.answers(_OK + _QUEUED * (count - 1) + _OK, count + 1)
        if said is None:
            return
        _raise_open(said[0])
        if not isinstance(said[-1], Refusal):
            return
        try:  # a user who may not leave it: a refused word spoils all of it
            connection.ask(_EXEC)
        except ServerError:
            return
        raise BrokenError("the server does what it has refused a word of")

    def fate(self, batch: Batch) -> Fate:
        """Take in what became of a batch that was sent; every answer is looked at."""
        count, length = batch.count, self._length + len(batch.line)
        said = self.session.connection.answers(self._expected(count, length), count + 6)
        if said is None:
            self._length = length
            return Fate()
        queued, done, watched, sure = said[: count + 3], said[count + 3], *said[count + 4 :]
        _raise_open(queued[0])
        refusals = [one for one in queued if isinstance(one, Refusal)]
        if refusals or isinstance(done, Refusal):
            last = [done] if isinstance(done, Refusal) else []
            return Fate(why=_kinds([*refusals, *last]))
        raise_refused([watched, sure])
        self._sure(sure)
        if done is None:
            return Fate(changed=True)
        if not isinstance(done, list) or len(done) != count + 2:
            raise BrokenError("the server answers a transaction with something else")
        if done[0] != length:
            raise LostError(_HOLE)
        self._length = length
        return _judged(done[2:])

    def _expected(self, count: int, length: int) -> bytes:
        """Return what is answered where each key was written, to the byte."""
        token, word = self._token, self._word
        return b"".join([
            _OK, _QUEUED * (count + 2),
            b"*%d\r\n:%d\r\n:1\r\n" % (count + 2, length), _OK * (count + 1),
            b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(token), token, len(word), word),
        ])  # fmt: skip


@lru_cache(4)
def _form(how: bytes, widths: tuple[int, ...], sizes: tuple[int, ...]) -> bytes:
    """Return how keys and values of these lengths are written out, one after the other."""
    lengths = [0] * (2 * len(widths))
    lengths[::2], lengths[1::2] = widths, sizes
    return how * len(widths) % tuple(lengths)


def _raise_open(said: Reply) -> None:
    """Refuse to say what became of a batch whose MULTI was refused: its keys may be written."""
    if isinstance(said, Refusal):
        raise BrokenError(f"the server takes no MULTI any more ({said.what})")


def _judged(said: Sequence[Reply]) -> Fate:
    wrong: Counter[str] = Counter()
    stood = []
    for number, one in enumerate(said):
        if one is None:
            stood.append(number)
        elif isinstance(one, Refusal):
            wrong[one.what] += 1
            stood.append(number)
        elif one != b"OK":
            raise BrokenError("the server answers SET with something else")
    return Fate(stood=tuple(stood), wrong=wrong)


def _kinds(refusals: Sequence[Refusal]) -> str:
    """Say which errors there were, and how often; the first is what the others follow from."""
    counted = Counter(one.what for one in refusals)
    return "; ".join(f"{what} ({n} times)" if n > 1 else what for what, n in counted.items())


def _whole(said: Reply) -> int:
    if not isinstance(said, int):
        raise BrokenError("the server answers INCR with something else")
    return said


def _firsts(ranges: Sequence[Range]) -> Iterator[int]:
    """Yield where each begins if none is missing before it."""
    at = 0
    for one in ranges:
        yield at
        at += one.count


def ours(item: Item, base: int) -> bytes:
    """Return what tells a key as this run has written it: the digest of its value, and its end."""
    _, value, ms = item
    return b"%b %d" % (
        hashlib.sha1(value, usedforsecurity=False).hexdigest().encode(), base + ms,
    )  # fmt: skip


def based(ranges: Sequence[Range]) -> Iterator[int]:
    """Yield for each key that is written what its end is counted from."""
    for one in ranges:
        yield from (one.base for _ in range(one.count))
