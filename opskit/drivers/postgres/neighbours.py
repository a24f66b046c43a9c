"""Who else is at the server while rows are removed: it is waited until it is not too much for them.

Standbys have to follow, the WAL has to be written and shipped, and sessions that wait for a lock
are a sign of trouble that more work makes worse. It is looked between batches, where the removal
itself holds no lock; several times a second at most, by one question.
"""

import time
from collections.abc import Iterator

from opskit.drivers.postgres.batches import Attempt
from opskit.drivers.postgres.connection import Connection
from opskit.model.frozen import frozen
from opskit.model.rows import Limits
from opskit.steps.units import duration

_EVERY = 0.5
"""How often it is looked; seconds."""
_SEEN = """
    WITH waiting AS (
        SELECT l.pid, bool_or(l.relation = $1::regclass AND (NOT l.granted OR l.locktype = 'tuple'))
            AS here
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE a.datname = pg_catalog.current_database() AND l.pid <> pg_catalog.pg_backend_pid()
        GROUP BY l.pid
        HAVING bool_or(NOT l.granted AND l.locktype NOT IN ('advisory', 'userlock', 'extend'))
    )
    SELECT coalesce(max(extract(epoch FROM greatest(replay_lag,
            CASE WHEN replay_lsn < pg_catalog.pg_current_wal_lsn()
            THEN pg_catalog.clock_timestamp() - reply_time END))), 0)::text,
        count(*) FILTER (WHERE state IS NULL),
        pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::text,
        (SELECT count(*) FROM waiting), (SELECT count(*) FROM waiting WHERE here)
    FROM pg_catalog.pg_stat_replication
"""
# How far the last standby is behind: one that says nothing any more is so since its last word.
# Everybody may see pg_locks, whoever has the locks; what sessions of others wait for is hidden in
# pg_stat_activity. An advisory lock is waited for by design (a queue, a leader), and room in a file
# by whoever inserts much: neither counts.
HIDDEN = (
    "how far standbys are behind is not told to this role, so max_lag is not kept"
    " → GRANT pg_read_all_stats to it"
)
MIB = 1 << 20


@frozen
class Seen:
    """One look. `lag`: seconds of the last standby; `wal`: bytes that were ever written; `waiters`:
    sessions that wait for a lock, `here`: of those, for one of the table or its rows."""

    at: float
    lag: float
    hidden: bool
    wal: int
    waiters: int
    here: int

    def excess(self, limits: Limits) -> Iterator[tuple[str, str]]:
        """Yield what is too much at this moment: its short name, and the sentence."""
        if self.lag > limits.lag:
            told = f"a standby is {self.lag:.0f} s behind (max_lag: {duration(limits.lag)})"
            yield "standby", told
        if self.waiters > limits.waiters:
            here = f", {self.here} of them at this table" if self.here else ""
            told = f"{self.waiters} sessions wait for a lock{here} (max_waiters: {limits.waiters})"
            yield "locks", told

    def lines(self, before: "Seen") -> Iterator[str]:
        """Say how it is at this moment."""
        rate = (self.wal - before.wal) / max(0.001, self.at - before.at)
        waiting = f"{self.waiters} session{'' if self.waiters == 1 else 's'} waiting for a lock"
        behind = "" if self.hidden else f"standbys {self.lag:.1f} s behind, "
        yield f"at the server now: {behind}{waiting}, {rate / MIB:.1f} MiB/s of WAL"
        if self.hidden:
            yield HIDDEN


def seen(connection: Connection, table: str) -> Seen:
    """Look. `table`: its full name, quoted."""
    lag, hidden, wal, waiters, here = connection.one(_SEEN, table)
    return Seen(
        at=time.monotonic(), lag=float(lag or 0), hidden=hidden != "0",
        wal=int(float(wal or 0)), waiters=int(waiters or 0), here=int(here or 0),
    )  # fmt: skip


class Neighbours:
    """Waits between the batches of one attempt while it is too much for others."""

    def __init__(self, attempt: Attempt, table: str) -> None:
        self._attempt = attempt
        self._table = table
        self._base: Seen | None = None
        """From here on the WAL is counted: what is too much is slept off before more is made."""
        self._looked = 0.0
        self._waited: dict[str, float] = {}
        self._worst: dict[str, float] = {}

    @property
    def waited(self) -> str:
        """Say for how long it was waited, and for whom; "" where it was not."""
        told = (f"{seconds:.0f} s {_FOR[name]}" for name, seconds in self._waited.items())
        return ", ".join(told)

    def wait(self) -> str | None:
        """Wait until it is not too much for others. Returns why it is given up; None: go on."""
        attempt, limits = self._attempt, self._attempt.work.limits
        if time.monotonic() - self._looked < _EVERY:
            return None
        began = time.monotonic()
        while True:
            found = self._look()
            held = next(self._too_much(found), None)
            if held is None or attempt.late:
                return None
            name, told, seconds = held
            if found.at - began >= limits.wait:
                waited = f" for {found.at - began:.0f} s (max_wait: {duration(limits.wait)})"
                return told + (waited if limits.wait else "")
            attempt.progress(f"waiting: {told}")
            attempt.nap(seconds)
            self._count(name, time.monotonic() - found.at)

    def _look(self) -> Seen:
        found = seen(self._attempt.session.connection, self._table)
        self._looked = found.at
        if found.hidden and "standby_lag" not in self._attempt.more:
            self._attempt.more["standby_lag"] = "not told to this role"
            self._attempt.tell(HIDDEN)
        self._note("most_lag", found.lag)
        self._note("most_waiters", found.waiters)
        return found

    def _too_much(self, found: Seen) -> Iterator[tuple[str, str, float]]:
        """Yield what is too much, and for how long it is slept before the next look."""
        for name, told in found.excess(self._attempt.work.limits):
            yield name, told, _EVERY
        limit, base = self._attempt.work.limits.wal, self._base
        if base is not None and limit:
            made, seconds = found.wal - base.wal, found.at - base.at
            self._note("most_wal_mib_s", made / max(0.001, seconds) / MIB)
            if made > limit * seconds:
                rate = f"{made / max(0.001, seconds) / MIB:.1f} MiB/s of WAL"
                told = f"the server has written {rate} (max_wal: {limit / MIB:.4g} MiB/s)"
                yield "wal", told, min(_EVERY, max(0.02, made / limit - seconds))
                return
        self._base = found

    def _note(self, name: str, value: float) -> None:
        if value > self._worst.get(name, 0):
            self._worst[name] = value
            self._attempt.more[name] = round(value, 3)

    def _count(self, name: str, seconds: float) -> None:
        self._waited[name] = self._waited.get(name, 0) + seconds
        self._attempt.more["waited_s"] = {k: round(v, 1) for k, v in self._waited.items()}


_FOR = {"standby": "for a standby", "locks": "for sessions at a lock", "wal": "for the WAL"}
