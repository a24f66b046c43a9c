"""Rows of a query → OK, WARN, CRIT or UNKNOWN, by the limits of a health check."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from opskit.model.job import Output
from opskit.model.value import Json
from opskit.model.work import Limits
from opskit.steps.units import figure

Level: TypeAlias = Literal["OK", "WARN", "CRIT", "UNKNOWN"]
LEVELS: tuple[Level, ...] = ("OK", "WARN", "CRIT", "UNKNOWN")
"""In the order of the exit statuses that monitoring plug-ins have."""
_WORST: tuple[Level, ...] = ("CRIT", "UNKNOWN", "WARN", "OK")
"""What is certainly wrong comes before what nobody knows, which never passes."""

_LIMIT = r"(<=|>=|==|!=|<|>)\s*(-?\d+(?:\.\d+)?)"
_SHOWN = 5


def limit(written: str) -> str | None:
    """Return a limit as it is kept, `> 80`; None for what is none."""
    match = re.fullmatch(_LIMIT, written.strip())
    return f"{match[1]} {match[2]}" if match else None


def weighed(limits: Limits, output: Output) -> tuple[Level, str]:
    """Return the worst level of a query's rows, and what brought it about.

    A row is a number, or a word and a number. No row and no number are UNKNOWN, unless it is told
    why there is none to judge.
    """
    if output.outcome != "succeeded":
        return "UNKNOWN", output.reason
    try:
        rows = json.loads(output.stdout)
    except ValueError:
        rows = []
    count = output.evidence.get("rows")
    if not rows and (idle := output.evidence.get("idle")):
        return "OK", str(idle)
    if not rows:
        return "UNKNOWN", "it brings no rows"
    if len(rows) != count:
        return "UNKNOWN", f"{count} rows are too much; have the query name the worst"
    found = [_row(limits, tuple(row.values())) for row in rows]
    worst = next(level for level in _WORST if any(level == one for one, _ in found))
    named = ("CRIT", "UNKNOWN") if worst == "CRIT" else (worst,)
    told = [what for level in named for one, what in found if level == one]
    shown = told[: _SHOWN if worst != "OK" else 1]
    more = f", and {len(told) - len(shown)} more" if len(shown) < len(told) else ""
    return worst, ", ".join(shown) + more


def _row(limits: Limits, values: Sequence[Json]) -> tuple[Level, str]:
    *words, last = values
    name = "".join(f"{word} " for word in words)
    number = _number(last)
    if number is None or len(words) > 1:
        return "UNKNOWN", f"{name}{last if last is not None else 'NULL'} is no number"
    sides: Mapping[Level, str] = {"CRIT": limits.crit, "WARN": limits.warn}
    for level, side in sides.items():
        if side and _beyond(number, side):
            return level, f"{name}{figure(number)} ({side})"
    return "OK", f"{name}{figure(number)}"


def _number(value: Json) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _beyond(number: float, side: str) -> bool:
    sign, _, written = side.partition(" ")
    edge = float(written)
    return {
        "<": number < edge,
        "<=": number <= edge,
        ">": number > edge,
        ">=": number >= edge,
        "==": number == edge,
        "!=": number != edge,
    }[sign]
