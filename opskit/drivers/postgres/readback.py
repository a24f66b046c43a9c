# ruff: noqa: S608 (names are quoted, values are bound)
"""Reading the world back: what was to be done was done, and every other total is what it was."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from opskit.drivers.postgres.connection import Connection, Row, Taker
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.holds import HOLDS
from opskit.drivers.postgres.ledgers import LedgerError, known
from opskit.drivers.postgres.marks import quoted
from opskit.drivers.postgres.quiet import ALL, recent
from opskit.drivers.postgres.session import Access, Session, limit
from opskit.drivers.session import Write
from opskit.model.job import Job, Output
from opskit.model.payouts import Payouts, Report
from opskit.model.value import Json
from opskit.render.ledgers import expression, name, table
from opskit.render.payouts import array

Totals = dict[tuple[str, str], tuple[int, Decimal]]
"""(status, currency) → rows, amount."""


def read_back(access: Access, session: Session, job: Job, write: Write) -> Output:
    """Compare the totals of the report, less and more what was done, with those of this moment."""
    work = job.work
    assert isinstance(work, Payouts)
    report = work.report
    assert report is not None
    connection = session.connection
    limit(connection, job.timeout, ends_with_us=True)
    connection.own(ALL)
    connection.own(SNAPSHOT)
    try:
        known(connection, work.ledger)
    except LedgerError as error:
        return Output(outcome="failed", status=1, reason=error.line)
    done = _done(connection, work, access.database.marker_schema)
    wrong = list(_rows(connection, work, done))
    before, after = _before(report), _after(connection, work, report)
    expected = _changed(before, work, report, done) if work.do == "held" else before
    different = list(_differences(expected, after))
    others = _others(connection, work, report, tuple(done)) if different else ""
    connection.own("ROLLBACK")
    if different and not others:
        wrong += different
    told = list(wrong)
    if moved := [one for one in work.ids if one not in done]:
        told.append(f"{len(moved)} had moved on: {', '.join(moved[:20])}")
    if different and others:
        told.append(f"others have written since the report ({others}): {'; '.join(different)}")
    added = f"all {sum(rows for rows, _ in after.values())} rows add up"
    line = f"{len(done)} of {len(report.rows)} rows of {work.ledger.name} {work.do}: "
    line += "; ".join(told if different else [*told, added])
    write("stdout", (line + "\n").encode())
    user = session.identity.user
    evidence: dict[str, Json] = {"user": user, "others": others, "differences": different}
    if wrong:
        return Output(outcome="failed", status=1, reason=line, evidence=evidence)
    return Output(outcome="succeeded", status=0, reason=line, evidence=evidence)


_HELD = """
    SELECT payout, old_status FROM {} WHERE ledger = $1 AND report = $2 AND ended_at IS NULL
      AND payout = ANY ($3)
