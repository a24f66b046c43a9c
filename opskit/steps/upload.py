"""`upload`: a file, or the tree in an archive, from beside the person who runs to the target."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import FileRef, Upload
from opskit.steps.base import Key, Scope, Value, a_flag, a_text, a_word, problem, refuse
from opskit.steps.paths import dest_problems

SUMMARY = "Put a file or an unpacked archive on the target: written aside, checked, renamed."
KEYS = (
    Key("src", "file", required=True, help="the file, beside the person who runs"),
    Key("dest", "text", required=True, help="absolute path on the target"),
    Key("mode", "mode", help="permissions such as 0644"),
    Key(
        "unpack",
        "bool",
        default=False,
        help="unpack the archive (tar, also compressed); its tree becomes `dest`",
    ),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from dest_problems(step)
    yield from refuse(step, "stdin", "secrets", "save", "cwd", "until", "silent")
    if step.args.get("unpack") is True and "mode" in step.args:
        yield problem(step, "mode", "`mode` and `unpack` together", "the archive has the modes")


def work(args: Mapping[str, Value], step: Step) -> Upload:
    content = args["src"]
    if not isinstance(content, FileRef):
        raise TypeError("src should have been looked up as a file")
    mode = args.get("mode")
    return Upload(
        content=content,
        dest=a_text(args["dest"], "dest"),
        mode=None if mode is None else a_word(mode, step, "mode"),
        unpack=a_flag(args.get("unpack", False), step, "unpack"),
    )
