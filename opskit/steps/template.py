"""`template`: a file on the target, made from a template and parameters."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Upload
from opskit.steps.base import Key, Scope, Value, a_text, a_word, refuse
from opskit.steps.paths import dest_problems

SUMMARY = "Render a template and put it on the target: written aside, checked, renamed."
KEYS = (
    Key("src", "template", required=True, help="the template, beside the runbook or in templates/"),
    Key("dest", "text", required=True, help="absolute path on the target"),
    Key("mode", "mode", help="permissions such as 0644"),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from dest_problems(step)
    yield from refuse(step, "stdin", "secrets", "save", "cwd", "until", "silent")


def work(args: Mapping[str, Value], step: Step) -> Upload:
    mode = args.get("mode")
    return Upload(
        content=a_text(args["src"], "src"),
        dest=a_text(args["dest"], "dest"),
        mode=None if mode is None else a_word(mode, step, "mode"),
    )
