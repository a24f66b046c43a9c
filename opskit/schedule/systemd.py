"""A schedule as units of systemd: a timer, what it begins, and who hears when that fails."""

from collections.abc import Iterator, Mapping, Sequence

from opskit.model.schedule import Moments, Schedule
from opskit.schedule.words import again, alert, command, seconds

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_ALL_DAYS, _ALL_WEEKDAYS = 31, 7
GRACE = 120
"""Seconds in which a run that takes too long may end what it does by itself."""


def units(schedule: Schedule, program: Sequence[str], folder: str) -> Mapping[str, str]:
    """Return the units of a schedule: name of the file → text."""
    name = f"opskit-{schedule.name}"
    return {
        f"{name}.timer": _timer(schedule, name),
        f"{name}.service": _service(schedule, name, program, folder),
        f"{name}-failed.service": _failed(schedule, program, folder),
    }


def _timer(schedule: Schedule, name: str) -> str:
    lines = [
        "[Unit]",
        f"Description=opskit: {schedule.name}, {schedule.at} {schedule.zone}",
        "",
        "[Timer]",
        *(f"OnCalendar={one}" for one in calendar(schedule.moments, schedule.zone)),
        f"RandomizedDelaySec={seconds(schedule.jitter)}s",
        "AccuracySec=1s",
        f"Persistent={'true' if schedule.missed == 'once' else 'false'}",
        f"Unit={name}.service",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def calendar(moments: Moments, zone: str) -> Iterator[str]:
    """Yield the expressions that together mean the moments."""
    by_day = len(moments.days) < _ALL_DAYS
    by_week = len(moments.weekdays) < _ALL_WEEKDAYS
    months = _listed(moments.months, 12)
    time = f"{_listed(moments.hours, 24)}:{_listed(moments.minutes, 60)}:00 {zone}"
    if by_day or not by_week:
        yield f"*-{months}-{_listed(moments.days, _ALL_DAYS)} {time}"
    if by_week:
        yield f"{','.join(_DAYS[day] for day in moments.weekdays)} *-{months}-* {time}"


def _listed(numbers: Sequence[int], of: int) -> str:
    return "*" if len(numbers) == of else ",".join(f"{number:02}" for number in numbers)


def _service(schedule: Schedule, name: str, program: Sequence[str], folder: str) -> str:
    over = again(schedule, program)
    lines = [
        "[Unit]",
        f"Description=opskit: {schedule.name}",
        f"OnFailure={name}-failed.service",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=oneshot",
        f"User={schedule.user}",
        f"WorkingDirectory={_plain(folder)}",
        *([f"EnvironmentFile={_plain(schedule.environment)}"] if schedule.environment else []),
        f"ExecStart={' '.join(map(word, command(schedule, program)))}",
        # Where it can't be said, the run has succeeded all the same.
        *([f"ExecStartPost=-{' '.join(map(word, over))}"] if over else []),
        "StandardInput=null",
        f"TimeoutStartSec={seconds(schedule.longest)}s",
        f"TimeoutStopSec={GRACE}s",
        "KillMode=mixed",
    ]
    return "\n".join(lines) + "\n"


def _failed(schedule: Schedule, program: Sequence[str], folder: str) -> str:
    # Where it is not there, that is heard of all the same.
    environment = f"-{_plain(schedule.environment)}" if schedule.environment else ""
    lines = [
        "[Unit]",
        f"Description=opskit: {schedule.name} did not succeed",
        "",
        "[Service]",
        "Type=oneshot",
        f"User={schedule.user}",
        f"WorkingDirectory={_plain(folder)}",
        f"Environment=OPSKIT_SCHEDULE={schedule.name}",
        *([f"EnvironmentFile={environment}"] if schedule.tell and environment else []),
        f"ExecStart=/bin/sh -c {word(alert(schedule, program))}",
        "TimeoutStartSec=60s",
    ]
    return "\n".join(lines) + "\n"


def word(text: str) -> str:
    """Write a word of a command so that systemd takes it as it is."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'


def _plain(text: str) -> str:
    """Write a text that stands for itself: `%` begins a specifier."""
    return text.replace("%", "%%")
