"""The mark that a change leaves together with its effect: both are there, or neither.

A mark is a key for each attempt at an action of a run. Whoever wants to know what became of an
attempt writes the same key himself, as barred, unless it is there: what has not begun finds it
then, and does nothing. A missing mark proves something only where no mark can have been lost: for
this there is a key of the run, written before its first change, which a FLUSHALL takes too.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import cast

import hiredis

from opskit.drivers.redis.connection import (
    BrokenError,
    Connection,
    Refusal,
    Reply,
    packed,
    spelled,
    written,
)
from opskit.drivers.redis.flags import Words
from opskit.model.frozen import frozen
from opskit.model.job import Job

LIFE = 7 * 86400
"""How long marks stay; seconds. The key of the run is older than they, so it goes first."""
WORDS = ","
"""What stands between the words of the keys of a run, where a cluster has several."""
_MS = str(LIFE * 1000)
_SMALL = 16 * 1024
"""Up to how many bytes of answers are kept with a mark where nothing is saved of them."""


@frozen
class Mark:
    """What a mark says. `at`: the number of the command that failed, `why` it did.

    `cut`: the answers are left out, as there are too many.
    """

    state: str
    at: int = 0
    why: str = ""
    answers: tuple[Reply, ...] = ()
    cut: bool = False


@frozen
class Script:
    """A script with its keys and arguments."""

    text: bytes
    keys: Words
    args: Words


class Marks:
    """The marks of a run at one server; used within the session that changes it."""

    def __init__(self, connection: Connection, run: str, tag: str = "") -> None:
        """`tag`: in a cluster, a text whose slot the primary has that is meant."""
        self._connection = connection
        self._run = run
        self._tag = tag

    def begin(self, word: str) -> str:
        """Write the key of the run, unless it is there; return what it has."""
        found = self._connection.call("EVAL", _text("once"), "1", self.of_run, word, _MS)
        return found.decode(errors="replace") if isinstance(found, bytes) else ""

    def do(self, job: Job, what: Sequence[Words] | Script, *, kept: bool) -> tuple[bool, Mark]:
        """Do a change with its mark; return whether it was there before, and what it says."""
        most = job.capture if kept else min(_SMALL, job.capture)
        words = ("EVAL", _text("change"), "1", self._of(job), _MS, str(most), *_arguments(what))
        found = self._connection.call(*words)
        if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], bytes):
            raise BrokenError("the server answers a change with something else")
        return found[0] == 1, decoded(found[1])

    def find(self, job: Job) -> Mark | None:
        """Return the mark of an attempt."""
        found = self._connection.call("GET", self._of(job))
        return decoded(found) if isinstance(found, bytes) else None

    def bar(self, job: Job, word: str) -> Mark | None:
        """Keep an attempt from ever being made, or return the mark of one that was.

        None, and nothing is written: the key of the run does not have this word any more.
        """
        found = self._connection.call(
            "EVAL", _text("once"), "2", self._of(job), self.of_run, _BARRED, _MS, word
        )
        return decoded(found) if isinstance(found, bytes) else None

    def scripted(self, name: str, keys: Words, args: Words, guard: str = "") -> Reply:
        """Do a piece by a script; the second of its keys is `guard`, or the key of the run."""
        count, second = str(len(keys) + 1), guard or self.of_run
        if self._tag:
            more: list[bytes | str] = [*args, *keys[1:], str(len(keys) - 1)]
            return self._connection.call("EVAL", _afar(name), "2", keys[0], second, *more)
        return self._connection.call("EVAL", _piece(name), count, keys[0], second, *keys[1:], *args)

    def spelt(self, name: str, mark: bytes, keys: Sequence[bytes], args: Words) -> bytes:
        """Write out what does a piece by a script, as it is sent."""
        head = written(("EVAL", _piece(name), str(len(keys) + 2), mark, self.of_run))
        total = b"*%d\r\n" % (5 + len(keys) + len(args))
        return b"".join((total, head, spelled(keys), written(args)))

    def small(self, name: str, key: str, *args: str) -> bytes:
        """Write out a script of one key, as it is sent."""
        return packed(("EVAL", _text(name), "1", key, *args))

    def moved(self, fence: str, word: str) -> Reply:
        """Move a fence, and return what it has now; None where the key of the run is another."""
        return self._connection.call("EVAL", _text("fence"), "2", fence, self.of_run, word, _MS)

    def once(self, key: str, value: str, word: str) -> str | None:
        """Write a key unless it is there, and return what it has then; None: as for `bar`."""
        found = self._connection.call(*self._once(key, value, word))
        return found.decode(errors="replace") if isinstance(found, bytes) else None

    def each_once(self, keys: Sequence[str], value: str, word: str) -> list[Reply]:
        """The same with many keys, of one server; together, and their bytes as they are."""
        return self._connection.calls([self._once(key, value, word) for key in keys])

    def _once(self, key: str, value: str, word: str) -> tuple[bytes | str, ...]:
        return ("EVAL", _text("once"), "2", key, self.of_run, value, _MS, word)

    def has(self, word: str) -> bool:
        """Tell whether the key of the run is the one that was left there."""
        return bool(word) and self._connection.call("GET", self.of_run) == word.encode()

    @property
    def of_run(self) -> str:
        """The key of the run."""
        return _of_run(self._run, self._tag)

    def _of(self, job: Job) -> str:
        return f"opskit:mark:{job.run}:{job.key}:{job.attempt}"


_BARRED = packed((b"barred", b"0", b"", b"", b""))


@cache
def _piece(name: str) -> bytes:
    """Return a script of opskit's own that does a piece, with what each of these begins with."""
    return _text("piece") + b"\n" + _text(name)


