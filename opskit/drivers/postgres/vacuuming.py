"""VACUUM (ANALYZE) of a table of which much was removed, proved by what the server says afterwards.

A server that does not vacuum a table says so in a warning, and VACUUM succeeds: so what counts is
how often it was vacuumed. It waits for nobody: an autovacuum that is on the table goes on, and is
not ended for our sake. It is slowed down as autovacuum is, gives no room at the table's end back
(that would lock everybody out), and can be done again at any time.
"""

import time

from opskit.drivers.postgres.batches import Attempt
from opskit.drivers.postgres.connection import Connection, ServerError, Taker
from opskit.drivers.postgres.session import limit
from opskit.drivers.postgres.subject import Subject

MUCH = 0.2
"""Of so much less of a table, nothing need be done but what autovacuum does."""
_LEAST = 1.0
"""It is not begun with less time than this; seconds."""
_AFTERWARDS = 4.0
"""What is left of the step's time for what comes after it; seconds."""
_PATIENCE = 2.0
"""For so long it is tried again where somebody has the table; seconds."""
_TELLS = 3.0
"""How long an older server may take until it tells what was done; seconds."""
_ENDED = "57014"
"""The server has ended it for the time it took, or because somebody asked for that."""
_POLITE = "SET vacuum_cost_delay = '2ms'; SET vacuum_cost_limit = 200"
"""As autovacuum is by itself."""
_MAY = """
    SELECT pg_catalog.pg_has_role(session_user, c.relowner, 'USAGE')
        OR pg_catalog.pg_has_role(session_user, d.datdba, 'USAGE'){more}
    FROM pg_catalog.pg_class c, pg_catalog.pg_database d
    WHERE c.oid = $1::regclass AND d.datname = pg_catalog.current_database()
"""
_MAINTAIN = " OR pg_catalog.has_table_privilege(session_user, c.oid, 'MAINTAIN')"
_FIFTEEN, _SEVENTEEN = 150000, 170000
_FLUSHES = 0.6
"""How often an older server tells what it has counted; seconds."""
_TIMES = """
    SELECT pg_catalog.pg_stat_get_vacuum_count($1::regclass)::text,
        pg_catalog.pg_stat_get_dead_tuples($1::regclass)::text,
        pg_catalog.current_setting('track_counts')
"""
_HOLDERS = """
    SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('process %s%s', l.pid,
        ' (' || coalesce(nullif(a.application_name, ''), a.backend_type) || ')'), ', ')
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = $1::regclass AND l.pid <> pg_catalog.pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_catalog.pg_database
                          WHERE datname = pg_catalog.current_database())
        AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
"""
NO_RIGHT = (
    "the role is not that of the table's owner → GRANT the owner's role to it"
    " (or MAINTAIN, from PostgreSQL 17 on), or leave it to autovacuum"
)


def may(connection: Connection, made: Subject) -> bool:
    """Tell whether the server would vacuum the table for this role."""
    more = _MAINTAIN if connection.version >= _SEVENTEEN else ""
    return connection.one(_MAY.replace("{more}", more), made.full)[0] == "t"


def vacuum(attempt: Attempt, made: Subject) -> str:
    """Vacuum the table; return what became of it, in the words that a person is told."""
    connection = attempt.session.connection
    if not may(connection, made):
        return _not(attempt, NO_RIGHT)
    seconds = attempt.until - time.monotonic() - _AFTERWARDS
    if seconds < _LEAST:
        return _not(attempt, "no time is left for it (timeout) → run VACUUM (ANALYZE) by hand")
    attempt.tell(f"VACUUM (ANALYZE) {made.full}")
    _flush(attempt)
    before, _, counts = connection.one(_TIMES, made.full)
    notices: list[str] = []
    connection.on_notice(notices.append)
    limit(connection, seconds, ends_with_us=True)
    connection.own(_POLITE)
    began = time.monotonic()
    try:
        said = _done(attempt, made, int(before or 0), notices, counted=counts == "on")
    except ServerError as error:
        said = _not(attempt, _cut_short(error, seconds, time.monotonic() - began))
    connection.on_notice(lambda _: None)
    connection.own("RESET vacuum_cost_delay; RESET vacuum_cost_limit")
    return said


def _cut_short(error: ServerError, seconds: float, took: float) -> str:
    """Say why it was ended. Which of both it was the server says in its own language alone."""
    after = "→ autovacuum goes on with it, when it comes to it"
    if error.code != _ENDED:
        return error.what
    if took >= seconds:
        return f"not over within {seconds:.0f} s {after}"
    told = "somebody has cancelled it (pg_cancel_backend, or a signal); the server does not say who"
    return f"{told} {after}"


def _flush(attempt: Attempt) -> None:
    """Let the server know of all that was removed, or it would count that as dead later."""
    connection = attempt.session.connection
    if connection.version >= _FIFTEEN:
        connection.one("SELECT pg_catalog.pg_stat_force_next_flush()")
    else:
        attempt.nap(_FLUSHES)
    connection.own("SELECT 1")


def _done(
    attempt: Attempt, made: Subject, before: int, notices: list[str], *, counted: bool
) -> str:
    """Do it until the server says that it is done, or somebody has the table for too long."""
    connection, until = attempt.session.connection, time.monotonic() + _PATIENCE
    while True:
        notices.clear()
        words = f"VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false, PARALLEL 0) {made.full}"
        connection.run(words, (), Taker())
        if not counted:
            said = "; ".join(notices) or "the server counts nothing (track_counts is off)"
            return _not(attempt, f"nothing proves that it was: {said}")
        dead = _read_back(attempt, made, before, wait=not notices)
        if dead is not None:
            return _left(attempt, dead)
        (holders,) = connection.one(_HOLDERS, made.full)
        if time.monotonic() > until:
            return _not(attempt, _why(holders, notices))
        attempt.nap(0.2)


def _why(holders: str | None, notices: list[str]) -> str:
    if holders:
        return f"{holders} has a lock on the table: an autovacuum, or a change of it → see later"
    return "; ".join(notices) or "the server says that it was not"


def _read_back(attempt: Attempt, made: Subject, before: int, *, wait: bool) -> int | None:
    """Return how many dead rows are left; None where it was not vacuumed."""
    until = time.monotonic() + (_TELLS if wait else 0)
    while True:
        times, dead, _ = attempt.session.connection.one(_TIMES, made.full)
        if int(times or 0) > before:
            return int(dead or 0)
        if time.monotonic() >= until:
            return None
        attempt.nap(0.1)


def _left(attempt: Attempt, dead: int) -> str:
    """Say what VACUUM could not remove: rows that somebody older still may see."""
    attempt.more |= {"vacuum": "done", "dead": dead}
    if 2 * dead > attempt.done:
        return (
            f"vacuumed, but {dead} dead rows are still there: a transaction or a slot that is older"
            " than the removal holds them → opskit run vacuum-check says which"
        )
    return "vacuumed"


def _not(attempt: Attempt, why: str) -> str:
    attempt.more["vacuum"] = f"not done: {why}"
    return f"NOT vacuumed: {why}"
