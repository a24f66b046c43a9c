"""One attempt at removing rows in batches, or at putting them back; each batch is done once.

A batch is a transaction, and so is what is written down of it. An attempt that was lost from sight
is ended by whoever asks for it; the next one goes on where it stood.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field

from opskit.drivers.command import fenced
from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError, Taker
from opskit.drivers.postgres.doing import CUT_OFF, unmarked
from opskit.drivers.postgres.ending import end
from opskit.drivers.postgres.fence import Fence, FencedError
from opskit.drivers.postgres.looking import attended, bounds, looked
from opskit.drivers.postgres.marks import Marks, StillOpenError
from opskit.drivers.postgres.pace import Pace, paced
from opskit.drivers.postgres.session import Access, Session, limit, opened
from opskit.drivers.postgres.subject import SubjectError
from opskit.drivers.postgres.trail import BATCH, CLOSED, END, ClosedError, Trail, removed
from opskit.drivers.session import Write
from opskit.drivers.target import Running, worded
from opskit.errors import UnreachableError
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.rows import Rows
from opskit.model.value import Json

_AFTER = 2.0
_COMMIT = 30.0
_TELL = 1.0
"""How often it is told how far this is; seconds."""
_STRIKES = 6
"""So often in a row a batch may be given up by the server before it is left."""
_LATE = 20.0
"""How long one batch may take at most; seconds."""
_TOO_MUCH = frozenset({"57014", "55P03", "40001", "40P01"})
"""The server gave up a batch: out of time, locked, for the sake of another. Fewer rows may do."""
_SHARE = 0.9
"""The part of the step's time that batches may begin in."""

Loop = Callable[["Attempt"], Output]


@mutable
class Attempt:
    """An attempt under way. `at`: what is being done; a commit can't be ended."""

    access: Access
    job: Job
    work: Rows
    running: Running
    write: Write
    session: Session
    until: float
    stops: float
    pace: Pace
    trail: Trail
    marks: Marks
    at: str = "looking"
    done: int = 0
    """Rows that all attempts have removed, or put back."""
    batches: int = 0
    told: float = 0.0
    strikes: int = 0
    more: dict[str, Json] = field(default_factory=dict)

    def watch(self) -> None:
        """End a wait that has become too long, or that a person has ended."""
        if self.running.give_up.is_set() and self.at != "commit":
            raise EndedError(self.running.because)
        if time.monotonic() > self.until:
            raise EndedError(f"not over within {self.job.timeout:g} s")

    @property
    def late(self) -> bool:
        return time.monotonic() > self.stops

    @property
    def room(self) -> float:
        """For how long batches may begin; seconds."""
        return min(self.work.limits.deadline, _SHARE * self.job.timeout)

    def tell(self, text: str) -> None:
        self.write("stdout", f"{text}\n".encode())

    def progress(self, text: str) -> None:
        """Tell how far this is, unless that was told a moment ago."""
        if time.monotonic() - self.told > _TELL:
            self.told = time.monotonic()
            self.tell(text)

    def begin(self, more: str = "") -> None:
        """Begin a transaction, with what shall hold in it alone."""
        self.at = "changing"
        self.session.connection.own(f"BEGIN;{more}")

    def commit(self) -> None:
        """Commit; ServerError when the server rolled it back instead."""
        self.at, until = "commit", self.until
        self.until = max(until, time.monotonic() + _COMMIT)
        result = self.session.connection.run("COMMIT", (), Taker())
        if result.tag != "COMMIT":
            raise ServerError(f"the server did not commit: {result.tag}")
        self.at, self.until = "between", until

    def nap(self, seconds: float) -> None:
        """Let others have the server; a stop is heard at once."""
        until = min(time.monotonic() + seconds, self.until)
        while (left := until - time.monotonic()) > 0:
            self.running.give_up.wait(min(left, 0.5))
            self.watch()

    def given_up(self, error: ServerError) -> bool:
        """Take back a batch that the server gave up; tell whether fewer rows may do."""
        if error.code not in _TOO_MUCH or self.at == "commit" or self.strikes >= _STRIKES:
            return False
        self.session.connection.own("ROLLBACK")
        self.strikes += 1
        self.pace.failed()
        self.nap(0.2 * self.strikes)
        return True

    def output(self, outcome: str, reason: str = "", **more: object) -> Output:
        evidence: dict[str, Json] = {
            **self.more,
            ("removed" if self.work.do == "remove" else "restored"): self.done,
            "batches": self.batches,
            "longest_ms": round(1000 * self.pace.longest),
        }
        return Output(outcome=outcome, reason=reason, evidence=evidence, **more)  # type: ignore[arg-type]


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Do the work once, or look. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Rows)
    if work.probe:
        from opskit.drivers.postgres.removing import foreseen

        return looked(access, job, running, lambda session: foreseen(access, session, job, write))
    wait = bounds(job, running)
    held: list[Attempt] = []

    def act(session: Session) -> Output:
        attempt, fence = _attempt(session, access, job, running, write)
        held.append(attempt)
        return _guarded(attempt, fence)

    return attended(access, job, running, act, lambda: held[0].watch() if held else wait())


