"""What was found out about hosts before anything is done there."""

from collections.abc import Iterator, Sequence

from opskit.errors import Exit
from opskit.model.hostcheck import HostCheck, HostKey, Level
from opskit.model.value import Json
from opskit.view import amounts, safe
from opskit.view.margins import fitted
from opskit.view.paint import PLAIN, Paint

WORDS: dict[Level, str] = {
    "ok": "ok",
    "warning": "WARNING",
    "critical": "CRITICAL",
    "unknown": "UNKNOWN",
}
ORDER: tuple[Level, ...] = ("critical", "unknown", "warning", "ok")
_COLOUR: dict[Level, str] = {
    "ok": "ok",
    "warning": "waiting",
    "critical": "failed",
    "unknown": "unknown",
}


_TITLES = {
    "reachable": "KEY", "sudo": "SUDO", "clock": "CLOCK", "disk": "DISK", "inodes": "INODES",
    "tools": "TOOLS", "home": "HOME ON",
}  # fmt: skip
"""What the table has of a good host, by the name of the fact."""
_NAME = 18
"""Columns for the name of a host: with these the table stays below 80."""


def text(found: Sequence[HostCheck], *, paint: Paint = PLAIN, columns: int | None = None) -> str:
    """Show what is wrong host by host, worst first, then the figures of hosts that are fit."""
    ordered = sorted(found, key=lambda check: ORDER.index(check.level))
    lines = [row for check in ordered for row in _host(check, paint, columns)]
    lines += _table([check for check in ordered if check.level == "ok"], paint)
    counts = [f"{n} {level}" for level in ORDER if (n := _count(found, level))]
    lines.append(f"{amounts.count(len(found), 'host')}: {', '.join(counts)}")
    return "\n".join(lines) + "\n"


def _table(good: Sequence[HostCheck], paint: Paint) -> Iterator[str]:
    if not good:
        return
    rows = [["", "HOST", *_TITLES.values()]]
    for check in good:
        figures = {fact.name: safe.one_line(fact.figure) for fact in check.facts}
        rows.append(["ok", safe.one_line(check.host), *(figures.get(f, "") for f in _TITLES)])
    widths = [max(safe.width(row[n]) for row in rows) for n in range(len(rows[0]))]
    widths[1] = max(widths[1], 4) if widths[1] <= _NAME else _NAME
    for number, row in enumerate(rows):
        cells = (c + " " * (w - safe.width(c)) for c, w in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        yield paint.state("ok", "ok") + line[2:] if number else paint.bold(line)


def _host(check: HostCheck, paint: Paint, columns: int | None) -> Iterator[str]:
    if check.level == "ok":
        return
    yield paint.bold(f"{safe.one_line(check.host)} ({safe.one_line(check.address)})")
    for fact in sorted(check.facts, key=lambda fact: ORDER.index(fact.level)):
        if fact.level != "ok":
            word = paint.state(f"{WORDS[fact.level]:<8}", _COLOUR[fact.level])
            yield from fitted(f"  {word} {fact.name}: {safe.one_line(fact.text)}", columns, 11)


def _count(found: Sequence[HostCheck], level: Level) -> int:
    return sum(check.level == level for check in found)


def status(found: Sequence[HostCheck]) -> Exit:
    """Return the exit status of a check: critical 1, nothing known 6, warnings are fine."""
    levels = {check.level for check in found}
    if "critical" in levels:
        return Exit.FAILED
    return Exit.UNKNOWN if "unknown" in levels else Exit.OK


def as_json(check: HostCheck) -> dict[str, Json]:
    """Return a check as an object."""
    return {
        "kind": "host",
        "host": check.host,
        "address": check.address,
        "level": check.level,
        "facts": [
            {"name": f.name, "level": f.level, "text": f.text, "figure": f.figure}
            for f in check.facts
        ],
    }


def keys(found: Sequence[HostKey], *, paint: Paint = PLAIN) -> str:
    """Show the keys of hosts: new ones to compare, changed ones to worry about."""
    lines = []
    for key in found:
        words = key.reason if key.state == "unreachable" else f"{key.kind} {key.fingerprint}"
        state = paint.state(f"{key.state:<11}", _KEYS[key.state])
        lines.append(f"{state} {safe.one_line(key.host)}  {safe.one_line(words)}")
    return "".join(line + "\n" for line in lines)


_KEYS = {"known": "ok", "new": "waiting", "changed": "failed", "unreachable": "failed"}


def key_json(key: HostKey) -> dict[str, Json]:
    """Return a host key as an object."""
    return {
        "kind": "host key",
        "host": key.host,
        "name": key.name,
        "type": key.kind,
        "fingerprint": key.fingerprint,
        "state": key.state,
        "reason": key.reason,
    }
