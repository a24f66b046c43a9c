"""`wait`: let time pass, counted from the recorded start."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Wait
from opskit.steps.base import Key, Scope, Value, a_number, refuse

SUMMARY = "Let time pass."
KEYS = (Key("for", "duration", required=True, help="how long"),)
MAIN = "for"
EFFECT: Effect = "read"
SCOPE: Scope = "batch"
NOT_HERE = ("stdin", "cwd", "sudo", "secrets", "creates", "unless", "save", "until", "retry")


def check(step: Step) -> Iterable[Problem]:
    return refuse(step, *NOT_HERE, "silent", "undo", "done_when")


def work(args: Mapping[str, Value], step: Step) -> Wait:
    return Wait(seconds=a_number(args["for"], step, "for"))