def _attempt(
    session: Session, access: Access, job: Job, running: Running, write: Write
) -> tuple[Attempt, Fence | None]:
    work = job.work
    assert isinstance(work, Rows)
    marks = Marks(session.connection, access.database.marker_schema)
    fence = (
        Fence(session.connection, marks.schema, access.lease) if access.lease is not None else None
    )
    now, least = time.monotonic(), min(work.limits.deadline, _SHARE * job.timeout)
    attempt = Attempt(
        access=access, job=job, work=work, running=running, write=write, session=session,
        until=now + job.timeout + _AFTER, stops=now + least, pace=paced(work.limits), marks=marks,
        trail=Trail(session.connection, marks, job, fence),
    )  # fmt: skip
    return attempt, fence


def _guarded(attempt: Attempt, fence: Fence | None) -> Output:
    """Do it; say what it means when something comes in between."""
    try:
        return _begun(attempt, fence)
    except SubjectError as error:
        so_far = _so_far(attempt) if attempt.done else ""
        sent = attempt.trail.count > 0
        return attempt.output("failed", f"{error}{so_far}", sent=sent, status=1)
    except FencedError as error:
        return attempt.output("failed", fenced(error.what), sent=attempt.trail.count > 0)
    except ClosedError:
        return attempt.output("unknown", "this attempt has been given up", lost=True)
    except ServerError as error:
        attempt.more["sqlstate"] = error.code
        sent = attempt.trail.count > 0
        return attempt.output("failed", f"{_why(attempt, error)}{_so_far(attempt)}", sent=sent)
    except EndedError as error:
        return _ended(attempt, error)
    except BrokenError as error:
        return _broken(attempt, error)


def _begun(attempt: Attempt, fence: Fence | None) -> Output:
    access, work = attempt.access, attempt.work
    if attempt.session.identity.standby:
        reason = f"{access.where} is a standby: nothing is changed there"
        return attempt.output("failed", reason, sent=False)
    leases = access.lease is not None
    if missing := attempt.marks.missing(leases=leases, archive=work.archive):
        return attempt.output("failed", unmarked(missing, access), sent=False)
    if fence is not None:
        fence.hold(kept=False)
    limit(attempt.session.connection, attempt.job.timeout, ends_with_us=True)
    if work.do == "remove":
        from opskit.drivers.postgres.removing import remove

        return remove(attempt)
    from opskit.drivers.postgres.restoring import restore

    return restore(attempt)


def patience(attempt: Attempt) -> None:
    """Let the server end a batch that takes far longer than one shall."""
    limit(attempt.session.connection, min(_LATE, attempt.job.timeout), ends_with_us=True)


