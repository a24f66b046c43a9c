"""How many rows the next batch has: as many as are done in the time that one shall take."""

from opskit.model.frozen import mutable
from opskit.model.rows import Limits

_LEAST = 10
_QUICKER, _SLOWER = 2.0, 0.25
"""By how much a batch may differ from the one before."""


@mutable
class Pace:
    """`size` of the next batch; `longest`: what one took at most, in seconds."""

    limits: Limits
    size: int
    longest: float = 0.0

    def took(self, seconds: float, rows: int) -> None:
        """Learn from a batch; one that was not full says nothing of how many could be done."""
        self.longest = max(self.longest, seconds)
        times = self.limits.aim / max(seconds, 0.001)
        if rows >= self.size or times < 1:
            self._resize(min(_QUICKER, max(_SLOWER, times)))

    def failed(self) -> None:
        """Learn that so many rows at once are too many."""
        self._resize(_SLOWER)

    def _resize(self, times: float) -> None:
        least, most = min(_LEAST, self.limits.batch), self.limits.batch
        self.size = max(least, min(most, int(self.size * times)))

    def rest(self, seconds: float) -> float:
        """Return for how long others have the server to themselves after a batch."""
        return max(0.01, seconds * self.limits.pause) if self.limits.pause > 0 else 0.0


def paced(limits: Limits) -> Pace:
    """Begin with few rows: nobody knows yet how long they take."""
    return Pace(limits=limits, size=min(limits.first, limits.batch))
