"""What is said after a run, and the exit status that goes with it."""

from types import MappingProxyType

from opskit.cli import screen
from opskit.cli.call import Call
from opskit.errors import Exit
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.view import jsonl, summary
from opskit.view.details import Said
from opskit.view.status import exit_status


def told(call: Call, done: Run, plan: Plan, said: Said = MappingProxyType({})) -> Exit:
    """Say what is true after a run, with what failed steps printed; return its exit status."""
    status = exit_status(done)
    call.answer(
        lambda: summary.text(
            done,
            plan,
            said=said,
            paint=screen.paint(),
            columns=screen.margin(),
            given=call.given,
        ),
        [{"event": "summary", **jsonl.run(done), "exit": int(status)}],
    )
    return status
