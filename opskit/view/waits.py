"""What a step of opskit's own waits for, where nobody watches: a log must say why it stands."""

from opskit.model.event import Chunk
from opskit.model.plan import Action
from opskit.model.rows import Rows
from opskit.model.work import Repair

EVERY = 60.0
"""How often one step tells it at most; seconds."""
_WAITING = b"waiting: "
_MOST = 4096
"""So much of a line that has not ended is kept."""


class Waits:
    """Picks the lines that say it out of what steps print; called by one thread at a time.

    Others may print such lines and mean something else: of commands and queries none is taken.
    """

    def __init__(self) -> None:
        self._partial: dict[str, bytes] = {}
        self._told: dict[str, float] = {}

    def told(self, chunk: Chunk, action: Action | None, now: float) -> str:
        """Return what is to be told now; "" where nothing is, or it was told a moment ago."""
        if action is None or not isinstance(action.work, (Rows, Repair)):
            return ""
        *whole, rest = (self._partial.pop(chunk.key, b"") + chunk.data).split(b"\n")
        self._partial[chunk.key] = rest[:_MOST]
        found = [one for one in whole if one.startswith(_WAITING)]
        last = self._told.get(chunk.key)
        if not found or (last is not None and 0 <= now - last < EVERY):
            return ""
        self._told[chunk.key] = now
        return found[-1].removeprefix(_WAITING).decode(errors="replace")
