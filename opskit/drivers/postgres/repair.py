"""One attempt at building or dropping an index; what is there afterwards says what it came to.

A build is no transaction: the server may go on with it when opskit is gone, or leave a ruin. So
each step is taken from a fresh look at the catalog, and an attempt that was lost from sight is
settled by another one.
"""

import time
from dataclasses import field

from opskit.drivers.command import fenced
from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError, Taker
from opskit.drivers.postgres.doing import unmarked
from opskit.drivers.postgres.ending import end, others, terminate
from opskit.drivers.postgres.fence import Fence, FencedError
from opskit.drivers.postgres.ledger import BarredError, Entry, Ledger
from opskit.drivers.postgres.marks import Marks, StillOpenError
from opskit.drivers.postgres.progress import Progress
from opskit.drivers.postgres.readiness import ready
from opskit.drivers.postgres.repairing import Act, Busy, Done, Step, next_step
from opskit.drivers.postgres.session import Access, Session, limit, opened
from opskit.drivers.postgres.standing import StandError
from opskit.drivers.session import Write
from opskit.drivers.target import Running, worded
from opskit.errors import UnreachableError
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.model.work import Repair

_AFTER = 2.0
_LOOK = 0.5
"""How often somebody else's build is looked at; seconds."""
_CLEAR = 60.0
"""How long the clearing away of a ruin may take."""
_STANDS = "2s"
"""How long may pass between the last look at the run's locks and a statement."""
_BRIEFLY = """
    SELECT pg_catalog.set_config('lock_timeout', (1000 + 1000 * extract(epoch FROM
        pg_catalog.current_setting('deadlock_timeout')::interval))::integer::text, false)
"""
"""A ruin is dropped at once or later; autovacuum gives way to who has waited for that long."""
_LOCKED, _CANCELLED, _ENDED = "55P03", "57014", "57P01"
_ABSENT = ("42704", "42883")
"""No operator class, type or collation of the name; no function or operator."""
_OUT_OF_TIME = 1.0


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Do the work once. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Repair)
    attempt = _Attempt(
        access=access, job=job, work=work, running=running, write=write,
        until=time.monotonic() + job.timeout + _AFTER, progress=Progress(access, write),
    )  # fmt: skip
    try:
        session = opened(access, attempt.watch)
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        stopped = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    try:
        return _guarded(attempt, session)
    finally:
        attempt.progress.close()
        session.close()


@mutable
class _Attempt:
    """An attempt under way. `begun`: something has been written down, and may have been sent."""

    access: Access
    job: Job
    work: Repair
    running: Running
    write: Write
    until: float
    progress: Progress
    process: str = ""
    """The server's process, while a statement that takes long runs in it."""
    begun: bool = False
    ready: bool = False
    analyzed: bool = False
    did: list[str] = field(default_factory=list)
    more: dict[str, Json] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def watch(self) -> None:
        """End a wait that has become too long, or that a person has ended."""
        if self.running.give_up.is_set():
            raise EndedError(self.running.because)
        if self.left < 0:
            raise EndedError(f"not over within {self.job.timeout:g} s")
        if self.process:
            self.progress.look(self.process)

    def tell(self, text: str) -> None:
        self.write("stdout", f"{text}\n".encode())

    def output(self, outcome: str, reason: str = "", **more: object) -> Output:
        evidence: dict[str, Json] = {"did": list(self.did), **self.more}
        return Output(outcome=outcome, reason=reason, evidence=evidence, **more)  # type: ignore[arg-type]


def _guarded(attempt: _Attempt, session: Session) -> Output:
    """Go from step to step; say what it means when something comes in between."""
    try:
        return _attempted(attempt, session)
    except StandError as error:
        return attempt.output("failed", str(error), sent=attempt.begun)
    except FencedError as error:
        return attempt.output("failed", fenced(error.what), sent=attempt.begun)
    except BarredError:
        return attempt.output("unknown", "this attempt has been given up", lost=True)
    except ServerError as error:
        return _refused(attempt, error)
    except EndedError as error:
        return _ended(attempt, session, error)
    except BrokenError as error:
        return _broken(attempt, error)


