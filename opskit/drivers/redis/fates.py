"""What became of the keys of a piece, as its mark says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path

from opskit.drivers.redis.archive import Kept
from opskit.errors import OpskitError
from opskit.model.frozen import frozen

BEGUN = b"begun"
BARRED = "barred"
LOST = (
    "the key of this run is gone from there (FLUSHALL, a restart without its data, or more than 7"
    " days), or another process goes on with it: nobody can tell from here what was done"
)

_HOLE = (
    "a mark of what was done has gone from the server (evicted, or removed): nobody can tell from"
    " there any more what became of its keys"
)


class LostError(OpskitError):
    """Marks of this run are gone from the server: nothing more is done by them."""


@frozen
class Fate:
    """What became of the keys of a piece: a letter for each, as the scripts say.

    `why` something was refused. `late`: values that were removed, and were not the archived ones.
    """

    letters: str
    why: str = ""
    late: tuple[tuple[int, Kept], ...] = ()


@frozen
class Fates:
    """What became of all pieces that are done."""

    found: tuple[Fate, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, found: Sequence[Fate]) -> "Fates":
        letters = "".join(one.letters for one in found)
        counts = Counter({one: letters.count(one) for one in set(letters)})
        return cls(found=tuple(found), counts=counts)

    @property
    def why(self) -> str:
        return next((one.why for one in self.found if one.why), "")


def fate(mark: bytes, count: int) -> Fate:
    """Read a mark; LostError where it says nothing of how it ended."""
    if mark == BARRED.encode():
        return Fate(letters="-" * count, why="it was stopped before that")
    if mark.partition(b" ")[0] == BEGUN:
        raise LostError("a piece was begun, and has left no word of how it ended")
    letters, _, rest = mark.partition(b"\n")
    why, _, rest = rest.partition(b"\n")
    late: list[tuple[int, Kept]] = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        number, end, size = map(int, line.split())
        late.append((number - 1, Kept(name=b"", end=end, dump=rest[:size])))
        rest = rest[size:]
    if len(letters) != count:
        raise LostError("the mark of a piece is of another number of keys")
    return Fate(letters=letters.decode("ascii", "replace"), why=why.decode(errors="replace"),
                late=tuple(late))  # fmt: skip


def left(found: Fate) -> list[int]:
    """Return which keys of a piece that was refused in the middle were not done."""
    return [number for number, letter in enumerate(found.letters) if letter in "e-"]


def joined(found: Fate, rest: Fate) -> Fate:
    """Return what became of a piece, of which what was left was done later."""
    letters = list(found.letters)
    for number, letter in zip(left(found), rest.letters, strict=True):
        letters[number] = letter
    return replace(rest, letters="".join(letters))


def removed(keys: Sequence[Kept], what: Fate) -> list[Kept]:
    """Return what was taken away of a piece, as it was at that moment."""
    late = {number: Kept(name=keys[number].name, end=one.end, dump=one.dump)
            for number, one in what.late}  # fmt: skip
    return [
        late.get(number, key)
        for number, (key, letter) in enumerate(zip(keys, what.letters, strict=True))
        if letter in "rc"
    ]


def in_order(found: Sequence[Fate | None], path: Path, *, whole: bool = False) -> list[Fate]:
    """Return what became of the pieces that are done; LostError where a mark of one has gone.

    They are done one after the other: what comes before one that is done was done, too. `whole`:
    so were all of them. `path`: where what they had is kept.
    """
    done = [one for one in found if one is not None]
    if None in (found if whole else found[: len(done)]):
        raise LostError(f"{_HOLE}; what was kept is at {path}")
    return done