@cache
def _afar(name: str) -> bytes:
    """Return the same for keys of many slots, which are no keys of the script."""
    return _text("spread") + b"\n" + _piece(name)


def tried(run: str, head: str, word: str, tag: str = "") -> tuple[bytes | str, ...]:
    """Return what tries, with the key of a run, whether what is removed could be put back.

    `head`: how the marks of the action begin; `word`: what the key of the run has.
    """
    return ("EVAL", _text("try"), "2", _of_run(run, tag), f"{head}try", word)


def _of_run(run: str, tag: str) -> str:
    return f"opskit:run:{tagged(tag)}{run}"


def tagged(tag: str) -> str:
    """Return what puts a key into the slot of a tag; nothing without one."""
    return f"{{{tag}}}:" if tag else ""


@cache
def _text(name: str) -> bytes:
    """Return a script of opskit's own, without its comments."""
    text = resources.files("opskit.drivers.redis").joinpath(f"{name}.lua").read_text("utf-8")
    kept = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in kept if line and not line.startswith("--")).encode()


def _arguments(what: Sequence[Words] | Script) -> list[bytes | str]:
    if isinstance(what, Script):
        return ["script", what.text, str(len(what.keys)), *what.keys, *what.args]
    found: list[bytes | str] = ["commands", str(len(what))]
    for words in what:
        found += [str(len(words)), *words]
    return found


def decoded(raw: bytes) -> Mark:
    """Read what stands in a mark."""
    found = _parsed(raw)
    if not isinstance(found, list) or len(found) != 5:
        raise BrokenError("the mark that is there is none of opskit's")
    state, at, why, answers, cut = (one if isinstance(one, bytes) else b"" for one in found)
    inner = _parsed(answers) if answers else []
    return Mark(
        state=state.decode(errors="replace"),
        at=int(at or b"0"),
        why=" ".join(why.decode(errors="replace").split()),
        answers=tuple(inner) if isinstance(inner, list) else (),
        cut=bool(cut),
    )


def _parsed(raw: bytes) -> Reply:
    reader = hiredis.Reader(replyError=Refusal)
    reader.feed(raw)
    try:
        return cast(Reply, reader.gets())
    except hiredis.ProtocolError:
        return None