def _why(attempt: Attempt, error: ServerError) -> str:
    if error.code == "55P03":
        return f"somebody else holds a lock for more than 2 s: {error.what}"
    return error.what


def _so_far(attempt: Attempt) -> str:
    """Say what stays done though the rest is not."""
    if not attempt.done:
        return "; nothing was " + ("removed" if attempt.work.do == "remove" else "put back")
    verb = "removed" if attempt.work.do == "remove" else "put back"
    return f"; {attempt.done} rows were {verb} before, and stay so"


def _ended(attempt: Attempt, error: EndedError) -> Output:
    """End what runs at the server; a batch that was not committed is rolled back."""
    verdict = end(attempt.access, attempt.session.identity)
    attempt.running.stopped = verdict
    given_up = attempt.running.give_up.is_set()
    attempt.more |= attempt.running.proof(verdict) if given_up else {"ended": verdict}
    reason = f"{error.what}, {worded(verdict)}"
    if attempt.at == "commit":
        return attempt.output("unknown", f"{reason}; a batch may have been committed", lost=True)
    return attempt.output("failed", reason + _so_far(attempt), sent=attempt.trail.count > 0)


def _broken(attempt: Attempt, error: BrokenError) -> Output:
    reason = f"the line broke: {error.what}"
    if attempt.at == "looking":
        return attempt.output("failed", reason, sent=False, unreachable=True)
    if error.code in CUT_OFF and attempt.at != "commit":  # on purpose: nobody tries again
        attempt.more["sqlstate"] = error.code
        return attempt.output("failed", error.what + _so_far(attempt))
    return attempt.output("unknown", reason, lost=True)


def rejoin(access: Access, job: Job, write: Write, left: float) -> Output:
    """Say what became of an attempt that was sent before; it does nothing more after this."""
    work = job.work
    assert isinstance(work, Rows)
    try:
        session = opened(access)
    except UnreachableError as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    try:
        return _settled(session, access, job, write)
    except StillOpenError:
        return Output(outcome="unknown", lost=True, reason="a batch of it is still under way")
    except (BrokenError, ServerError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.what}")
    finally:
        with suppress(Exception):
            session.close()


def _settled(session: Session, access: Access, job: Job, write: Write) -> Output:
    marks = Marks(session.connection, access.database.marker_schema)
    if missing := marks.missing():
        return Output(outcome="unknown", reason=f"nothing tells whether it was done: {missing}")
    if marks.bar(job).barred:
        return Output(outcome="failed", sent=False, again=True, reason=_NEVER)
    entries = Trail(session.connection, marks, job, None).close()
    own = [one for one in entries if one["attempt"] == job.attempt and one["did"] != CLOSED]
    if own and own[-1]["did"] == END:
        last = own[-1]
        write("stdout", "".join(f"{line}\n" for line in last["told"]).encode())
        evidence = {**last["evidence"], "settled": "its last entry is there"}
        return Output(
            outcome=last["outcome"], reason=last["reason"], evidence=evidence,
            status=0 if last["outcome"] == "succeeded" else 1,
        )  # fmt: skip
    number = sum(one["did"] == BATCH for one in own)
    reason = f"it came to its end after {number} batches ({removed(entries)} rows)"
    return Output(outcome="failed", again=True, reason=f"{reason}; the next attempt goes on")


_NEVER = "not done: it was not begun, and can't be any more"


def finish(attempt: Attempt, outcome: str, reason: str, told: list[str]) -> Output:
    """Write down what it came to, so that whoever comes later can tell."""
    status = 0 if outcome == "succeeded" else 1
    if told:
        attempt.more["told"] = told[0]
    found = attempt.output(outcome, reason, status=status)
    attempt.begin()
    attempt.trail.add(
        {
            "did": END, "outcome": outcome, "reason": reason, "told": told,
            "evidence": dict(found.evidence),
        }
    )  # fmt: skip
    attempt.commit()
    for line in told:
        attempt.tell(line)
    return found
