"""`notify`: a message to the record, to whoever watches, and to channels of the inventory."""

from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.model.channel import NOWHERE, SEVERITIES, severity_of
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Notify
from opskit.steps.base import Key, Scope, Value, a_flag, a_text, a_word, optional, problem, refuse

SUMMARY = (
    "Say something in the record, on the screen, and in channels of the inventory. It is sent "
    "beside the run, which waits for no channel before its end."
)
KEYS = (
    Key("message", "text", required=True, help="what to say"),
    Key(
        "to",
        "text",
        many=True,
        help="channels of the inventory; when not written those under its `notify`; `none`: none",
    ),
    Key(
        "severity",
        "text",
        help="`info`, `warning` or `critical` (also `P0` to `P3`, or the status of a run): "
        "channels may leave out what is less; when not written, that of `run.status` in `always` "
        "(*undone* is a warning, *failed* and *unknown* are critical) and else `info`",
    ),
    Key(
        "required",
        "bool",
        default=False,
        help="wait until every channel has it, and fail where one has not",
    ),
)
MAIN = "message"
EFFECT: Effect = "read"  # it changes nothing on any host
SCOPE: Scope = "once"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "save")
    yield from refuse(step, "until", "silent", "undo", "done_when")
    yield from _in_undo(step)


def work(args: Mapping[str, Value], step: Step) -> Notify:
    severity = optional(args.get("severity"), "severity")
    if severity is not None and not severity.late and severity_of(severity.fixed()) is None:
        raise InputError(
            f"`severity` came to {severity.fixed()[:80]!r}",
            where=str(step.places.get("notify.severity", step.place)),
            hint=f"write one of {', '.join(SEVERITIES)}",
        )
    return Notify(
        message=a_text(args["message"], "message"),
        to=tuple(name for name in named(args, step) if name != NOWHERE),
        severity=severity,
        required=a_flag(args.get("required", False), step, "required"),
    )


def named(args: Mapping[str, Value], step: Step) -> tuple[str, ...]:
    """Return the channels that a step names, each once; an empty name is none."""
    given = args.get("to")
    words = given if isinstance(given, tuple) else (given,) if given is not None else ()
    names = dict.fromkeys(a_word(one, step, "to") for one in words)
    return tuple(name for name in names if name)


def is_undo(step: Step) -> bool:
    """Tell whether a step takes something back: positions below an undo have a `u` in them."""
    return "u" in step.position


def _in_undo(step: Step) -> Iterable[Problem]:
    """Refuse channels in an undo: what is taken back may be taken back again and again."""
    if is_undo(step):
        for key in ("to", "required"):
            if step.args.get(key):
                told = f"an undo sends nothing, so `{key}` means nothing there"
                yield problem(step, key, told, "take it out; `always` sends how it ended")
