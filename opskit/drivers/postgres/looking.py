"""One look at a database over a session of its own: what can go wrong about it is told once."""

import time
from collections.abc import Callable

from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError
from opskit.drivers.postgres.doing import CUT_OFF
from opskit.drivers.postgres.ending import end
from opskit.drivers.postgres.session import Access, RoleError, Session, opened, refused
from opskit.drivers.target import Running
from opskit.errors import UnreachableError
from opskit.model.event import Outcome
from opskit.model.job import Job, Output

_LOCKED = "55P03"
_AFTER = 2.0
"""How much later than the server we call it late; seconds."""


def attended(
    access: Access,
    job: Job,
    running: Running,
    act: Callable[[Session], Output],
    watch: Callable[[], None] | None = None,
) -> Output:
    """Let `act` have a session of its own, which `watch` looks after while it waits."""
    try:
        session = opened(access, watch or bounds(job, running))
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        stopped = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    try:
        return act(session)
    finally:
        session.close()  # what is open in it is rolled back


def bounds(job: Job, running: Running) -> Callable[[], None]:
    """Return what ends a wait that has become too long, or that a person has ended."""
    until = time.monotonic() + job.timeout + _AFTER

    def watch() -> None:
        if running.give_up.is_set():
            raise EndedError(running.because)
        if time.monotonic() > until:
            raise EndedError(f"not over within {job.timeout:g} s")

    return watch


def looked(
    access: Access,
    job: Job,
    running: Running,
    look: Callable[[Session], Output],
    *,
    checks: bool = False,
) -> Output:
    """Let `look` have a session. What goes wrong outside is in the output, never raised.

    `checks`: to know nothing is a result (UNKNOWN). Any other look that the server refuses has
    failed: nothing was done by it that a person would have to settle.
    """
    refused: Outcome = "unknown" if checks else "failed"

    def act(session: Session) -> Output:
        try:
            return look(session)
        except RoleError as error:
            return Output(outcome="failed", sent=False, reason=error.line)
        except ServerError as error:
            return Output(outcome=refused, reason=why(error), evidence={"sqlstate": error.code})
        except BrokenError as error:
            return _broken(error, refused)
        except EndedError as error:
            running.stopped = end(access, session.identity)
            proof = running.proof(running.stopped) if running.give_up.is_set() else {}
            return Output(outcome="failed", reason=error.what, evidence=proof)

    return attended(access, job, running, act)


def _broken(error: BrokenError, refused: Outcome) -> Output:
    """A look is taken again when its line breaks; not when somebody has ended it on purpose."""
    if error.code in CUT_OFF:
        return Output(outcome=refused, reason=error.what, evidence={"sqlstate": error.code})
    return Output(outcome="failed", lost=True, reason=f"the line broke: {error.what}")


def why(error: ServerError) -> str:
    """Say why the server did not answer."""
    if error.code == _LOCKED:
        return f"somebody holds a lock on one of the tables for more than 2 s: {error.what}"
    return refused(error)
