"""Which keys there are of those that are meant: exactly these are acted on, and no others."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from opskit.drivers.redis.connection import (
    Connection,
    Refusal,
    Reply,
    ServerError,
    encoded,
    packed,
)
from opskit.drivers.redis.ordering import Ordering
from opskit.drivers.redis.session import Commands, Session
from opskit.errors import OpskitError
from opskit.model.frozen import frozen
from opskit.model.keys import Keys
from opskit.steps import globs
from opskit.steps.keys import MOST, USUAL
from opskit.steps.limits import names as windowed

SOME, MANY = 200, 1000
"""So many commands are sent together; of so many keys a little is asked together."""
LINES = b"lines"
_STEP = "2000"
_QUEUES = ("_kombu.binding.*",)
_BROKER = (
    "celery", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding.celery",
    "_kombu.binding.celery.pidbox", "_kombu.binding.celeryev",
)  # fmt: skip
"""What can be asked for by its name; workers make the last two whatever their queues are called."""
_ABODE = ("EXISTS", *_BROKER)
_SIGHT = ("TYPE", "PEXPIRETIME")
_SESSIONS = "*django.contrib.sessions.c*"
_BINDING, _SESSION = b"_kombu.binding.", b"django.contrib.sessions.c"
_CARRIED = MOST
"""A database of so many keys at most is read whole; of a larger one the server picks the names."""


class ListingError(OpskitError):
    """Nothing may be done with these keys; nothing has been."""


@frozen
class Listed:
    """A key that is there. `end` is when it goes by itself: ms of the server's clock, -1 never."""

    name: bytes
    kind: str
    end: int


@frozen
class Names:
    """The names of what was found, in their order. `total`: how many keys there are at all (0: this
    was not asked, as they were named).

    `text`: the names as they are kept, of which `digest` is. It tells this set from all others.
    `now` is the server's clock in seconds.
    """

    names: Sequence[bytes]
    text: bytes
    digest: str
    total: int
    index: int
    now: float

    @property
    def share(self) -> float:
        """How much of all keys these are, in percent."""
        return 100 * len(self.names) / max(self.total, len(self.names), 1)

    @property
    def said(self) -> str:
        count = f"{len(self.names)} key{'' if len(self.names) == 1 else 's'}"
        share = f", {self.share:.3g} % of {self.total}" if self.total else ""
        return f"{count}{share}; digest {self.digest}"


def text_of(names: Sequence[bytes], index: int) -> bytes:
    """Write names of a database down, one in a line; where a line has more than that, or less, each
    with its length before it.
    """
    joined = b"\n".join(names)
    if joined.count(b"\n") == len(names) - 1:
        return b"%d %b\n%b\n" % (index, LINES, joined)
    return b"%d\n" % index + b"".join([b"%d\n%b\n" % (len(name), name) for name in names])


@frozen
class Listing:
    """What was found, in the order of the names, with what it is."""

    keys: tuple[Listed, ...]
    found: Names


def listed(session: Session, work: Keys) -> Listing:
    """List what is there; ListingError where nothing may be done with it."""
    now = _clock(session)
    names = _meant(session, work, now)
    keys = tuple(looked_at(session, names))
    return Listing(keys=keys, found=_fit(session, work, [key.name for key in keys], now))


def listed_names(session: Session, work: Keys) -> Names:
    """List the names alone; the same ones, and so the same digest."""
    now = _clock(session)
    names = _meant(session, work, now)
    if not work.pattern:  # what is named need not be there
        names = [key.name for key in looked_at(session, names)]
    return _fit(session, work, names, now)


def sighted(work: Keys) -> Commands:
    """Return what is asked to list keys, as far as it is known before the server is."""
    names = named(work, time.time()) if not work.pattern else []
    return [("TIME",), _ABODE, *((one, name) for name in names[:MANY] for one in _SIGHT)]


