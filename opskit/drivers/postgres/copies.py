"""Whether a standby uses the indexes that its primary does not: each counts for itself.

A standby has the same numbers for the same indexes, since it is the same cluster.
"""

import json
from collections.abc import Collection

from opskit.drivers.postgres.connection import BrokenError, ServerError
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.session import Access, Identity, opened
from opskit.errors import UnreachableError
from opskit.model.work import Verify

_IDLE = """
    SELECT counted.seconds::text, (
        SELECT pg_catalog.json_agg(value::bigint)
        FROM pg_catalog.json_array_elements_text($1::json) value
        WHERE coalesce(pg_catalog.pg_stat_get_numscans(value::oid), 0) = 0)::text
    FROM (SELECT coalesce(max(extract(epoch FROM now()
                - coalesce(stats_reset, pg_catalog.pg_postmaster_start_time()))), 0)::float8
            AS seconds
        FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()) counted
"""


def idle_everywhere(
    access: Access, primary: Identity, work: Verify, idle: Collection[int]
) -> tuple[frozenset[int], list[Found]]:
    """Return which of the idle indexes no standby has used, and why nobody knows that of some.

    A standby that can't be asked, or has not counted for long enough, leaves none.
    """
    left, doubts = frozenset(idle), []
    for name in work.standbys:
        try:
            counted, there = _asked(access, primary, name, left)
        except (UnreachableError, BrokenError, ServerError) as error:
            text = f"the standby can't be asked: {error.what}"
            doubts.append(Found(check="unused", name=name, text=text, unknown=True))
            left = frozenset()
            continue
        if counted < work.unused_after:
            days = f"{counted / 86400:.1f} days, {work.unused_after / 86400:g} are wanted"
            text = f"the standby has counted who uses indexes for {days}: nothing is called unused"
            doubts.append(Found(check="unused", name=name, text=text, weight="INFO"))
            there = frozenset()
        left &= there
    return left, doubts


def _asked(
    access: Access, primary: Identity, name: str, idle: Collection[int]
) -> tuple[float, frozenset[int]]:
    assert access.beside is not None
    session = opened(access.beside(name))
    try:
        found = session.identity.system
        if "" in (found, primary.system) or found != primary.system:
            raise UnreachableError("it is no standby of this database's cluster", where=name)
        seconds, there = session.connection.one(_IDLE, json.dumps(sorted(idle)))
        return float(seconds or 0), frozenset(json.loads(there or "[]"))
    finally:
        session.close()
