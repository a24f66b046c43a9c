"""One look at a database for `indexes`: three queries in one transaction that can't write."""

import time

from opskit.drivers.postgres.catalog import fetch
from opskit.drivers.postgres.comparing import compare, looked, matchers, unclear
from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.ending import end
from opskit.drivers.postgres.findings import Weighed, evidence, table, told, weighed
from opskit.drivers.postgres.meaning import NONE, ask
from opskit.drivers.postgres.session import Access, RoleError, Session, as_reader, limit, opened
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import UnreachableError
from opskit.model.job import Job, Output
from opskit.model.work import Verify

_LOCKED = "55P03"
_AFTER = 2.0
"""How much later than the server we call it late; seconds."""


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Look, compare and tell. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Verify)
    until = time.monotonic() + job.timeout + _AFTER

    def watch() -> None:
        if running.give_up.is_set():
            raise EndedError(running.because)
        if time.monotonic() > until:
            raise EndedError(f"not over within {job.timeout:g} s")

    try:
        session = opened(access, watch)
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        stopped = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    try:
        return _looked(access, session, job, work, write)
    except RoleError as error:
        return Output(outcome="failed", sent=False, reason=error.line)
    except ServerError as error:
        return Output(outcome="unknown", reason=_why(error), evidence={"sqlstate": error.code})
    except BrokenError as error:
        reason = f"the line broke: {error.what}"
        return Output(outcome="failed", lost=True, reason=reason)
    except EndedError as error:
        running.stopped = end(access, session.identity)
        proof = running.proof(running.stopped) if running.give_up.is_set() else {}
        return Output(outcome="failed", reason=error.what, evidence=proof)
    finally:
        session.close()


def _why(error: ServerError) -> str:
    if error.code == _LOCKED:
        return f"somebody holds a lock on one of the tables for more than 2 s: {error.what}"
    return error.what


def _looked(access: Access, session: Session, job: Job, work: Verify, write: Write) -> Output:
    connection = session.connection
    role = as_reader(session, access)
    limit(connection, job.timeout, ends_with_us=True)
    connection.own(SNAPSHOT)
    facts = fetch(connection, work.expected)
    made = matchers(work.expected, facts)
    wanted = unclear(made)
    meanings = ask(connection, wanted) if wanted else NONE
    connection.own("ROLLBACK")
    found = weighed(
        compare(work.expected, facts, made, meanings, work.unused_after),
        work.leave_out,
        work.levels.items(),
    )
    summary = looked(work.expected, facts.relations)
    return _output(found, told(found, access.database.name, summary), role, write)


def _output(found: list[Weighed], line: str, role: str, write: Write) -> Output:
    """The output of a check: what its level makes of the step, the step kind says."""
    write("stdout", (table(found) + line.partition("; ")[0] + "\n").encode())
    return Output(
        outcome="succeeded",
        reason=line,
        status=0,
        evidence={**evidence(found), "role": role},
    )
