"""A run of health checks as a monitoring plug-in tells it: one line that counts, then the rest."""

from collections.abc import Iterator, Mapping, Sequence

from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, Run
from opskit.view import amounts, safe
from opskit.view.details import LEVELS
from opskit.view.labels import run_hosts
from opskit.view.lines import ending

STATUS: Mapping[str, int] = {"OK": 0, "WARN": 1, "CRIT": 2, "UNKNOWN": 3}
_WORDS: Mapping[str, str] = {"WARN": "WARNING", "CRIT": "CRITICAL"}
"""As such plug-ins write them."""
_SOUND = frozenset({"done", "failed", "unknown"})
"""How a host can come out whose every check was made; a level says how each went."""


def told(run: Run, plan: Plan) -> tuple[str, int]:
    """Return what to print and the status to end with: 0 to 3, the worst of all checks."""
    levels = {record.key: _level(record) for record in run.actions.values()}
    counts = {level: list(levels.values()).count(level) for level in LEVELS}
    gaps = list(_gaps(run, levels))
    worst = "UNKNOWN" if gaps else next((level for level in LEVELS if counts[level]), "UNKNOWN")
    ill = [r for level in LEVELS[:-1] for r in run.actions.values() if levels[r.key] == level]
    details = [*gaps, *(f"{record.host}: {_said(record)}" for record in ill)]
    checked = ", ".join(f"{n} {level}" for level, n in counts.items() if n) or "nothing was checked"
    hosts = amounts.count(len(run_hosts(plan)), "host")
    first = details[0] if details else f"{checked} on {hosts}"
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


def _level(record: ActionRecord) -> str:
    evidence = record.data.get("evidence")
    return str(evidence.get("level", "")) if isinstance(evidence, Mapping) else ""


def _said(record: ActionRecord) -> str:
    return str(record.data.get("reason") or record.step)


def _gaps(run: Run, levels: Mapping[str, str]) -> Iterator[str]:
    """Yield what kept hosts from being checked: of these nothing is known."""
    if run.exit is None:
        yield f"run {run.id} has not come to its end"
    for host, state in run.hosts.items():
        if state not in _SOUND:
            yield f"{host}: {run.unreachable.get(host, state).removeprefix(f'host {host}: ')}"
    for record in run.actions.values():
        if not levels[record.key] and record.state in ("failed", "unknown"):
            yield f"{record.host}: {record.step}{ending(record.data)}"
