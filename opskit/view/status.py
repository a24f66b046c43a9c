"""The exit status that a run ends with (docs/reference/exit-status.md)."""

from opskit.errors import Exit
from opskit.model.run import Run


def exit_status(run: Run) -> Exit:
    """Return the exit status of a run: the one it ended with, or what it waits for."""
    if run.state == "waiting":
        return Exit.INTERRUPTED if interrupted(run) else Exit.WAITING
    if run.exit is None:
        return Exit.INTERRUPTED
    return Exit(run.exit)


def interrupted(run: Run) -> bool:
    """Tell whether a run waits only because somebody stopped it."""
    return run.question is not None and run.question.get("why") == "interrupted"
