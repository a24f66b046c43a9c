"""`activity`: what a database is busy with, what takes long there, and who blocks whom.

Plan sees to it that the argument `database` names one of the inventory.
"""

from collections.abc import Iterable, Iterator, Mapping

from opskit.errors import InputError
from opskit.model.activity import Activity, Limit
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    is_template,
    problem,
    refuse,
    texts,
)
from opskit.steps.units import duration

CHECKS: Mapping[str, str] = {
    "statement": "CRIT",
    "running": "CRIT",
    "idle": "CRIT",
    "open": "CRIT",
    "blocking": "CRIT",
    "prepared": "CRIT",
    "statements": "CRIT",
    "hidden": "CRIT",
    "stale": "WARN",
    "scan": "INFO",
    "plan": "INFO",
}
"""Every check with how much it weighs; those with a limit weigh what that says."""
LIMITS: Mapping[str, tuple[float, float, str]] = {
    "statement": (0.1, 1.0, "the mean time of a statement"),
    "running": (1.0, 60.0, "how long a statement has run"),
    "idle": (30.0, 300.0, "how long a session has done nothing in an open transaction"),
    "open": (60.0, 600.0, "how long a transaction has been open, prepared ones too"),
    "blocking": (1.0, 10.0, "how long somebody has waited for a lock"),
}
"""Check → the limits of WARN and CRIT, and what they limit."""
_SPARE = 10.0
"""How much longer than the window the step may take; seconds."""
SUMMARY = (
    "Look at what a PostgreSQL database is busy with: statements by what they cost within a window "
    "of time, sessions that run or stand still for long, and who blocks whom. OK, WARN, CRIT or "
    "UNKNOWN, as `health`. Literals are masked. It changes nothing."
)


def _limits() -> Iterator[Key]:
    for check, (warn, crit, what) in LIMITS.items():
        yield Key(
            f"{check}_warn", "duration", default=warn, minimum=0, help=f"{what}: WARN from here on"
        )
        yield Key(
            f"{check}_crit", "duration", default=crit, minimum=0, help=f"{what}: CRIT from here on"
        )


KEYS = (
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
    Key(
        "window",
        "duration",
        default=60.0,
        minimum=0,
        help="statements are counted for so long; 0: what their counters have since they began",
    ),
    Key("top", "int", default=10, minimum=1, help="so many statements are shown"),
    Key("users", "text", default="", help="whose sessions it is about, with commas between; empty: "
        "everybody's"),
    Key("large", "int", default=10_000, minimum=1,
        help="how many rows a table has that is looked at by `stale`, `scan` and `plan`"),
    Key("stale", "number", default=10.0, minimum=0,
        help="of how many percent of its rows may have changed since ANALYZE; more is a WARN"),
    Key("plans", "bool", default=False,
        help="let the server plan the statements that are shown, as the role that reads: it needs "
        "SELECT on their tables; nothing is carried out"),
    *_limits(),
    Key("leave_out", "list",
        help="checks that are not made: " + ", ".join(f"`{check}`" for check in CHECKS)),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "undo", "done_when", "creates", "unless", "stdin", "cwd", "sudo")
    yield from refuse(step, "secrets", "silent", "save")
    if step.effect != "read":
        yield problem(step, "effect", "this only reads", "take `effect` out")
    if step.on_unknown == "ask":
        told = "UNKNOWN is a result here, not a question"
        yield problem(step, "on_unknown", told, "add on_unknown: fail")
    left = step.args.get("leave_out")
    for name in left if isinstance(left, (list, tuple)) else ():
        if not is_template(name) and name not in CHECKS:
            told = f"there is no check {str(name)[:60]!r}"
            yield problem(step, "leave_out", told, f"its checks: {', '.join(CHECKS)}")


def work(args: Mapping[str, Value], step: Step) -> Activity:
    window = a_number(args["window"], step, "window")
    if not isinstance(step.timeout, str) and window + _SPARE > step.timeout:
        told = f"a window of {duration(window)} does not fit into {duration(step.timeout)}"
        place = str(step.places.get("activity.window", step.place))
        raise InputError(told, where=place, hint="make `timeout` of the step longer than it")
    left = tuple(text.fixed() for text in texts(args.get("leave_out"), "leave_out"))
    for name in left:
        if name not in CHECKS:
            hint = f"its checks: {', '.join(CHECKS)}"
            raise InputError(f"there is no check {name[:60]!r}", where=str(step.place), hint=hint)
    return Activity(
        database=a_word(args["database"], step, "database"),
        window=window,
        top=int(a_number(args["top"], step, "top")),
        limits={check: _limit(args, step, check) for check in LIMITS},
        users=names(a_word(args["users"], step, "users")),
        leave_out=left,
        large=int(a_number(args["large"], step, "large")),
        stale=a_number(args["stale"], step, "stale"),
        plans=a_flag(args["plans"], step, "plans"),
    )


def _limit(args: Mapping[str, Value], step: Step, check: str) -> Limit:
    warn, crit = (a_number(args[f"{check}_{level}"], step, check) for level in ("warn", "crit"))
    if warn > crit:
        place = str(step.places.get(f"activity.{check}_crit", step.place))
        told = f"`{check}_crit` ({duration(crit)}) comes before `{check}_warn` ({duration(warn)})"
        raise InputError(told, where=place, hint="a CRIT is what is worse than a WARN")
    return Limit(warn=warn, crit=crit)


def names(written: str) -> tuple[str, ...]:
    """Read names with commas between."""
    return tuple(filter(None, map(str.strip, written.split(","))))
