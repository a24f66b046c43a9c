# ruff: noqa: S608 (it is put together of its own pieces, and binds nothing)
"""The sessions of a server as they are at one moment, in one question."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.blocking import Node, trees
from opskit.drivers.postgres.connection import Connection
from opskit.model.activity import Target
from opskit.model.frozen import frozen
from opskit.model.value import Json
from opskit.render.masking import masked

HIDDEN = "<insufficient privilege>"
"""What stands for the statement of a session that this role may not see."""
IN_TRANSACTION = ("idle in transaction", "idle in transaction (aborted)")
RUNNING = ("active", "fastpath function call")
_CLIENT = "client backend"
MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"
_SINCE = "round(extract(epoch FROM moment.at - {})::numeric, 3)::float8"
_SESSIONS = f"""
    WITH waiting AS MATERIALIZED (
        SELECT pid, min({{waitstart}}) AS began FROM pg_catalog.pg_locks WHERE NOT granted
        GROUP BY pid)
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(
        a.pid, a.datname IS NOT DISTINCT FROM pg_catalog.current_database(), a.usename,
        a.application_name, coalesce(pg_catalog.host(a.client_addr), ''), a.state, a.backend_type,
        pg_catalog.concat_ws(':', a.wait_event_type, a.wait_event),
        {_SINCE.format("a.query_start")}, {_SINCE.format("a.xact_start")},
        {_SINCE.format("a.state_change")}, {MICROSECONDS.format("a.backend_start")},
        {MICROSECONDS.format("a.query_start")}, pg_catalog.left(a.query, 4000),
        coalesce(r.rolsuper, false),
        CASE WHEN a.wait_event_type = 'Lock' OR a.query = '{HIDDEN}'
             THEN pg_catalog.to_json(pg_catalog.pg_blocking_pids(a.pid)) END,
        CASE WHEN a.wait_event_type = 'Lock'
             THEN {_SINCE.format("coalesce(waiting.began, a.query_start)")} END))
    FROM (SELECT pg_catalog.clock_timestamp() AS at) moment
    CROSS JOIN pg_catalog.pg_stat_activity a
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    LEFT JOIN waiting ON waiting.pid = a.pid
    WHERE a.pid <> pg_catalog.pg_backend_pid()
"""
# To tell whom a process waits for, all partitions of the lock table are locked for a moment: so
# only those are asked about who wait for a lock, and only once; and pg_locks is read once for all.
_PREPARED = """
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        gid, owner, round(extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::numeric, 3)))
    FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
"""
_FOURTEEN = 140000


@frozen
class Present:
    """One session. Times are seconds: of its statement, its transaction, what it does now, its
    waiting for a lock; None where there is none."""

    pid: int
    here: bool
    user: str
    application: str
    client: str
    state: str
    kind: str
    wait: str
    statement: float | None
    transaction: float | None
    still: float | None
    began: int | None
    since: int | None
    query: str
    superuser: bool
    blockers: Sequence[int]
    waiting: float | None

    @property
    def hidden(self) -> bool:
        return self.query == HIDDEN

    @property
    def seconds(self) -> float:
        """For how long it has done what it does: run its statement, or stood still."""
        found = self.statement if self.state in RUNNING else self.still
        return found or 0.0

    @property
    def busy(self) -> bool:
        """Tell whether it runs something, or keeps a transaction open."""
        return self.state in RUNNING or self.state in IN_TRANSACTION

    @property
    def ours(self) -> bool:
        return self.application.startswith("opskit:")

    @property
    def target(self) -> str:
        """What it is called where it is to be ended; "" for one that never is."""
        named = self.began is not None and self.since is not None
        if not named or self.hidden or not self.endable:
            return ""
        assert self.began is not None
        assert self.since is not None
        return str(Target(pid=self.pid, began=self.began, since=self.since))

    @property
    def client_backend(self) -> bool:
        return self.kind == _CLIENT

    @property
    def endable(self) -> bool:
        """Tell whether `sessions` would end it; it looks again itself, and closer."""
        ours = self.here and self.client_backend and self.busy
        return ours and not (self.superuser or self.ours)

    def as_json(self) -> dict[str, Json]:
        return {
            "pid": self.pid, "session": self.target, "user": self.user,
            "application": self.application, "client": self.client, "state": self.state,
            "wait": self.wait, "seconds": self.seconds, "transaction_s": self.transaction,
            "blocked_by": list(self.blockers), "query": masked(self.query),
        }  # fmt: skip


@frozen
class Moment:
    """All sessions but one's own, who blocks whom, and transactions that are only prepared."""

    sessions: Mapping[int, Present]
    nodes: Sequence[Node]
    prepared: Sequence[tuple[str, str, float]]


def moment(connection: Connection) -> Moment:
    """Ask; the transaction is the caller's."""
    waits_since = "waitstart" if connection.version >= _FOURTEEN else "NULL::timestamptz"
    rows = _json(connection, _SESSIONS.replace("{waitstart}", waits_since))
    found = {row[0]: _present(row) for row in rows}
    waits = {pid: one.blockers for pid, one in found.items() if one.blockers}
    prepared = [(str(g), str(o), float(s)) for g, o, s in _json(connection, _PREPARED)]
    return Moment(sessions=found, nodes=trees(waits), prepared=prepared)


def _present(row: Sequence[Any]) -> Present:
    names = (
        "pid", "here", "user", "application", "client", "state", "kind", "wait", "statement",
        "transaction", "still", "began", "since", "query", "superuser", "blockers", "waiting",
    )  # fmt: skip
    told = dict(zip(names, row, strict=True))
    words = ("user", "application", "client", "state", "kind", "wait", "query")
    told |= {name: told[name] or "" for name in words}
    return Present(**{**told, "blockers": tuple(told["blockers"] or ())})


def _json(connection: Connection, query: str) -> list[Any]:
    (text,) = connection.one(query)
    found: list[Any] = json.loads(text or "[]")
    return found
