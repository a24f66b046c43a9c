"""`record`: a value that an earlier run saved for this host."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Recall
from opskit.steps.base import Key, Scope, Value, a_word, optional, problem, refuse, texts

STATUSES = ("succeeded", "failed", "undone", "aborted", "unknown")
SUMMARY = (
    "Fetch a value that an earlier run saved for this host; the plan has it already, and the run"
    " holds to it."
)
KEYS = (
    Key("runbook", "literal", required=True, help="name of the runbook that saved it"),
    Key("value", "name", required=True, help="the name under which it was saved"),
    Key("run", "text", help="id of the run; without it the newest that fits"),
    Key(
        "status",
        "enum",
        choices=STATUSES,
        many=True,
        help="how that run must have ended (default: succeeded)",
    ),
    Key("default", "text", help="the value when there is no such run; without it the step fails"),
)
MAIN = None
EFFECT: Effect = "read"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless")
    yield from refuse(step, "undo", "done_when", "retry", "until", "silent")
    if step.save is None:
        yield problem(step, "record", "the value goes nowhere", "add save: NAME")
    elif step.save.secret:
        yield problem(step, "save", "a secret is never in the record", "take `secret` out")


def work(args: Mapping[str, Value], step: Step) -> Recall:
    """Plan puts the host in: a kind does not know where its step runs."""
    default = args.get("default")
    return Recall(
        runbook=a_word(args["runbook"], step, "runbook"),
        value=a_word(args["value"], step, "value"),
        host="",
        run=optional(args.get("run"), "run"),
        status=tuple(t.fixed() for t in texts(args.get("status"), "status")) or ("succeeded",),
        default=None if default is None else a_word(default, step, "default"),
    )
