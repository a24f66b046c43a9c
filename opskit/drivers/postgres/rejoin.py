"""A change whose answer was lost: its mark says whether it was done."""

from opskit.drivers.postgres.connection import BrokenError, ServerError
from opskit.drivers.postgres.ending import others, terminate
from opskit.drivers.postgres.marks import Mark, Marks, StillOpenError
from opskit.drivers.postgres.printed import unpacked
from opskit.drivers.postgres.session import Access, Session, opened
from opskit.drivers.session import Write
from opskit.errors import UnreachableError
from opskit.model.job import Job, Output
from opskit.model.work import Query

_OUT_OF_TIME = 1.0
_NOT_DONE = "not done: its transaction was not committed, and can't be any more"


def rejoin(access: Access, job: Job, write: Write, left: float) -> Output:
    """Say what became of an attempt that was sent before; it is never sent by this."""
    assert isinstance(job.work, Query)
    try:
        session = opened(access)
    except UnreachableError as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    try:
        if not job.work.transaction:
            return _alone(session, access, left)
        return _marked(session, access, job, write, left)
    except (BrokenError, ServerError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.what}")
    finally:
        session.close()


def _alone(session: Session, access: Access, left: float) -> Output:
    """Wait until a statement that is no transaction has come to its end; `done_when` tells how."""
    busy = others(session.connection, access)
    if busy and left > _OUT_OF_TIME:
        reason = f"it still runs at the server (process {', '.join(busy)})"
        return Output(outcome="unknown", lost=True, reason=reason)
    if busy:
        terminate(session.connection, busy)
    return Output(outcome="unknown", reason="the line broke before the server said how it ended")


def _marked(session: Session, access: Access, job: Job, write: Write, left: float) -> Output:
    marks = Marks(session.connection, access.database.marker_schema)
    if missing := marks.missing():
        return Output(outcome="unknown", reason=f"nothing tells whether it was done: {missing}")
    found = marks.find(job)
    if found is None:
        elsewhere = _elsewhere(session, job, marks.schema)
        if elsewhere:
            return Output(outcome="unknown", reason=elsewhere)
        try:
            found = marks.bar(job)
        except StillOpenError:
            return _still_open(session, access, left)
    return _concluded(found, job, write)


def _elsewhere(session: Session, job: Job, schema: str) -> str:
    """Return why a mark that is missing here proves nothing; "" where it does."""
    then, now = job.contact, session.identity
    if then is None or not then.nonce or not then.boot_id:
        return "its mark is not there, and nobody knows on which server it was begun"
    if then.nonce != now.system:
        return "its mark is not there, and another cluster answers than the one it was sent to"
    if then.boot_id != now.timeline:
        return (
            "its mark is not there, and the cluster has gone on another timeline: it may have been"
            " done on the server that was lost"
        )
    return "" if then.state_dir == schema else "it left no mark: the table was not there then"


def _still_open(session: Session, access: Access, left: float) -> Output:
    if left <= _OUT_OF_TIME:
        terminate(session.connection, others(session.connection, access))
    reason = "its transaction is still open at the server"
    return Output(outcome="unknown", lost=True, reason=reason)


def _concluded(found: Mark, job: Job, write: Write) -> Output:
    if found.barred:
        return Output(outcome="failed", sent=False, again=True, reason=_NOT_DONE)
    told = unpacked(found.printed)
    if told.stderr:
        write("stderr", told.stderr)
    if told.stdout or found.value:
        write("stdout", told.stdout or found.value)
    return Output(
        outcome="succeeded",
        reason=str(told.evidence.get("told", "")),
        status=0,
        stdout=found.value[: job.capture],
        evidence={"settled": "its mark is there", **told.evidence},
    )
