"""A set of keys in pieces, each removed or put back as a whole, with a mark, once.

The mark of a piece does not depend on the attempt: whoever goes on, or sends it twice, finds it.
"""

from collections.abc import Callable, Sequence

from opskit.drivers.redis.archive import Archive, Kept
from opskit.drivers.redis.connection import BrokenError, Reply, ServerError, accepted, of_each
from opskit.drivers.redis.fates import BARRED, LOST, Fate, LostError, fate, joined, left, removed
from opskit.drivers.redis.listing import raise_refused
from opskit.drivers.redis.marks import LIFE, WORDS, Marks, tagged, tried
from opskit.drivers.redis.session import Session

LIFE_MS = str(LIFE * 1000)
_MS = LIFE_MS.encode()
_KEPT = str(768 * 1024).encode()
"""Up to how many bytes of values that have changed are kept in a mark."""
_TOGETHER = 50
"""So many marks are asked for together; each may have as much as that in it."""


class Pieces:
    """The pieces of one action at one server."""

    def __init__(self, session: Session, run: str, action: str, word: str) -> None:
        """`word`: what the key of the run must have there; in a cluster one for each primary."""
        self._session = session
        tags, self._words = session.tags, word.split(WORDS)
        self._marks = [Marks(session.connection, run, tag) for tag in tags]
        self._heads = [head_of(run, action, tag) for tag in tags]
        self._trials = [
            tried(run, head, word, tag)
            for tag, head, word in zip(tags, self._heads, self._words, strict=False)
        ]
        self._fences: list[tuple[str, bytes]] | None = None
        self._met = False
        """The last piece had been done before: its mark says what became of it."""
        self.places: Sequence[int] = ()
        """For each piece the number of its primary, where there are several."""
        if len(self._words) != len(tags):
            raise LostError("other primaries are there than those where this run has been")

    def lacking(self) -> str:
        """Return what the server refuses of what putting back takes; "" where it would do that.

        It is tried with the key of this run.
        """
        try:
            for words in self._trials:
                self._session.connection.call(*words)
        except ServerError as error:
            return error.what
        return ""

    def agreed(self, digest: str) -> None:
        """Note at the server by which archive this is done; another one must not be begun."""
        for marks, head, word in zip(self._marks, self._heads, self._words, strict=True):
            found = marks.once(f"{head}list", digest, word)
            if found is None:
                raise LostError(LOST)
            if found != digest:
                raise LostError("it was begun by another list before: see the folder of evidence")

    def list_digest(self) -> str:
        """Return by which archive it was begun; "" where it was not, or its marks are gone."""
        for head in self._heads:  # of a cluster the first may have it alone: killed in between
            found = self._session.connection.call("GET", f"{head}list")
            if isinstance(found, bytes):
                return found.decode(errors="replace")
        return ""

    def remove(self, number: int, keys: Sequence[Kept]) -> Fate:
        args = (_KEPT, *(key.known.encode() for key in keys))
        return self.do("remove", number, [key.name for key in keys], args, len(keys))

    def removing(self, number: int, keys: Sequence[Kept]) -> bytes:
        """Write out what removes a piece, of which everything is kept."""
        names = [key.name for key in keys]
        args = (self._words[0].encode(), _MS, _KEPT, *[key.known.encode() for key in keys])
        return self._marks[0].spelt("remove", self._name(number).encode(), names, args)

    def alone(self, keys: Sequence[Kept]) -> Fate:
        """Remove all that there is, and ask right behind it when each of these ends: that is known
        to whoever asks next.
        """
        line = self._session.connection
        after = [of_each([key.name], ("PEXPIRETIME",)) for key in keys]
        said = line.each([self.removing(0, keys), *after])
        done = accepted(next(said))
        line.foresee(after, said)
        return self._told(done, len(keys))

    def clearing(self, number: int, keys: Sequence[bytes]) -> bytes:
        """Write out what removes a piece of which nothing is kept.

        How many of them were removed is known then, and not which: letters come in no order.
        """
        args = (self._words[0].encode(), _MS)
        return self._marks[0].spelt("clear", self._name(number).encode(), keys, args)

    @property
    def guard(self) -> tuple[str, str]:
        """Return the key of the run, and what it must have."""
        return self._marks[0].of_run, self._words[0]

    def mark(self, number: int) -> str:
        """Return the key that is the mark of a piece."""
        return self._name(number)

    def small(self, name: str, mark: str, *args: str) -> bytes:
        """Write out a script of opskit's own that looks at a mark alone."""
        return self._marks[0].small(name, mark, *args)

    def send(self, data: bytes) -> None:
        """Send a piece that is written out; others may be written out while it is done."""
        self._session.connection.ahead(data)

    def became(self, data: bytes, count: int) -> Fate:
        """Return what became of the piece that was sent, of so many keys."""
        return self._told(self._session.connection.answered(data), count)

    def sweep(self, number: int, keys: Sequence[bytes]) -> Fate:
        """The same for a piece of a cluster, whose keys are of many slots."""
        return self.do("sweep", number, keys, (), len(keys))

    def restore(self, number: int, keys: Sequence[Kept]) -> Fate:
        def part(part: int, some: Sequence[int]) -> Fate:
            chosen = [keys[one] for one in some]
            ends = [word for key in chosen for word in (b"%d" % max(key.end, 0), key.dump)]
            names = [key.name for key in chosen]
            return self.do("restore", number, names, ends, len(chosen), part=part)

        return self._with_the_rest(part, len(keys))

    def take_back(
        self, number: int, keys: Sequence[Kept], ours: Sequence[bytes], fence: tuple[str, bytes]
    ) -> Fate:
        """`keys`: as they were before; `ours`: of each value that was written digest and end.

        `fence`: a key, and what it must have; it has gone where marks have, and has been moved
        where another process goes on.
        """

        def part(part: int, some: Sequence[int]) -> Fate:
            names = [keys[one].name for one in some]
            args: list[bytes] = []
            for one in some:
                args += [*ours[one].split(), b"%d" % max(keys[one].end, 0), keys[one].dump]
            return self.do("takeback", number, names, args, len(some), fence=fence, part=part)

        return self._with_the_rest(part, len(keys))

    def _with_the_rest(self, do: Callable[[int, Sequence[int]], Fate], count: int) -> Fate:
        """Do a piece; where it was refused in the middle before, do what was left of it then.

        Each time under a mark of its own, so that no key is put back twice.
        """
        found, part = do(0, range(count)), 0
        while self._met and found.why:
            part += 1
            found = joined(found, do(part, left(found)))
        return found

    def seize(self) -> None:
        """Keep what was sent before from being done, and let what is done from now on be done only
        until somebody else does the same; LostError where marks are gone.

        Unlike a bar this can be taken up again: an undo that was given up must be able to go on.
        """
        self._fences = []
        for marks, head, word in zip(self._marks, self._heads, self._words, strict=True):
            said = marks.moved(f"{head}fence", word)
            if not isinstance(said, bytes):
                raise LostError(LOST)
            self._fences.append((f"{head}fence", said))

    def fate(self, number: int, count: int) -> Fate | None:
        """Return what became of a piece; None where it has left no mark."""
        found = self._session.connection.call("GET", self._name(number))
        return fate(found, count) if isinstance(found, bytes) else None

    def fates(self, counts: Sequence[int]) -> list[Fate | None]:
        """Return the same of all pieces; `counts`: how many keys each has.

        Many marks are asked for together: one by one each would wait for its own answer.
        """
        found: list[Fate | None] = []
        for first in range(0, len(counts), _TOGETHER):
            some = counts[first : first + _TOGETHER]
            asked = [("GET", self._name(first + at)) for at in range(len(some))]
            said = self._session.connection.calls(asked)
            raise_refused(said)
            found += [
                fate(mark, count) if isinstance(mark, bytes) else None
                for mark, count in zip(said, some, strict=True)
            ]
        return found

    def so_far(self, number: int, count: int) -> Fate | None:
        """Return the same of a piece that is put back, of which what was left may be done, too."""
        found, part = self.fate(number, count), 0
        while found is not None and found.why:
            part, rest = part + 1, left(found)
            said = self._session.connection.call("GET", self._name(number, part))
            if not isinstance(said, bytes):
                break
            found = joined(found, fate(said, len(rest)))
        return found

    def bar(self, number: int, count: int) -> Fate | None:
        """Keep a piece from ever being done, or return what became of it; None where barred."""
        place = self._place(number)
        found = self._marks[place].once(self._name(number), BARRED, self._words[place])
        if found is None:
            raise LostError(LOST)
        return None if found == BARRED else self.fate(number, count)

    def bars(self, counts: Sequence[int]) -> list[Fate | None]:
        """The same of all pieces; at one server many of them together."""
        if self.places:
            return [self.bar(number, count) for number, count in enumerate(counts)]
        found: list[Fate | None] = []
        for first in range(0, len(counts), _TOGETHER):
            some = counts[first : first + _TOGETHER]
            names = [self._name(first + at) for at in range(len(some))]
            said = self._marks[0].each_once(names, BARRED, self._words[0])
            raise_refused(said)
            for mark, count in zip(said, some, strict=True):
                if not isinstance(mark, bytes):
                    raise LostError(LOST)
                found.append(None if mark == BARRED.encode() else fate(mark, count))
        return found

    def whole(self) -> bool:
        """Tell whether no mark of this run can have gone with all keys."""
        return all(one.has(word) for one, word in zip(self._marks, self._words, strict=True))

    def _place(self, number: int) -> int:
        return self.places[number] if self.places else 0

    def _name(self, number: int, part: int = 0) -> str:
        return f"{self._heads[self._place(number)]}{number}{f'.{part}' if part else ''}"

    def do(
        self,
        name: str,
        number: int,
        keys: Sequence[bytes],
        args: Sequence[bytes],
        count: int,
        *,
        fence: tuple[str, bytes] | None = None,
        part: int = 0,
    ) -> Fate:
        """Do a piece of `count` by a script of opskit's own.

        `fence`: a key, and what it must have; without it the one that was seized, or the key of the
        run, and its word. `part`: of a piece that was refused before, what was left then.
        """
        place = self._place(number)
        seized = self._fences[place] if self._fences else ("", self._words[place].encode())
        guard, word = fence or seized
        mark = self._name(number, part).encode()
        said = self._marks[place].scripted(name, (mark, *keys), (word, _MS, *args), guard)
        return self._told(said, count)

    def _told(self, said: Reply, count: int) -> Fate:
        if not isinstance(said, list) or len(said) != 2 or not isinstance(said[1], bytes):
            raise BrokenError("the server answers a script with something else")
        if said[0] == 2:
            raise LostError(LOST)
        self._met = said[0] == 1
        return fate(said[1], count)


def head_of(run: str, action: str, tag: str = "") -> str:
    """Return how the marks of an action begin."""
    return f"opskit:mark:{tagged(tag)}{run}:{action}:"


def lacking(theirs: Pieces, archive: Archive) -> list[int]:
    """Return how many keys of each piece are to be put back: those that were removed."""
    chunks = archive.chunks
    return [
        len(keys if what is None else removed(keys, what))
        for keys, what in zip(chunks, theirs.fates(list(map(len, chunks))), strict=True)
    ]


def done(pieces: Pieces, counts: Sequence[int], *, back: bool = False) -> list[Fate | None]:
    """Return what became of each piece so far; `counts`: how many keys each has; `back`: of those
    that are put back.
    """
    found = pieces.fates(counts)
    if not back:
        return found
    return [
        pieces.so_far(number, counts[number]) if one is not None and one.why else one
        for number, one in enumerate(found)
    ]
