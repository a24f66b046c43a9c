"""A board as the lines of one picture: no wider and no higher than the terminal."""

from itertools import pairwise

from opskit.view import amounts, safe
from opskit.view.board import ORDER, TROUBLE, Board, Cell, Row
from opskit.view.labels import run_hosts
from opskit.view.paint import Paint, bare

GLYPHS: dict[Cell, tuple[str, str]] = {
    "none": (" ", " "),
    "planned": ("·", "."),
    "running": ("▸", ">"),
    "ok": ("✓", "+"),
    "failed": ("✗", "X"),
    "unknown": ("?", "?"),
    "skipped": ("-", "-"),
    "undone": ("↶", "u"),
}
STYLES: dict[Cell, str] = {"ok": "ok", "failed": "failed", "unknown": "unknown"}
STYLES |= {"running": "running", "undone": "undone"}
NAME, CELLS = 16, 24


class Frame:
    """Draws a board. `unicode`: whether the terminal can show more than ASCII."""

    def __init__(self, board: Board, *, paint: Paint, unicode: bool = True) -> None:
        self._board = board
        self._paint = paint
        self._glyph = 0 if unicode else 1
        self._name = min(NAME, max(map(safe.width, run_hosts(board.plan)), default=4))

    def lines(self, columns: int, height: int, now: float) -> list[str]:
        """Return the picture: heading, counts, hosts in trouble first, then what is running."""
        columns = max(columns - 1, 10)  # the last column would make terminals wrap
        return [self._fit(row, columns) for row in self._rows(columns, height, now)]

    def _fit(self, row: str, columns: int) -> str:
        """Make sure of the width (without colour where there is no room), and of the characters."""
        if safe.width(bare(row)) > columns:
            row = safe.cut(bare(row), columns)
        if self._glyph == 0:
            return row
        return row.replace("…", "~").replace("·", "-").encode("ascii", "replace").decode()

    def _rows(self, columns: int, height: int, now: float) -> list[str]:
        head = [self._heading(columns, now), self._progress(columns)]
        room = height - len(head) - 1
        if room < 2:
            return head[: max(1, height - 1)]
        rows = sorted(self._board.hosts(), key=_urgency)
        shown = rows if len(rows) <= room else rows[: room - 1]
        lines = [*head, *(self._host(row, columns, now) for row in shown)]
        if len(shown) < len(rows):
            lines.append(self._rest(rows[len(shown) :], columns))
        return lines

    def _heading(self, columns: int, now: float) -> str:
        board = self._board
        plan = board.plan
        elapsed = amounts.duration(now - board.began)
        left = board.remaining(now)
        if left is not None and board.state == "running":
            elapsed += f", about {amounts.duration(left)} left"
        batch = _batch(board)
        words = f"{safe.one_line(plan.runbook)} · {batch} · {elapsed}"
        if board.run:
            words += f" · {board.run}"
        return self._paint.bold(safe.cut(words, columns))

    def _progress(self, columns: int) -> str:
        board = self._board
        share = board.ended / board.total if board.total else 1.0
        full = int(share * 20)
        bar = f"[{'#' * full}{'.' * (20 - full)}] {board.ended}/{board.total} "
        words = [f"{count} {standing}" for standing, count in board.counts().items()]
        return bar + self._fitted(words, columns - len(bar))

    def _fitted(self, words: list[str], room: int) -> str:
        line, used = "", 0
        for word in words:
            used += len(word) + 2
            if used > room:
                break
            line += ("  " if line else " ") + self._paint.state(word, word.split(" ", 1)[1])
        return line

    def _host(self, row: Row, columns: int, now: float) -> str:
        cells = self._cells(row)
        count = min(len(row.cells), CELLS)
        name = safe.padded(safe.one_line(row.host), self._name)
        room = columns - self._name - count - 2
        lead = self._paint.state(name, row.standing) if row.standing in TROUBLE else name
        return f"{lead} {cells} {self._activity(row, room, now)}".rstrip()

    def _cells(self, row: Row) -> str:
        """One character a step; where there are too many, the worst of each stretch."""
        cells = row.cells
        if len(cells) > CELLS:
            edges = [n * len(cells) // CELLS for n in range(CELLS + 1)]
            cells = [_worst(cells[a:b]) for a, b in pairwise(edges)]
        return "".join(self._paint.state(GLYPHS[c][self._glyph], STYLES.get(c, "")) for c in cells)

    def _activity(self, row: Row, room: int, now: float) -> str:
        if row.running:
            key, began = next(iter(row.running.items()))
            expected = self._board.expectation(key)
            time = amounts.duration(now - began)
            time += f"/~{amounts.duration(expected)}" if expected is not None else ""
            action = self._board.labels.action(key)
            name = self._board.plan.stages[action.position].name if action else key
            since = row.silent.get(key)
            silent = f"silent for {amounts.duration(now - since)}" if since is not None else ""
            words = self._words(name, key, room - len(time) - 1, silent)
            return f"{safe.padded(words, room - len(time) - 1)} {time}"
        words = row.note if row.standing in TROUBLE else row.standing
        if row.standing == "undone" and row.note:
            words = f"undone, after {row.note}"
        return self._paint.state(safe.cut(words, room), row.standing)

    def _words(self, name: str, key: str, room: int, silent: str) -> str:
        """Say which command runs and its last line, or for how long there has been none."""
        words = safe.one_line(f"{name}: {self._board.command(key)}")
        last = silent or safe.one_line(self._board.last_line(key))
        if not last:
            return words
        share = max(min(safe.width(name), room - 12), room // 2)  # so that it keeps its place
        return f"{safe.padded(words, share)} | {last}"

    def _rest(self, rows: list[Row], columns: int) -> str:
        counts = dict.fromkeys(ORDER, 0)
        for row in rows:
            counts[row.standing] += 1
        words = ", ".join(f"{count} {standing}" for standing, count in counts.items() if count)
        return safe.cut(f"… and {len(rows)} more: {words}", columns)


def _batch(board: Board) -> str:
    if board.state not in ("running",):
        return board.state
    if board.batch < 0:
        return "preflight"
    return f"batch {board.batch + 1} of {len(board.plan.batches)}"


def _urgency(row: Row) -> tuple[int, float, int, str]:
    """Trouble first, then what runs (longest first), then what ended last, then what waits."""
    began = min(row.running.values(), default=0.0)
    order = ORDER.index(row.standing)
    return (order, began if row.running else -row.seen, row.batch, "")


def _worst(cells: list[Cell]) -> Cell:
    for cell in ("unknown", "failed", "running", "undone", "planned", "ok", "skipped"):
        if cell in cells:
            return cell
    return "none"
