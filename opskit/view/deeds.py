"""What a deed on a ledger will do: how many rows, how much money, which, and the SQL."""

from collections.abc import Iterator
from decimal import Decimal
from typing import assert_never

from opskit.model.inventory import MARKERS
from opskit.model.payouts import Payouts, Report
from opskit.model.text import Text
from opskit.render.building import created
from opskit.render.freezes import freeze, thaw
from opskit.render.guards import guard
from opskit.render.payouts import hold, release
from opskit.render.reversals import reverse
from opskit.view import amounts, safe

_IDS = 20
_RUN, _ACTION = "RUN", "ACTION"
"""What stands in the plan for what only the run knows."""


def deed(work: Payouts, *, full: bool = False) -> list[str]:
    """Describe it; its statements, where all shall be shown."""
    if work.do == "quiet":
        period = amounts.duration(work.period)
        return [f"see that nothing of {_name(work)} is written for {period}"]
    if work.do in ("guard", "unguard"):
        return _index(work)
    if work.do in ("freeze", "thaw"):
        shown = [_switched(work)]
    else:
        shown = [safe.one_line(f"{_verb(work)} {_what(work)}"), *_about(work)]
    if full and not work.probe and (text := _statements(work)) is not None:
        shown += [safe.one_line(f"sql> {line}") for line in str(text).splitlines()]
    return shown


def _index(work: Payouts) -> list[str]:
    made = created(work.ledger.name, guard(work.ledger, work.since))
    if work.probe:
        return [f"see whether keys of {_name(work)} repeat from {work.since} on"]
    if work.do == "unguard":
        return [f"take back what was built on {_name(work)}"]
    return [safe.one_line(f"sql> {made}"), "a broken one of it is dropped first"]


def _switched(work: Payouts) -> str:
    assert work.switch is not None
    where = f"the switch {work.switch.name!r} of {work.switch.schema}.{work.switch.table}"
    if work.probe:
        return safe.one_line(f"see whether it is possible to turn off {where}")
    if work.do == "freeze":
        return safe.one_line(f"turn off {where}")
    return safe.one_line(f"turn on {where}, where nobody else has turned it off")


def _name(work: Payouts) -> str:
    return safe.one_line(work.ledger.name)


def _verb(work: Payouts) -> str:
    if work.probe:
        return f"see whether it is possible to {work.do}"
    match work.do:
        case "hold" | "reverse":
            return work.do
        case "release":
            return "release, where they are still held,"
        case "held" | "reversed":
            return f"see that nothing but this was done: {work.do}"
        case "guard" | "unguard" | "quiet" | "freeze" | "thaw":
            return work.do
        case _:
            assert_never(work.do)


def _what(work: Payouts) -> str:
    ids = work.ids
    more = f" and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
    rows = amounts.count(len(ids), "row")
    money = _money(work)
    return f"{rows} of {work.ledger.name}{money}: {', '.join(ids[:_IDS])}{more}"


def _money(work: Payouts) -> str:
    if work.report is None or not work.ledger.amount:
        return ""
    sums: dict[str, Decimal] = {}
    report = work.report
    for amount, currency in zip(report.column("amount"), report.column("currency"), strict=True):
        sums[currency] = sums.get(currency, Decimal(0)) + Decimal(amount or 0)
    return "".join(f", {total} {currency}" for currency, total in sorted(sums.items()))


def _about(work: Payouts) -> Iterator[str]:
    report = work.report
    if report is None or work.do in ("release", "held", "reversed"):
        return
    age = amounts.duration(work.caps.age)
    yield safe.one_line(f"report {report.manifest} of {report.now}, at most {age} old")
    if report.recorded:
        yield f"sha256 {report.sha256}, as the record of run {safe.one_line(report.run)} has it"
    else:
        yield f"sha256 {report.sha256}; {unrecorded(report)}"
    if work.approved:
        yield safe.one_line(f"approved by {work.approved}")
    if work.do == "reverse" and not work.probe:
        yield "there is no undo for this: a row that reverses stays"


def unrecorded(report: Report) -> str:
    """Say that nothing but the folder itself tells that the evidence is what was reported."""
    run = (
        f"run {safe.one_line(report.run)}, which made it" if report.run else "the run that made it"
    )
    return f"the record does not know {run}: its files agree with each other, and that is all"


def _statements(work: Payouts) -> Text | None:
    match work.do:
        case "freeze":
            return freeze(work, MARKERS, _RUN, _ACTION)
        case "thaw":
            return thaw(work, MARKERS, _RUN)
        case "hold":
            return hold(work, MARKERS, _RUN, _ACTION)
        case "release":
            return release(work, MARKERS, _RUN)
        case "reverse":
            return reverse(work, MARKERS, _RUN, _ACTION)
        case _:
            return None
