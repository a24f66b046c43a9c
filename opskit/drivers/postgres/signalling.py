# ruff: noqa: S608 (it is put together of its own pieces, values are bound)
"""Ending what sessions run, or sessions: looked at and signalled in one statement, read back after.

Nothing needs a mark: a session is told by its process, its beginning and the beginning of what it
does, so to do it twice ends nothing twice. What is lost from sight is settled by who is gone.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opskit.drivers.command import fenced
from opskit.drivers.postgres.connection import (
    BrokenError,
    Connection,
    EndedError,
    ServerError,
)
from opskit.drivers.postgres.ending import others, terminate
from opskit.drivers.postgres.fence import Fence, FencedError
from opskit.drivers.postgres.looking import attended, looked
from opskit.drivers.postgres.marks import Marks
from opskit.drivers.postgres.present import HIDDEN, MICROSECONDS
from opskit.drivers.postgres.session import Access, Session, limit, opened
from opskit.drivers.postgres.told import aligned
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import UnreachableError
from opskit.model.activity import Sessions, Target
from opskit.model.frozen import frozen
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.render.masking import masked
from opskit.steps.units import duration

_AFTER = 2.0
_LOOK = 0.1
_STANDS = "2s"
"""How long may pass between the last look at the run's locks and the signals."""
_COPY = r"^(\s|--[^\n]*\n|/\*.*?\*/)*copy\M"
_COPYING = " OR s.pid IN (SELECT pid FROM pg_catalog.pg_stat_progress_copy)"
_FOURTEEN = 140000
_COPIES = "^pg_(dump|dumpall|restore|basebackup|receivewal|rewind|amcheck)"
_JUDGED = f"""
    WITH wanted AS MATERIALIZED (
        SELECT (one.w ->> 0)::integer AS pid, (one.w ->> 1)::bigint AS began,
            (one.w ->> 2)::bigint AS since, one.place
        FROM pg_catalog.json_array_elements($1::json) WITH ORDINALITY AS one (w, place)),
    seen AS MATERIALIZED (
        SELECT a.*, {MICROSECONDS.format("a.backend_start")} AS own_began,
            {MICROSECONDS.format("a.query_start")} AS own_since,
            extract(epoch FROM pg_catalog.clock_timestamp() - CASE WHEN a.state LIKE 'idle%'
                THEN a.state_change ELSE a.query_start END)::float8 AS lasted,
            coalesce(r.rolsuper, true) AS superuser
        FROM pg_catalog.pg_stat_activity a
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
        WHERE a.pid IN (SELECT pid FROM wanted)),
    judged AS MATERIALIZED (
        SELECT w.pid, w.place, s.usename, s.application_name, s.state, s.lasted, s.query,
            pg_catalog.host(s.client_addr) AS client,
            CASE WHEN s.pid IS NULL THEN 'gone'
                 WHEN s.pid = pg_catalog.pg_backend_pid() THEN 'own'
                 WHEN s.query = '{HIDDEN}' OR s.own_began IS NULL THEN 'hidden'
                 WHEN s.own_began <> w.began THEN 'gone'
                 WHEN s.application_name LIKE 'opskit:%' THEN 'own'
                 WHEN s.backend_type <> 'client backend' THEN 'kind'
                 WHEN s.datname IS DISTINCT FROM pg_catalog.current_database() THEN 'elsewhere'
                 WHEN s.superuser THEN 'superuser'
                 WHEN s.usename <> ALL (ARRAY(SELECT pg_catalog.json_array_elements_text($2::json)))
                     THEN 'user'
                 WHEN s.application_name ~ '{_COPIES}' OR s.query ~* '{_COPY}'{{copying}}
                     THEN 'copy'
                 WHEN s.state = 'idle' OR ($4 = 'cancel' AND s.state LIKE 'idle%') THEN 'idle'
                 WHEN s.own_since IS DISTINCT FROM w.since THEN 'moved'
                 WHEN coalesce(s.lasted, 0) < $3::float8 THEN 'young'
                 WHEN NOT (pg_catalog.pg_has_role(s.usesysid, 'USAGE')
                           OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')) THEN 'denied'
                 ELSE '' END AS wrong
        FROM wanted w LEFT JOIN seen s ON s.pid = w.pid),
    crowd AS MATERIALIZED (
        SELECT count(*) AS size FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND usesysid IS NOT NULL
            AND coalesce(backend_type, 'client backend') = 'client backend'
            AND coalesce(application_name, '') NOT LIKE 'opskit:%')
    SELECT /* opskit */ pg_catalog.json_agg(pg_catalog.json_build_array(pid, wrong, usename,
            application_name, client, state, lasted, pg_catalog.left(query, 4000), signalled)
        ORDER BY place), (SELECT size FROM crowd)
    FROM (SELECT judged.*, {{signal}} AS signalled FROM judged OFFSET 0) AS each
"""
_SIGNAL = """
    CASE WHEN NOT EXISTS (SELECT FROM judged WHERE wrong <> '')
        AND (SELECT count(*) FROM wanted) <= (SELECT greatest(1, $5::float8 * size) FROM crowd)
    THEN pg_catalog.{}(pid) END
"""
_ENDED = {"cancel": "cancelled", "terminate": "terminated"}
_FUNCTIONS = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}
_LEFT = f"""
    SELECT /* opskit */ pg_catalog.json_agg(a.pid) FROM pg_catalog.pg_stat_activity a
    JOIN pg_catalog.json_array_elements($1::json) AS w ON (w ->> 0)::integer = a.pid
    WHERE a.query = '{HIDDEN}' OR ((w ->> 1)::bigint = {MICROSECONDS.format("a.backend_start")}
        AND ($2 = 'terminate' OR (a.state NOT LIKE 'idle%'
            AND (w ->> 2)::bigint = {MICROSECONDS.format("a.query_start")})))
"""
_WHY: Mapping[str, str] = {
    "gone": "is not there any more",
    "own": "is a session of opskit: `opskit abort` ends a run",
    "hidden": "does not show what it does: GRANT pg_read_all_stats TO the role",
    "elsewhere": "is of another database",
    "kind": "is no client's: it is a process of the server, or sends to a standby",
    "superuser": "is a superuser's",
    "user": "is of somebody who is not in `users`",
    "copy": "copies data, as a dump does: what it has done would be lost",
    "idle": "does nothing that could be ended",
    "moved": "does something else by now",
    "young": "has not lasted so long as `older` says",
    "denied": "may not be ended by this role: GRANT pg_signal_backend TO it",
}
_CHANGED = frozenset({"gone", "idle", "moved"})
"""What says that the list is not what it was."""
_NO_UNDO = "there is no undo: what was not committed is rolled back, and clients may try again"


