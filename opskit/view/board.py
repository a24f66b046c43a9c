"""What a live view knows: where every host and every step stands, folded from events."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from opskit.model.event import Chunk, Entry, Event
from opskit.model.frozen import mutable
from opskit.model.plan import Action, Plan
from opskit.view import safe, works
from opskit.view.fold import ALWAYS
from opskit.view.labels import Labels, machine, run_hosts, short

Turn: TypeAlias = tuple[int, str, int, str]
"""What counts as one thing to do: an action, or all candidates for one together."""
Standing = Literal[
    "unknown", "undo failed", "failed", "unreachable", "running", "waiting", "undone", "done"
]
Cell: TypeAlias = Literal[
    "none", "planned", "running", "ok", "failed", "unknown", "skipped", "undone"
]
"""How a step stands on a host; *none*: it is not for that host."""
ORDER: tuple[Standing, ...] = (
    "unknown",
    "undo failed",
    "failed",
    "unreachable",
    "running",
    "undone",
    "waiting",
    "done",
)
SAID = 400
"""So many bytes of what an action prints are kept for its last line."""
TROUBLE: frozenset[Standing] = frozenset({"unknown", "undo failed", "failed", "unreachable"})
_CELLS: Mapping[str, Cell] = {"succeeded": "ok", "failed": "failed", "unknown": "unknown"}


@mutable
class Row:
    """One host. `running` holds what goes on now: action key → when it began."""

    host: str
    batch: int
    cells: list[Cell]
    left: int
    standing: Standing = "waiting"
    running: dict[str, float] = field(default_factory=dict)
    note: str = ""
    silent: dict[str, float] = field(default_factory=dict)
    """Since when something that goes on has printed nothing, where that was pointed out."""
    bad: dict[str, str] = field(default_factory=dict)
    """What ended badly here and has not been made good: action key → position."""
    seen: float = 0.0
    """When the last event came."""


class Board:
    """Takes events in, one at a time. Its owner holds a lock around every call.

    `expected`: how long each step took in earlier runs, in seconds, by step name.
    """

    def __init__(
        self, plan: Plan, expected: Mapping[str, float], began: float, run: str = ""
    ) -> None:
        self.plan = plan
        self.expected = expected
        self.began = began
        self.labels = Labels(plan)
        self._hosts = frozenset(run_hosts(plan))
        self.columns = {position: n for n, position in enumerate(self._positions())}
        self.rows: dict[str, Row] = {}
        self.batch = -1
        self.run = run
        self.state = "running"
        self.ended = 0
        self.total = len({self._turn(action) for action in plan.actions})
        self._over: set[Turn] = set()
        self._said: dict[str, bytes] = {}
        batches = {name: n for n, names in enumerate(plan.batches) for name in names}
        for action in plan.actions:
            host = machine(action)
            row = self._row(host, batches.get(host, len(plan.batches)))
            row.left += self._counts(action)
            if action.position in self.columns:
                row.cells[self.columns[action.position]] = "planned"

    def _candidate(self, action: Action) -> bool:
        """Tell whether an action is one of several of which only one is done."""
        return self.plan.stages[action.position].scope in ("once", "batch")

    def _counts(self, action: Action) -> bool:
        """Tell whether a host has an action to itself, before the end: with these it is done."""
        return not self._candidate(action) and action.batch != ALWAYS

    def _positions(self) -> list[str]:
        """Return the steps that a host has a cell for: those of the run's own hosts, in order."""
        order = sorted(self.plan.actions, key=lambda a: (a.batch == ALWAYS, a.batch > 0))
        own = [action.position for action in order if machine(action) in self._hosts]
        return list(dict.fromkeys(own or [action.position for action in order]))

    def _turn(self, action: Action) -> Turn:
        key = "" if self._candidate(action) else action.key
        return (action.batch, action.position, action.index, key)

    def _row(self, host: str, batch: int = 0) -> Row:
        row = self.rows.get(host)
        if row is None:
            cells: list[Cell] = ["none"] * len(self.columns)
            row = self.rows[host] = Row(host=host, batch=batch, cells=cells, left=0)
        return row

    def recall(self, entries: Iterable[Entry]) -> None:
        """Take in what the record has of a run that is gone on with; nothing of it runs now."""
        for entry in entries:
            self.take(entry.event, entry.at)
        self.state = "running"
        for row in self.rows.values():
            row.running.clear()
            row.silent.clear()
            row.cells = ["planned" if cell == "running" else cell for cell in row.cells]
            if row.standing in ("running", "waiting"):
                row.standing = self._rest(row)

    def take(self, event: Event, at: float) -> None:
        """Fold one event in."""
        match event.kind:
            case "step started":
                self._started(event, at)
            case "step ended":
                self._ended(event, at)
            case "step silent":
                self._silent(event, at)
            case "step skipped":
                self._close(event, "skipped", at)
            case "host opened":
                row = self._row(event.host)
                if row.standing == "unreachable":
                    self._made_good(row)
            case "host unreachable":
                row = self._row(event.host)
                row.standing = "unreachable"
                row.note = short(event.data, "reason") or "unreachable"
                row.seen = at
            case _:
                self._take_of_run(event)

    def _take_of_run(self, event: Event) -> None:
        match event.kind:
            case "run created":
                self.run = short(event.data, "run") or self.run
            case "undo began":
                self.state = "undoing"
            case "waiting":
                self.state = "waiting"
            case "decided":
                self.state = "running"
                self._decided(event)
            case "run resumed":
                self.state = "running"
            case "run ended":
                self.state = short(event.data, "status") or "ended"
            case _:
                pass

    def _started(self, event: Event, at: float) -> None:
        row = self._row(event.host)
        row.running[event.key] = at
        row.seen = at
        if row.standing not in TROUBLE:
            row.standing = "running"
        action = self.labels.action(event.key)
        if action is not None and not self._undoes(event.key):
            self.batch = max(self.batch, action.batch)
        self._mark(event.key, row, "running")

    def _silent(self, event: Event, at: float) -> None:
        row, seconds = self._row(event.host), event.data.get("seconds")
        row.silent.pop(event.key, None)
        if not event.data.get("over") and isinstance(seconds, (int, float)):
            row.silent[event.key] = at - seconds

    def _ended(self, event: Event, at: float) -> None:
        outcome = str(event.data.get("outcome"))
        row = self._row(event.host)
        if outcome == "succeeded":
            if row.bad.pop(event.key, None) is not None:  # it is known by now, or was done again
                self._made_good(row)
        else:
            row.bad[event.key] = self.labels.position(event.key)
            step = self.labels.step(event)
            row.note = safe.one_line(f"{step}: {event.data.get('reason') or outcome}")
            row.standing = _trouble(event, undoing=self._undoes(event.key))
        cell = _CELLS.get(outcome, "unknown")
        self._close(event, "undone" if self._undoes(event.key) and cell == "ok" else cell, at)

    def _decided(self, event: Event) -> None:
        """Take in a person's answer: what is to be done again counts as not done."""
        choice = event.data.get("choice")
        row = self.rows.get(event.host)
        if row is not None and choice == "exclude":
            row.note = "left out by a person"
        if row is None or choice not in ("retry", "done", "skip"):
            return
        if event.key:
            row.bad.pop(event.key, None)
            if choice == "retry":
                self._uncount(event.key, row)
            self._mark(event.key, row, "planned" if choice == "retry" else "ok")
        self._made_good(row)

    def _uncount(self, key: str, row: Row) -> None:
        action = self.labels.action(key)
        turn = self._turn(action) if action is not None else None
        if action is not None and turn in self._over:
            self._over.discard(turn)
            self.ended -= 1
            row.left += self._counts(action)

    def _made_good(self, row: Row) -> None:
        """Let a host that was in trouble, or was taken back, be one among others again."""
        if not row.bad:
            row.standing, row.note = self._rest(row), ""

    def heard(self, chunk: Chunk) -> None:
        """Keep the end of what a running action prints."""
        self._said[chunk.key] = (self._said.get(chunk.key, b"") + chunk.data[-SAID:])[-SAID:]

    def last_line(self, key: str) -> str:
        """Return the last line that a running action printed."""
        rows = safe.decoded(self._said.get(key, b"")).replace("\r", "\n").split("\n")
        return next((row.strip() for row in reversed(rows) if row.strip()), "")

    def _close(self, event: Event, cell: Cell, at: float) -> None:
        row = self._row(event.host)
        self._said.pop(event.key, None)
        row.running.pop(event.key, None)
        row.silent.pop(event.key, None)
        row.seen = at
        self._mark(event.key, row, cell)
        self._count(event.key, row)
        if cell == "undone" and row.standing not in ("unknown", "undo failed"):
            row.standing = "undone"
        elif row.standing in ("running", "waiting"):
            row.standing = self._rest(row)

    def _count(self, key: str, row: Row) -> None:
        action = self.labels.action(key)
        if action is None or action.undoes is not None or "?" in key:
            return
        turn = self._turn(action)
        if turn not in self._over:
            self._over.add(turn)
            self.ended += 1
            row.left -= self._counts(action)
            if self._candidate(action):
                self._pass_over(action, row)

    def _pass_over(self, action: Action, chosen: Row) -> None:
        """Mark a step that is done once as nothing to do on the hosts that were not chosen."""
        column = self.columns[action.position]
        for row in self.rows.values():
            same = row.batch == chosen.batch or action.batch < 0
            if row is not chosen and same and row.cells[column] == "planned":
                row.cells[column] = "skipped"

    def _rest(self, row: Row) -> Standing:
        if row.running:
            return "running"
        return "done" if row.left <= 0 else "waiting"

    def _undoes(self, key: str) -> bool:
        action = self.labels.action(key)
        return action is not None and action.undoes is not None

    def _mark(self, key: str, row: Row, cell: Cell) -> None:
        """Set the cell of a step; an undo shows in the cell of what it takes back."""
        action = self.labels.action(key)
        if action is not None and action.undoes is not None:
            action = self.labels.action(action.undoes) or action
        column = self.columns.get(action.position) if action is not None else None
        if column is None:
            return
        if cell == "ok" and action is not None and action.position in row.bad.values():
            return  # another target or item of the same step had failed
        row.cells[column] = cell

    def hosts(self) -> list[Row]:
        """Return the rows of hosts, and of other machines only while something is on there."""
        shown = self._hosts
        return [r for r in self.rows.values() if r.host in shown or r.running or r.note]

    def counts(self) -> dict[Standing, int]:
        """Count hosts by where they stand, worst first."""
        found = dict.fromkeys(ORDER, 0)
        for row in self.hosts():
            found[row.standing] += 1
        return {standing: count for standing, count in found.items() if count}

    def command(self, key: str) -> str:
        """Return what an action runs, in one line."""
        action = self.labels.action(key)
        return works.headline(action.work) if action is not None else ""

    def expectation(self, key: str) -> float | None:
        """Return how long an action took in earlier runs."""
        action = self.labels.action(key)
        if action is None:
            return None
        return self.expected.get(self.plan.stages[action.position].name)

    def remaining(self, now: float) -> float | None:
        """Estimate the seconds that are left, or None where earlier runs don't tell.

        Nor do they where what goes on now takes longer than it did then.
        """
        left = (action for action in self.plan.actions if self._turn(action) not in self._over)
        todo = {(action.batch, action.position) for action in left}
        names = [self.plan.stages[position].name for _, position in todo]
        if not names or any(name not in self.expected for name in names):
            return None
        began: dict[tuple[int, str], float] = {}
        running = {key: at for row in self.rows.values() for key, at in row.running.items()}
        for action in self.plan.actions if running else ():
            if action.key in running:
                turn = (action.batch, action.position)
                began[turn] = min(running[action.key], began.get(turn, now))
        whole = {turn: self.expected[self.plan.stages[turn[1]].name] for turn in todo}
        rest = sum(max(0.0, long - (now - began.get(turn, now))) for turn, long in whole.items())
        return rest if rest > 0 else None


def _trouble(event: Event, *, undoing: bool) -> Standing:
    if event.data.get("unreachable"):
        return "unreachable"
    if event.data.get("outcome") == "unknown":
        return "unknown"
    return "undo failed" if undoing else "failed"
