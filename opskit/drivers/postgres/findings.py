"""What was found out about a database, how much it weighs, and how it is told."""

from collections.abc import Iterable, Mapping, Sequence

from opskit.model.frozen import frozen
from opskit.model.value import Json
from opskit.steps.indexes import CHECKS
from opskit.steps.weighing import Level

_ORDER = ("UNKNOWN", "CRIT", "WARN", "INFO")
_SHOWN = 200
"""Findings that go into the record as data; all of them are in the output."""


@frozen
class Found:
    """One finding. `unknown`: it could not be looked at, whatever the check weighs.

    `weight`: what it weighs, where that is not what its check does. `definition`: of an index, the
    expected one where that is missing or invalid, else the one that is there.
    """

    check: str
    text: str
    table: str = ""
    name: str = ""
    unknown: bool = False
    weight: str = ""
    definition: str = ""


@frozen
class Weighed:
    """A finding with its weight: INFO, WARN, CRIT or UNKNOWN."""

    level: str
    found: Found

    def as_json(self) -> dict[str, Json]:
        found = self.found
        return {
            "level": self.level,
            "check": found.check,
            "table": found.table,
            "name": found.name,
            "text": found.text,
            **({"definition": found.definition} if found.definition else {}),
        }


def weighed(
    findings: Iterable[Found],
    leave_out: Sequence[str],
    levels: Iterable[tuple[str, str]],
    checks: Mapping[str, str] = CHECKS,
) -> list[Weighed]:
    """Weigh what was found, the worst first; less the checks that are left out."""
    own = dict(levels)
    kept = [
        Weighed(level="UNKNOWN" if one.unknown else _weight(one, own, checks), found=one)
        for one in findings
        if one.check not in leave_out
    ]
    return sorted(kept, key=lambda w: (_ORDER.index(w.level), w.found.table, w.found.check))


def _weight(found: Found, own: Mapping[str, str], checks: Mapping[str, str]) -> str:
    return own.get(found.check) or found.weight or checks[found.check]


def worst(found: Sequence[Weighed]) -> Level:
    """Return the level of all of it; what is only told of is OK."""
    levels = {one.level for one in found}
    if "UNKNOWN" in levels:
        return "UNKNOWN"
    if "CRIT" in levels:
        return "CRIT"
    return "WARN" if "WARN" in levels else "OK"


def told(found: Sequence[Weighed], where: str, looked: str) -> str:
    """Say in one line how it is."""
    counts = {level: sum(one.level == level for one in found) for level in _ORDER}
    words = ", ".join(f"{n} {level}" for level, n in counts.items() if n)
    line = f"{worst(found)} {where}: {words or 'as expected'} ({looked})"
    if worst(found) == "OK":
        return line
    first = found[0].found
    return f"{line}; {first.table or first.name}: {first.text}"


def table(found: Sequence[Weighed]) -> str:
    """Write a table for people; without a finding it is empty."""
    rows = [("LEVEL", "CHECK", "TABLE", "NAME", "WHAT")]
    rows += [(w.level, w.found.check, w.found.table, w.found.name, w.found.text) for w in found]
    if len(rows) == 1:
        return ""
    widths = [min(40, max(len(row[n]) for row in rows)) for n in range(4)]
    lines = (
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]
        )
        for row in rows
    )
    return "".join(" ".join(line.rstrip().splitlines()) + "\n" for line in lines)


def evidence(found: Sequence[Weighed]) -> dict[str, Json]:
    """Return it as data for the record."""
    return {
        "level": worst(found),
        "counts": {level: sum(one.level == level for one in found) for level in _ORDER},
        "findings": [one.as_json() for one in found[:_SHOWN]],
    }
