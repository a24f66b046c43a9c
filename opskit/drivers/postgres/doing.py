"""One attempt at an SQL step: a read that can't write, a change that is done once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from opskit.drivers.command import fenced
from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError, Taker
from opskit.drivers.postgres.ending import end
from opskit.drivers.postgres.fence import Fence, FencedError
from opskit.drivers.postgres.marks import LEASES, Marks
from opskit.drivers.postgres.printed import Printed
from opskit.drivers.postgres.rows import Returned, as_expected
from opskit.drivers.postgres.session import (
    Access,
    RoleError,
    Session,
    as_reader,
    limit,
    opened,
    refused,
)
from opskit.drivers.session import Write
from opskit.drivers.target import Running, worded
from opskit.errors import UnreachableError
from opskit.model.frozen import frozen, mutable
from opskit.model.job import Job, Output
from opskit.model.text import Bound, Fixed, Text
from opskit.model.value import Json
from opskit.model.work import Query
from opskit.render.sql import judged, statements, tokens

_AFTER = 2.0
"""How much later than the server we call a statement late; seconds."""
_COMMIT = 30.0
_READ_ONLY, _CANCELLED, _LOCKED = "25006", "57014", "55P03"
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"
"""How a read begins: once a snapshot is taken, nothing makes the transaction write."""
_MOST = 65535
"""Values that the protocol can carry beside a statement."""
CUT_OFF = frozenset({"57P01", "25P03", "25P04"})
"""An administrator has ended the session, or a limit of the server's has."""
_CONFLICTS = frozenset({"40001", "40P01"})
"""The server has given up a transaction for the sake of another, and says: do it again."""
_STANDS = "2s"
"""How long may pass between the last look at the run's locks and what is no transaction."""
_HOLE = "\ue000"


@frozen
class Sentence:
    """One statement with numbered places for the values that go beside it."""

    text: str
    values: Sequence[str | None] = ()


class NotSentError(Exception):
    """Nothing was done, and nothing will be."""


def sentences(text: Text, *, read: bool, transaction: bool) -> list[Sentence]:
    """Cut a filled text into statements; NotSentError for what may not be sent."""
    whole, holes = "", {}
    for part in text.parts:
        if isinstance(part, Bound):
            holes[len(whole)] = part.value
            whole += _HOLE
        else:
            assert isinstance(part, Fixed)
            whole += part.text
    if wrong := judged(whole, read=read, alone=not transaction):
        raise NotSentError(f"{wrong[1]}: {wrong[2]}")
    if len(holes) > _MOST:
        raise NotSentError(f"more than {_MOST} values: hand over a list as one")
    if own := next((t.text for t in tokens(whole) if t.kind == "parameter"), ""):
        raise NotSentError(f"{own} is no value of this step's")
    return [_numbered(whole, one.start, one.end, holes) for one in statements(whole)]


def _numbered(whole: str, start: int, finish: int, holes: Mapping[int, str | None]) -> Sentence:
    pieces: list[str] = []
    values: list[str | None] = []
    for at in (at for at in holes if start <= at < finish):
        values.append(holes[at])
        pieces += [whole[start:at], f" ${len(values)} "]  # apart from digits beside it
        start = at + 1
    return Sentence(text="".join(pieces) + whole[start:finish], values=tuple(values))


@mutable
class Doing:
    """An attempt under way. `at`: what is being done; a commit can't be ended."""

    access: Access
    job: Job
    work: Query
    running: Running
    until: float
    returned: Returned
    printed: Printed
    at: str = "opening"
    lacks: str = ""
    """Why no mark can be left."""
    fence: Fence | None = None
    """What knows whether the run still has its locks, where it has some."""
    more: dict[str, Json] = field(default_factory=dict)

    def watch(self) -> None:
        """End a wait that has become too long, or that a person has ended."""
        if self.running.give_up.is_set() and self.at != "commit":
            raise EndedError(self.running.because)
        if time.monotonic() > self.until:
            raise EndedError(f"not over within {self.job.timeout:g} s")

    def output(self, outcome: str, reason: str = "", **more: object) -> Output:
        evidence = {**self.returned.evidence(), **self.more}
        return Output(outcome=outcome, reason=reason, evidence=evidence, **more)  # type: ignore[arg-type]


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Do the work once. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Query)
    printed = Printed(write, access.hidden)
    returned = Returned(printed, limit=access.database.max_output, keep=job.capture, rows=work.rows)
    doing = Doing(
        access=access, job=job, work=work, running=running, returned=returned, printed=printed,
        until=time.monotonic() + job.timeout + _AFTER,
    )  # fmt: skip
    read = job.effect == "read"
    try:
        todo = sentences(work.text, read=read, transaction=work.transaction)
        session = opened(access, doing.watch)
    except NotSentError as error:
        return Output(outcome="failed", sent=False, reason=f"not sent: {error}")
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        stopped = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    try:
        session.connection.on_notice(returned.note)
        if read:
            return _read(doing, session, todo[0])
        if session.identity.standby:
            reason = f"{access.where} is a standby: nothing is changed there"
            return Output(outcome="failed", sent=False, reason=reason)
        return _change(doing, session, todo) if work.transaction else _alone(doing, session, todo)
    finally:
        session.close()  # what is open in it is rolled back


