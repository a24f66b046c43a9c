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


def alert(schedule: Schedule, program: Sequence[str]) -> str:
    """Return the shell text for when a run did not succeed: channels are told, then `alert` is."""
    texts = [schedule.alert] if schedule.alert else []
    if schedule.tell:
        words = [*program, "notify", "--severity", "critical"]
        words += ["-i", schedule.inventory] if schedule.inventory is not None else []
        words += [word for name in schedule.tell for word in ("--to", name)]
        words.append(f"scheduled: {schedule.name} did not succeed")
        texts.insert(0, shlex.join(words))
    return "; ".join(texts)


def seconds(value: float) -> str:
    """Write seconds in figures alone: systemd and timeout read no other form of a number."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
