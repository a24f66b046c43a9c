"""Pieces of names, each removed by a transaction together with its mark.

The server removes names of a command in half the time that it takes for those of a script. What a
script looks at before it does anything is looked at before the transaction is sent, and watched:
where the mark of the piece or the key of the run has changed by then nothing is done.
"""

from collections.abc import Sequence

from opskit.drivers.redis.chunks import LIFE_MS, Pieces
from opskit.drivers.redis.connection import (
    BrokenError,
    Refusal,
    Reply,
    ServerError,
    packed,
    spelled,
)
from opskit.drivers.redis.fates import BEGUN, LOST, Fate, LostError, fate
from opskit.drivers.redis.listing import raise_refused
from opskit.drivers.redis.session import Session

_DONE, _NEXT = 6, 3
"""So many answers a transaction has, and so many the look at the piece after it."""
_LIES = "the server has keys that it says it has removed"


class Batches:
    """The pieces of one removal at one server, one after the other."""

    def __init__(self, session: Session, pieces: Pieces) -> None:
        self._connection = session.connection
        self._pieces = pieces
        self._run, word = pieces.guard
        self._word = word.encode()
        self._mark: bytes | None = None

    def able(self) -> bool:
        """Tell whether the user may do what this takes, and look for keys; nothing is done."""
        said = self._connection.calls([
            ("WATCH", self._run), ("EXISTS", self._run), ("DBSIZE",), ("MULTI",), ("EXEC",),
        ])  # fmt: skip
        return not any(isinstance(one, Refusal) for one in said)

    def spelt(self, number: int, keys: Sequence[bytes]) -> bytes:
        """Write out what removes a piece, and looks at the one after it."""
        mark, count, small = self._pieces.mark(number), len(keys), self._pieces.small
        return b"".join((
            _MULTI, packed(("SET", mark, BEGUN, "PX", LIFE_MS)), small("begin", mark, LIFE_MS),
            b"*%d\r\n$6\r\nUNLINK\r\n" % (count + 1), spelled(keys),
            small("close", mark, LIFE_MS, str(count)), _EXEC, *map(packed, self._look(number + 1)),
        ))  # fmt: skip

    def look(self, number: int) -> None:
        """See whether a piece is done, and let it not be done once that has changed."""
        said = self._connection.calls(self._look(number))
        self._seen(said)

    def send(self, data: bytes) -> None:
        """Send a piece that is to be done, unless it is: others may be written out meanwhile."""
        if self._mark is None:
            self._connection.send(data)

    def became(self, number: int, data: bytes, count: int) -> Fate:
        """Return what became of a piece that was sent, or was done before."""
        while self._mark is None:
            all_removed = self._answered(count)
            said = self._connection.answers(all_removed, _DONE + _NEXT)
            if said is None:
                return Fate(letters="r" * count)
            done = said[_DONE - 1]
            if done is not None:
                return self._told(number, said, count)
            self.look(number)  # somebody has written its mark meanwhile, or begun to go on
            if self._mark is None:
                self._connection.send(data)
        found = fate(self._mark, count)
        self.look(number + 1)
        return found

    def _told(self, number: int, said: Sequence[Reply], count: int) -> Fate:
        begun, done = said[0], said[_DONE - 1]
        if isinstance(begun, Refusal):  # then the rest was done one by one: its mark says how far
            raise LostError(f"the server takes no transaction any more: {begun.what}")
        raise_refused(said[:_DONE])
        self._seen(said[_DONE:])
        match done:
            case [_, _, Refusal() as refusal, 0]:
                # It was allowed when it was sent: without its mark another attempt does it.
                self._connection.call("SET", self._pieces.mark(number), BEGUN, "PXAT", "1")
                raise ServerError(refusal.what, code=refusal.code)
            case [b"OK", None, int(said_removed), int(removed)] if 0 <= removed <= count:
                return self._counted(number, said_removed, removed, count)
            case list():
                raise LostError(
                    f"a transaction of the server was not done as a whole: {done!r:.200}"
                )
            case _:
                raise BrokenError("the server answers a transaction with something else")

    def _counted(self, number: int, told: int, removed: int, count: int) -> Fate:
        """Say how many went. `removed`: by how many there are fewer; `told`: by the server."""
        left = max(0, told - removed)
        letters = "r" * removed + "e" * left
        found = Fate(letters=letters.ljust(count, "g"), why=_LIES if left else "")
        if left or not removed:
            mark = f"{found.letters}\n{found.why}\n"
            self._connection.call("SET", self._pieces.mark(number), mark, "PX", LIFE_MS)
        return found

    def _look(self, number: int) -> list[tuple[str, ...]]:
        mark = self._pieces.mark(number)
        return [("WATCH", mark, self._run), ("GET", mark), ("GET", self._run)]

    def _seen(self, said: Sequence[Reply]) -> None:
        raise_refused(said)
        _, mark, word = said
        if word != self._word:
            raise LostError(LOST)
        self._mark = mark if isinstance(mark, bytes) else None

    def _answered(self, count: int) -> bytes:
        """Return what is answered where all keys were removed, to the byte, and the next piece is
        yet to be done.
        """
        return b"+OK\r\n%b*4\r\n+OK\r\n$-1\r\n:%d\r\n:%d\r\n+OK\r\n$-1\r\n$%d\r\n%b\r\n" % (
            b"+QUEUED\r\n" * 4, count, count, len(self._word), self._word,
        )  # fmt: skip


_MULTI, _EXEC = packed(("MULTI",)), packed(("EXEC",))
