"""`activity`: what a database is busy with, what takes long there, and who blocks whom.

Plan sees to it that the argument `database` names one of the inventory.
"""

from collections.abc import Iterable, Iterator, Mapping

from opskit.model.activity import Activity
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.steps import looks
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    an_amount,
    one_of,
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
RANKS: Mapping[str, str] = {
    "total": "time in all",
    "mean": "time of one call",
    "calls": "how often",
    "rows": "rows of one call",
    "temp": "blocks written for want of memory",
    "hit": "the smallest part of the blocks found in memory",
}
"""By what statements are put in order, with what that is."""
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
    Key("by", "enum", choices=tuple(RANKS), default="total",
        help="by what: " + ", ".join(f"`{name}` ({what})" for name, what in RANKS.items())),
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
    looks.leave_out(CHECKS),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    return looks.check(step, CHECKS)


def work(args: Mapping[str, Value], step: Step) -> Activity:
    return Activity(
        database=a_word(args["database"], step, "database"),
        window=looks.window(args, step),
        top=int(an_amount(args["top"], step, "top")),
        by=one_of(args["by"], step, "by", tuple(RANKS)),
        limits={name: looks.limit(args, step, name, duration) for name in LIMITS},
        users=names(a_word(args["users"], step, "users")),
        leave_out=looks.left_out(args, step, CHECKS),
        large=int(an_amount(args["large"], step, "large")),
        stale=a_number(args["stale"], step, "stale"),
        plans=a_flag(args["plans"], step, "plans"),
    )


def names(written: str) -> tuple[str, ...]:
    """Read names with commas between."""
    return tuple(filter(None, map(str.strip, written.split(","))))
