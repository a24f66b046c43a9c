"""The last words of commands that are running, kept until it is known whether they failed."""

from opskit.model.event import Chunk
from opskit.view import safe

KEPT = 8 * 1024
LINES = 10


class Tails:
    """Keeps the end of each stream of each action; bounded, whatever is printed."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], bytes] = {}

    def add(self, chunk: Chunk) -> None:
        key = (chunk.key, chunk.stream)
        self._kept[key] = (self._kept.get(key, b"") + chunk.data[-KEPT:])[-KEPT:]

    def drop(self, key: str) -> None:
        """Forget an action."""
        for stream in ("stdout", "stderr"):
            self._kept.pop((key, stream), None)

    def take(self, key: str) -> list[str]:
        """Forget an action; return its last lines, of standard error if it wrote any."""
        err = self._kept.pop((key, "stderr"), b"")
        out = self._kept.pop((key, "stdout"), b"")
        data = err if err.strip() else out
        rows = [row.rstrip().expandtabs() for row in safe.decoded(data).split("\n")]
        if len(data) >= KEPT:
            rows = rows[1:]  # it begins in the middle of a line
        return [row for row in rows if row][-LINES:]