def named(work: Keys, now: float) -> list[bytes]:
    """Return the names that are meant, in the order in which they are asked for."""
    return sorted(map(encoded, _named(work, now)))


def _meant(session: Session, work: Keys, now: float) -> list[bytes]:
    """Return what fits a pattern, or what is named, where keys may be removed at all."""
    if not work.pattern:
        if of_a_queue(session, thoroughly=False):
            raise ListingError(_queue(session))
        return named(work, now)
    return _scanned(session, work)


def _fit(session: Session, work: Keys, names: Sequence[bytes], now: float) -> Names:
    total = session.connection.call("DBSIZE") if work.pattern else 0
    text = text_of(names, session.index)
    found = Names(
        names=names, text=text, digest=hashlib.sha256(text).hexdigest(),
        total=total if isinstance(total, int) else 0, index=session.index, now=now,
    )  # fmt: skip
    if wrong := _too_much(found, work) or _other(found, work):
        raise ListingError(wrong)
    _unmoved(session)
    return found


def _unmoved(session: Session) -> None:
    """Make sure that no slot was moved meanwhile: a key that goes from a primary that is yet to be
    walked through to one that was is not found at either."""
    if session.layout is not None and session.again().run_id != session.identity.run_id:
        told = "slots of the cluster have moved, or a primary was started anew"
        raise ListingError(f"{told}, while keys were listed: look again")


def _too_much(listing: Names, work: Keys) -> str:
    count = len(listing.names)
    if not count:
        return f"no key is there that is meant{_nearly(work)}"
    if count > (most := _most(work)):
        if most == MOST:
            return f"more than {MOST} keys fit, which is more than is removed at once"
        if work.override:
            told = f"more than {most} keys fit, which is more than an override alone lets go"
            return f"{told}: narrow it, or say max_keys: up to {MOST} of them"
        return (
            f"more than {work.most} keys fit (max_keys): narrow it, or give an override: a reason"
        )
    if work.override:
        return ""
    if work.pattern and listing.share > work.share:
        return (
            f"{listing.said}: more than {work.share:g} % (max_share): narrow it, or give an"
            " override: a reason"
        )
    return ""


def _most(work: Keys) -> int:
    """Return how many keys may be acted on. Without a number a reason alone lets so many go as
    nobody misses who meant fewer; more is meant by who says how many."""
    return max(work.most, USUAL) if work.override else work.most


def _nearly(work: Keys) -> str:
    if work.pattern:
        return f" ({work.pattern}): see the prefix, which Django puts before each key"
    if work.windows:
        return ": see group, rate, methods and prefix, and whether its window is over"
    return ": see whether it is written exactly so, with its prefix"


def _other(listing: Names, work: Keys) -> str:
    if work.digest and listing.digest != work.digest:
        return (
            f"other keys are there than those that were agreed on: {listing.said}, and not"
            f" {work.digest[:80]}; look again"
        )
    return ""


def _named(work: Keys, now: float) -> Iterator[str]:
    seen = [*work.names, *(name for one in work.windows for name in windowed(one, now))]
    yield from dict.fromkeys(seen)


def _clock(session: Session) -> float:
    """Return the server's time; ours where the user may not ask for it."""
    with suppress(ServerError):
        found = session.connection.call("TIME")
        if isinstance(found, list) and isinstance(found[0], bytes) and isinstance(found[1], bytes):
            return int(found[0]) + int(found[1]) / 1e6
    return time.time()


def _scanned(session: Session, work: Keys) -> list[bytes]:
    """Walk through all keys some at a time; each once, though SCAN may tell of it twice."""
    most = _most(work)
    found = Ordering()
    for names in _walked(session, work):
        found.add(names)
        if found.count > most and len(once := found.names()) > most:
            return once[: most + 1]  # one more is enough to know
    return found.names()


