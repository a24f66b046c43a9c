"""Change windows and freezes of an inventory."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from opskit.load.keys import FREEZE, WINDOW
from opskit.load.keys import NAME as RUNBOOK_NAME
from opskit.load.reading import Reader
from opskit.load.yaml import Items, Node, Scalar, Table
from opskit.model.windows import DAYS, Freeze, Window

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_WHEN = "write a date such as 2026-12-20, or a time such as 2026-12-20 18:00, before the year 9999"
_DAYS = "write days such as mon-thu, or a list: [mon, wed, fri]"
T = TypeVar("T")


def read_windows(reader: Reader, node: Node | None) -> tuple[Window, ...]:
    """Read `change_windows:`."""
    return _listed(
        reader, node, "change_windows", "{days: mon-thu, from: 09:00, to: 17:00}", _window
    )


def read_freezes(reader: Reader, node: Node | None) -> tuple[Freeze, ...]:
    """Read `freezes:`."""
    shape = "{from: 2026-12-20, until: 2027-01-03, reason: end of the year}"
    return _listed(reader, node, "freezes", shape, _freeze)


def _listed(
    reader: Reader,
    node: Node | None,
    key: str,
    shape: str,
    read: Callable[[Reader, Table], T | None],
) -> tuple[T, ...]:
    if node is None or (isinstance(node, Scalar) and node.empty):
        return ()
    if not isinstance(node, Items):
        reader.error(node, f"`{key}` must be a list", f"write - {shape}")
        return ()
    found: list[T] = []
    for one in node.nodes:
        if not isinstance(one, Table):
            reader.error(one, f"an entry of `{key}` must be a mapping", f"write - {shape}")
        elif (made := read(reader, one)) is not None:
            found.append(made)
    return tuple(found)


def _window(reader: Reader, node: Table) -> Window | None:
    before = len(reader.problems)
    values: dict[str, Any] = reader.table(node, WINDOW, "a change window")
    at = {name: entry[1] for name, entry in node.entries.items()}
    minutes: dict[str, int] = {}
    for key in ("from", "to"):
        text = str(values.get(key, "00:00"))  # that it is missing has been said
        if not _TIME.fullmatch(text) or (key == "from" and text == "24:00"):
            reader.error(at[key], f"`{key}` is {text[:20]!r}", "write hours and minutes: 09:00")
        else:
            minutes[key] = int(text[:2]) * 60 + int(text[3:])
    if {"from", "to"} <= minutes.keys() & values.keys() and minutes["from"] == minutes["to"]:
        reader.error(
            at["to"], "the window is as long as nothing", "the whole day is 00:00 to 24:00"
        )
    days = _days(values.get("days"))
    if days is None:
        written = values["days"]
        told = written if isinstance(written, str) else ", ".join(map(str, written))
        reader.error(at["days"], f"`days` are {told[:40]!r}, which are no days", _DAYS)
    where = _scope(reader, values, at)
    if len(reader.problems) > before or days is None:
        return None
    return Window(
        days=days, begin=minutes["from"], end=minutes["to"], place=str(reader.place(node)), **where
    )


def _days(written: object) -> tuple[int, ...] | None:
    """Return the numbers of the days that are named; every day where none is."""
    if written is None:
        return tuple(range(7))
    found: set[int] = set()
    for one in written if isinstance(written, tuple) else (written,):
        for part in str(one).lower().replace(" ", "").split(","):
            first, to, last = part.partition("-")
            if first not in DAYS or (to and last not in DAYS):
                return None
            begin, end = DAYS.index(first), DAYS.index(last or first)
            found |= {n % 7 for n in range(begin, end + (7 if end < begin else 0) + 1)}
    return tuple(sorted(found))


def _freeze(reader: Reader, node: Table) -> Freeze | None:
    before = len(reader.problems)
    values: dict[str, Any] = reader.table(node, FREEZE, "a freeze")
    at = {name: entry[1] for name, entry in node.entries.items()}
    begin, end = (_moment(reader, values, at, key) for key in ("from", "until"))
    if begin is not None and end is not None and end <= begin:
        reader.error(at["until"], "the freeze ends before it begins", "write a later `until`")
    if "reason" in values and not str(values["reason"]).strip():
        reader.error(at["reason"], "the freeze has no reason", "say why, for those it holds up")
    where = _scope(reader, values, at)
    if len(reader.problems) > before or begin is None or end is None:
        return None
    return Freeze(
        begin=begin.isoformat(timespec="minutes"),
        end=end.isoformat(timespec="minutes"),
        reason=str(values["reason"]).strip(),
        place=str(reader.place(node)),
        **where,
    )


def _moment(
    reader: Reader, values: dict[str, Any], at: dict[str, Node], key: str
) -> datetime | None:
    """Return a time; a date alone is the whole day, so as an end it is the next midnight."""
    if key not in values:
        return None  # said already
    text = str(values[key])
    if re.fullmatch(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d)?", text, re.ASCII):
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            if not 1000 <= found.year <= 9998:  # days around it are reckoned with
                reader.error(at[key], f"`{key}` is {text[:30]!r}", _WHEN)
                return None
            return found + timedelta(days=1) if key == "until" and len(text) == 10 else found
    reader.error(at[key], f"`{key}` is {text[:30]!r}", _WHEN)
    return None


def _scope(reader: Reader, values: dict[str, Any], at: dict[str, Node]) -> dict[str, Any]:
    """Return the time zone, and which runbooks it is about."""
    zone, names = values.get("timezone") or "UTC", values.get("runbooks") or ()
    if not _known(zone):
        told = f"there is no time zone {zone[:60]!r} on this machine"
        hint = "write for example Europe/Berlin; a machine that has not even that one lacks tzdata"
        reader.error(at["timezone"], told, hint)
    if "runbooks" in values and not names:
        told = "`runbooks` is an empty list, which could be all of them or none"
        reader.error(at["runbooks"], told, "name some, or take it out: all")
    for name in names:
        if not re.fullmatch(RUNBOOK_NAME, name):
            reader.error(at["runbooks"], f"{name[:60]!r} can't name a runbook", "write its name")
    return {"timezone": zone, "runbooks": tuple(names)}


def _known(zone: str) -> bool:
    if zone == "UTC":
        return True
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True