def _attempted(attempt: _Attempt, session: Session) -> Output:
    access, connection = attempt.access, session.connection
    if session.identity.standby:
        reason = f"{access.where} is a standby: nothing is changed there"
        return attempt.output("failed", reason, sent=False)
    marks = Marks(connection, access.database.marker_schema)
    if missing := marks.missing(leases=access.lease is not None):
        return attempt.output("failed", unmarked(missing, access), sent=False)
    ledger = Ledger(connection, marks, attempt.job, attempt.work.of or attempt.job.key)
    past = ledger.read()
    fence = Fence(connection, marks.schema, access.lease) if access.lease is not None else None
    if fence is not None and not attempt.work.probe:
        fence.hold(kept=False)
    while True:
        attempt.watch()
        step = next_step(connection, attempt.work, past, analyzed=attempt.analyzed)
        if isinstance(step, Done):
            if not attempt.work.probe and (entry := _came_of_it(attempt, step)) is not None:
                ledger.write(entry, fence)
            return _done(attempt, step)
        if attempt.work.probe:
            return attempt.output("failed", _to_do(step), status=1)
        if isinstance(step, Busy):
            _wait(attempt, step)
            continue
        if _act(attempt, session, step, Pen(ledger=ledger, fence=fence)) and step.entry:
            past = [*past, step.entry] if not attempt.work.of else past


def _came_of_it(attempt: _Attempt, step: Done) -> Entry | None:
    """Return what an undo has to know beyond what was to be done."""
    if not attempt.begun:
        return Entry(did="nothing")
    if attempt.work.do != "create" or step.index is None:
        return None
    index = step.index
    return Entry(did="built", schema=index.schema, name=index.name, oid=index.oid)


@mutable
class Pen:
    """What a step is written down with before it is done, and what may forbid that."""

    ledger: Ledger
    fence: Fence | None


def _to_do(step: Act | Busy) -> str:
    if isinstance(step, Busy):
        return f"process {step.process} builds or drops an index of the table at this moment"
    return f"to be done: {step.statement}"


def _wait(attempt: _Attempt, step: Busy) -> None:
    """Wait for whoever works on an index of the table; what that comes to is looked at then."""
    if attempt.more.get("waited for") != step.process:
        attempt.more["waited for"] = step.process
        attempt.tell(f"waiting: {_to_do(step)}")
    attempt.progress.look(str(step.process))
    time.sleep(_LOOK)


def _done(attempt: _Attempt, step: Done) -> Output:
    attempt.tell(step.said)
    if step.index is not None:
        attempt.more |= {
            "index": step.index.full,
            "definition": step.index.definition,
            "bytes": step.index.size,
        }
    attempt.more["stands"] = step.said
    return attempt.output("succeeded", status=0)


def _act(attempt: _Attempt, session: Session, step: Act, pen: Pen) -> bool:
    """Write down what comes next, and do it; False where somebody kept it from being done."""
    connection = session.connection
    if step.table is not None and not attempt.ready and not attempt.work.of:
        attempt.more |= ready(connection, attempt.work, step.table)
        attempt.ready = True
    limit(connection, max(1.0, attempt.left - _AFTER), ends_with_us=False)
    if connection.version >= 140000:  # who stands still from here on never sends it
        connection.own(f"SET idle_session_timeout = '{_STANDS}'")
    if step.entry is not None:
        pen.ledger.write(step.entry, pen.fence)
    attempt.begun = True
    if step.entry is not None and step.entry.definition:
        attempt.more["dropped"] = step.entry.definition
    # What is cut short leaves a ruin behind.
    connection.own(_BRIEFLY if step.ruin else "SET lock_timeout = 0")
    attempt.tell(step.statement)
    attempt.process = session.identity.process
    try:
        connection.run(step.statement, (), Taker())
    except ServerError as error:
        if step.ruin and error.code == _LOCKED:
            return False
        raise
    finally:
        attempt.process = ""
        if connection.alive and connection.idle:
            connection.own("SET lock_timeout = '2s'")
    attempt.analyzed = attempt.analyzed or step.entry is None
    attempt.did.append(step.statement)
    return True


def _refused(attempt: _Attempt, error: ServerError) -> Output:
    """Say what the server would not do; what it left half done is cleared away."""
    attempt.more["sqlstate"] = error.code
    if error.code == _CANCELLED and "statement timeout" in error.what:
        reason = f"not over within {attempt.job.timeout:g} s; the server has ended it"
    else:
        reason = error.what
    if error.code in _ABSENT:
        reason += " → if an extension has it in another schema, write SCHEMA.NAME in the file"
    return attempt.output("failed", reason + _cleared(attempt), sent=attempt.begun)


def _ended(attempt: _Attempt, session: Session, error: EndedError) -> Output:
    """End what runs at the server, and clear away what it left."""
    if not attempt.begun:
        stopped = attempt.running.proof("confirmed gone")
        given_up = attempt.running.give_up.is_set()
        attempt.more |= stopped if given_up else {}
        return attempt.output("failed", error.what, sent=False)
    verdict = end(attempt.access, session.identity)
    attempt.running.stopped = verdict
    given_up = attempt.running.give_up.is_set()
    attempt.more |= attempt.running.proof(verdict) if given_up else {"ended": verdict}
    reason = f"{error.what}, {worded(verdict)}"
    if verdict != "confirmed gone":
        return attempt.output("unknown", reason)
    session.close()
    return attempt.output("failed", reason + _cleared(attempt))


