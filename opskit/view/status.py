"""The exit status that a run ends with (docs/reference/exit-status.md)."""

from opskit.errors import Exit
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.model.work import Ask, Check, Notify, Wait


def exit_status(run: Run, plan: Plan | None = None) -> Exit:
    """Return the exit status of a run; where several fit, the one that asks for most care.

    With its plan, a run that its preflight stopped before any change counts as refused.
    """
    if run.state in ("planned", "running", "undoing"):
        return Exit.INTERRUPTED
    if run.state == "waiting":
        return Exit.INTERRUPTED if interrupted(run) else Exit.WAITING
    if run.state == "unknown" or "unknown" in run.hosts.values():
        return Exit.UNKNOWN
    if run.state == "succeeded":
        return Exit.OK
    if run.state == "undone":
        return Exit.UNDONE
    return Exit.REFUSED if plan is not None and refused(run, plan) else Exit.FAILED


def interrupted(run: Run) -> bool:
    """Tell whether a run waits only because somebody stopped it."""
    return run.question is not None and run.question.get("why") == "interrupted"


def refused(run: Run, plan: Plan) -> bool:
    """Tell whether a failed run ended in its preflight, with changes planned and none begun."""
    main = [action for action in plan.actions if action.batch >= 0]
    begun = any(run.actions[a.key].state != "planned" for a in main if a.key in run.actions)
    preflight = any(action.batch == -1 for action in plan.actions)
    changes = any(
        plan.stages[action.position].effect == "change"
        and not isinstance(action.work, (Ask, Check, Notify, Wait))
        for action in main
    )
    return preflight and changes and not begun
