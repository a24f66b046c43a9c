"""Whether a cache can take what is to be written, and whether it still can while that is."""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from opskit.drivers.redis.connection import Connection, ServerError
from opskit.drivers.redis.listing import ListingError, of_a_queue
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.shelf import Totals
from opskit.model.value import Json
from opskit.model.warm import Warm

EACH = 100
"""About so many bytes a key takes besides its name and its value."""
_KEPT = ("keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys", "used_memory")
_FULL = 0.8
_OFTEN = 0.5
_ASKED, _FEWEST, _ASKING = 200, 20, 2.0
"""So many answers tell how long others wait; fewer where they take longer than so many seconds."""
_GLANCE, _LOOK, _LATELY = 0.1, 0.5, 1.0
"""For so long it is seen how busy the processor is; where that is too much once more, longer. What
has been seen meanwhile, of the last second at most, is as good."""
_HOT = 3
"""So many looks in a row at a processor that is too busy end a fill that has a rate."""


def figures(connection: Connection, *sections: str) -> Mapping[str, str]:
    """Return what INFO says."""
    said = connection.call("INFO", *sections)
    text = said.decode(errors="replace") if isinstance(said, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def number(found: Mapping[str, str], name: str) -> int:
    word = found.get(name, "")
    return int(word) if word.isdigit() else 0


def standing(session: Session) -> Mapping[str, Json]:
    """Return what the record keeps of a server before something is written there, and after it."""
    found = figures(session.connection, "memory", "stats", "keyspace")
    pairs = (one.partition("=") for one in found.get(f"db{session.index}", "").split(","))
    base = {name: value for name, _, value in pairs}
    told: dict[str, Json] = {name: number(found, name) for name in _KEPT}
    return told | {"keys": number(base, "keys"), "avg_ttl_ms": number(base, "avg_ttl")}


def raise_unfit(
    session: Session, work: Warm, totals: Totals, seen: "Processor"
) -> Mapping[str, Json]:
    """Refuse a database that is no cache, and more than there is room for.

    `seen`: the server's processor since the list was begun. Returns how long others wait for an
    answer there, in ms.
    """
    waits = _raise_slow(session, work)
    _raise_hot(session.connection, work, seen)
    if of_a_queue(session, thoroughly=True):
        where = f"database {session.index} is that of a queue (Celery)"
        raise ListingError(f"{where}: nothing is written there")
    found = figures(session.connection, "memory")
    used, most = number(found, "used_memory"), number(found, "maxmemory")
    wanted = totals.size + EACH * totals.count
    limit = most or number(found, "total_system_memory")
    free = max(0, limit - used)
    takes = f"it takes about {_size(wanted)}, and {_size(free)} are free"
    if found.get("maxmemory_policy") == "noeviction" and limit and wanted > _FULL * free:
        told = "more than 80 % of that, and nothing is evicted there (noeviction)"
        raise ListingError(f"{takes}: {told}: writes of the application would be refused")
    if most and used + wanted > most * work.memory / 100:
        told = f"more than {work.memory:g} % of the server's memory (max_memory) would be used"
        raise ListingError(f"{takes}: {told}")
    return waits


def _raise_slow(session: Session, work: Warm) -> Mapping[str, Json]:
    """Refuse a server that lets others wait before anything is written."""
    times: list[float] = []
    end = time.monotonic() + _ASKING
    while work.wait and len(times) < _ASKED:
        if len(times) >= _FEWEST and time.monotonic() > end:
            break
        began = time.perf_counter()
        session.connection.call("PING")
        times.append(time.perf_counter() - began)
    if (slow := p99(times)) > work.wait:
        told = f"an answer takes {1000 * slow:.3g} ms (the 99th of a hundred)"
        more = f"more than {1000 * work.wait:.3g} ms (max_wait)"
        raise ListingError(f"the server is busy: {told}, {more}: nothing is added to that")
    if not times:
        return {}
    middle = sorted(times)[len(times) // 2]
    return {"p50_ms": round(1000 * middle, 3), "p99_ms": round(1000 * slow, 3)}


def _raise_hot(connection: Connection, work: Warm, seen: "Processor") -> None:
    """Refuse a server whose processor is busy already; a moment alone says nothing."""
    share = 0.0
    if seen.age > _LATELY:
        seen = Processor(connection)
    for seconds in (_GLANCE, _LOOK) if work.cpu else ():
        time.sleep(max(0.0, seconds - seen.age))
        share = seen.share(figures(connection, "cpu"))
        if share <= work.cpu:
            return
    if share:
        told = f"the server's processor is {share:.0f} % busy, more than {work.cpu:g} % (max_cpu)"
        raise ListingError(f"{told}: nothing is added to that")


def _seconds(found: Mapping[str, str]) -> float | None:
    """Return how long the processor has worked for the server's main thread, or all of it."""
    for thread in ("_main_thread", ""):
        with suppress(KeyError, ValueError):
            return sum(float(found[f"used_cpu_{how}{thread}"]) for how in ("user", "sys"))
    return None


class Processor:
    """Tells from one look at a server to the next how busy its processor was, in percent."""

    def __init__(self, connection: Connection) -> None:
        self._used, self._at = _seconds(figures(connection, "cpu")), time.monotonic()

    @property
    def age(self) -> float:
        """How long ago the last look was, in seconds."""
        return time.monotonic() - self._at

    def share(self, found: Mapping[str, str]) -> float:
        """Return it for the time since the last look; 0 where the server says nothing of it."""
        before, began = self._used, self._at
        self._used, self._at = _seconds(found), time.monotonic()
        if before is None or self._used is None or self._at <= began:
            return 0.0
        return 100 * (self._used - before) / (self._at - began)


def p99(times: Collection[float]) -> float:
    found = sorted(times)
    return found[min(len(found) - 1, int(len(found) * 0.99))] if found else 0.0


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


class Guard:
    """Looks from time to time whether the server has begun to suffer from what is written."""

    def __init__(self, connection: Connection, work: Warm) -> None:
        self._connection = connection
        self._work = work
        self._evicted = number(figures(connection, "stats"), "evicted_keys")
        self._next = time.monotonic() + _OFTEN
        self._processor = Processor(connection)
        self._hot = 0

    @property
    def due(self) -> bool:
        """Tell whether it is time to look."""
        return time.monotonic() >= self._next

    def look(self) -> str:
        """Return why nothing more is to be written; "" where nothing is wrong."""
        if not self.due:
            return ""
        self._next = time.monotonic() + _OFTEN
        with suppress(ServerError):
            return self.judged(figures(self._connection, "stats", "memory", "cpu"))
        return ""

    def judged(self, found: Mapping[str, str]) -> str:
        if (evicted := number(found, "evicted_keys")) > self._evicted:
            count = evicted - self._evicted
            return f"the server has evicted {count} keys meanwhile: there is no more room"
        used, most = number(found, "used_memory"), number(found, "maxmemory")
        if most and used > most * self._work.memory / 100:
            return f"more than {self._work.memory:g} % of the server's memory is used (max_memory)"
        return self._too_hot(found)

    def _too_hot(self, found: Mapping[str, str]) -> str:
        """Say whether the processor stays too busy; without a rate it is, by what is written."""
        most, share = self._work.cpu, self._processor.share(found)
        self._hot = self._hot + 1 if most and self._work.rate and share > most else 0
        if self._hot < _HOT:
            return ""
        return f"the server's processor is {share:.0f} % busy, more than {most:g} % (max_cpu)"
