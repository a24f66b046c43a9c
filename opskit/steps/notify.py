"""`notify`: a message to the record and to whoever watches."""

from collections.abc import Iterable, Mapping

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Notify
from opskit.steps.base import Key, Scope, Value, a_text, refuse

SUMMARY = "Say something in the record and on the screen."
KEYS = (Key("message", "text", required=True, help="what to say"),)
MAIN = "message"
EFFECT: Effect = "read"  # it changes nothing on any host
SCOPE: Scope = "once"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "silent", "undo", "done_when")


def work(args: Mapping[str, Value], step: Step) -> Notify:
    return Notify(message=a_text(args["message"], "message"))