def _read(doing: Doing, session: Session, sentence: Sentence) -> Output:
    """Make a read in a transaction that has its snapshot, and so can't be made to write."""
    connection = session.connection
    try:
        doing.more["role"] = as_reader(session, doing.access)
        limit(connection, doing.job.timeout, ends_with_us=True)
        doing.at = "reading"
        connection.own(SNAPSHOT)
        _run(doing, session, sentence)
    except RoleError as error:
        return Output(outcome="failed", sent=False, reason=error.line)
    except BrokenError as error:
        return _cut_off(doing, error) or doing.output(
            "failed", f"the line broke: {error.what}", lost=True
        )
    except EndedError as error:
        return _ended(doing, session, error)
    except ServerError as error:
        return _refused(doing, error, read=True)
    return _told(doing)


def _run(doing: Doing, session: Session, sentence: Sentence) -> None:
    result = session.connection.run(sentence.text, sentence.values, doing.returned.taker())
    doing.returned.ended(result)


def _told(doing: Doing) -> Output:
    """Compare what was returned with what is expected; hand back what is to be saved."""
    wrong = _unexpected(doing)
    if wrong:
        return doing.output("failed", wrong, status=1)
    value = doing.returned.value() if doing.work.kept else b""
    return doing.output("succeeded", str(doing.more.get("told", "")), stdout=value, status=0)


def _unexpected(doing: Doing) -> str:
    wanted = doing.work.expect
    if doing.work.judged:
        return (doing.returned.first or b"").decode(errors="replace")
    return "" if wanted is None else as_expected(wanted.fixed(), doing.returned)


def _unsavable(doing: Doing) -> str:
    """Say that a value is too large for the record: what an undo needs would be missing."""
    if not doing.work.kept or len(doing.returned.value()) < doing.job.capture:
        return ""
    return f"what it returns has {doing.job.capture} bytes or more and can't be saved"


def _refused(doing: Doing, error: ServerError, *, read: bool) -> Output:
    """Say what the server would not do; a transaction leaves nothing behind then."""
    doing.more["sqlstate"] = error.code
    if read and error.code == _READ_ONLY:
        reason = f"this read would change something: {error.what}; say effect: change if it shall"
    elif error.code == _CANCELLED and "statement timeout" in error.what:
        reason = f"not over within {doing.job.timeout:g} s; the server has ended it"
    elif error.code == _LOCKED:
        reason = f"somebody else holds a lock for more than 2 s: {error.what}"
    else:
        reason = refused(error)
    return doing.output("failed", reason, again=error.code in _CONFLICTS and doing.at != "alone")


def _ended(doing: Doing, session: Session, error: EndedError) -> Output:
    """End what runs at the server. What was not committed is rolled back whatever it says."""
    verdict = end(doing.access, session.identity)
    doing.running.stopped = verdict
    proof = doing.running.proof(verdict) if doing.running.give_up.is_set() else {"ended": verdict}
    doing.more.update(proof)
    return doing.output("failed", f"{error.what}, {worded(verdict)}; nothing of it was kept")


def _change(doing: Doing, session: Session, todo: Sequence[Sentence]) -> Output:
    """Carry out the statements and the mark in one transaction."""
    marks = Marks(session.connection, doing.access.database.marker_schema)
    try:
        _look(doing, session, marks)
        if doing.lacks and not doing.work.told:
            reason = unmarked(doing.lacks, doing.access, told=not doing.work.judged)
            return Output(outcome="failed", sent=False, reason=reason)
        limit(session.connection, doing.job.timeout, ends_with_us=True)
        return _transaction(doing, session, marks, todo)
    except FencedError as error:
        return Output(outcome="failed", sent=False, reason=fenced(error.what))
    except ServerError as error:
        return _refused(doing, error, read=False)
    except EndedError as error:
        if doing.at != "commit":
            return _ended(doing, session, error)
        return _unsure(doing, "the server did not say whether it committed")
    except BrokenError as error:
        reason = f"the line broke: {error.what}"
        if doing.at in ("changing", "commit"):
            return _cut_off(doing, error) or _unsure(doing, reason)
        return doing.output("failed", reason, sent=False, unreachable=True)