@frozen
class Judged:
    """A session as it was when it was looked at; `wrong`: why it is not ended."""

    pid: int
    wrong: str
    user: str
    application: str
    client: str
    state: str
    lasted: float
    query: str

    def as_json(self) -> Json:
        return {
            "pid": self.pid, "user": self.user, "application": self.application,
            "client": self.client, "state": self.state, "seconds": round(self.lasted, 3),
            "query": self.query,
            **({"refused": self.wrong} if self.wrong else {}),
        }  # fmt: skip


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Sessions)
    if work.probe:
        return looked(access, job, running, lambda session: _probed(session, job, work, write))
    return attended(
        access,
        job,
        running,
        lambda session: _guarded(_Attempt(access, session, job, work), running, write),
    )


class _Attempt:
    """An attempt under way. `sent`: the statement that signals may have come to the server."""

    def __init__(self, access: Access, session: Session, job: Job, work: Sessions) -> None:
        self.access, self.session, self.job, self.work = access, session, job, work
        self.sent = False
        self.judged: Sequence[Judged] = ()
        self.crowd = 0

    def evidence(self, **more: Json) -> dict[str, Json]:
        return {"sessions": [one.as_json() for one in self.judged], "of": self.crowd, **more}


def _guarded(attempt: _Attempt, running: Running, write: Write) -> Output:
    """Say what it means when something comes in between."""
    try:
        return _done(attempt, write)
    except FencedError as error:
        return Output(outcome="failed", sent=False, reason=fenced(error.what))
    except ServerError as error:
        evidence = attempt.evidence(sqlstate=error.code)
        if attempt.sent:  # it may have come to the first of them and not to the last
            return Output(outcome="unknown", lost=True, reason=error.what, evidence=evidence)
        return Output(outcome="failed", sent=False, reason=error.what, evidence=evidence)
    except BrokenError as error:
        reason = f"the line broke: {error.what}"
        if not attempt.sent:
            return Output(outcome="failed", sent=False, unreachable=True, reason=reason)
        return Output(outcome="unknown", lost=True, reason=reason, evidence=attempt.evidence())
    except EndedError as error:
        given_up = running.give_up.is_set()
        if not attempt.sent:
            stopped = running.proof("confirmed gone") if given_up else {}
            return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
        reason = f"{error.what}; the signals were sent"
        return Output(outcome="unknown", lost=True, reason=reason, evidence=attempt.evidence())