def _broken(attempt: _Attempt, error: BrokenError) -> Output:
    reason = f"the line broke: {error.what}"
    if not attempt.begun:
        return attempt.output("failed", reason, sent=False, unreachable=True)
    if error.code == _ENDED:  # on purpose, at the server: nobody tries again
        return attempt.output("failed", error.what + _cleared(attempt))
    return attempt.output("unknown", reason, lost=True)


def _cleared(attempt: _Attempt) -> str:
    """Clear away what a build that came to nothing has left; say how that went."""
    if not attempt.begun or attempt.work.do == "drop":
        return ""
    until = time.monotonic() + _CLEAR
    try:
        session = opened(attempt.access, lambda: _within(until))
    except (UnreachableError, EndedError):
        return "; what it left could not be looked at"
    try:
        return _clear(session, attempt.access, attempt.job, until, attempt.write)[0]
    except (StandError, ServerError, BrokenError, EndedError) as error:
        return f"; what it left could not be cleared away: {error}"
    finally:
        session.close()


def _within(until: float) -> None:
    if time.monotonic() > until:
        raise EndedError(f"not over within {_CLEAR:g} s")


def _clear(
    session: Session, access: Access, job: Job, until: float, write: Write
) -> tuple[str, Step]:
    """Drop ruins until there is none; return what to say of that, and what would come next."""
    work, connection = job.work, session.connection
    assert isinstance(work, Repair)
    marks = Marks(connection, access.database.marker_schema)
    past = Ledger(connection, marks, job, work.of or job.key).read()
    fence = Fence(connection, marks.schema, access.lease) if access.lease is not None else None
    said = ""
    while True:
        _within(until)
        step = next_step(connection, work, past)
        if not isinstance(step, Act) or not step.ruin:
            return said, step
        if fence is not None:
            fence.hold(kept=False)
        limit(connection, max(1.0, until - time.monotonic()), ends_with_us=False)
        connection.own(_BRIEFLY)
        try:
            connection.run(step.statement, (), Taker())
        except ServerError as error:
            if error.code != _LOCKED:
                raise
            time.sleep(_LOOK)
        else:
            write("stdout", f"{step.statement}\n".encode())
            said = "; what it left has been dropped"


def rejoin(access: Access, job: Job, write: Write, left: float) -> Output:
    """Say what became of an attempt that was sent before; what it has left is cleared away."""
    until = time.monotonic() + max(left, _CLEAR)
    try:
        session = opened(access, lambda: _within(until))
    except UnreachableError as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    try:
        return _settled(session, access, job, write, left)
    except (StandError, FencedError) as error:
        return Output(outcome="failed", reason=str(error))
    except StillOpenError:
        return Output(outcome="unknown", lost=True, reason="its session still begins it")
    except (BrokenError, ServerError, EndedError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.what}")
    finally:
        session.close()


def _settled(session: Session, access: Access, job: Job, write: Write, left: float) -> Output:
    busy = others(session.connection, access)
    if busy and left > _OUT_OF_TIME:
        reason = f"it still runs at the server (process {', '.join(busy)})"
        return Output(outcome="unknown", lost=True, reason=reason)
    if busy:
        terminate(session.connection, busy)
    marks = Marks(session.connection, access.database.marker_schema)
    if missing := marks.missing():
        return Output(outcome="unknown", reason=f"nothing tells whether it was done: {missing}")
    if marks.bar(job).barred:
        return Output(outcome="failed", sent=False, again=True, reason=_NEVER)
    until = time.monotonic() + max(left, _CLEAR)
    said, step = _clear(session, access, job, until, write)
    if isinstance(step, Done):
        evidence: dict[str, Json] = {"settled": "the catalog", "stands": step.said}
        if step.index is not None:
            evidence |= {"index": step.index.full, "definition": step.index.definition}
        write("stdout", f"{step.said}\n".encode())
        return Output(outcome="succeeded", status=0, evidence=evidence)
    if isinstance(step, Busy):
        return Output(outcome="unknown", lost=True, reason=_to_do(step))
    return Output(outcome="failed", sent=False, again=True, reason=_NOT_DONE + said)


_NEVER = "not done: it was not begun, and can't be any more"
_NOT_DONE = "not done: what was begun has come to nothing"
