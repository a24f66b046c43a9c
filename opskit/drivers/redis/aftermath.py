"""A deed on a set of keys that was lost from sight: its marks say how far it has come."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from opskit.drivers.redis import archive
from opskit.drivers.redis.archive import Archive, EvidenceError
from opskit.drivers.redis.chunks import done, lacking
from opskit.drivers.redis.clearing import cleared_said
from opskit.drivers.redis.cluster import reached
from opskit.drivers.redis.connection import (
    BrokenError,
    EndedError,
    ServerError,
    TooLongError,
    Watch,
)
from opskit.drivers.redis.deeds import Attempt
from opskit.drivers.redis.fates import LostError, in_order
from opskit.drivers.redis.keys import Deed, removed_said, restored_said, same
from opskit.drivers.redis.rejoin import AGAIN, NOT_DONE, PATIENCE, elsewhere, then_of, within
from opskit.drivers.redis.session import Access, Session, opened
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import UnreachableError
from opskit.model.evidence import MANIFEST
from opskit.model.job import Job, Output

_A_SECOND = 10_000
"""So many keys at least are asked for, on a machine that has other work, too."""


class _Marked(Protocol):
    def whole(self) -> bool:
        """Tell whether no mark of the run can have gone with all keys."""


def rejoin(access: Access, job: Job, write: Write) -> Output:
    """Say what became of an attempt that was lost from sight; nothing is done by this.

    What is left of it another attempt does: `again`, and `part` where something was done.
    """
    deed = lost(Deed, access, job, write)
    return asked(access, lambda session: _became(deed, session), reached, deed.patience)


A = TypeVar("A", bound=Attempt)


def lost(kind: type[A], access: Access, job: Job, write: Write) -> A:
    """Return what is known of an attempt that was lost from sight."""
    then = then_of(job.contact)
    running = Running(key=job.key, attempt=job.attempt)
    return kind(
        access=access, job=job, running=running, write=write, word=then.word if then else "",
        until=time.monotonic() + PATIENCE,
    )  # fmt: skip


def asked(
    access: Access, became: Callable[[Session], Output], way: Callable[..., Session] = opened,
    patience: Watch | None = None,
) -> Output:  # fmt: skip
    """Ask a server what became of something; say why not where it can't be asked."""
    try:
        session = way(access, patience or within(PATIENCE), anybody=True)
    except (UnreachableError, EndedError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    try:
        return became(session)
    except LostError as error:
        return Output(outcome="unknown", reason=error.what)
    except EvidenceError as error:
        return Output(outcome="unknown", reason=f"the list of it is not there: {error.line}")
    except OSError as error:  # of a file: the connection says otherwise what it has
        why = f"{error.filename or 'evidence'}: {error.strerror or error}"
        return Output(outcome="unknown", reason=f"the list of it can't be read: {why}")
    except ServerError as error:
        lost = error.code in AGAIN
        return Output(outcome="unknown", lost=lost, reason=f"it can't be asked: {error.what}")
    except (BrokenError, EndedError, TooLongError) as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.what}")
    finally:
        session.close()


def _became(deed: Deed, session: Session) -> Output:
    pieces, theirs = deed.pieces(session), deed.pieces(session, deed.action)
    if not theirs.list_digest():
        if archive.begun(deed.folder):
            raise LostError("its marks are not there, and it may have begun")
        if not deed.folder.exists():  # it may be on another machine
            sure(deed, session, pieces)
        return Output(outcome="failed", sent=False, again=True, reason=NOT_DONE)
    kept = deed.kept(session)
    pieces, theirs = deed.pieces(session, kept=kept), deed.pieces(session, deed.action, kept)
    counts, back = [len(keys) for keys in kept.chunks], deed.work.do == "restore"
    deed.until = time.monotonic() + PATIENCE + sum(counts) / _A_SECOND  # to read it took a while
    same(kept, theirs.list_digest())
    if isinstance(kept, Archive) and back:
        counts = lacking(theirs, kept)
    found = in_order(done(pieces, counts, back=back), kept.path)
    count = len(counts)
    if deed.work.do == "remove" and (len(found) == count or any(one.why for one in found)):
        deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
        if isinstance(kept, Archive):
            return removed_said(deed, session, kept, found)
        return cleared_said(deed, session, kept, found)
    whole = sum(not one.why for one in found)
    if back and whole == count:
        return restored_said(deed, found)
    sure(deed, session, pieces)
    return in_part(whole if back else len(found), count)


def in_part(done: int, count: int) -> Output:
    """Say that another attempt goes on with it."""
    reason = f"{done} of {count} pieces are done; it goes on with the rest"
    return Output(outcome="failed", again=True, part=True, reason=reason)


def sure(deed: Attempt, session: Session, pieces: _Marked) -> None:
    """Make sure that a piece without a mark was not done: LostError where nobody can tell."""
    then = then_of(deed.job.contact)
    if then is None or not pieces.whole():
        raise LostError("keys of this run are gone from there: nobody can tell what was done")
    now = session.again()
    if wrong := elsewhere(then, now):
        raise LostError(f"not all of its marks are there, and {wrong}")
    if now.evicted != then.evicted:
        raise LostError("not all of its marks are there, and the server has evicted keys since")
