"""`queues`: what waits in the queues of Celery on a Redis, and why it does.

Plan sees to it that the argument `server` is there, and names one of the inventory.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from opskit.model.problem import Problem
from opskit.model.queues import Layout, Queues
from opskit.model.runbook import Effect, Step
from opskit.steps import looks
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_number,
    a_word,
    optional,
)

CHECKS: Mapping[str, str] = {
    "policy": "CRIT",
    "results": "CRIT",
    "workers": "CRIT",
    "stuck": "CRIT",
    "redelivered": "CRIT",
    "copies": "CRIT",
    "retries": "CRIT",
    "memory": "CRIT",
    "twice": "WARN",
    "old": "CRIT",
    "falling": "CRIT",
    "depth": "CRIT",
    "queues": "CRIT",
}
"""Every check with how much it weighs, what explains others first; those with a limit weigh what
that says."""
LIMITS: Mapping[str, tuple[float, float, str]] = {
    "depth": (500, 1000, "messages that wait in a queue"),
    "old": (300, 3600, "how long a message has been taken and not acknowledged, in seconds"),
    "redelivered": (1, 10, "messages of one task that were taken, given up, and put back"),
    "copies": (2, 5, "how often the same message is there"),
    "retries": (3, 10, "how often a task that waits was tried before"),
    "memory": (80, 90, "how much of its memory the server uses, in percent"),
}
"""Check → the limits of WARN and CRIT, and what they limit."""
MOST_LOOKS = 20
SUMMARY = (
    "Look at the queues of Celery on a Redis: how much waits, how much was taken and how long ago, "
    "which tasks these are, whether anybody takes them, who of the workers has answered; and say "
    "what is wrong. OK, WARN, CRIT or UNKNOWN, as `health`. What a message carries is never shown. "
    "It changes nothing."
)
LAYOUT = (
    Key("prefix", "text", default="", help="`global_keyprefix` of the application"),
    Key(
        "separator",
        "text",
        default="",
        help="`sep` of its transport options: what stands between a queue and a priority; empty: "
        "kombu's own",
    ),
    Key("steps", "text", default="0,3,6,9", help="its `priority_steps`, with commas between"),
)


def _limits() -> Iterator[Key]:
    for check, (warn, crit, what) in LIMITS.items():
        for level, at in (("warn", warn), ("crit", crit)):
            told = f"{what}: {level.upper()} from here on"
            yield Key(f"{check}_{level}", "number", default=at, minimum=0, help=told)


KEYS = (
    Key("server", "text", help="its name in the inventory; needed where that has several"),
    Key("queues", "text", default="", help="which, with commas between; empty: all that the broker "
        "knows"),
    *LAYOUT,
    Key("window", "duration", default=10.0, minimum=0,
        help="between two looks, which tell whether anybody takes messages; 0: one look"),
    Key("falling", "int", default=0, minimum=0,
        help="so many looks, one `window` after the other: from each to the next less must wait in "
        "each queue, and what was taken longest ago must not stay; 0: two looks, and that is not "
        "asked"),
    Key("workers", "text", default="", help="who must answer, with commas between: the names that "
        "`inspect ping` has"),
    Key("answers", "text", help="who has answered: JSON of name → `active`, `processed` and "
        "`before`, what it `takes` from (names of queues), `due`: in how many seconds the last "
        "task that it holds is due, and, for `twice`, `late` (1: acknowledged when done), `limit`, "
        "`running`, `visibility` in seconds (numbers); or `error`"),
    Key("visibility", "duration", default=0.0, minimum=0,
        help="`visibility_timeout` of the broker; 0: what the workers say, or 1 h"),
    Key("longest", "duration", default=0.0, minimum=0,
        help="how long the longest task may take; 0: what the workers say"),
    Key("once", "text", default="", help="queues whose tasks must not be done twice, with commas "
        "between: `twice` is CRIT there"),
    Key("results", "text", default="", help="the server of the inventory that results go to, where "
        "it is another"),
    *_limits(),
    looks.leave_out(CHECKS),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    return looks.check(step, CHECKS)


def work(args: Mapping[str, Value], step: Step) -> Queues:
    workers = names(a_word(args["workers"], step, "workers"))
    answers = optional(args.get("answers"), "answers")
    if answers is not None and not workers:
        told = "nobody is named who must answer: who is silent could not be told from who is gone"
        raise looks.wrong(
            step, "workers", told, "name every worker: workers: celery@web1,celery@web2"
        )
    falling = int(a_number(args["falling"], step, "falling"))
    window = looks.window(args, step, max(falling, 2) - 1)
    if falling == 1 or falling > MOST_LOOKS or (falling and not window):
        told = f"{falling} looks, {window:g} s apart, do not tell whether less waits"
        write = f"2 to {MOST_LOOKS} looks, and a window between them: falling: 3, window: 10s"
        raise looks.wrong(step, "falling", told, write)
    return Queues(
        server=a_word(args["server"], step, "server"),
        layout=layout(args, step),
        names=names(a_word(args["queues"], step, "queues")),
        window=window,
        falling=falling,
        limits={name: looks.limit(args, step, name, "{:g}".format) for name in LIMITS},
        workers=workers,
        answers=answers,
        results=a_word(args["results"], step, "results"),
        visibility=a_number(args["visibility"], step, "visibility"),
        longest=a_number(args["longest"], step, "longest"),
        once=names(a_word(args["once"], step, "once")),
        leave_out=looks.left_out(args, step, CHECKS),
    )


def layout(args: Mapping[str, Value], step: Step) -> Layout:
    """Read how the application lays its queues out."""
    written = names(a_word(args["steps"], step, "steps"))
    steps = tuple(int(one) for one in written if one.isascii() and one.isdigit() and len(one) < 4)
    if not steps or len(steps) < len(written) or steps[0] != 0 or list(steps) != sorted(set(steps)):
        told = f"{','.join(written)[:60]!r} are no steps of a priority"
        raise looks.wrong(step, "steps", told, "numbers that grow, from 0 on: 0,3,6,9")
    made = Layout(prefix=a_word(args["prefix"], step, "prefix"), steps=steps)
    separator = a_word(args["separator"], step, "separator")
    return replace(made, separator=separator) if separator else made


def names(written: str) -> tuple[str, ...]:
    """Read names with commas between, each once."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, written.split(",")))))
