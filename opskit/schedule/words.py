"""The words of the command that a schedule begins."""

import shlex
from collections.abc import Sequence

from opskit.model.schedule import Schedule
from opskit.steps.units import duration


def command(schedule: Schedule, program: Sequence[str]) -> list[str]:
    """Return what is run: it asks nobody, waits for a lock as long as it may, and says why."""
    if schedule.remind:
        words = [*program, "incident", "--due"]
        words += ["-i", schedule.inventory] if schedule.inventory is not None else []
        return [*words, *(word for name in schedule.remind for word in ("--to", name))]
    words = [*program, "run", schedule.runbook, "--yes"]
    if schedule.inventory is not None:
        words += ["-i", schedule.inventory]
    if schedule.limit is not None:
        words += ["--limit", schedule.limit]
    if schedule.wait:
        words += ["--wait", duration(schedule.wait)]
    words += ["--reason", schedule.reason or f"scheduled: {schedule.name}"]
    for name, value in schedule.params.items():
        words += ["-p", f"{name}={value}"]
    return words


def again(schedule: Schedule, program: Sequence[str]) -> list[str]:
    """Return the command for when a run has succeeded: who was told that none did hears of it."""
    if not schedule.tell or not schedule.resolved:
        return []
    words = [*_tell(schedule, program), "--ends", _failed(schedule)]
    return [*words, f"scheduled: {schedule.name} succeeded again"]


def _failed(schedule: Schedule) -> str:
    return f"scheduled: {schedule.name} did not succeed"


def _tell(schedule: Schedule, program: Sequence[str]) -> list[str]:
    words = [*program, "notify", "--severity", "critical"]
    words += ["-i", schedule.inventory] if schedule.inventory is not None else []
    return [*words, *(word for name in schedule.tell for word in ("--to", name))]


def alert(schedule: Schedule, program: Sequence[str]) -> str:
    """Return the shell text for when a run did not succeed: channels are told, then `alert` is."""
    texts = [schedule.alert] if schedule.alert else []
    if schedule.tell:
        texts.insert(0, shlex.join([*_tell(schedule, program), _failed(schedule)]))
    return "; ".join(texts)


def seconds(value: float) -> str:
    """Write seconds in figures alone: systemd and timeout read no other form of a number."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
