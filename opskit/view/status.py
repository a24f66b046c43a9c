"""The exit status that a run ends with (docs/reference/exit-status.md)."""

from opskit.errors import Exit
from opskit.model.plan import Plan
from opskit.model.run import Run


def exit_status(run: Run, plan: Plan | None = None, *, interrupted: bool = False) -> Exit:
    """Return the exit status of a run; where several fit, the one that asks for most care.

    With its plan, a run that its preflight stopped before any change counts as refused.
    """
    if interrupted or run.state in ("planned", "running", "undoing"):
        return Exit.INTERRUPTED
    if run.state == "waiting":
        return Exit.WAITING
    if run.state == "unknown" or "unknown" in run.hosts.values():
        return Exit.UNKNOWN
    if run.state == "succeeded":
        return Exit.OK
    if run.state == "undone":
        return Exit.UNDONE
    return Exit.REFUSED if plan is not None and refused(run, plan) else Exit.FAILED


def refused(run: Run, plan: Plan) -> bool:
    """Tell whether a run ended in its preflight, with no change ever sent."""
    began = {key for key, record in run.actions.items() if record.attempt or record.started}
    actions = [action for action in plan.actions if action.key in began]
    return bool(actions) and all(
        action.batch == -1 and plan.stages[action.position].effect == "read"
        for action in actions
        if action.batch != -2
    )
