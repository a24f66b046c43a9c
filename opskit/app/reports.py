"""Whether the record knows the reports that a plan acts on, and has the same of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from opskit.audit import Store
from opskit.errors import InputError
from opskit.model.payouts import Payouts, Report
from opskit.model.plan import Action, Plan
from opskit.plan.make import seal

Knows: TypeAlias = Callable[[Report], bool]
"""Tells whether the run that made a report is known; InputError where it made another one."""


def compared(plan: Plan, knows: Knows) -> Plan:
    """Compare each report with what is known of the run that made it, and say in the plan that."""
    if not any(isinstance(action.work, Payouts) for action in plan.actions):
        return plan
    found: dict[str, bool] = {}

    def told(action: Action) -> Action:
        action = replace(action, undo=tuple(map(told, action.undo)))
        work = action.work
        if not isinstance(work, Payouts) or work.report is None:
            return action
        report = work.report
        if report.sha256 not in found:
            try:
                found[report.sha256] = knows(report)
            except InputError as error:
                place = str(plan.stages[action.position].place)
                raise InputError(error.what, where=place, hint=error.hint) from None
        report = replace(report, recorded=found[report.sha256])
        return replace(action, work=replace(work, report=report))

    return seal(replace(plan, actions=tuple(map(told, plan.actions))))


def as_before(store: Store, *plans: Plan) -> Knows:
    """Let what was known of a report when a run was planned be known again; ask for others."""
    works = [a.work for plan in plans for a in plan.actions if isinstance(a.work, Payouts)]
    known = {w.report.sha256: w.report.recorded for w in works if w.report is not None}

    def knows(report: Report) -> bool:
        return known[report.sha256] if report.sha256 in known else by_record(store)(report)

    return knows


def by_record(store: Store) -> Knows:
    """Ask the record of the run that a report says it was made by."""

    def knows(report: Report) -> bool:
        if not report.run or not _there(store, report.run):
            return False
        made = [dict(_evidence(one.data)) for one in store.load(report.run).actions.values()]
        digests = [str(one["sha256"]) for one in made if "manifest" in one and "sha256" in one]
        if report.sha256 in digests:
            return True
        has = f"has {', '.join(digests)}" if digests else "has no report of it"
        raise InputError(
            f"{report.manifest} says that run {report.run} made it, and the record of that run"
            f" {has}, not {report.sha256}",
            hint="it was changed, or is another run's: make the report again, and name that",
        )

    return knows


def _there(store: Store, run: str) -> bool:
    try:
        return store.find(run) == run
    except InputError:
        return False


def _evidence(data: Mapping[str, object]) -> Mapping[str, object]:
    found = data.get("evidence")
    return found if isinstance(found, Mapping) else {}
