"""`duplicates`: what a ledger has paid twice, or may have.

Plan sees to it that the argument `database` names one of the inventory, and puts the description of
the ledger in the place of its file's name.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import PurePath

from opskit.errors import InputError
from opskit.model.codec import from_json
from opskit.model.ledger import Ledger
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Duplicates, FileRef
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    is_template,
    mapping,
    problem,
    refuse,
    texts,
)
from opskit.steps.units import seconds_of

CHECKS: Mapping[str, str] = {
    "same_key": "CRIT",
    "key_reused": "CRIT",
    "keyless": "WARN",
    "empty": "WARN",
    "near": "WARN",
    "near_day": "WARN",
    "business_key": "CRIT",
    "provider_ref": "CRIT",
    "task": "CRIT",
    "provider_only": "CRIT",
    "amount_differs": "CRIT",
    "ledger_duplicate": "CRIT",
    "ledger_only": "WARN",
    "provider_period": "WARN",
    "undated": "WARN",
    "float_money": "WARN",
}
"""Every finding with how much it weighs."""
WEIGHTS = ("INFO", "WARN", "CRIT")
WIDEST = 7 * 86400.0
SUMMARY = (
    "Search a ledger in PostgreSQL for what was paid twice: by key, by order, by reference, by "
    "task, and by looking alike; compare it with a provider's file. OK, WARN, CRIT or UNKNOWN, as "
    "`health`. It changes nothing and leaves a folder of evidence."
)
KEYS = (
    Key(
        "ledger",
        "ledger",
        required=True,
        help="path of the file that describes the ledger, beside the runbook",
    ),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
    Key(
        "since",
        "text",
        help="rows made at this time or later: `2026-01-31`, `2026-01-31T12:00+01:00` (without a "
        "zone it is UTC), or `90d` before now",
    ),
    Key("until", "text", help="rows made before this time"),
    Key(
        "as_of",
        "text",
        help="as `until`, and a standby is fine once it has all of what was done by then",
    ),
    Key(
        "full",
        "bool",
        default=False,
        help="look at all of a table of more than a million rows, where there is no `since`",
    ),
    Key(
        "window",
        "duration",
        default=600.0,
        help="payments that look alike are told of when they are no further apart, 7d at most",
    ),
    Key("provider", "file", help="the provider's CSV file, to compare the ledger with"),
    Key(
        "evidence",
        "text",
        help="the folder in which each report gets one of its own, a whole path; without it "
        "`evidence` beside the local record",
    ),
    Key("statement_timeout", "duration", default=300.0, help="how long one query may take"),
    Key("max_lag", "duration", default=60.0, help="how far a standby may be behind"),
    Key(
        "leave_out",
        "list",
        help="findings that are not made: " + ", ".join(f"`{check}`" for check in CHECKS),
    ),
    Key("levels", "map", help="finding → INFO, WARN or CRIT, instead of what it weighs by default"),
)
MAIN = "ledger"
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "undo", "done_when", "creates", "unless", "stdin", "cwd", "sudo")
    yield from refuse(step, "secrets", "silent")
    if step.effect != "read":
        yield problem(step, "effect", "this only reads", "take `effect` out")
    if step.on_unknown == "ask":
        told = "UNKNOWN is a result here, not a question"
        yield problem(step, "on_unknown", told, "add on_unknown: fail")
    window = step.args.get("window")
    if isinstance(window, (int, float)) and (wrong := _width(window)):
        yield problem(step, "window", wrong, "write for example 10m")
    for key in ("since", "until", "as_of"):
        written = step.args.get(key)
        if isinstance(written, str) and not is_template(written) and _time(written) is None:
            told = f"{written[:60]!r} is no time"
            yield problem(step, key, told, "write 2026-01-31, 2026-01-31T12:00+01:00 or 90d")
    yield from _named(step)


def _named(step: Step) -> Iterable[Problem]:
    """Check the findings that are named, and their levels."""
    left, levels = step.args.get("leave_out"), step.args.get("levels")
    for name in left if isinstance(left, (list, tuple)) else ():
        if not is_template(name) and (wrong := _unknown(str(name))):
            yield problem(step, "leave_out", wrong, f"write one of {', '.join(CHECKS)}")
    for name, level in levels.items() if isinstance(levels, Mapping) else ():
        if wrong := _unknown(name):
            yield problem(step, "levels", wrong, f"write one of {', '.join(CHECKS)}")
        elif not is_template(level) and level not in WEIGHTS:
            yield problem(step, "levels", f"{level!r} is no level", ", ".join(WEIGHTS))


def _unknown(name: str) -> str:
    return "" if name in CHECKS else f"there is no finding {name[:60]!r}"


def _width(seconds: float) -> str:
    if seconds <= 0:
        return "a window of nothing shows nothing"
    if seconds > WIDEST:
        return "a window of more than 7 days shows every regular payment"
    return ""


def _time(written: str) -> str | None:
    """Return a time as ISO in UTC, or the whole seconds before now; None where it is neither."""
    ago = seconds_of(written) if written[-1:].isalpha() and written[-1:] != "Z" else None
    if ago is not None:
        return str(int(ago))
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.astimezone(UTC).isoformat()


def work(args: Mapping[str, Value], step: Step) -> Duplicates:
    """`ledger` has come as JSON: the file's name, and what is in it."""
    given = json.loads(a_word(args["ledger"], step, "ledger"))
    times = {key: _a_time(args, step, key) for key in ("since", "until", "as_of")}
    window = a_number(args["window"], step, "window")
    left = tuple(text.fixed() for text in texts(args.get("leave_out"), "leave_out"))
    levels = {
        name: a_word(value, step, "levels") for name, value in mapping(args.get("levels")).items()
    }
    provider, ledger = args.get("provider"), from_json(Ledger, given["ledger"])
    wrong = [one for one in (_width(window), _reversed(times), *map(_unknown, left)) if one]
    wrong += [f"{level[:60]!r} is no level" for level in levels.values() if level not in WEIGHTS]
    if provider is not None and ledger.provider is None:
        wrong.append("the ledger does not say what the provider's file has: add `provider` to it")
    if wrong:
        raise InputError(wrong[0], where=str(step.place))
    return Duplicates(
        database=a_word(args["database"], step, "database"),
        ledger=ledger,
        file=given["file"],
        **times,
        full=a_flag(args.get("full", False), step, "full"),
        window=window,
        provider=provider if isinstance(provider, FileRef) else None,
        evidence=_folder(args, step),
        patience=a_number(args["statement_timeout"], step, "statement_timeout"),
        max_lag=a_number(args["max_lag"], step, "max_lag"),
        leave_out=left,
        levels=levels,
    )


def _a_time(args: Mapping[str, Value], step: Step, key: str) -> str:
    written = a_word(args[key], step, key) if args.get(key) is not None else ""
    found = _time(written) if written else ""
    if found is None:
        place = str(step.places.get(f"{step.kind}.{key}", step.place))
        hint = "write 2026-01-31, 2026-01-31T12:00+01:00 or 90d"
        raise InputError(f"`{key}` came to {written[:60]!r}", where=place, hint=hint)
    return found


def _reversed(times: Mapping[str, str]) -> str:
    since, until = times["since"], times["until"]
    if since and until and not (since.isdigit() or until.isdigit()) and since >= until:
        return f"nothing lies between {since} and {until}"
    return ""


def _folder(args: Mapping[str, Value], step: Step) -> str:
    written = a_word(args["evidence"], step, "evidence") if args.get("evidence") else ""
    if written and not (PurePath(written).is_absolute() or written.startswith("~/")):
        place = str(step.places.get(f"{step.kind}.evidence", step.place))
        hint = "evidence is to be found again: /var/lib/… or ~/…"
        raise InputError(f"{written[:80]!r} is no whole path", where=place, hint=hint)
    return written
