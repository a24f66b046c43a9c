"""How quickly keys are written: as many as go, or so many a second and fewer where others wait."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from opskit.drivers.redis.guards import p99
from opskit.drivers.redis.rejoin import within
from opskit.drivers.redis.session import Access, Session, opened
from opskit.drivers.redis.shelf import RECORD
from opskit.errors import OpskitError
from opskit.model.value import Json
from opskit.model.warm import Warm

EACH = 0.2
"""How often another connection asks for a key; seconds."""
PATIENCE = 10.0
"""How long a bystander waits at most; seconds."""
SAMPLES, BASELINE = 50, 200
LEAST = 0.002
_BURST = 0.02
_LOOK = 0.05
_SLOWEST = 1 / 64


class Unhurried:
    """As many as go."""

    size = RECORD
    early = True
    """Whether a batch may be on its way while the one before it is done."""

    def wait(self, count: int) -> str:
        """Wait until so many may be written; return why none may any more, or ""."""
        return ""

    def evidence(self) -> Mapping[str, Json]:
        return {}

    def close(self) -> None:
        pass


class Tally:
    """Counts breaches beside the list that is written, where whoever goes on finds them.

    Each is a byte of a file. Where that can't be written, they are counted while this lives.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "breaches" if folder is not None else None
        self.count = 0
        with suppress(OSError):
            self.count = self._path.stat().st_size if self._path is not None else 0

    def add(self) -> None:
        self.count += 1
        if self._path is None:
            return
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(self._path, flags, 0o600)
            try:
                os.write(handle, b".")
            finally:
                os.close(handle)

    def begin_anew(self) -> None:
        """Forget them for whoever tries again: this attempt has ended by them."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


class Polite:
    """So many a second; half of that where a bystander waits too long, and slowly more again.

    A bystander is a connection of its own, which asks for a key every so often. He waits too long
    where the 99th of a hundred answers takes twice as long as before the first key was written.
    """

    early = False

    def __init__(
        self,
        access: Access,
        work: Warm,
        watch: Callable[[], None],
        folder: Path | None = None,
    ) -> None:
        """`folder`: where it is kept how often others had to wait, for whoever goes on."""
        self._work = work
        self._watch = watch
        self._session = opened(access, within(PATIENCE), reads=True)
        self._key = f"opskit:run:{access.run}"
        self._times: deque[float] = deque(maxlen=SAMPLES)
        self._over = threading.Event()
        self._why = ""
        self._due = 0.0
        self.rate = work.rate
        self._tally = Tally(folder)
        self.slowest = work.rate
        try:
            self.idle = p99(self._idle())
        except BaseException:
            self._session.close()
            raise
        self.limit = max(2 * self.idle, LEAST)
        self._thread = threading.Thread(target=self._probe, daemon=True)
        self._thread.start()

    @property
    def breaches(self) -> int:
        """How often the bystander has waited too long, since the action was begun."""
        return self._tally.count

    @property
    def size(self) -> int:
        """How many are written at once: a fiftieth of what is in a second."""
        return max(1, min(RECORD, int(self.rate * _BURST)))

    def wait(self, count: int) -> str:
        now = time.monotonic()
        if self._due < now - _BURST * 5:  # what was missed is not made up for
            self._due = now
        while (left := self._due - time.monotonic()) > 0 and not self._why:
            self._watch()
            time.sleep(min(left, _LOOK))
        self._due += count / self.rate
        return self._why

    def evidence(self) -> Mapping[str, Json]:
        return {
            "idle_p99_ms": round(self.idle * 1000, 3), "breaches": self.breaches,
            "slowest_rate": round(self.slowest),
        }  # fmt: skip

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self._session.close()

    def _idle(self) -> list[float]:
        """Ask before anything is written; a server that hardly answers must not hold up a stop."""
        found = []
        for _ in range(BASELINE):
            self._watch()
            found.append(self._asked(self._session))
        return found

    def _asked(self, session: Session) -> float:
        session.connection.watch = within(PATIENCE)
        began = time.perf_counter()
        session.connection.call("GET", self._key)
        return time.perf_counter() - began

    def _probe(self) -> None:
        try:
            while not self._why and not self._over.wait(EACH):
                self._times.append(self._asked(self._session))
                self.judge()
        except OpskitError as error:  # without him nobody knows whether others wait
            self._why = f"a bystander's line has failed: {error.what}"

    def judge(self) -> None:
        """Change the rate by what the bystander has seen."""
        if p99(self._times) <= self.limit:
            self.rate = min(self._work.rate, self.rate + self._work.rate / 20)
            return
        self._tally.add()
        now, idle = (1000 * one for one in (p99(self._times), self.idle))
        told = f"a bystander waits {now:.1f} ms, and {idle:.1f} before"
        self._times.clear()
        self.rate = max(self._work.rate * _SLOWEST, self.rate / 2)
        self.slowest = min(self.slowest, self.rate)
        if self.breaches >= self._work.breaches:
            self._why = f"{told}: {_often(self.breaches)} by now (breaches)"
            self._tally.begin_anew()


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"
