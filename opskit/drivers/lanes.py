"""Several reads at once on one host: a shell for each, over the one line."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opskit.drivers.target import Target


class Lanes:
    """Hands targets out, each to one thread at a time. Called from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[Target, list[Target]] = {}
        self._taken: set[Target] = set()

    @contextmanager
    def of(self, main: Target, effect: str) -> Iterator[Target]:
        """Give a target; of reads that are made there at once each has a shell of its own."""
        if effect != "read":
            yield main
            return
        with self._lock:
            lanes = self._lanes.setdefault(main, [main])
            lane = next((one for one in lanes if one not in self._taken), None)
            if lane is None:
                lane = main.beside()
                lanes.append(lane)
            self._taken.add(lane)
        try:
            yield lane
        finally:
            with self._lock:
                self._taken.discard(lane)

    def more(self) -> list[Target]:
        """Return the targets that stand beside the first one of a host."""
        with self._lock:
            return [one for lanes in self._lanes.values() for one in lanes[1:]]
