"""A runbook that is to be begun by the clock, as whoever has a clock must be told."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.problem import Place


@frozen
class Moments:
    """When: the minutes, hours, days and months that are meant; weekdays from 0, Sunday.

    Where days of the month and weekdays are both restricted, either will do, as cron has it.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]


@frozen
class Schedule:
    """One entry of a file of schedules: a runbook, or a word about an incident. Times in seconds.

    `remind`: channels that are told when such a word is due, where it is no runbook. `alert`: shell
    text for when a run did not succeed, `tell`: channels that hear then, and, where it is
    `resolved`, that it succeeds again. `missed`: whether it is
    made up for `once` when the machine was off. `environment`: a file with what the run needs in
    its environment.
    """

    name: str
    place: Place
    runbook: str = ""
    at: str
    moments: Moments
    user: str
    remind: tuple[str, ...] = ()
    alert: str = ""
    tell: tuple[str, ...] = ()
    resolved: bool = True
    inventory: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    limit: str | None = None
    reason: str = ""
    zone: str = "UTC"
    jitter: float = 0.0
    wait: float = 0.0
    longest: float = 3600.0
    missed: Literal["skip", "once"] = "skip"
    environment: str | None = None
