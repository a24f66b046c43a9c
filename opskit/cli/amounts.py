"""Amounts of time as people type them."""

import time
from datetime import datetime

import click

from opskit.steps.units import instead_of, seconds_of, span_of


class Duration(click.ParamType[float]):
    """Seconds, or numbers with units: 90s, 10m, 1h30m, 2d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(value) if isinstance(value, (int, float)) else seconds_of(str(value))
        if seconds is None:
            write = instead_of(str(value), "for example 90s, 10m or 1h")
            self.fail(f"{value!r} can't be taken; write {write}", param, ctx)
        return seconds


class Since(click.ParamType[float]):
    """A moment: how long ago (1h, 2d), or a date and time."""

    name = "since"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = span_of(str(value))
        if seconds is not None:
            return max(0.0, time.time() - seconds)
        try:
            return datetime.fromisoformat(str(value)).astimezone().timestamp()
        except ValueError:
            self.fail(f"{value!r} is no time; write 1h, 2d or 2026-11-22T08:00", param, ctx)


DURATION = Duration()
SINCE = Since()
