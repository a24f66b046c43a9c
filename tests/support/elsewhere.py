"""Processes on another machine, as far as those of this one can tell.

They have process numbers and a host name of their own, as in a container: nobody outside can see
whether one of them lives.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

NAME = "lap2"
_MINE = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
_APART = ["unshare", *_MINE, "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
_NAMED = f"import socket; socket.sethostname({NAME!r})\n"
_PATIENCE = 60.0
"""How long a line is waited for; seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """A process over there. `send` reaches it from here; nothing else does."""

    process: "subprocess.Popen[str]"
    here: bool = False
    """Whether it is on this machine, after all."""
    passed: list[str] = field(default_factory=list)
    """Lines that were read on the way to another one."""

    def send(self, number: signal.Signals) -> None:
        os.kill(self._inner(), number)

    def freeze(self, store: str) -> None:
        """Let it stand still, but not while it has the store (a file) to itself: nobody could
        write there then."""
        while True:
            self.send(signal.SIGSTOP)
            if "://" in store or _free(store):
                return
            self.send(signal.SIGCONT)
            time.sleep(0.05)

    def line(self, beginning: str = "") -> str:
        """Return the first line that begins like this, of those that nobody was given yet."""
        for line in self.passed:
            if line.startswith(beginning):
                self.passed.remove(line)
                return line.strip()
        assert self.process.stdout is not None
        too_late = threading.Timer(_PATIENCE, self.process.kill)
        too_late.start()
        for line in self.process.stdout:
            if line.startswith(beginning):
                too_late.cancel()
                return line.strip()
            self.passed.append(line)
        too_late.cancel()
        raise AssertionError(f"it ended without a line that begins with {beginning!r}")

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self.process.kill()
        self.process.communicate(timeout=30)

    def _inner(self) -> int:
        pid = self.process.pid
        if self.here:
            return pid
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            if text.strip():
                return int(text.split()[0])
            time.sleep(0.01)
        raise ProcessLookupError(pid)


def _free(store: str) -> bool:
    time.sleep(0.05)  # a signal needs a moment
    connection = sqlite3.connect(store, timeout=0.2, isolation_level=None)
    try:
        connection.execute("begin immediate")
        connection.execute("rollback")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def elsewhere(code: str, *words: str) -> Elsewhere:
    """Start Python over there with this code."""
    process = subprocess.Popen(
        [*apart(), sys.executable, "-c", _NAMED + code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return Elsewhere(process=process)


def opskit(*words: str) -> list[str]:
    """Return the words that run opskit over there, with these words."""
    code = f"{_NAMED}import sys; from opskit.cli import main; main(sys.argv[1:])"
    return [*apart(), sys.executable, "-c", code, *words]


@cache
def apart() -> list[str]:
    """Return the words that set the rest of a command apart; the test is skipped without leave."""
    tried = subprocess.run([*_APART, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")
    return _APART
