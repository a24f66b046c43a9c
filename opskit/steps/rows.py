"""`rows`: remove rows of a table in batches, with a way back where they are kept.

Plan sees to it that the argument `database` names one of the inventory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.rows import Limits, Rows, Selection
from opskit.model.runbook import Effect, Step
from opskit.model.text import Bound, Text
from opskit.render.removals import condition_problem, is_name
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    one_of,
    optional,
    problem,
    refuse,
    texts,
)
from opskit.steps.units import bytes_of

ENDS = ("ok", "fail")
SUMMARY = (
    "Remove rows of a PostgreSQL table in batches, each a short transaction that is done exactly "
    "once; no more than a limit in number and in share, found by an index, counted before and read "
    "back. With `archive` they are kept in the database, and an undo puts them back."
)
KEYS = (
    Key(
        "remove",
        "literal",
        required=True,
        help="the table, as SQL writes its name; it stands in the runbook and is no parameter",
    ),
    Key(
        "archive",
        "bool",
        required=True,
        help="`true`: keep what is removed, for an undo; `false`: what is removed is gone",
    ),
    Key("time", "literal", help="the column that `older_than` and `newer_than` are about"),
    Key(
        "older_than",
        "duration",
        minimum=0,
        help="rows whose time is so long before the beginning of the step by the database's clock; "
        "`0s`: whose time is over",
    ),
    Key(
        "newer_than",
        "duration",
        help="rows whose time is within so long before the beginning of the step, not after it",
    ),
    Key(
        "where",
        "predicate",
        help="a condition that must hold, too; an expression stands bare and becomes a bound value",
    ),
    Key(
        "live",
        "predicate",
        help="which rows somebody still needs: counted, and not removed beyond `max_live`",
    ),
    Key(
        "order",
        "list",
        help="columns by whose least values rows go first, after `time`; those of an index. "
        "Without it a large part of a table goes in the order in which it lies",
    ),
    Key("max_rows", "int", default=100_000, minimum=1, help="more rows than this are refused"),
    Key(
        "max_share",
        "number",
        default=0.9,
        minimum=0,
        help="a larger part of the table is refused (0.9: nine tenths)",
    ),
    Key("max_live", "int", default=0, minimum=0, help="more rows that are `live` are refused"),
    Key(
        "batch", "int", default=50_000, minimum=1, help="no transaction removes more rows than this"
    ),
    Key("first", "int", default=1000, minimum=1, help="rows of the first batch"),
    Key(
        "aim",
        "number",
        default=0.1,
        minimum=0.01,
        help="seconds that a batch shall take; its rows follow from that",
    ),
    Key(
        "pause",
        "number",
        default=0.5,
        minimum=0,
        help="how long nothing is done after a batch, as a part of the time that it took",
    ),
    Key(
        "deadline",
        "duration",
        default=600.0,
        help="after this time no batch begins (nor after nine tenths of `timeout`)",
    ),
    Key(
        "max_lag",
        "duration",
        default=10.0,
        minimum=0,
        help="wait while a standby is farther behind than this",
    ),
    Key(
        "max_wal",
        "size",
        default=64 * 1024**2,
        minimum=0,
        help="wait while the server writes more WAL a second than this (64MiB), ours and that of "
        "others; 0: as much as it likes",
    ),
    Key(
        "max_waiters",
        "int",
        default=10,
        minimum=0,
        help="wait while more sessions of the database than this wait for a lock",
    ),
    Key(
        "max_wait",
        "duration",
        default=300.0,
        minimum=0,
        help="how long it is waited in a row for a standby, the WAL or sessions at a lock before "
        "the step stops; `0s`: stop at once",
    ),
    Key(
        "vacuum",
        "bool",
        default=True,
        help="`true`: VACUUM (ANALYZE) the table at the end if more than a fifth of it was removed",
    ),
    Key("none", "enum", choices=ENDS, default="ok", help="what it is when no row is meant"),
    Key(
        "rest",
        "enum",
        choices=ENDS,
        default="fail",
        help="what it is when rows are left: locked by somebody, or for want of time",
    ),
    Key(
        "touches",
        "list",
        help="triggers, rules and foreign keys that may do more than remove the row; each that the "
        "table has must be named",
    ),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent", "save", "until", "for_each")
    if step.effect != "change":
        told = "this removes rows; a dry run tells what it would remove"
        yield problem(step, "effect", told, "take `effect` out")
    if step.undo:
        told = "what is kept is put back by opskit itself, and what is not kept is gone"
        yield problem(step, "undo", told, "take it out, or write undo: []")
    table = step.args.get("remove")
    if isinstance(table, str) and not is_name(table):
        yield problem(step, "remove", f"{table[:80]!r} is no table's name", "NAME or SCHEMA.NAME")
    given = {key for key in _NARROWING if step.args.get(key) is not None}
    for key, what, write in _contradictions(given, "time" in step.args):
        yield problem(step, key, what, write)


_NARROWING = ("older_than", "newer_than", "where")


def _contradictions(given: set[str], time: bool) -> Iterator[tuple[str, str, str]]:
    if not given:
        told = "nothing says which rows are meant, so it would be all of them"
        yield "rows", told, f"write {', '.join(_NARROWING)}, or several"
    bounded = bool(given - {"where"})
    if bounded and not time:
        yield "time", "nothing says which column has the time", "add time: COLUMN"
    if time and not bounded:
        yield "time", "`time` is for older_than and newer_than", "add one, or use `order`"


def work(args: Mapping[str, Value], step: Step) -> Rows:
    archive = a_flag(args["archive"], step, "archive")
    return Rows(
        do="remove",
        database=a_word(args["database"], step, "database"),
        chosen=_chosen(args, step),
        limits=_limits(args, step),
        archive=archive,
        none=_end(args, step, "none"),
        rest=_end(args, step, "rest"),
        touches=tuple(one.fixed() for one in texts(args.get("touches"), "touches")),
        vacuum=a_flag(args["vacuum"], step, "vacuum"),
    )


def _end(args: Mapping[str, Value], step: Step, key: str) -> Literal["ok", "fail"]:
    return "ok" if one_of(args.get(key), step, key, ENDS) == "ok" else "fail"


def _chosen(args: Mapping[str, Value], step: Step) -> Selection:
    older, newer = (
        None if args.get(key) is None else a_number(args[key], step, key)
        for key in ("older_than", "newer_than")
    )
    if older is not None and newer is not None and newer <= older:
        told = f"no row is older than {older:g} s and newer than {newer:g} s"
        raise _wrong(step, "newer_than", told, "make newer_than the longer one")
    return Selection(
        table=a_word(args["remove"], step, "remove"),
        time=a_word(args["time"], step, "time") if args.get("time") is not None else "",
        older=older,
        newer=newer,
        where=_condition(args, step, "where"),
        live=_condition(args, step, "live"),
        order=tuple(one.fixed() for one in texts(args.get("order"), "order")),
    )


def _condition(args: Mapping[str, Value], step: Step, key: str) -> Text | None:
    """Return a condition; what it says must be known when the plan is made."""
    found = optional(args.get(key), key)
    if found is None:
        return None
    if found.late:
        told = f"`{key}` must be known when planning, but waits for {', '.join(found.names)}"
        raise _wrong(step, key, told, "use parameters and vars here, not saved values")
    whole = "".join(_HOLE if isinstance(part, Bound) else str(part) for part in found.parts)
    wrong = condition_problem(whole, clocks=key == "live")
    if wrong is not None:
        raise _wrong(step, key, wrong[1], wrong[2])
    return found


_HOLE = "$1"


def _limits(args: Mapping[str, Value], step: Step) -> Limits:
    def number(key: str) -> float:
        return a_number(args[key], step, key)

    def whole(key: str, least: int = 1) -> int:
        value = args[key]
        word = str(value) if isinstance(value, int) else a_word(value, step, key)
        if not re.fullmatch(r"[0-9]{1,18}", word) or int(word) < least:
            raise _wrong(
                step, key, f"`{key}` came to {word[:80]!r}", f"a whole number from {least}"
            )
        return int(word)

    share = number("max_share")
    if not 0 < share <= 1:
        raise _wrong(step, "max_share", f"{share:g} is no part of a table", "0.9, at most 1")
    return Limits(
        rows=whole("max_rows"),
        share=share,
        needed=whole("max_live", 0),
        first=whole("first"),
        batch=whole("batch"),
        aim=number("aim"),
        pause=number("pause"),
        deadline=number("deadline"),
        lag=number("max_lag"),
        wal=_size(args, step, "max_wal"),
        waiters=whole("max_waiters", 0),
        wait=number("max_wait"),
    )


def _size(args: Mapping[str, Value], step: Step, key: str) -> int:
    """Return a number of bytes, also where a template gave it."""
    value = args[key]
    word = str(value) if isinstance(value, int) else a_word(value, step, key)
    found = bytes_of(word)
    if found is None or 0 < found < _LEAST_WAL:  # `64` would be 64 bytes
        few = "" if found is None else f", which is {found} bytes a second"
        told = f"`{key}` came to {word[:80]!r}{few}"
        raise _wrong(step, key, told, "a size such as 64MiB, at least 64KiB, or 0")
    return found


_LEAST_WAL = 64 * 1024
"""A little more than one page a batch; with less it would seem to hang."""


def _wrong(step: Step, key: str, what: str, write: str) -> InputError:
    place = str(step.places.get(f"{step.kind}.{key}", step.place))
    return InputError(what, where=place, hint=write)
