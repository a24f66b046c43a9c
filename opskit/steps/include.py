"""`runbook`: the steps of another runbook, put in here when planning."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Work
from opskit.steps.base import Key, Scope, Value, refuse

SUMMARY = "Put the steps of another runbook here; its hosts and batches are this one's."
KEYS = (
    Key("name", "runbook", required=True, help="name of the runbook, or its path from here"),
    Key("with", "data", help="values for its parameters"),
)
MAIN = "name"
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "retry", "undo", "done_when", "on", "effect")
    yield from refuse(step, "for_each", "repeatable", "on_unknown", "timeout", "on_failure")
    yield from refuse(step, "silent")


def work(args: Mapping[str, Value], step: Step) -> Work:
    raise TypeError("a runbook step is replaced by the steps of its runbook when planning")
