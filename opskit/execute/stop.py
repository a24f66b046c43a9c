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
        self.asked: Callable[[bool], None] = self._asked
        """Does what somebody asks for from elsewhere; True: that what runs is ended too."""
        self._lock = Lock()
        self._forsaken = False
        self._kill: Callable[[], Mapping[str, str]] | None = None

    def arm(self, kill: Callable[[], Mapping[str, str]]) -> None:
        """Say how running commands are ended."""
        self._kill = kill

    def _asked(self, hard: bool) -> None:
        for _ in range(2 if hard else 1):
            self.press()

    def forsake(self) -> None:
        """Start nothing new, and end nothing: what runs is another process's by now."""
        self._forsaken = True
        self.soft.set()

    def press(self) -> None:
        """Stop: the first time nothing new starts, after that running commands are ended."""
        if not self.soft.is_set():
            self.soft.set()
            return
        with self._lock:
            if self._kill is not None and not self._forsaken:
                self.ended = {**self.ended, **self._kill()}

    @property
    def pressed(self) -> bool:
        return self.soft.is_set()

    def outcome(self) -> Mapping[str, str]:
        """Return what the hard stop found; waits for one that is going on."""
        with self._lock:
            return self.ended
