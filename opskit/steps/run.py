"""`run`: shell text on the target."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Command
from opskit.steps.base import Key, Scope, Value, a_text, environment_problems

SUMMARY = "Run shell text with `sh -eu`."
KEYS = (
    Key(
        "text",
        "shell",
        required=True,
        help="shell text; an expression stands bare and becomes one word",
    ),
)
MAIN = "text"
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    """Shell text itself is looked at where its place in the file is known (load.check)."""
    return environment_problems(step)


def work(args: Mapping[str, Value], step: Step) -> Command:
    return Command(text=a_text(args["text"], "text"))
