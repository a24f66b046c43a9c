"""`script`: a program in any language, sent to the target and run there."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Command
from opskit.steps.base import Key, Scope, Value, a_text, environment_problems, problem, texts

SUMMARY = "Run a script with the interpreter that its first line names."
KEYS = (
    Key("file", "script", help="path of the script, beside the runbook"),
    Key("text", "verbatim", help="the script itself; braces in it are left alone"),
    Key("args", "list", help="its arguments; the way to hand values to it"),
)
MAIN = "file"
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    if ("file" in step.args) == ("text" in step.args):
        yield problem(step, "script", "a script has either `file` or `text`", "write one of them")
    yield from environment_problems(step)
    text = step.args.get("text")
    if isinstance(text, str) and not text.startswith("#!"):
        yield problem(
            step,
            "text",
            "the script's first line names no interpreter",
            "begin it with a line such as #!/bin/sh or #!/usr/bin/env python3",
        )


def work(args: Mapping[str, Value], step: Step) -> Command:
    source = args["file"] if args.get("file") is not None else args["text"]
    return Command(text=a_text(source, "file"), shell=False, args=texts(args.get("args"), "args"))
