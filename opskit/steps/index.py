"""`index`: build, rebuild, tidy up or drop indexes while others read and write their tables.

Plan sees to it that the argument `database` names one of the inventory, puts what a file expects in
the place of its name, and makes an action for each index; `number` says which.
"""

import json
from collections.abc import Iterable, Iterator, Mapping

from opskit.errors import InputError
from opskit.model.codec import from_json
from opskit.model.expected import Expected, Index, Relation
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Repair
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    optional,
    problem,
    refuse,
)

WAYS = ("create", "rebuild", "tidy", "drop")
SUMMARY = (
    "Build, rebuild, tidy up or drop indexes of a PostgreSQL database, CONCURRENTLY, one after "
    "another. Each is looked at before and after: what is there already is not done."
)
KEYS = (
    Key(
        "create",
        "expectations",
        help="path of a file of expectations: builds each index of it that is missing; one whose "
        "build has failed is dropped first",
    ),
    Key(
        "rebuild",
        "expectations",
        help="path of such a file: ANALYZE, then REINDEX each index of it that is bloated even so",
    ),
    Key(
        "tidy",
        "expectations",
        help="path of such a file: drops the `_ccnew` and `_ccold` that a REINDEX has left on its "
        "tables",
    ),
    Key("drop", "text", help="name of an index to be dropped; an invalid one, or `leftover: true`"),
    Key(
        "leftover",
        "bool",
        default=False,
        help="with `drop`: nobody needs it any more, so it is dropped though it is valid",
    ),
    Key(
        "only",
        "text",
        default="",
        help="with a file: one index of it, by its name or as `TABLE (KEYS)`; empty: all",
    ),
    Key(
        "bloat",
        "number",
        default=2.0,
        minimum=0,
        help="with `rebuild`: how many times as large as it must be an index has to be; 0: any",
    ),
    Key(
        "free",
        "text",
        help="bytes that are free on the server's disk; must be twice what is built. Without it "
        "the record says that it was not known",
    ),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent", "save", "until", "for_each")
    if step.effect != "change":
        yield problem(step, "effect", "this changes something", "take `effect` out")
    ways = [way for way in WAYS if way in step.args]
    if len(ways) != 1:
        told = f"an `index` step does one thing, and this says {' and '.join(ways) or 'none'}"
        yield problem(step, "index", told, f"write one of {', '.join(WAYS)}")
        return
    for key, way in (("leftover", "drop"), ("bloat", "rebuild")):
        if f"index.{key}" in step.places and ways != [way]:
            yield problem(step, key, f"`{key}` is for `{way}`", f"take `{key}` out")
    if step.undo:
        told = "opskit takes back what it has built and dropped by itself"
        yield problem(step, "undo", told, "take it out, or write undo: []")


def work(args: Mapping[str, Value], step: Step) -> Repair:
    return repairs(args, step)[int(a_word(args["number"], step, "number"))]


def repairs(args: Mapping[str, Value], step: Step) -> list[Repair]:
    """Return what is to be done, one for each index; for `tidy`, one for each table."""
    database = a_word(args["database"], step, "database")
    free = optional(args.get("free"), "free")
    if args.get("drop") is not None:
        name = a_word(args["drop"], step, "drop")
        leftover = a_flag(args["leftover"], step, "leftover")
        return [Repair(database=database, do="drop", name=name, leftover=leftover)]
    way = next(way for way in WAYS if args.get(way) is not None)
    given = json.loads(a_word(args[way], step, way))
    expected = from_json(Expected, given["expected"])
    only = a_word(args["only"], step, "only")
    if way == "tidy":
        return [
            Repair(database=database, do="tidy", relation=one.name, view=one.view)
            for one in expected.relations
        ]
    bloat = a_number(args["bloat"], step, "bloat")
    found = [
        Repair(
            database=database,
            do="create" if way == "create" else "rebuild",
            relation=relation.name,
            view=relation.view,
            index=index,
            bloat=bloat,
            free=free,
        )
        for relation, index in _each(expected)
        if only in ("", index.name, f"{relation.name} ({', '.join(index.keys)})")
    ]
    if not found:
        what = f"it has no index {only[:80]!r}" if only else "it expects no index"
        names = ", ".join(index.name for _, index in _each(expected) if index.name)
        place = str(step.places.get(f"index.{'only' if only else way}", step.place))
        raise InputError(
            f"{given['file']}: {what}", where=place, hint=f"its indexes: {names[:400] or 'none'}"
        )
    return found


def _each(expected: Expected) -> Iterator[tuple[Relation, Index]]:
    for relation in expected.relations:
        for index in relation.indexes:
            yield relation, index
