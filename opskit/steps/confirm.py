"""`confirm`: a question that a person must answer with yes before the run goes on."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Ask
from opskit.steps.base import Key, Scope, Value, a_text, refuse

SUMMARY = "Ask a person; the run waits for the answer."
KEYS = (Key("question", "text", required=True, help="what to ask"),)
MAIN = "question"
EFFECT: Effect = "read"
SCOPE: Scope = "once"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "retry", "silent", "undo", "done_when")


def work(args: Mapping[str, Value], step: Step) -> Ask:
    return Ask(question=a_text(args["question"], "question"))
