"""One attempt at a deed on many keys of a Redis: what holds whichever deed it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import field

from opskit.drivers.redis.archive import EvidenceError
from opskit.drivers.redis.connection import (
    BrokenError,
    EndedError,
    ServerError,
    TooLongError,
    Watch,
)
from opskit.drivers.redis.doing import SETTLING, refused, unfit
from opskit.drivers.redis.fates import Fate, LostError
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.rejoin import within
from opskit.drivers.redis.session import Access, Commands, Session, opened
from opskit.drivers.session import Write
from opskit.drivers.target import Running, worded
from opskit.errors import UnreachableError
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.value import Json


@mutable
class Attempt:
    """An attempt under way. `acting`: something may have been changed by it."""

    access: Access
    job: Job
    running: Running
    write: Write
    word: str
    until: float
    acting: bool = False
    more: dict[str, Json] = field(default_factory=dict)

    def watch(self) -> None:
        if self.running.give_up.is_set():
            raise EndedError(self.running.because)
        if time.monotonic() > self.until:
            raise EndedError(f"not over within {self.job.timeout:g} s")

    def patience(self) -> None:
        """End the wait of one who only asks what became of it."""
        if time.monotonic() > self.until:
            raise EndedError("no answer in time")

    def tell(self, *lines: str) -> None:
        self.write("stdout", "".join(f"{line}\n" for line in lines).encode())

    def unsent(self, reason: str, status: int | None = None) -> Output:
        return Output(
            outcome="failed", sent=False, status=status, reason=reason, evidence=dict(self.more)
        )

    def opened(self, watch: Watch, *, reads: bool = False, besides: Commands = ()) -> Session:
        """Open a session with the server; with all of a cluster where a kind knows of these."""
        return opened(self.access, watch, reads=reads, besides=besides)

    def foreseen(self) -> Commands:
        """Return what will be asked first, and changes nothing at any server but the one meant."""
        return ()

    def settled(self) -> str:
        """Keep what has not begun from ever beginning, and say what is done; "": nobody knows."""
        try:
            session = self.opened(within(SETTLING))
        except (UnreachableError, EndedError):
            return ""
        try:
            return self.barred(session)
        except (ServerError, BrokenError, EndedError, TooLongError, LostError, EvidenceError):
            return ""
        finally:
            session.close()

    def barred(self, session: Session) -> str:
        """Let no more of it be done, and say how far it is."""
        raise NotImplementedError

    def unable(self, session: Session, cluster: str = "") -> str:
        """Return why nothing is changed at this server; `cluster`: what is said of one, unless
        the session is with all of it."""
        if session.layout is None and (wrong := unfit(self.access, session)):
            return f"not sent: {wrong if 'cluster' not in wrong else cluster}"
        if not self.word:
            return "not sent: the run has left no mark of itself there yet: resume it"
        if self.access.met not in ("", session.identity.run_id):
            who = "another process answers"
            if session.layout is not None:
                who = "slots of the cluster have moved, or another process answers"
            return f"not sent: {who} at {self.access.where}: look, then resume"
        return ""


def no_other(found: Sequence[Fate | None]) -> str:
    """Say how many pieces are done where no other will be."""
    count = sum(one is not None for one in found)
    return f"{count} of {len(found)} pieces are done, and no other will be"


def carried_out(deed: Attempt, do: Callable[[Session], Output]) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    running = deed.running
    try:
        reads, besides = deed.job.effect == "read", deed.foreseen()
        session = deed.opened(deed.watch, reads=reads, besides=besides)
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        proof = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=proof)
    try:
        deed.more.update(session.identity.evidence(session.index))
        if session.layout is not None:
            deed.more["primaries"] = len(session.tags)
        return _guarded(deed, session, do)
    finally:
        session.close()


def _guarded(deed: Attempt, session: Session, do: Callable[[Session], Output]) -> Output:
    """Say in an output whatever goes wrong: before anything is changed, and after that."""
    try:
        return do(session)
    except (ListingError, EvidenceError) as error:
        return deed.unsent(error.what if isinstance(error, ListingError) else error.line, 1)
    except LostError as error:
        if not deed.acting:
            return deed.unsent(error.what)
        return Output(outcome="unknown", reason=error.what, evidence=deed.more)
    except ServerError as error:
        if deed.acting:  # it was refused before anything of it was done
            return Output(outcome="failed", reason=refused(error, ""), evidence=deed.more)
        return deed.unsent(refused(error, ""))
    except EndedError as error:
        return _ended(deed, error.what)
    except OSError as error:  # of a file: the connection says otherwise what it has
        return _unkept(deed, error)
    except (BrokenError, TooLongError) as error:
        reason = f"the line broke: {error.what}"
        if deed.acting:
            return Output(outcome="unknown", lost=True, reason=reason, evidence=deed.more)
        read = deed.job.effect == "read"
        return Output(outcome="failed", sent=read, lost=read, unreachable=not read, reason=reason)


def _unkept(deed: Attempt, error: OSError) -> Output:
    """What is kept of it can't be read or written any more: a full disk, or a file that is gone."""
    why = f"{error.filename or 'evidence'}: {error.strerror or error}"
    if not deed.acting:
        return deed.unsent(why, 1)
    settled = _settled(deed)
    reason = f"{why}; {settled or 'part of it may be done'}"
    return Output(outcome="failed" if settled else "unknown", reason=reason, evidence=deed.more)


def _settled(deed: Attempt) -> str:
    try:
        return deed.settled()
    except OSError:
        return ""


def _ended(deed: Attempt, what: str) -> Output:
    """What the server does at this moment can't be ended, but it can be waited for."""
    if not deed.acting:
        deed.running.stopped = "confirmed gone"
        proof = deed.running.proof("confirmed gone") if deed.running.give_up.is_set() else {}
        return Output(outcome="failed", sent=deed.job.effect == "read", reason=what,
                      evidence={**deed.more, **proof})  # fmt: skip
    settled = _settled(deed)
    verdict = "confirmed gone" if settled else "can't tell"
    deed.running.stopped = verdict
    proof = deed.running.proof(verdict) if deed.running.give_up.is_set() else {"ended": verdict}
    reason = f"{what}, {worded(verdict)}; {settled or 'part of it may be done'}"
    evidence = {**deed.more, **proof}
    return Output(outcome="failed" if settled else "unknown", reason=reason, evidence=evidence)
