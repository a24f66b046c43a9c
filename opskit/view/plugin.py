"""A run of health checks as a monitoring plug-in tells it: one line that counts, then the rest."""

from collections.abc import Iterator, Mapping, Sequence

from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, Run
from opskit.view import safe
from opskit.view.details import LEVELS
from opskit.view.labels import extent
from opskit.view.lines import ending

STATUS: Mapping[str, int] = {"OK": 0, "WARN": 1, "CRIT": 2, "UNKNOWN": 3}
_WORDS: Mapping[str, str] = {"WARN": "WARNING", "CRIT": "CRITICAL"}
"""As such plug-ins write them."""
_WORST = ("CRIT", "UNKNOWN", "WARN", "OK")
"""Somebody is called for what is certainly wrong: what nobody knows must not hide it."""
_SOUND = frozenset({"done", "failed", "unknown"})
"""How a host can come out whose every check was made; a level says how each went."""


def told(run: Run, plan: Plan, more: Sequence[str] = ()) -> tuple[str, int]:
    """Return what to print and the status to end with: 0 to 3, the worst of all checks.

    `more`: what went wrong besides; as what keeps a check from being made, it hides nothing.
    """
    levels = {record.key: level_of(record) for record in run.actions.values()}
    counts = {level: list(levels.values()).count(level) for level in LEVELS}
    unseen = [*gaps(run, levels), *more]
    found = {*levels.values(), *(("UNKNOWN",) if unseen else ())}
    worst = next((level for level in _WORST if level in found), "UNKNOWN")
    ill: dict[str, list[str]] = {level: [] for level in _WORST}
    for record in run.actions.values():
        if (level := levels[record.key]) in ill:
            ill[level].append(f"{record.host}: {_said(record)}")
    ill["UNKNOWN"][:0] = unseen
    details = [line for level in _WORST[:-1] for line in ill[level]]
    checked = ", ".join(f"{n} {level}" for level, n in counts.items() if n) or "nothing was checked"
    hosts = extent(plan)
    first = details[0] if details else f"{checked} on {hosts}"
    if worst == "CRIT" and ill["UNKNOWN"]:
        first += f"; and {len(ill['UNKNOWN'])} UNKNOWN"
    counts["UNKNOWN"] += len(unseen)
    figures = " ".join(f"{level.lower()}={counts[level]}" for level in reversed(LEVELS))
    rest = [f"{checked} on {hosts}", *details] if details else []
    return text(run.runbook, worst, first, rest, figures), STATUS[worst]


def text(name: str, level: str, what: str, rest: Sequence[str] = (), figures: str = "") -> str:
    """Write an answer in the format of plug-ins; a bar in it would end the first line's text."""
    lines = [f"{name.upper()} {_WORDS.get(level, level)} - {_plain(what)}", *map(_plain, rest)]
    lines[0] += f" | {figures}" if figures else ""
    return "".join(line + "\n" for line in lines)


def _plain(line: str) -> str:
    return safe.one_line(line).replace("|", "/")


def level_of(record: ActionRecord) -> str:
    """Return what a check came to; one that could not look at all and found harm has found harm."""
    evidence = record.data.get("evidence")
    if not isinstance(evidence, Mapping):
        return ""
    counts = evidence.get("counts")
    harm = counts.get("CRIT") if isinstance(counts, Mapping) else 0
    level = str(evidence.get("level", ""))
    return "CRIT" if harm and level == "UNKNOWN" else level


def _said(record: ActionRecord) -> str:
    return str(record.data.get("reason") or record.step)


def gaps(run: Run, levels: Mapping[str, str]) -> Iterator[str]:
    """Yield what kept hosts from being checked: of these nothing is known."""
    if run.exit is None:
        yield f"run {run.id} has not come to its end"
    for host, state in run.hosts.items():
        if state not in _SOUND:
            yield f"{host}: {run.unreachable.get(host, state).removeprefix(f'host {host}: ')}"
    for record in run.actions.values():
        if not levels[record.key] and record.state in ("failed", "unknown"):
            yield f"{record.host}: {record.step}{ending(record.data)}"
