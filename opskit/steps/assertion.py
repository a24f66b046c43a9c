"""`assert`: expressions that must be true."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import text
from opskit.model.work import Check
from opskit.steps.base import Key, Scope, Value, optional, problem, refuse, texts

SUMMARY = "Fail unless expressions over parameters, vars and saved values are true."
KEYS = (
    Key(
        "that",
        "expression",
        many=True,
        required=True,
        help="an expression, or a list of which all must be true",
    ),
    Key("message", "text", help="what to say when it is not true"),
)
MAIN = "that"
EFFECT: Effect = "read"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "retry", "silent", "undo", "done_when")
    if step.args.get("that") == ():
        yield problem(step, "that", "an empty list asserts nothing", "write an expression")


def work(args: Mapping[str, Value], step: Step) -> Check:
    message = optional(args.get("message"), "message")
    return Check(that=texts(args["that"], "that"), message=message or text(_told(step)))


def _told(step: Step) -> str:
    that = step.args["that"]
    written = that if isinstance(that, tuple) else (that,)
    return "not true: " + "; ".join(str(one) for one in written)
