"""How a person stops a run: once softly, then hard."""

from collections.abc import Callable, Mapping
from threading import Event, Lock

GRACE = 5.0
"""How long what is ended has to end by itself; seconds."""


class Stop:
    """Pressed once, nothing new starts; pressed again, what runs is ended."""

    def __init__(self) -> None:
        self.soft = Event()
        self.ended: Mapping[str, str] = {}
        """What the hard stop found, by action key: confirmed gone, still there, can't tell."""
        self._lock = Lock()
        self._kill: Callable[[], Mapping[str, str]] | None = None

    def arm(self, kill: Callable[[], Mapping[str, str]]) -> None:
        """Say how running commands are ended."""
        self._kill = kill

    def press(self) -> None:
        """Stop: the first time nothing new starts, after that running commands are ended."""
        if not self.soft.is_set():
            self.soft.set()
            return
        with self._lock:
            if self._kill is not None:
                self.ended = {**self.ended, **self._kill()}

    @property
    def pressed(self) -> bool:
        return self.soft.is_set()

    def outcome(self) -> Mapping[str, str]:
        """Return what the hard stop found; waits for one that is going on."""
        with self._lock:
            return self.ended
