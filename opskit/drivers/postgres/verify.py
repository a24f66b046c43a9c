"""One look at a database for `indexes`: three queries in one transaction that can't write."""

from opskit.drivers.postgres.catalog import fetch
from opskit.drivers.postgres.comparing import compare, looked, matchers, unclear
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.findings import Weighed, evidence, table, told, weighed
from opskit.drivers.postgres.looking import looked as looked_at
from opskit.drivers.postgres.meaning import NONE, ask
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.job import Job, Output
from opskit.model.work import Verify


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Look, compare and tell. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Verify)
    return looked_at(access, job, running, lambda s: _looked(access, s, job, work, write))


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
