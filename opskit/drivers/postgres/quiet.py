# ruff: noqa: S608 (names are quoted, values are bound)
"""The proof that no payment is made: nothing of a ledger is written for some time.

Whatever is written gets the number of its transaction. Of the rows with a number that was not yet
over when the time began, those count that were not there then. So a row counts that is new, that
has moved on, or that was only touched, whatever its columns say. (Which transactions a snapshot
has does not tell it: it does not list those within others.)
"""

import time
from collections.abc import Sequence

from opskit.drivers.postgres.connection import EndedError
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.ledgers import LedgerError, known
from opskit.drivers.postgres.looking import looked
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.job import Job, Output
from opskit.model.payouts import Payouts
from opskit.model.value import Json
from opskit.render.ledgers import expression, name, table
from opskit.render.payouts import array

ALL = "SET row_security = off"
"""Rows that a policy hides would prove nothing: with this off, the server refuses."""
_LOOK = 0.2
_BEGIN = """
    SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text,
           pg_catalog.now()::text
"""
_WRITING = """
    SELECT pg_catalog.string_agg(DISTINCT coalesce('process ' || l.pid
        || coalesce(' (' || a.application_name || ')', ''), 'a prepared transaction'), ', ')
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', 'ExclusiveLock',
        'ShareRowExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT $1::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1))
"""


def quiet(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Wait for the period, and see that nothing was written meanwhile."""
    return looked(access, job, running, lambda session: _watched(access, session, job, running,
                                                                write))  # fmt: skip


def _watched(access: Access, session: Session, job: Job, running: Running, write: Write) -> Output:
    work = job.work
    assert isinstance(work, Payouts)
    connection = session.connection
    if session.identity.standby:
        return Output(outcome="failed", sent=False, reason="a standby shows what happens too late")
    role = as_reader(session, access)
    limit(connection, job.timeout, ends_with_us=True)
    try:
        oid = known(connection, work.ledger).oid
    except LedgerError as error:
        return Output(outcome="failed", status=1, reason=error.line)
    connection.own(ALL)
    connection.own(SNAPSHOT)
    oldest, began = (one or "" for one in connection.one(_BEGIN))
    text, values = recent(work, oldest)
    seen = connection.one(text, *values)[2] or "{}"
    connection.own("ROLLBACK")
    _pass(work.period, running)
    # Before the snapshot: who commits after it is not in it, and has no lock when the look is over.
    writing = connection.one(_WRITING, oid)[0]
    connection.own(SNAPSHOT)
    text, values = recent(work, oldest, seen)
    found, ids, _ = connection.one(text, *values)
    writing = writing or connection.one(_WRITING, oid)[0]
    (over,) = connection.one("SELECT pg_catalog.now()::text")
    connection.own("ROLLBACK")
    return _judged(work, write, rows=int(found or 0), ids=ids or "", writing=writing or "",
                   between=f"between {began} and {over}", role=role)  # fmt: skip


def _pass(seconds: float, running: Running) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if running.give_up.wait(min(left, _LOOK)):
            raise EndedError(running.because)


def recent(
    work: Payouts, oldest: str, seen: str = "{}", but: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Return a query for rows of transactions from `oldest` on, less those `seen` then.

    `but`: ids that do not count, nor do rows that reverse these.

    Rows bear the lower half of a transaction's number. One that is greater than the next number's
    lower half is of the round before.
    """
    ledger = work.ledger
    conditions, values = [], [oldest, seen]
    for match in ledger.where:
        values.append(array(match.values))
        conditions.append(f" AND {expression(match.field, 't')} = ANY (${len(values)})")
    if but:
        values.append(array(but))
        conditions.append(f" AND t.{name(ledger.id)} <> ALL (${len(values)})")
    if but and ledger.reversal is not None:
        values.append(array(but))
        of = f"t.{name(ledger.reversal.reverses)}"
        conditions.append(f" AND ({of} = ANY (${len(values)})) IS NOT TRUE")
    status = f" || ' (' || t.{name(ledger.status.column)}::text || ')'" if ledger.status else ""
    number, id_ = "t.xmin::text::bigint", f"t.{name(ledger.id)}::text"
    before = f"CASE WHEN {number} < next.number THEN 0 ELSE 4294967296 END"
    full = f"next.round * 4294967296 + {number} - {before}"
    text = (
        "WITH next AS (SELECT n / 4294967296 AS round, n % 4294967296 AS number FROM (SELECT"
        " pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint) AS one (n))"
        f", written AS (SELECT {id_}{status} AS id, {id_} || ':' || t.xmin::text AS mark"
        f" FROM {table(ledger)} AS t, next"
        f" WHERE {number} >= 3 AND {full} >= $1::bigint{''.join(conditions)})"
        " SELECT count(*)::text,"
        " pg_catalog.array_to_string((pg_catalog.array_agg(id))[1:20], ', '),"
        " pg_catalog.array_agg(mark)::text FROM written WHERE mark <> ALL ($2::text[])"
    )
    return text, tuple(values)


def _judged(
    work: Payouts, write: Write, *, rows: int, ids: str, writing: str, between: str, role: str
) -> Output:
    wrong = []
    if rows:
        what = "row was" if rows == 1 else "rows were"
        wrong.append(f"{rows} {what} written {between}: {ids}")
    if writing:
        wrong.append(f"somebody is writing there at this moment: {writing}")
    told = "; ".join(wrong) or f"nothing of {work.ledger.name} was written {between}"
    write("stdout", (told + "\n").encode())
    evidence: dict[str, Json] = {"rows": rows, "period": work.period, "role": role}
    if wrong:
        return Output(outcome="failed", status=1, reason=told, evidence=evidence)
    return Output(outcome="succeeded", status=0, reason=told, evidence=evidence)
