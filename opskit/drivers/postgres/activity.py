"""One look at what a database is busy with: the sessions now, and statements over a while."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from opskit.drivers.postgres.connection import Connection, EndedError, ServerError
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.findings import Found, evidence, told, weighed
from opskit.drivers.postgres.findings import table as findings
from opskit.drivers.postgres.looking import looked
from opskit.drivers.postgres.plans import plans
from opskit.drivers.postgres.present import IN_TRANSACTION, RUNNING, Moment, Present, moment
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.postgres.statements import (
    NAME,
    OWN,
    Cost,
    Layout,
    NoStatementsError,
    Taken,
    costs,
    layout,
    ranked,
    sample,
    texts,
)
from opskit.drivers.postgres.tables import Tables, scans, stale, tables
from opskit.drivers.postgres.told import session_table, statement_table, tree
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.activity import Activity
from opskit.model.frozen import frozen
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.render.masking import masked
from opskit.steps.activity import CHECKS
from opskit.steps.units import duration, figure

_SHOWN = 50
"""So many sessions go into the record as data, and are shown; those of a finding come first."""
_LOOK = 0.2
_WIDE = 120
_UNLOADED = ("55000", "42501", "42P01", "42883")
"""What the server says where the extension is there, but was not loaded or may not be read."""
_GRANT = "GRANT pg_read_all_stats TO {role}"


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Look and tell. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Activity)
    if work.window >= job.timeout:
        told = f"a window of {duration(work.window)} does not fit into {duration(job.timeout)}"
        return Output(outcome="failed", sent=False, reason=told)
    return looked(
        access, job, running, lambda s: _looked(_Look(access, s, work, running, write), job),
        checks=True,
    )  # fmt: skip


class _Look:
    """What a look has in hand."""

    def __init__(
        self, access: Access, session: Session, work: Activity, running: Running, write: Write
    ) -> None:
        self.access, self.session, self.work = access, session, work
        self.running, self.write = running, write

    @property
    def connection(self) -> Connection:
        return self.session.connection

    def tell(self, text: str) -> None:
        self.write("stdout", text.encode())

    def asks(self, *checks: str) -> bool:
        return any(check not in self.work.leave_out for check in checks)


def _looked(look: _Look, job: Job) -> Output:
    work, connection = look.work, look.connection
    role = as_reader(look.session, look.access)
    limit(connection, job.timeout, ends_with_us=True)
    connection.own(SNAPSHOT)
    now = moment(connection)
    connection.own("ROLLBACK")
    mine = [one for one in now.sessions.values() if not work.users or one.user in work.users]
    said = [*_present(mine, work), *_blocking(now, work), *_prepared(now, work)]
    said += _hidden(now, role)
    named = {one.name for one in said}
    shown = sorted(
        (one for one in mine if one.here and one.client_backend and one.busy and not one.hidden),
        key=lambda one: (str(one.pid) not in named, -one.seconds),
    )[:_SHOWN]
    look.tell(session_table(shown) + tree(now))
    counted = _Counted(findings=(), costs=(), since="")
    first = tables(connection, work.large) if look.asks("stale", "scan") else None
    if look.asks("statement", "statements"):
        counted = _statements(look, role)
    if first is not None:
        said += _tables(look, first, counted)
    look.tell(statement_table(counted.costs, counted.since, work.by) + counted.plans)
    found = weighed([*said, *counted.findings], work.leave_out, (), CHECKS)
    line = told(found, look.access.database.name, _summary(now, mine, counted))
    look.tell(findings(found) + line.partition("; ")[0] + "\n")
    return Output(
        outcome="succeeded", reason=line, status=0,
        evidence={**evidence(found), **_data(now, shown, counted), "role": role},
    )  # fmt: skip


def _data(now: Moment, shown: Sequence[Present], counted: "_Counted") -> dict[str, Json]:
    return {
        "sessions": [one.as_json() for one in shown],
        "blocking": [
            {"pid": node.pid, "level": node.level, "blocks": node.blocks, "also": list(node.also),
             "ring": list(node.ring)}
            for node in now.nodes[:_SHOWN]
        ],
        "statements": [cost.as_json() for cost in counted.costs],
    }  # fmt: skip


def _summary(now: Moment, mine: Sequence[Present], counted: "_Counted") -> str:
    here = [one for one in mine if one.here and one.client_backend]
    active = sum(one.state in RUNNING for one in here)
    waiting = sum(node.level > 0 or bool(node.ring) for node in now.nodes)
    words = [f"{len(here)} sessions", f"{active} run something", f"{waiting} wait for a lock"]
    words += [f"{counted.called} statements {counted.since}"] if counted.since else []
    return ", ".join(words)


# --- the sessions


def _level(work: Activity, check: str, seconds: float) -> str:
    """Return what so many seconds weigh; "" for nothing."""
    limit = work.limits[check]
    if seconds >= limit.crit:
        return "CRIT"
    return "WARN" if seconds >= limit.warn else ""


def _present(sessions: Iterable[Present], work: Activity) -> Iterator[Found]:
    """Tell of sessions of this database that run, or stand still, for too long."""
    for one in sessions:
        if not (one.here and one.client_backend) or one.hidden:
            continue
        if one.state in RUNNING:
            check, text = "running", f"runs for {_time(one.seconds)}{_waits(one)}: {_sql(one)}"
        elif one.state in IN_TRANSACTION:
            check = "idle"
            text = f"{one.state} for {_time(one.seconds)}, last: {_sql(one)}"
        else:
            continue
        weight = _level(work, check, one.seconds)
        if not weight and (weight := _level(work, "open", one.transaction or 0.0)):
            check = "open"
            text = f"its transaction is open for {_time(one.transaction or 0)}, now: {_sql(one)}"
        if weight:
            yield Found(check=check, table=one.user, name=str(one.pid), text=text, weight=weight)


def _waits(one: Present) -> str:
    return f", waits for {one.wait}" if one.wait else ""


def _sql(one: Present) -> str:
    return masked(one.query, _WIDE) or "nothing yet"


def _time(seconds: float) -> str:
    return duration(round(seconds) if seconds >= 1 else round(seconds, 3))


def _blocking(now: Moment, work: Activity) -> Iterator[Found]:
    """Tell of whoever blocks others and waits for nobody; by how long somebody has waited."""
    for at, node in enumerate(now.nodes):
        if node.level:
            continue
        longest = 0.0
        for below in now.nodes[at + 1 :]:
            if not below.level:
                break
            one = now.sessions.get(below.pid)
            longest = max(longest, (one.waiting or 0.0) if one else 0.0)
        own = now.sessions.get(node.pid)
        if node.ring and own is not None:
            longest = max(longest, own.waiting or 0.0)
        weight = _level(work, "blocking", longest)
        if not weight:
            continue
        who = "a prepared transaction" if not node.pid else f"process {node.pid}"
        doing = f", {own.state or own.kind}: {_sql(own)}" if own is not None else ""
        if node.ring:
            who += f" (in a ring: {' → '.join(map(str, (*node.ring, node.ring[0])))})"
        text = f"{who} keeps {node.blocks} waiting, for up to {_time(longest)}{doing}"
        user = own.user if own is not None else ""
        yield Found(check="blocking", table=user, name=str(node.pid), text=text, weight=weight)


def _prepared(now: Moment, work: Activity) -> Iterator[Found]:
    """Tell of prepared transactions: they hold their locks, and no session ends them."""
    for name, owner, seconds in now.prepared:
        if weight := _level(work, "open", seconds):
            told = f"a prepared transaction is open for {_time(seconds)}"
            cure = "COMMIT PREPARED or ROLLBACK PREPARED ends it, nothing else does"
            text = f"{told}: {cure}"
            yield Found(check="prepared", table=owner, name=name[:60], text=text, weight=weight)


def _hidden(now: Moment, role: str) -> Iterator[Found]:
    """Say of how many sessions nothing can be said; one without a user is an autovacuum worker."""
    count = sum(one.hidden and one.here and bool(one.user) for one in now.sessions.values())
    if count:
        text = f"{count} sessions do not show what they do: {_GRANT.format(role=role)}"
        yield Found(check="hidden", name="sessions", text=text, unknown=True)


# --- the statements


@frozen
class _Counted:
    """What statements came to, and what is to be said of that. `since`: over which time."""

    findings: Sequence[Found]
    costs: Sequence[Cost]
    since: str
    called: int = 0
    plans: str = ""


def _statements(look: _Look, role: str) -> _Counted:
    """Take two samples; without the extension, or with half of it, nothing is known."""
    try:
        where = layout(look.connection)
        first, second, passed = _sampled(look, where)
    except NoStatementsError as error:
        return _unknown(str(error))
    except ServerError as error:
        if error.code not in _UNLOADED:
            raise
        return _unknown(f"{NAME} can't be read: {error.what}")
    every, doubt = costs(first, second)
    since = f"in {_time(passed)}" if first is not None else f"since {second.reset or 'they began'}"
    if not every:
        # The first sample is a statement itself: where it is not counted, nothing is.
        nothing = "no statement was counted: see pg_stat_statements.track"
        return _unknown(doubt or nothing, since)
    users = look.work.users
    mine = [cost for cost in every if not users or cost.user in users]
    slow = [cost for cost in mine if _level(look.work, "statement", cost.mean)][:_SHOWN]
    mine = ranked(mine, look.work.by)
    wanted = {cost.query for cost in [*mine[: 2 * look.work.top], *slow]}
    known = texts(look.connection, where, sorted(wanted))
    said = list(_slow([_with(cost, known) for cost in slow], look.work))
    top = [_with(cost, known) for cost in mine[: 2 * look.work.top]]
    top = [cost for cost in top if cost.text != OWN][: look.work.top]
    if doubt:
        said.append(Found(check="statements", name=NAME, text=doubt, unknown=True))
    if second.hidden:
        text = f"{second.hidden} statements of others are hidden: {_GRANT.format(role=role)}"
        said.append(Found(check="hidden", name="statements", text=text, unknown=True))
    table = ""
    if look.work.plans:
        planned = plans(look.connection, where, top, look.work.large)
        said += planned.findings
        table = planned.table
    return _Counted(findings=said, costs=top, since=since, called=len(mine), plans=table)


def _unknown(text: str, since: str = "") -> _Counted:
    found = Found(check="statements", name=NAME, text=text, unknown=True)
    return _Counted(findings=(found,), costs=(), since=since)


def _with(cost: Cost, known: Mapping[str, str]) -> Cost:
    return replace(cost, text=known.get(cost.query, ""))


def _sampled(look: _Look, where: Layout) -> tuple[Taken | None, Taken, float]:
    """Sample once, or twice with the window between; no transaction is open meanwhile."""
    began = time.monotonic()
    first = sample(look.connection, where)
    if not look.work.window:
        return None, first, 0.0
    look.tell(f"counting statements for {duration(look.work.window)}\n")
    end = began + look.work.window
    while (left := end - time.monotonic()) > 0:
        if look.running.give_up.wait(min(_LOOK, left)):
            raise EndedError(look.running.because)
    return first, sample(look.connection, where), time.monotonic() - began


def _tables(look: _Look, first: Tables, counted: _Counted) -> Iterator[Found]:
    """Tell what large tables lack, and which were read as a whole while statements were counted."""
    windowed = bool(look.work.window and counted.since)
    now = tables(look.connection, look.work.large) if windowed else first
    yield from stale(now, look.work.stale)
    since = counted.since if windowed else f"since {now.reset or 'they are counted'}"
    yield from scans(first if windowed else None, now, since)


def _slow(slow: Iterable[Cost], work: Activity) -> Iterator[Found]:
    """Tell of statements that take long on average."""
    for cost in slow:
        if cost.text == OWN:
            continue
        weight = _level(work, "statement", cost.mean)
        took = f"takes {_time(cost.mean)} on average, {figure(cost.calls)} times"
        text = f"{took}: {cost.text[:_WIDE]}"
        yield Found(check="statement", table=cost.user, name=cost.query, text=text, weight=weight)
