"""The live view: a picture at the foot of the terminal, and lines that stay above it.

The terminal's state is never changed: no alternate screen, no hidden cursor, no raw mode. Whatever
ends the program, there is nothing to restore.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from opskit.model.event import Chunk, Entry, Event, EventKind
from opskit.model.plan import Plan
from opskit.view import margins, safe
from opskit.view.board import Board
from opskit.view.frame import Frame
from opskit.view.lines import Lines
from opskit.view.paint import Paint, bare

INTERVAL = 0.25
_KEPT: frozenset[EventKind] = frozenset(
    {
        "message",
        "note",
        "decided",
        "plan amended",
        "budget tripped",
        "undo began",
        "run resumed",
        "step silent",
    }
)
"""Events that stay on the screen; a question is asked there, or the summary has it."""

Size = Callable[[], tuple[int, int]]


class Live:
    """A watcher that draws. Events come from any thread; one thread of its own writes.

    `write` puts text on the terminal, `size` gives its columns and lines. `past`: what is recorded
    of a run that is gone on with.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        write: Callable[[str], None],
        size: Size,
        paint: Paint,
        run: str = "",
        past: Iterable[Entry] = (),
        expected: Mapping[str, float] | None = None,
        unicode: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._paint, self._unicode = paint, unicode
        self._draw_from(Board(plan, expected or {}, now(), run), past)
        self._lines = Lines(self._keep, plan, paint=paint, now=now, columns=lambda: size()[0])
        self._kept: list[str] = []
        self._now = now
        self._write = write
        self._size = size
        self._lock = threading.Lock()  # around the board and the kept lines
        self._drawing = threading.Lock()  # around the terminal
        self._over = threading.Event()
        self._drawn: Sequence[str] = ()
        self._thread = threading.Thread(target=self._draw_on, name="live view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)
        with self._drawing:
            self._write(self._clearing() + self._take_kept())

    def __call__(self, item: Event | Chunk) -> None:
        with self._lock:
            if isinstance(item, Chunk):
                self._lines(item)
                self._board.heard(item)
                return
            self._board.take(item, self._now())
            if item.kind in _KEPT or _went_wrong(item):
                self._lines(item)
            elif item.kind == "step ended":
                self._lines.forget(item)

    def renewed(self, plan: Plan, past: Iterable[Entry]) -> None:
        """Go on with another plan, which the run carries out from here on."""
        with self._lock:
            before = self._board
            self._draw_from(Board(plan, before.expected, before.began, before.run), past)
            self._lines.renewed(plan)

    def _draw_from(self, board: Board, past: Iterable[Entry]) -> None:
        board.recall(past)
        self._board = board
        self._frame = Frame(board, paint=self._paint, unicode=self._unicode)

    def tell(self, text: str) -> None:
        """Put a text of opskit itself above the picture, where it stays."""
        with self._lock:
            self._kept.append(margins.text(text.strip("\n") + "\n", self._size()[0]))

    def entered(self) -> None:
        """Take back the line that the cursor went down when a person pressed Enter at the foot."""
        with self._drawing:
            self._write("\x1b[1A" if self._drawn else "")

    def _keep(self, text: str) -> None:
        self._kept.append(text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else, to ask a question."""
        with self._drawing:
            self._write(self._clearing() + self._take_kept())
            yield

    def _draw_on(self) -> None:
        while not self._over.wait(INTERVAL):
            with self._drawing:
                self._draw()

    def _draw(self) -> None:
        columns, height = self._size()
        with self._lock:
            lines = self._frame.lines(columns, height, self._now())
        kept = self._take_kept()
        if not kept and lines == self._drawn:
            return
        start = self._clearing(columns) + kept if kept else self._home(columns)
        ends = "\x1b[K\n"  # each line wipes what the last picture left behind it
        self._write(start + ends.join(lines) + "\x1b[J")
        self._drawn = lines

    def _take_kept(self) -> str:
        with self._lock:
            kept, self._kept = "".join(self._kept), []
        return kept

    def _home(self, columns: int) -> str:
        """Go to the first line of the last picture, also when the terminal has been narrowed."""
        rows = sum(max(1, -(-safe.width(bare(line)) // max(columns, 1))) for line in self._drawn)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")

    def _clearing(self, columns: int | None = None) -> str:
        """Wipe the last picture; the next one is drawn anew."""
        if not self._drawn:
            return ""
        cleared = self._home(columns if columns is not None else self._size()[0]) + "\x1b[J"
        self._drawn = ()
        return cleared


def _went_wrong(event: Event) -> bool:
    return event.kind == "step ended" and event.data.get("outcome") != "succeeded"


def terminal_size(descriptor: int) -> Size:
    """Return a function that tells how large a terminal is now."""

    def size() -> tuple[int, int]:
        try:
            found = os.get_terminal_size(descriptor)
        except OSError:
            return 80, 24
        return found.columns or 80, found.lines or 24

    return size