def _look(doing: Doing, session: Session, marks: Marks) -> None:
    """See what can be left there, and whether the run still has its locks: FencedError."""
    lease = doing.access.lease
    doing.lacks = marks.missing(leases=lease is not None)
    if lease is not None and not doing.lacks:
        doing.fence = Fence(session.connection, marks.schema, lease)
        doing.fence.hold(kept=False)


def _transaction(doing: Doing, session: Session, marks: Marks, todo: Sequence[Sentence]) -> Output:
    doing.at = "changing"
    session.connection.own("BEGIN")
    if not doing.lacks and not marks.leave(doing.job):
        return doing.output("unknown", "this attempt has left its mark before", lost=True)
    for sentence in todo:
        _run(doing, session, sentence)
    if wrong := _unexpected(doing) or _unsavable(doing):
        return doing.output("failed", f"{wrong}; nothing of it was kept", status=1)
    if said := doing.returned.told():
        doing.more["told"] = said
    if not doing.lacks:
        value = doing.returned.value() if doing.work.kept else None
        marks.keep(
            doing.job, value, doing.printed.packed({**doing.returned.evidence(), **doing.more})
        )
    if doing.fence is not None:
        doing.fence.hold(kept=True)
    _commit(doing, session)
    return _told(doing)


def _cut_off(doing: Doing, error: BrokenError) -> Output | None:
    """Say of a session that was ended on purpose at the server that it was: nobody tries again."""
    if error.code not in CUT_OFF or doing.at == "commit":
        return None
    doing.more["sqlstate"] = error.code
    return doing.output("failed", f"{error.what}; nothing of it was kept")


def _unsure(doing: Doing, reason: str) -> Output:
    """Without a mark a broken line is told only by where it broke: before the commit, or in it."""
    if not doing.lacks:
        return doing.output("unknown", reason, lost=True)
    if doing.at == "commit":
        return doing.output("unknown", f"{reason}; it may have been committed")
    return doing.output("failed", f"{reason}; nothing of it was kept")


def _commit(doing: Doing, session: Session) -> None:
    """Commit; ServerError when the server rolled it back instead."""
    doing.at, doing.until = "commit", time.monotonic() + _COMMIT
    result = session.connection.run("COMMIT", (), Taker())
    if result.tag != "COMMIT":
        raise ServerError(f"the server did not commit: {result.tag}")


def _alone(doing: Doing, session: Session, todo: Sequence[Sentence]) -> Output:
    """Carry out one statement that is no transaction; its `done_when` settles what is unsure."""
    try:
        limit(session.connection, doing.job.timeout, ends_with_us=False)
        if any(token.key == "concurrently" for token in tokens(todo[0].text)):
            session.connection.own("SET lock_timeout = 0")  # cut short, it leaves a ruin behind
        if doing.access.lease is not None:
            if session.connection.version >= 140000:  # who stands still now never sends it
                session.connection.own(f"SET idle_session_timeout = '{_STANDS}'")
            _look(doing, session, Marks(session.connection, doing.access.database.marker_schema))
        doing.at = "alone"
        _run(doing, session, todo[0])
    except FencedError as error:
        return Output(outcome="failed", sent=False, reason=fenced(error.what))
    except ServerError as error:
        return _refused(doing, error, read=False)
    except BrokenError as error:
        return doing.output("unknown", f"the line broke: {error.what}", lost=True)
    except EndedError as error:
        found = _ended(doing, session, error)
        return replace(found, outcome="unknown", reason=f"{error.what}, {worded(_verdict(doing))}")
    return _told(doing)


def _verdict(doing: Doing) -> str:
    return doing.running.stopped or "can't tell"


def unmarked(missing: str, access: Access, *, told: bool = False) -> str:
    """Say what a change lacks that is to be done once; `told`: `done_when` could tell instead."""
    name = access.database.name
    why = "nothing could tell after a broken line whether it was done"
    if LEASES in missing:
        why = "a process whose lock somebody else has by then could go on changing it"
    return (
        f"no change is made on database {name}: {missing}, so {why}"
        f" → `opskit db init {name}` makes it{'; or give the `sql` step done_when' if told else ''}"
    )
