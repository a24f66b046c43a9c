"""`indexes`: whether a database has the indexes, views and functions that are expected of it.

Plan sees to it that the argument `database` names one of the inventory, and puts what the file
expects in the place of its name.
"""

import json
from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.model.codec import from_json
from opskit.model.expected import Expected
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Verify
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    is_template,
    mapping,
    one_of,
    problem,
    refuse,
    texts,
)

CHECKS: Mapping[str, str] = {
    "missing": "CRIT",
    "invalid": "CRIT",
    "building": "WARN",
    "leftover": "WARN",
    "duplicate": "WARN",
    "extra": "WARN",
    "prefix": "INFO",
    "name": "INFO",
    "unused": "INFO",
    "lookup": "CRIT",
    "bloat": "WARN",
    "sequence": "WARN",
    "corrupt": "CRIT",
    "collation": "CRIT",
    "foreign_key": "CRIT",
    "foreign_key_index": "WARN",
    "columns": "CRIT",
    "view": "CRIT",
    "fresh": "CRIT",
    "function": "CRIT",
    "slow": "CRIT",
    "extension": "CRIT",
    "server": "CRIT",
}
"""Every check with how much what it finds weighs."""
WEIGHTS = ("INFO", "WARN", "CRIT")
SUMMARY = (
    "Compare the indexes, foreign keys, materialized views, functions and extensions of a "
    "PostgreSQL database with a file of what is expected. OK, WARN, CRIT or UNKNOWN, as `health`."
)
AMCHECK = ("none", "index", "rows")
KEYS = (
    Key(
        "expect",
        "expectations",
        required=True,
        help="path of the file that says what is expected, beside the runbook",
    ),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
    Key(
        "leave_out",
        "list",
        help="checks that are not made: " + ", ".join(f"`{check}`" for check in CHECKS),
    ),
    Key("levels", "map", help="check → INFO, WARN or CRIT, instead of what it weighs by default"),
    Key(
        "unused_after",
        "duration",
        default=30 * 86400.0,
        help="for how long nobody must have used an index to say that it is unused",
    ),
    Key(
        "standbys",
        "text",
        default="",
        help="its standbys in the inventory, with commas between: an index is `unused` only where "
        "none of them has used it either",
    ),
    Key(
        "amcheck",
        "enum",
        choices=AMCHECK,
        default="none",
        help="read every B-tree to see whether it is whole (`index`), and whether every row of its "
        "table is in it (`rows`, which reads the tables too); needs the extension amcheck",
    ),
    Key(
        "pgstatindex",
        "bool",
        default=False,
        help="read indexes from 10 MiB on to see how full they are, instead of an estimate; needs "
        "the extension pgstattuple",
    ),
    Key(
        "timing",
        "bool",
        default=True,
        help="call functions and read views that have a limit of time (`within`)",
    ),
    Key(
        "writers",
        "bool",
        default=False,
        help="call functions with `writes: true`, too, each time in a transaction that is rolled "
        "back; such a step is a change",
    ),
)
MAIN = "expect"
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "undo", "done_when", "creates", "unless", "stdin", "cwd", "sudo")
    yield from refuse(step, "secrets", "silent", "save")
    writers = step.args.get("writers")
    if step.effect != "read" and (writers is None or writers is False):
        yield problem(step, "effect", "this only reads", "take `effect` out")
    elif step.effect == "read" and writers is not None and writers is not False:
        told = "to call what writes is a change, also where it is rolled back"
        yield problem(step, "writers", told, "add effect: change")
    if step.on_unknown == "ask":
        told = "UNKNOWN is a result here, not a question"
        yield problem(step, "on_unknown", told, "add on_unknown: fail")
    left, levels = step.args.get("leave_out"), step.args.get("levels")
    for name in left if isinstance(left, (list, tuple)) else ():
        if not is_template(name) and name not in CHECKS:
            told = f"there is no check {str(name)[:60]!r}"
            yield problem(step, "leave_out", told, f"its checks: {', '.join(CHECKS)}")
    for name, level in levels.items() if isinstance(levels, Mapping) else ():
        if wrong := _weight(name, str(level)):
            yield problem(step, "levels", *wrong)


def _weight(name: str, level: str) -> tuple[str, str] | None:
    if name not in CHECKS:
        return f"there is no check {name[:60]!r}", f"its checks: {', '.join(CHECKS)}"
    if not is_template(level) and level not in WEIGHTS:
        return f"{level[:60]!r} is no level", f"write {', '.join(WEIGHTS)}"
    return None


def work(args: Mapping[str, Value], step: Step) -> Verify:
    """`expect` has come as JSON: the file's name, and what is in it."""
    given = json.loads(a_word(args["expect"], step, "expect"))
    inside = one_of(args.get("amcheck"), step, "amcheck", AMCHECK)
    left = tuple(text.fixed() for text in texts(args.get("leave_out"), "leave_out"))
    levels = {
        name: a_word(value, step, "levels") for name, value in mapping(args.get("levels")).items()
    }
    wrong = [f"there is no check {name[:60]!r}" for name in left if name not in CHECKS]
    wrong += [found[0] for one in levels.items() if (found := _weight(*one))]
    wrong += [f"{level[:60]!r} is no level" for level in levels.values() if level not in WEIGHTS]
    if wrong:
        raise InputError(wrong[0], where=str(step.place), hint=f"checks: {', '.join(CHECKS)}")
    return Verify(
        database=a_word(args["database"], step, "database"),
        expected=from_json(Expected, given["expected"]),
        file=given["file"],
        leave_out=left,
        levels=levels,
        unused_after=a_number(args["unused_after"], step, "unused_after"),
        amcheck="rows" if inside == "rows" else "index" if inside == "index" else "",
        pgstatindex=a_flag(args["pgstatindex"], step, "pgstatindex"),
        timing=a_flag(args["timing"], step, "timing"),
        writers=a_flag(args["writers"], step, "writers"),
        standbys=standbys(args, step),
    )


def standbys(args: Mapping[str, Value], step: Step) -> tuple[str, ...]:
    """Return the names of the standbys that a step has, each once."""
    written = a_word(args["standbys"], step, "standbys") if args.get("standbys") else ""
    return tuple(dict.fromkeys(filter(None, map(str.strip, written.split(",")))))
