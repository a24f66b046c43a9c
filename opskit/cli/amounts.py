"""Amounts of time as people type them."""

import time
from datetime import datetime

import click

from opskit.steps.units import seconds_of


class Duration(click.ParamType[float]):
    """Seconds, or numbers with units: 90s, 10m, 1h30m, 2d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(value) if isinstance(value, (int, float)) else seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration; write for example 90s, 10m or 1h", param, ctx)
        return seconds


class Since(click.ParamType[float]):
    """A moment: how long ago (1h, 2d), or a date and time."""

    name = "since"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = seconds_of(str(value))
        if seconds is not None:
            return time.time() - seconds
        try:
            return datetime.fromisoformat(str(value)).astimezone().timestamp()
        except ValueError:
            self.fail(f"{value!r} is no time; write 1h, 2d or 2026-11-22T08:00", param, ctx)


DURATION = Duration()
SINCE = Since()
