"""What a counter of a rate limit says: how often, and until when its identity is kept out.

A value is never unpickled: that would run what stands in it. The numbers in it are read off.
"""

import pickletools
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from opskit.drivers.redis.connection import Connection, Reply
from opskit.drivers.redis.listing import SOME, Listed, Listing
from opskit.model.frozen import frozen
from opskit.model.keys import Rate

_LARGEST = 64 * 1024
_WHOLE = re.compile(rb"[0-9]{1,15}")
_TIMES = "FLOAT BINFLOAT INT BININT BININT1 BININT2 LONG LONG1"


@frozen
class Count:
    """How often something was done: a number, or the times of it, newest first."""

    number: int
    times: tuple[float, ...] = ()


def described(connection: Connection, listing: Listing, rates: Sequence[Rate]) -> Iterator[str]:
    """Yield a line for each key: what it is, when it ends, what it has counted."""
    for first in range(0, len(listing.keys), SOME):
        some = listing.keys[first : first + SOME]
        for key, count in zip(some, _counts(connection, some), strict=True):
            yield "  ".join(
                filter(None, [shown(key.name), *_said(key, count, listing.found.now, rates)])
            )


def _said(key: Listed, count: Count | None, now: float, rates: Sequence[Rate]) -> Iterator[str]:
    yield key.kind
    yield f"for {_span(key.end / 1000 - now)}" if key.end >= 0 else "without an end"
    if count is None:
        return
    rate = rate_of(key.name, rates)
    if rate is None:
        yield f"count {count.number}"
        return
    until = blocked(count, rate, now, key.end)
    yield f"{within(count, rate, now)} of {rate.count} in {_span(rate.seconds)}"
    yield f"blocked until {_clock(until)}" if until is not None else "not blocked"


def rate_of(name: bytes, rates: Sequence[Rate]) -> Rate | None:
    fitting = [rate for rate in rates if name.startswith(rate.head.encode())]
    return max(fitting, key=lambda rate: len(rate.head), default=None)


def within(count: Count, rate: Rate, now: float) -> int:
    """Return how often it was done in the time that counts."""
    if not count.times:
        return count.number
    return sum(time > now - rate.seconds for time in count.times)


def blocked(count: Count, rate: Rate, now: float, end: int) -> float | None:
    """Return until when the next one is refused; None where it is not, infinity without an end."""
    if within(count, rate, now) < rate.count:
        return None
    if count.times:
        return sorted(count.times, reverse=True)[rate.count - 1] + rate.seconds
    return end / 1000 if end >= 0 else float("inf")


def _counts(connection: Connection, keys: Sequence[Listed]) -> list[Count | None]:
    asked: list[tuple[bytes | str, ...]] = []
    for key in keys:
        match key.kind:
            case "string":
                asked.append(("GETRANGE", key.name, "0", str(_LARGEST)))
            case "list":
                asked.append(("LRANGE", key.name, "0", "9999"))
            case _:
                asked.append(("EXISTS", key.name))
    return [
        counted(said) if key.kind in ("string", "list") else None
        for key, said in zip(keys, connection.calls(asked), strict=True)
    ]


def counted(value: Reply) -> Count | None:
    """Read a counter: a number, a list of times, or such a list as pickle writes it."""
    if isinstance(value, list):
        times = [time for one in value if (time := _time(one)) is not None]
        return Count(number=len(value), times=tuple(times) if len(times) == len(value) else ())
    if not isinstance(value, bytes):
        return None
    if _WHOLE.fullmatch(value):
        return Count(number=int(value))
    return _pickled(value)


def _time(value: Reply) -> float | None:
    if not isinstance(value, bytes):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _pickled(value: bytes) -> Count | None:
    if not value.startswith(b"\x80") or len(value) > _LARGEST:
        return None
    numbers: list[float] = []
    listing = False
    try:
        for opcode, argument, _ in pickletools.genops(value):
            listing = listing or opcode.name in ("EMPTY_LIST", "LIST")
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"):
                return None
            if opcode.name in _TIMES.split() and isinstance(argument, (int, float)):
                numbers.append(float(argument))
    except Exception:  # noqa: BLE001 - whatever stands there that is no pickle
        return None
    if listing:
        return Count(number=len(numbers), times=tuple(numbers))
    return Count(number=int(numbers[0])) if len(numbers) == 1 else None


def shown(name: bytes) -> str:
    """Write the name of a key in one line, whatever is in it."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            rest = whole % size // (size // 60 if unit != "d" else 3600)
            lower = {"d": "h", "h": "m", "m": "s"}[unit]
            return f"{whole // size}{unit}{rest}{lower}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def _clock(moment: float) -> str:
    if moment == float("inf"):
        return "somebody removes it"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
