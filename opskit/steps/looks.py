"""What holds for kinds that look at a server for a while and say, by checks, how it is."""

from collections.abc import Callable, Collection, Iterable, Mapping

from opskit.errors import InputError
from opskit.model.activity import Limit
from opskit.model.problem import Problem
from opskit.model.runbook import Step
from opskit.steps.base import Key, Value, a_number, an_amount, is_template, problem, refuse, texts
from opskit.steps.units import duration

_SPARE = 10.0
"""How much longer than the window the step may take; seconds."""


def leave_out(checks: Collection[str]) -> Key:
    named = ", ".join(f"`{check}`" for check in checks)
    return Key("leave_out", "list", help=f"checks that are not made: {named}")


def check(step: Step, checks: Collection[str]) -> Iterable[Problem]:
    yield from refuse(step, "undo", "done_when", "creates", "unless", "stdin", "cwd", "sudo")
    yield from refuse(step, "secrets", "silent", "save")
    if step.effect != "read":
        yield problem(step, "effect", "this only reads", "take `effect` out")
    if step.on_unknown == "ask":
        told = "UNKNOWN is a result here, not a question"
        yield problem(step, "on_unknown", told, "add on_unknown: fail")
    left = step.args.get("leave_out")
    for name in left if isinstance(left, (list, tuple)) else ():
        if not is_template(name) and name not in checks:
            told = f"there is no check {str(name)[:60]!r}"
            yield problem(step, "leave_out", told, f"its checks: {', '.join(checks)}")


def wrong(step: Step, key: str, what: str, write: str) -> InputError:
    place = str(step.places.get(f"{step.kind}.{key}", step.place))
    return InputError(what, where=place, hint=write)


def window(args: Mapping[str, Value], step: Step, times: int = 1) -> float:
    """Return for how long is looked, in seconds; InputError where the step is over before.

    `times`: so many windows follow each other.
    """
    found = a_number(args["window"], step, "window")
    if not isinstance(step.timeout, str) and times * found + _SPARE > step.timeout:
        what = f"a window of {duration(found)}{f', {times} times,' if times > 1 else ''}"
        told = f"{what} does not fit into {duration(step.timeout)}"
        raise wrong(step, "window", told, "make `timeout` of the step longer than it")
    return found


def left_out(args: Mapping[str, Value], step: Step, checks: Collection[str]) -> tuple[str, ...]:
    left = tuple(text.fixed() for text in texts(args.get("leave_out"), "leave_out"))
    for name in left:
        if name not in checks:
            told = f"there is no check {name[:60]!r}"
            raise wrong(step, "leave_out", told, f"its checks: {', '.join(checks)}")
    return left


def limit(
    args: Mapping[str, Value], step: Step, check: str, shown: Callable[[float], str]
) -> Limit:
    """Return the limits of a check; `shown`: how one is written in a message."""
    warn, crit = (an_amount(args[f"{check}_{level}"], step, check) for level in ("warn", "crit"))
    if warn > crit:
        told = f"`{check}_crit` ({shown(crit)}) comes before `{check}_warn` ({shown(warn)})"
        raise wrong(step, f"{check}_crit", told, "a CRIT is what is worse than a WARN")
    return Limit(warn=warn, crit=crit)
