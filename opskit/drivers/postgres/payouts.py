"""A deed on a ledger: looked at before, done as any change of a database is, and read back."""

from collections.abc import Iterator
from dataclasses import replace

from opskit.drivers.postgres import doing, holds, rejoin, repair
from opskit.drivers.postgres.doing import SNAPSHOT, sentences
from opskit.drivers.postgres.foreseen import obstacles
from opskit.drivers.postgres.ledgers import LedgerError
from opskit.drivers.postgres.looking import looked
from opskit.drivers.postgres.quiet import ALL, quiet
from opskit.drivers.postgres.readback import read_back
from opskit.drivers.postgres.session import Access, Session, limit
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.job import Job, Output
from opskit.model.payouts import Payouts
from opskit.model.value import Json
from opskit.model.work import Query, Repair
from opskit.render.freezes import freeze, seen, thaw
from opskit.render.guards import guard
from opskit.render.ledgers import name
from opskit.render.payouts import hold, look, release
from opskit.render.reversals import reverse

_ELSEWHERE = "another cluster answers than the one that the report is of"


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Payouts)
    if work.probe:
        return looked(access, job, running, lambda session: _foreseen(access, session, job, write))
    match work.do:
        case "quiet":
            return quiet(access, job, running, write)
        case "guard" | "unguard":
            return repair.perform(access, replace(job, work=building(work)), running, write)
        case "held" | "reversed":
            return looked(
                access, job, running, lambda session: read_back(access, session, job, write)
            )
        case _:
            return doing.perform(_meant(access, work), statements(job, access), running, write)


def rejoined(access: Access, job: Job, write: Write, left: float) -> Output:
    """Say what became of a deed whose answer was lost: its mark tells."""
    work = job.work
    assert isinstance(work, Payouts)
    if work.do in ("guard", "unguard"):
        return repair.rejoin(access, replace(job, work=building(work)), write, left)
    return rejoin.rejoin(access, statements(job, access), write, left)


def _meant(access: Access, work: Payouts) -> Access:
    """Let no other cluster do than the one that the report is of."""
    report = work.report
    known = report.system if report is not None else ""
    return replace(access, system=known) if known and not access.system else access


def building(work: Payouts) -> Repair:
    """Write a guard as the building of an index that it is."""
    ledger = work.ledger
    return Repair(
        database=work.database,
        do="create" if work.do == "guard" else "undo",
        relation=f"{name(ledger.schema)}.{name(ledger.table)}",
        index=guard(ledger, work.since),
        of=work.of,
    )


def statements(job: Job, access: Access) -> Job:
    """Write a deed as the change of a database that it is."""
    work, schema = job.work, access.database.marker_schema
    assert isinstance(work, Payouts)
    match work.do:
        case "freeze":
            text = freeze(work, schema, job.run, job.key)
        case "thaw":
            text = thaw(work, schema, job.run)
        case "hold":
            text = hold(work, schema, job.run, job.key)
        case "release":
            text = release(work, schema, job.run)
        case "reverse":
            text = reverse(work, schema, job.run, job.key)
        case _:
            raise TypeError(f"{work.do} changes nothing")
    return replace(job, work=Query(text=text, database=work.database, judged=True))


def _foreseen(access: Access, session: Session, job: Job, write: Write) -> Output:
    """See whether it could be done, in a transaction that can't write."""
    work, schema = job.work, access.database.marker_schema
    assert isinstance(work, Payouts)
    limit(session.connection, job.timeout, ends_with_us=True)
    session.connection.own(ALL)
    session.connection.own(SNAPSHOT)
    refused = [*_elsewhere(session, work)]
    wrong: list[str] = []
    more: list[str | None] = []
    try:
        wrong += obstacles(session, work)
    except LedgerError as error:
        refused.append(error.line)
    # What is wrong otherwise may be the database: nothing is to be made there.
    if not wrong and not refused and (kept := _KEPT.get(work.do)):
        wrong += _lacking(access, session, kept, write)
    if not wrong and not refused and work.do != "guard":
        text = seen(work, schema) if work.do == "freeze" else look(work, schema)
        (sentence,) = sentences(text, read=True, transaction=True)
        told, *more = session.connection.one(sentence.text, *sentence.values)
        refused += [told] if told else []
    session.connection.own("ROLLBACK")
    if wrong or refused:
        # What is wrong with the report or the description does not come right by another try.
        evidence: dict[str, Json] = {"refused": True} if refused else {}
        reason = "; ".join([*wrong, *refused])
        return Output(outcome="failed", status=1, reason=reason, evidence=evidence)
    for line in (*_unproved(work), *filter(None, more)):
        write("stdout", f"{line}\n".encode())
    return Output(outcome="succeeded", reason="; ".join(_unproved(work)), status=0)


def _unproved(work: Payouts) -> Iterator[str]:
    """Say that nothing but the folder itself tells that the evidence is what was reported."""
    if work.report is not None and not work.report.recorded:
        yield f"the record does not know run {work.report.run or '?'}, which made the report"


_KEPT = {"hold": holds.HOLDS, "freeze": holds.FREEZES}
"""The table in which it is kept what a deed has changed."""


def _lacking(access: Access, session: Session, table: str, write: Write) -> Iterator[str]:
    """Say what is to be made first, and print it for one who may."""
    schema = access.database.marker_schema
    if lacking := holds.missing(session.connection, schema, table):
        made = ";\n".join(holds.ddl(schema, session.identity.user))
        write("stdout", f"{made};\n".encode())
        yield (
            f"{lacking} → `opskit db init {access.database.name} --payouts` makes it, or let one"
            " who may carry out what this has printed"
        )


def _elsewhere(session: Session, work: Payouts) -> Iterator[str]:
    report = work.report
    if report is not None and report.system not in ("", session.identity.system):
        yield _ELSEWHERE
