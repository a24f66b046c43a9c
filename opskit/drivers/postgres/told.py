"""What a database is busy with, as tables for people."""

from collections.abc import Iterable, Sequence

from opskit.drivers.postgres.present import RUNNING, Moment, Present
from opskit.drivers.postgres.statements import Cost
from opskit.render.masking import masked
from opskit.steps.activity import RANKS
from opskit.steps.units import duration, figure

_DEEPEST = 12
"""From here on a tree is not drawn any deeper; the level is told as a number all the same."""
_ROWS = 100
_WIDE = 100


def session_table(sessions: Sequence[Present]) -> str:
    """List sessions that run something or keep a transaction open, as `sessions` takes them."""
    if not sessions:
        return ""
    rows = [("PID", "USER", "APPLICATION", "STATE", "WAITS FOR", "FOR", "OPEN FOR", "SESSION",
             "STATEMENT")]  # fmt: skip
    rows += [
        (str(one.pid), one.user, one.application, one.state, _waits(one),
         _time(one.seconds), _time(one.transaction), one.target or "-", masked(one.query, _WIDE))
        for one in sessions
    ]  # fmt: skip
    return aligned(rows)


def tree(now: Moment) -> str:
    """Draw who blocks whom: whoever waits for nobody stands on the left."""
    if not now.nodes:
        return ""
    rows = [("BLOCKING", "BLOCKS", "USER", "STATE", "WAITS", "STATEMENT")]
    for node in now.nodes[:_ROWS]:
        one = now.sessions.get(node.pid)
        deep = "  " * min(node.level, _DEEPEST) + ("└ " if node.level else "")
        name = str(node.pid) if node.pid else "prepared"
        more = f" also for {', '.join(map(str, node.also[:5]))}" if node.also else ""
        ring = f" ring of {', '.join(map(str, node.ring))}" if node.ring else ""
        waits = _time(one.waiting) if one is not None else ""
        user, state, text = ("", "", "")
        if one is not None:
            user, state = one.user or one.kind, one.state
            text = "(not shown)" if one.hidden else masked(one.query, _WIDE)
        elif not node.pid:
            text = ", ".join(name for name, _, _ in now.prepared)[:_WIDE]
        rows.append((f"{deep}{name}", str(node.blocks), user, state, f"{waits}{more}{ring}", text))
    left = len(now.nodes) - _ROWS
    return aligned(rows) + (f"… {left} more\n" if left > 0 else "")


def statement_table(costs: Sequence[Cost], since: str, by: str) -> str:
    """List statements, in the order that they come in."""
    if not costs:
        return ""
    whole = sum(cost.total for cost in costs) or 1.0
    rows = [("TOTAL", "SHARE", "CALLS", "MEAN", "ROWS/CALL", "HIT", "TEMP", "USER", "STATEMENT")]
    for cost in costs:
        text = masked(cost.text, _WIDE)
        rows.append(
            (_time(cost.total), f"{100 * cost.total / whole:.0f}%", figure(cost.calls),
             _time(cost.mean), _many(cost.rows / cost.calls),
             "-" if cost.found is None else f"{cost.found:.0%}", figure(cost.temp), cost.user,
             f"in a function: {text}" if cost.inner else text)
        )  # fmt: skip
    head = f"statements {since} by {RANKS[by]}; SHARE is of those listed, TEMP is blocks written"
    return f"{head}\n{aligned(rows)}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows below each other; what would reach into another line is made a space."""
    cells = [["".join(_one_line(cell)) for cell in row] for row in rows]
    last = len(rows[0]) - 1
    widths = [max(len(row[n]) for row in cells) for n in range(last)]
    return "".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[last]]).rstrip()
        + "\n"
        for row in cells
    )


def _one_line(cell: str) -> Iterable[str]:
    return (letter if letter.isprintable() else " " for letter in cell)


def _waits(one: Present) -> str:
    """Say what a statement waits for; who runs none waits for its client."""
    return (one.state in RUNNING and one.wait) or "-"


def _many(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.3g}ms"
    return duration(round(seconds) if seconds >= 10 else round(seconds, 1))