def _walked(session: Session, work: Keys) -> Iterator[list[bytes]]:
    """Yield what fits; ListingError where a queue lives there, or sessions do.

    All that may be in the database is looked at in one walk where its names are few enough to be
    carried here, and the pattern is no more than a beginning.
    """
    begins, size = globs.beginning(work.pattern), session.connection.call("DBSIZE")
    if not begins or not isinstance(size, int) or size > _CARRIED:
        _inhabited(session, work)
        yield from scan(session, work.pattern)
        return
    if of_a_queue(session, thoroughly=False):
        raise ListingError(_queue(session))
    start = encoded(begins)
    for names in scan(session, ""):
        joined = b"\n".join([b"", *names])  # looked at as a whole first, which is quick
        if _BINDING in joined and any(name.startswith(_BINDING) for name in names):
            raise ListingError(_queue(session))
        if _SESSION in joined and not work.override and any(_SESSION in name for name in names):
            raise ListingError(_sessions(session))
        yield _begun(names, joined, start)


def _begun(names: list[bytes], joined: bytes, start: bytes) -> list[bytes]:
    """Return those that begin so. `joined`: all of them, with a newline before each."""
    count = joined.count(b"\n" + start)
    if not count or count == len(names) == joined.count(b"\n"):  # a name may have newlines, too
        return names if count else []
    return [name for name in names if name.startswith(start)]


def scan(session: Session, pattern: str) -> Iterator[list[bytes]]:
    """Yield the names that fit a pattern ("": all), some at a time.

    The server looks for the next ones while something is done with these.
    """
    for line in session.lines:
        yield from _through(line, pattern)


def _through(line: Connection, pattern: str) -> Iterator[list[bytes]]:
    fitting = ("MATCH", pattern) if pattern else ()
    asked = packed(("SCAN", b"0", *fitting, "COUNT", _STEP))
    while asked:
        said = line.answered(asked)
        match said:
            case [bytes(cursor), list(names)]:
                pass
            case _:
                raise ListingError("SCAN answers with something else")
        asked = packed(("SCAN", cursor, *fitting, "COUNT", _STEP)) if cursor != b"0" else b""
        if asked:
            line.ahead(asked)
        yield [name for name in names if isinstance(name, bytes)]


def looked_at(session: Session, names: Sequence[bytes]) -> Iterator[Listed]:
    """Yield those that are there, with what they are and when they end."""
    of_each = session.connection.of_each
    answers = of_each(names[:MANY], *_SIGHT)
    for first in range(0, len(names), MANY):
        some, said = names[first : first + MANY], answers()
        raise_refused(said)
        if following := names[first + MANY : first + 2 * MANY]:
            answers = of_each(following, *_SIGHT)
        for name, kind, end in zip(some, said[::2], said[1::2], strict=True):
            if kind != b"none" and end != -2 and isinstance(kind, bytes) and isinstance(end, int):
                yield Listed(name=name, kind=kind.decode(errors="replace"), end=end)


def raise_refused(said: Sequence[Reply]) -> None:
    """Raise the first refusal among answers."""
    for one in said:
        if isinstance(one, Refusal):
            raise ServerError(one.what, code=one.code)


def _inhabited(session: Session, work: Keys) -> None:
    """Refuse patterns where a queue lives, and where sessions do."""
    if of_a_queue(session, thoroughly=True):
        raise ListingError(_queue(session))
    if not work.override and any(scan(session, _SESSIONS)):
        raise ListingError(_sessions(session))


def _queue(session: Session) -> str:
    return f"database {session.index} is that of a queue (Celery): no keys are removed there"


def _sessions(session: Session) -> str:
    return (
        f"sessions are kept in database {session.index}, too: no pattern is removed there without"
        " an override"
    )


def of_a_queue(session: Session, *, thoroughly: bool) -> bool:
    """Tell whether a queue lives in the database; `thoroughly`: all of its keys are walked."""
    with suppress(ServerError):  # a user who may not see these can't touch them either
        if session.connection.call(*_ABODE):
            return True
    return thoroughly and any(any(scan(session, pattern)) for pattern in _QUEUES)