def _done(attempt: _Attempt, write: Write) -> Output:
    access, work, connection = attempt.access, attempt.work, attempt.session.connection
    limit(connection, attempt.job.timeout, ends_with_us=False)
    _fence(access, connection)
    attempt.sent = True
    signal = _SIGNAL.format(_FUNCTIONS[work.do])
    attempt.judged, attempt.crowd = _judge(connection, work, signal)
    if wrong := _wrong(work, attempt.judged, attempt.crowd):
        write("stdout", _table(attempt.judged).encode())
        return _refused(wrong, attempt.evidence())
    left: list[int] = _left_after(connection, work, work.wait)
    over: list[int] = []
    if left and work.rest:
        over, left = _terminated(attempt, left)
    write("stdout", (_table(attempt.judged, work, left, over) + f"{_NO_UNDO}\n").encode())
    evidence = attempt.evidence(left=list(left), terminated=list(over), undo="none")
    if left:
        return Output(outcome="failed", status=1, reason=_still(work, left), evidence=evidence)
    also = f", {len(over)} of them terminated" if over else ""
    said = f"{len(attempt.judged)} of {len(attempt.judged)} {_ENDED[work.do]}{also}; {_NO_UNDO}"
    return Output(outcome="succeeded", status=0, reason=said, evidence=evidence)


def _fence(access: Access, connection: Connection) -> None:
    """See that the run has its locks still, right before the signals; FencedError where not."""
    if access.lease is None:
        return
    if connection.version >= _FOURTEEN:  # who stands still now never sends it
        connection.own(f"SET idle_session_timeout = '{_STANDS}'")
    marks = Marks(connection, access.database.marker_schema)
    if not marks.missing(leases=True):
        Fence(connection, marks.schema, access.lease).hold(kept=False)


def _terminated(attempt: _Attempt, left: list[int]) -> tuple[list[int], list[int]]:
    """Terminate those that a cancel has not ended and that are as they were; all or none of them.

    Returns whom, and who is still there.
    """
    connection, work = attempt.session.connection, attempt.work
    while left:
        chosen = tuple(one for one in work.targets if one.pid in left)
        rest = replace(work, do="terminate", targets=chosen)
        _fence(attempt.access, connection)
        signal = _SIGNAL.format(_FUNCTIONS["terminate"])
        judged, crowd = _judge(connection, rest, signal)
        over = {one.pid for one in judged if one.wrong in _CHANGED}
        if not over:
            if _wrong(rest, judged, crowd):
                return [], left
            return left, _left_after(connection, rest, work.wait)
        left = [pid for pid in left if pid not in over]  # the cancel has come to it after all
    return [], []


def _probed(session: Session, job: Job, work: Sessions, write: Write) -> Output:
    """See whether it could be done, in a transaction that can't write; nobody is signalled."""
    limit(session.connection, job.timeout, ends_with_us=True)
    session.connection.own("BEGIN READ ONLY")
    judged, crowd = _judge(session.connection, work, "NULL::boolean AND $5::float8 > 0")
    session.connection.own("ROLLBACK")
    write("stdout", _table(judged).encode())
    evidence: dict[str, Json] = {"sessions": [one.as_json() for one in judged], "of": crowd}
    if wrong := _wrong(work, judged, crowd):
        return _refused(wrong, evidence)
    return Output(outcome="succeeded", status=0, evidence=evidence)


def _judge(connection: Connection, work: Sessions, signal: str) -> tuple[list[Judged], int]:
    """Look at all of them; where each is as it should be, signal them in the same statement.

    Returns with them how many sessions of clients the database has.
    """
    copying = _COPYING if connection.version >= _FOURTEEN else ""
    text, crowd = connection.one(
        _JUDGED.replace("{signal}", signal).replace("{copying}", copying),
        _written(work.targets), json.dumps(list(work.users)), str(work.older), work.do,
        str(work.share),
    )  # fmt: skip
    return [_read(*row) for row in json.loads(text or "[]")], int(crowd or 0)


