"""What a health check asks a Redis server: numbers that commands answer, figures of INFO.

INFO counts since the server began, so that what is wrong now hides behind a month: a counter is
read twice, and what was added meanwhile is told. A rate of nothing is none, which is no trouble.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from opskit.drivers.redis.connection import Connection, Reply
from opskit.drivers.redis.flags import Words
from opskit.model.value import Json
from opskit.model.work import PING, RedisCall

Info = Mapping[str, str]
Pause = Callable[[float], None]
_NAME = 80


class NothingError(Exception):
    """A figure can't be told: the reason is said."""


class IdleError(Exception):
    """There is no figure, as nothing happened that it is about: that is said."""


def rows(connection: Connection, todo: Sequence[Words], work: RedisCall, pause: Pause) -> Json:
    """Ask, and return a row for each number, as a query would bring it."""
    if work.figure == PING:
        began = time.monotonic()
        connection.call(*todo[0])
        return [_row("", round((time.monotonic() - began) * 1000, 1))]
    if work.figure:
        before = info(connection.call(*todo[0]))
        after = before
        if work.window:
            pause(work.window)
            after = info(connection.call(*todo[0]))
        return [_row(*figure(work.figure, before, after, work.window))]
    answers = [(_named(words), _number(connection.call(*words))) for words in todo]
    return [_row(name if len(answers) > 1 else "", value) for name, value in answers]


def _named(words: Words) -> str:
    return b" ".join(words)[:_NAME].decode(errors="replace")


def _row(name: str, value: Json) -> Json:
    return {"name": name, "value": value} if name else {"value": value}


def _number(reply: Reply) -> Json:
    """Take an answer for a number where it is one; a list or nothing is none."""
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    return reply if isinstance(reply, (int, float)) and not isinstance(reply, bool) else None


def info(reply: Reply) -> Info:
    """Read what INFO answers: field → value."""
    lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, colon, value in pairs if colon}


def figure(name: str, before: Info, after: Info, window: float) -> tuple[str, float]:
    """Return a figure, and what has to be said with it; NothingError where it can't be told."""
    if window and before.get("run_id") != after.get("run_id"):
        raise NothingError("it was started anew within the window")
    match name:
        case "hit_rate":
            hits, misses = (
                _counted(f"keyspace_{what}", before, after, window) for what in ("hits", "misses")
            )
            if not hits + misses:
                raise IdleError(
                    f"nothing was looked up{_within(window)}: there is no rate to judge"
                )
            return "", _share(hits, hits + misses, "")
        case "memory":
            most, of = _field("maxmemory", after), ""
            if not most:
                most, of = _field("total_system_memory", after), "of all memory, no maxmemory:"
            return of, _share(_field("used_memory", after), most, "it does not say how much it has")
        case "clients":
            most = _field("maxclients", after)
            return "", _share(_field("connected_clients", after), most, "it does not say how many")
        case "version":
            return after.get("redis_version", ""), _version(after)
        case _:
            return "", _counted(name, before, after, window) if window else _field(name, after)


def _version(said: Info) -> float:
    """Return 60209 for 6.2.9, so that versions can be compared."""
    parts = said.get("redis_version", "").split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts[:3]):
        raise NothingError("it does not say which version it is")
    major, minor, patch = (int(part) for part in (*parts, "0")[:3])
    return major * 10000 + minor * 100 + patch


def _within(window: float) -> str:
    return f" within {window:g} s" if window else " since it began"


def _share(part: float, whole: float, nothing: str) -> float:
    if not whole:
        raise NothingError(nothing)
    return round(100 * part / whole, 2)


def _counted(name: str, before: Info, after: Info, window: float) -> float:
    """Return what was added to a counter within the window; without one, what it says."""
    if not window:
        return _field(name, after)
    added = _field(name, after) - _field(name, before)
    if added < 0:
        raise NothingError(f"{name} has gone down within the window: CONFIG RESETSTAT?")
    return added


def _field(name: str, said: Info) -> float:
    try:
        return float(said[name].removesuffix("%"))
    except KeyError:
        raise NothingError(f"its INFO has no {name[:60]!r}") from None
    except ValueError:
        raise NothingError(f"{name} is no number: {said[name][:60]!r}") from None
