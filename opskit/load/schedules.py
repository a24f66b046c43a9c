"""A file of schedules → Schedule, one for each entry, with every problem in it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

from opskit.load.files import read
from opskit.load.reading import Reader
from opskit.load.runbook import check_format
from opskit.load.schedulekeys import FILE, SCHEDULE
from opskit.load.whole import whole
from opskit.load.yaml import Node, Scalar, Table, parse
from opskit.model.problem import Problem
from opskit.model.schedule import Moments, Schedule

_NAME = r"[a-z][a-z0-9-]{0,60}"
_USER = r"[a-z_][a-z0-9_.-]{0,31}"
_PART = re.compile(r"(?:(\*)|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", re.ASCII)
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_EXAMPLE = "write five fields, such as 15 * * * *"
_LINES = re.compile(r"[\x00-\x1f\x7f]")
_MOST_JITTER = 3600.0


class _WhenError(ValueError):
    """A time is none."""


def schedules(path: Path) -> tuple[Schedule, ...]:
    """Read a file; ProblemsError with every error in it."""
    return whole(path, *check_schedules(path))


def check_schedules(path: Path) -> tuple[tuple[Schedule, ...] | None, list[Problem]]:
    """Read a file for lint."""
    problems: list[Problem] = []
    raw = read(path, problems)
    if raw is None:
        return None, problems
    parsed = parse(raw, str(path))
    reader = Reader(parsed.file, parsed.source, parsed.problems)
    root = parsed.root
    if root is None:
        return None, parsed.problems
    if not isinstance(root, Table):
        reader.error(root, "schedules must be a mapping", "begin with opskit: 1")
        return None, parsed.problems
    if not check_format(reader, root, "a file of schedules"):
        return None, parsed.problems
    found = _listed(reader, root)
    return None if parsed.problems else found, list(dict.fromkeys(parsed.problems))


def _listed(reader: Reader, root: Table) -> tuple[Schedule, ...]:
    reader.unknown(root, {key.name: key for key in FILE}, "a file of schedules")
    node = root.entries["schedules"][1] if "schedules" in root.entries else root
    if not isinstance(node, Table) or node is root or not node.entries:
        reader.error(node, "`schedules` must be a mapping", "write NAME: {runbook: …, at: …}")
        return ()
    found: list[Schedule] = []
    for name, (key, value) in node.entries.items():
        if not re.fullmatch(_NAME, name):
            reader.error(key, f"{name[:60]!r} can't name a schedule", "small letters, digits, -")
        elif (made := _schedule(reader, key, value)) is not None:
            found.append(made)
    for written in reader.written:
        reader.error(written.node, "a schedule is not rendered", "write the value")
    return tuple(found)


def _schedule(reader: Reader, key: Scalar, node: Node) -> Schedule | None:
    before = len(reader.problems)
    values: dict[str, Any] = reader.table(node, SCHEDULE, f"the schedule `{key.text}`")
    if not isinstance(node, Table):
        return None
    if not values.keys() & {"alert", "tell"} and not node.entries.keys() & {"alert", "tell"}:
        told = f"the schedule `{key.text}` has neither `alert` nor `tell`: nobody would hear"
        reader.error(node, told, "add tell: CHANNEL, or alert: COMMAND")
    _one_of_both(reader, key, node)
    at = {name: entry[1] for name, entry in node.entries.items()}
    for name, what, write in _wrong(values):
        reader.error(at.get(name, node), what, write)
    moments = None
    if "at" in values:
        try:
            moments = moments_of(values["at"])
        except _WhenError as error:
            reader.error(at["at"], str(error), _EXAMPLE)
    if moments is None or len(reader.problems) > before:
        return None
    missed: Literal["skip", "once"] = "once" if values.pop("missed") == "once" else "skip"
    said = {name: value for name, value in values.items() if value is not None}
    for name in ("tell", "remind"):
        if isinstance(said.get(name), str):
            said[name] = (said[name],)
    return Schedule(name=key.text, place=reader.place(key), moments=moments, missed=missed, **said)


def _one_of_both(reader: Reader, key: Scalar, node: Table) -> None:
    """Say where an entry is neither a runbook nor a reminder, or has what only one of them has."""
    there = node.entries.keys()
    if len(there & {"runbook", "remind"}) != 1:
        told = f"the schedule `{key.text}` has " + (
            "both `runbook` and `remind`" if "remind" in there else "no `runbook`"
        )
        reader.error(node, told, "name what is run: runbook: NAME")
    elif "remind" in there:
        for name in sorted(there & {"params", "limit", "reason", "wait"}):
            told = f"`{name}` is for a runbook, and `remind` runs none"
            reader.error(node.entries[name][0], told, "take it out")


def _wrong(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what neither cron nor systemd can take: the key, what is wrong, what to write."""
    for name, value in values.items():
        texts = value.values() if isinstance(value, Mapping) else (value,)
        if any(isinstance(one, str) and _LINES.search(one) for one in texts):
            told = f"`{name}` has several lines, which neither cron nor systemd can take"
            yield name, told, "put it into a program of its own, and name that"
    zone, user = values.get("zone", "UTC"), values.get("user", "root")
    if zone != "UTC" and zone not in available_timezones():
        yield "zone", f"there is no time zone {zone[:60]!r}", "write for example UTC"
    if not re.fullmatch(_USER, user):
        yield "user", f"{user[:60]!r} is no user", "write a name"
    if not values.get("longest"):
        yield "longest", "a run may take no time", "write for example 1h"
    if not (values.get("environment") or "/").startswith("/"):
        told = f"{values['environment'][:60]!r} is no full path, so nobody would find it"
        yield "environment", told, "write it from / on"
    if values.get("jitter", 0.0) > _MOST_JITTER:
        yield "jitter", "this is more than an hour", "write at most 1h"


def moments_of(written: str) -> Moments:
    """Read five fields as cron has them; ValueError where they are none."""
    if not written.isascii():
        raise _WhenError(f"{written[:60]!r}: a time is numbers and signs with blanks between")
    fields = written.split()
    if len(fields) != len(_FIELDS):
        raise _WhenError(f"{written[:60]!r} has {len(fields)} fields, not five")
    minutes, hours, days, months, weekdays = (
        _numbers(text, *known) for text, known in zip(fields, _FIELDS, strict=True)
    )
    by_star = [text for text in (fields[2], fields[4]) if text.startswith("*") and text != "*"]
    if by_star and "*" not in (fields[2], fields[4]):
        told = f"{by_star[0]!r} beside another day means one or both, depending on who reads it"
        raise _WhenError(told)
    week = tuple(sorted({day % 7 for day in weekdays}))
    if not any(day <= _LONGEST[month - 1] for day in days for month in months) and len(week) == 7:
        raise _WhenError(f"{written[:60]!r} never comes")
    return Moments(minutes=minutes, hours=hours, days=days, months=months, weekdays=week)


_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _numbers(text: str, what: str, least: int, most: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _WhenError(f"{part[:20]!r} is no {what}")
        every, first, last, step = match.groups()
        if step is not None and (int(step) == 0 or (every is None and last is None)):
            raise _WhenError(f"{part[:20]!r}: a step is of `*` or of a range, and not 0")
        low = least if every else int(first)
        high = most if every else int(last or first)
        if not least <= low <= high <= most:
            raise _WhenError(f"{part[:20]!r} is no {what} from {least} to {most}")
        found.update(range(low, high + 1, int(step or 1)))
    return tuple(sorted(found))