def _read(pid: int, wrong: str, *rest: Any) -> Judged:  # noqa: ANN401 - any JSON
    user, application, client, state, lasted, query, _signalled = rest
    return Judged(
        pid=pid, wrong=wrong, user=user or "", application=application or "",
        client=client or "local", state=state or "", lasted=float(lasted or 0),
        query=masked(query or ""),
    )  # fmt: skip


def _written(targets: Sequence[Target]) -> str:
    return json.dumps([[one.pid, one.began, one.since] for one in targets])


def _wrong(work: Sessions, judged: Sequence[Judged], crowd: int) -> str:
    """Say why nobody is signalled, and what to do; "" where nothing stands in the way."""
    wrong = [one for one in judged if one.wrong]
    if wrong:
        said = "; ".join(f"process {one.pid} {_WHY[one.wrong]}" for one in wrong)
        cure = "list them anew" if {one.wrong for one in wrong} & _CHANGED else "take them out"
        return f"{said} → {cure}"
    if len(judged) <= max(1.0, work.share * crowd):
        return ""
    part = (
        f"{len(judged)} of the {crowd} client sessions of this database ({len(judged) / crowd:.0%})"
    )
    return (
        f"these are {part}, and max_share is {work.share:.0%} → name fewer, or raise it knowingly"
    )


def _refused(wrong: str, evidence: dict[str, Json]) -> Output:
    """Nobody was signalled."""
    reason = f"nobody was signalled: {wrong}"
    return Output(outcome="failed", sent=False, status=1, reason=reason, evidence=evidence)


def _still(work: Sessions, left: Sequence[int]) -> str:
    pids = ", ".join(map(str, left))
    what = "still run what they were to stop" if work.do == "cancel" else "are still there"
    cure = "" if work.do == "terminate" else "; list them anew, and terminate them if need be"
    if work.rest:
        cure = "; list them anew"
    return f"after {duration(work.wait)} processes {pids} {what}{cure}"


def _left_after(connection: Connection, work: Sessions, patience: float) -> list[int]:
    """Wait until none of them is as it was; return those that are."""
    until = time.monotonic() + patience
    while True:
        (text,) = connection.one(_LEFT, _written(work.targets), work.do)
        left = sorted(json.loads(text or "[]"))
        if not left or time.monotonic() > until:
            return left
        time.sleep(_LOOK)


def _table(
    judged: Sequence[Judged],
    work: Sessions | None = None,
    left: Sequence[int] = (),
    over: Sequence[int] = (),
) -> str:
    rows = [("PID", "USER", "APPLICATION", "CLIENT", "STATE", "FOR", "", "STATEMENT")]
    for one in judged:
        said = _WHY[one.wrong] if one.wrong else ""
        if work is not None:
            said = _ENDED["terminate" if one.pid in over else work.do]
            said = "still there" if one.pid in left else said
        lasted = duration(round(one.lasted)) if one.state else "-"
        rows.append(
            (
                str(one.pid),
                one.user,
                one.application,
                one.client,
                one.state,
                lasted,
                said,
                one.query[:100],
            )
        )
    return aligned(rows)


def rejoined(access: Access, job: Job, write: Write, left: float) -> Output:
    """Say what became of signals whose answer was lost: who is gone says it."""
    work = job.work
    assert isinstance(work, Sessions)
    try:
        session = opened(access)
    except UnreachableError as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    try:
        if busy := others(session.connection, access):
            terminate(session.connection, busy)
        return _settled(session.connection, work, write, min(left, work.wait))
    except (BrokenError, ServerError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.what}")
    finally:
        session.close()


def _settled(connection: Connection, work: Sessions, write: Write, patience: float) -> Output:
    """All gone: done. All there: not done, and it may be. Some: somebody has to look."""
    there = _left_after(connection, work, patience)
    gone = len(work.targets) - len(there)
    evidence: dict[str, Json] = {"settled": "the sessions", "left": list(there), "undo": "none"}
    if not there:
        said = f"none of the {len(work.targets)} is as it was listed; by whose hand is not known"
        write("stdout", f"{said}\n{_NO_UNDO}\n".encode())
        reason = f"{said}; {_NO_UNDO}"
        return Output(outcome="succeeded", status=0, reason=reason, evidence=evidence)
    if not gone:
        reason = "not done: all of them are as they were listed"
        return Output(outcome="failed", sent=False, again=True, reason=reason)
    reason = f"{gone} of {len(work.targets)} are gone; {_still(work, there)}"
    return Output(outcome="failed", status=1, reason=reason, evidence=evidence)
