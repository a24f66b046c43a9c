"""How much of what is asked for is there: by the server's own counters, over a while.

Nothing is asked of any key meanwhile, so what opskit looks up is in none of the figures; and the
counters are never set back, as others read them, too.
"""

import time
from collections.abc import Mapping

from opskit.drivers.redis.connection import BrokenError
from opskit.drivers.redis.guards import figures, number
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.warm import Warming
from opskit.errors import OpskitError
from opskit.model.job import Output

_LOOK = 0.1
_COUNTED = ("keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys")
_SECTIONS = ("server", "stats")


def count(deed: Warming, session: Session) -> Output:
    """Count for as long as the step says; failed where nobody can tell, or too few are hits."""
    before = figures(session.connection, *_SECTIONS)
    until = time.monotonic() + deed.work.window
    while (left := until - time.monotonic()) > 0:
        deed.watch()
        time.sleep(min(left, _LOOK))
    try:
        after = _now(deed, session)
    except OpskitError as error:
        deed.watch()  # who is told to give up is not to be told of a server
        told = f"the server answers no more ({error.what})"
        return _said(deed, "UNKNOWN", f"{told}: nobody can tell how many were hits")
    found = {name: number(after, name) - number(before, name) for name in _COUNTED}
    deed.more |= {**found, "seconds": deed.work.window}
    if before.get("run_id") != after.get("run_id") or any(one < 0 for one in found.values()):
        told = "the server was started anew, or its counters were set back"
        return _said(deed, "UNKNOWN", f"{told}: nobody can tell how many were hits")
    hits, lookups = found["keyspace_hits"], found["keyspace_hits"] + found["keyspace_misses"]
    if not lookups:
        told = f"nobody has looked anything up in {deed.work.window:g} s"
        return _said(deed, "UNKNOWN" if deed.work.crit or deed.work.warn else "OK", told)
    rate = 100 * hits / lookups
    deed.more["rate"] = round(rate, 2)
    line = f"{rate:.1f} % of {lookups} lookups were hits{_more(found)}"
    return _said(deed, _level(rate, deed), line)


def _now(deed: Warming, session: Session) -> Mapping[str, str]:
    """Ask once more; on a new line where that one broke, as it does where a server is restarted."""
    try:
        return figures(session.connection, *_SECTIONS)
    except BrokenError:
        again = deed.opened(deed.watch, reads=True)
    try:
        return figures(again.connection, *_SECTIONS)
    finally:
        again.close()


def _level(rate: float, deed: Warming) -> str:
    if rate < deed.work.crit:
        return "CRIT"
    return "WARN" if rate < deed.work.warn else "OK"


def _more(found: Mapping[str, int]) -> str:
    told = {"evicted_keys": "keys evicted", "expired_keys": "expired"}
    return "".join(f"; {found[name]} {words}" for name, words in told.items() if found[name])


def _said(deed: Warming, level: str, line: str) -> Output:
    deed.more["level"] = level
    shown = line if level == "OK" else f"{level}: {line}"
    deed.tell(shown)
    fine = level in ("OK", "WARN")
    return Output(
        outcome="succeeded" if fine else "failed", status=int(not fine), reason=shown,
        stdout=str(deed.more.get("rate", "")).encode(), evidence=deed.more,
    )  # fmt: skip