"""


def _done(connection: Connection, work: Payouts, schema: str) -> Mapping[str, str]:
    """Return the rows to which it was done, each with the status that it had."""
    assert work.report is not None
    found: dict[str, str] = {}

    def take(row: Row) -> None:
        found[(row[0] or b"").decode()] = (row[1] or b"").decode()

    if work.do == "reversed":
        return dict.fromkeys(work.ids, "")
    holds = f"{quoted(schema)}.{HOLDS}"
    values = (work.ledger.name, work.report.sha256, array(work.ids))
    connection.run(_HELD.format(holds), values, Taker(row=take))
    return found


def _rows(connection: Connection, work: Payouts, done: Mapping[str, str]) -> Iterator[str]:
    """Name the rows that are not as they were made, or that it was not done to at all."""
    ledger = work.ledger
    if work.do == "held":
        assert ledger.status is not None
        column = f"t.{name(ledger.id)}"
        condition = f" AND t.{name(ledger.status.column)}::text = ANY ($2::text[])"
        values: tuple[str, ...] = (array(work.ids), array(ledger.status.held))
    else:
        assert ledger.reversal is not None
        column = f"t.{name(ledger.reversal.reverses)}"
        condition, values = "", (array(work.ids),)
    text = f"SELECT {column}::text FROM {table(ledger)} AS t WHERE {column} = ANY ($1){condition}"
    found: list[str] = []
    connection.run(text, values, Taker(row=lambda row: found.append((row[0] or b"").decode())))
    if not done:
        yield "nothing was done by this report"
    if missing := [one for one in done if one not in set(found)]:
        yield f"{len(missing)} of them are not {work.do}: {', '.join(missing[:20])}"
    if len(found) > len(set(found)):
        yield f"some are {work.do} more than once"


def _before(report: Report) -> Totals:
    found: Totals = {}
    for total in report.totals:
        _add(found, total.status, total.currency, total.rows, Decimal(total.amount or 0))
    return found


def _changed(before: Totals, work: Payouts, report: Report, done: Mapping[str, str]) -> Totals:
    """Return what the totals must be once the rows are held."""
    status = work.ledger.status
    assert status is not None
    found = dict(before)
    plain = ("",) * len(report.rows)
    amounts = report.column("amount") if work.ledger.amount else plain
    currencies = report.column("currency") if work.ledger.amount else plain
    for id_, amount, currency in zip(work.ids, amounts, currencies, strict=True):
        if id_ in done:
            _add(found, done[id_], currency, -1, -Decimal(amount or 0))
            _add(found, status.held[0], currency, 1, Decimal(amount or 0))
    return found


def _add(totals: Totals, status: str, currency: str, rows: int, amount: Decimal) -> None:
    count, total = totals.get((status, currency), (0, Decimal(0)))
    totals[status, currency] = (count + rows, total + amount)


def _after(connection: Connection, work: Payouts, report: Report) -> Totals:
    """Count what the report counted; rows that reverse are not of it."""
    ledger, values = work.ledger, [work.ledger.code]
    currency = (
        f"{expression(ledger.currency, 't')}::text" if ledger.currency else "nullif($1, '')::text"
    )
    status = f"t.{name(ledger.status.column)}::text" if ledger.status else "'settled'"
    amount = f"t.{name(ledger.amount)}::numeric" if ledger.amount else "NULL::numeric"
    conditions = ["$1::text IS NOT NULL"]
    for match in ledger.where:
        values.append(array(match.values))
        conditions.append(f"{expression(match.field, 't')} = ANY (${len(values)})")
    for bound, sign in ((report.since, ">="), (report.until, "<")):
        if bound:
            values.append(bound)
            conditions.append(f"t.{name(ledger.created_at)} {sign} ${len(values)}")
    if ledger.reversal is not None:
        conditions.append(f"t.{name(ledger.reversal.reverses)} IS NULL")
    text = (
        f"SELECT {status}, {currency}, count(*), sum({amount}) FROM {table(ledger)} AS t"
        f" WHERE {' AND '.join(conditions)} GROUP BY 1, 2"
    )
    found: Totals = {}

    def take(row: Row) -> None:
        of, money, rows, total = ((cell or b"").decode() for cell in row)
        _add(found, of, money, int(rows), Decimal(total or 0))

    connection.run(text, values, Taker(row=take))
    return found


def _differences(expected: Totals, after: Totals) -> Iterator[str]:
    for key in sorted(set(expected) | set(after)):
        rows, amount = expected.get(key, (0, Decimal(0)))
        found, total = after.get(key, (0, Decimal(0)))
        if (rows, amount) != (found, total):
            what = " ".join(filter(None, key))
            yield f"{what}: {found} rows and {total}, not {rows} and {amount}"


def _others(connection: Connection, work: Payouts, report: Report, done: tuple[str, ...]) -> str:
    """Name rows, besides those acted on, that were written since; "" where there is none."""
    oldest = report.snapshot.partition(":")[0]
    text, values = recent(work, oldest, but=done)
    rows, ids, _ = connection.one(text, *values)
    return f"{rows} rows: {ids}" if rows not in (None, "0") else ""
