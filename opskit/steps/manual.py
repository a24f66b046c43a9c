"""`manual`: work that a person does, and reports as done or not."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Ask
from opskit.steps.base import Key, Scope, Value, a_text, refuse

SUMMARY = "Tell a person what to do by hand; the run waits for the report."
KEYS = (Key("task", "text", required=True, help="what to do"),)
MAIN = "task"
EFFECT: Effect = "change"
SCOPE: Scope = "once"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "retry", "silent")


def work(args: Mapping[str, Value], step: Step) -> Ask:
    return Ask(question=a_text(args["task"], "task"), manual=True)
