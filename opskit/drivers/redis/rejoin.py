"""A change whose answer was lost: its mark says whether it was done."""

import time

from opskit.drivers.redis.connection import (
    BrokenError,
    EndedError,
    ServerError,
    TooLongError,
    Watch,
)
from opskit.drivers.redis.marks import Mark, Marks
from opskit.drivers.redis.replies import Returned, as_expected
from opskit.drivers.redis.session import Access, Identity, Session, opened
from opskit.drivers.session import Write
from opskit.errors import UnreachableError
from opskit.model.frozen import frozen
from opskit.model.job import Contact, Job, Output
from opskit.model.work import RedisCall

NOT_DONE = "not done: it had not begun at the server, and can't any more"
PATIENCE = 20.0
AGAIN = frozenset({"BUSY", "LOADING", "TRYAGAIN", "MASTERDOWN"})
"""What a server answers that will answer otherwise in a while."""


@frozen
class Then:
    """What was seen of the server before a change was sent to it."""

    run_id: str
    lineage: str
    word: str
    evicted: int


def then_of(contact: Contact | None) -> Then | None:
    """Read what was recorded when the run came to the server."""
    if contact is None or not contact.nonce:
        return None
    word, _, evicted = contact.state_dir.partition(" ")
    return Then(
        run_id=contact.nonce,
        lineage=contact.boot_id,
        word=word,
        evicted=int(evicted) if evicted.isdigit() else -1,
    )


def contact_of(identity: Identity, word: str, user: str, address: str) -> Contact:
    """Return what is recorded when the run comes to the server."""
    return Contact(
        nonce=identity.run_id,
        boot_id=identity.lineage,
        state_dir=f"{word} {identity.evicted}",
        user=user,
        address=address,
    )


def within(seconds: float) -> Watch:
    """Return what ends a wait after so long."""
    until = time.monotonic() + seconds

    def watch() -> None:
        if time.monotonic() > until:
            raise EndedError(f"no answer within {seconds:g} s")

    return watch


def rejoin(access: Access, job: Job, write: Write) -> Output:
    """Say what became of an attempt that was sent before; it is never sent by this."""
    assert isinstance(job.work, RedisCall)
    if not job.work.transaction:
        reason = "the line broke before the server said how it ended"
        return Output(outcome="unknown", reason=reason)
    try:
        session = opened(access, within(PATIENCE), anybody=True)
    except (UnreachableError, EndedError) as error:
        return _unasked(error.line)
    try:
        return settled(session, job, then_of(job.contact), returned_of(access, job, write))
    finally:
        session.close()


def returned_of(access: Access, job: Job, write: Write) -> Returned:
    assert isinstance(job.work, RedisCall)
    limit = access.server.max_output
    return Returned(write, limit=limit, keep=job.capture, rows=job.work.rows)


def _unasked(why: str) -> Output:
    return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {why}")


def settled(session: Session, job: Job, then: Then | None, returned: Returned) -> Output:
    """Say what became of an attempt, and keep one that has not begun from ever beginning."""
    marks = Marks(session.connection, job.run)
    try:
        found = marks.find(job)
        if found is None or found.state == "barred":
            proof = _barred(session, marks, job, then)
            if isinstance(proof, str):
                return Output(outcome="unknown", reason=f"its mark is not there, and {proof}")
            found = proof
    except ServerError as error:
        lost = error.code in AGAIN
        return Output(outcome="unknown", lost=lost, reason=f"it can't be asked: {error.what}")
    except (BrokenError, EndedError, TooLongError) as error:
        return _unasked(error.what)
    return concluded(found, job, returned, settled=True)


def _barred(session: Session, marks: Marks, job: Job, then: Then | None) -> Mark | str:
    """Bar an attempt, or return why its missing mark proves nothing."""
    if then is None or not then.word:
        return "nobody knows on which server it was begun"
    if wrong := elsewhere(then, session.identity):
        return wrong
    found = marks.bar(job, then.word)
    if found is None:
        return "keys of this run are gone from there (FLUSHALL, or more than 7 days): so may it be"
    if found.state != "barred":
        return found
    now = session.again()  # after the bar: whatever took a mark away came before this
    if wrong := elsewhere(then, now):
        return wrong
    if now.evicted != then.evicted:
        return "the server has evicted keys since, for want of memory: so it may have been there"
    return found


def elsewhere(then: Then, now: Identity) -> str:
    if then.run_id != now.run_id:
        return "another process answers than the one it was sent to (it was started anew, or moved)"
    if now.role != "master" or then.lineage != now.lineage:
        return "another master has taken over since: it may have been done on the one that was lost"
    return ""


def concluded(mark: Mark, job: Job, returned: Returned, *, settled: bool = False) -> Output:
    """Say what a mark comes to, with the answers that it has."""
    if mark.state == "barred":
        return Output(outcome="failed", sent=False, again=True, reason=NOT_DONE)
    if mark.state not in ("done", "failed"):
        reason = "it was begun, and has left no word of how it ended"
        return Output(outcome="unknown", reason=reason)
    for answer in mark.answers:
        returned.take(answer)
    evidence = {**returned.evidence(), **({"settled": "its mark is there"} if settled else {})}
    wrong = _failed(mark, job) if mark.state == "failed" else _unfit(mark, job, returned)
    if wrong:
        return Output(outcome="failed", status=1, reason=wrong, evidence=evidence)
    work = job.work
    assert isinstance(work, RedisCall)
    value = returned.value() if work.kept else b""
    return Output(outcome="succeeded", status=0, stdout=value, evidence=evidence)


def _failed(mark: Mark, job: Job) -> str:
    """Say which command failed. Redis takes nothing back: what came before it stays done."""
    work = job.work
    assert isinstance(work, RedisCall)
    if work.script is not None:
        return f"the script failed: {mark.why}; what it did before that stays done"
    name = str(work.commands[mark.at - 1][0]).upper()[:40]
    if len(work.commands) == 1:
        return f"{name}: {mark.why}"
    after = "; what came before it stays done" if mark.at > 1 else "; nothing was done"
    return f"command {mark.at} of {len(work.commands)}, {name}: {mark.why}{after}"


def _unfit(mark: Mark, job: Job, returned: Returned) -> str:
    """Return why a change that was done has failed all the same; "" where it has not."""
    work = job.work
    assert isinstance(work, RedisCall)
    if not work.kept and work.expect is None:
        return ""
    if mark.cut:
        return "it was done, but its answer was too long to be kept with its mark"
    if flaw := returned.flaw():
        return f"it was done, but its answer can't be taken as it is: {flaw}"
    wrong = as_expected(work.expect.fixed(), returned) if work.expect is not None else ""
    return f"{wrong}; it was done all the same" if wrong else ""
