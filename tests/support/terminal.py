"""opskit on a terminal of its own: what a person types and sees, and what is left of it."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 60.0


@dataclass(kw_only=True)
class Terminal:
    """A pseudo terminal with a process on it that has it as its controlling terminal."""

    process: "subprocess.Popen[bytes]"
    main: int
    other: int
    before: list[object]
    seen: bytearray = field(default_factory=bytearray)
    reader: threading.Thread | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def text(self) -> str:
        return self.seen.decode(errors="replace")

    def until(self, text: str) -> None:
        """Wait until something stands on the screen."""
        end = time.monotonic() + PATIENCE
        while text not in self.text():
            assert time.monotonic() < end, f"{text!r} did not come:\n{self.text()}"
            time.sleep(0.05)

    def end(self) -> int:
        """Wait for the process and return its exit status."""
        status = self.process.wait(PATIENCE)
        # Its last words are on their way, unless the terminal was closed.
        while self.main >= 0 and select.select([self.main], [], [], 0.2)[0]:
            time.sleep(0.01)
        return status

    def hang_up(self) -> None:
        """Close the terminal, as a window that is shut: the process gets SIGHUP."""
        self.over.set()
        if self.reader is not None:
            self.reader.join()  # a read that is under way would keep the terminal open
        for descriptor in (self.other, self.main):
            os.close(descriptor)
        self.main = self.other = -1

    def settings(self) -> list[object]:
        """Return how the terminal is set now: echo, line mode and so on."""
        return list(termios.tcgetattr(self.other))

    def read(self) -> None:
        """Take what is shown, until it is over."""
        with contextlib.suppress(OSError):
            while not self.over.is_set():
                if select.select([self.main], [], [], 0.05)[0]:
                    self.seen += os.read(self.main, 65536)


@contextmanager
def terminal(
    words: list[str], *, environ: Mapping[str, str], folder: Path, columns: int = 100
) -> Iterator[Terminal]:
    """Start opskit on a terminal; it is ended afterwards."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    before = list(termios.tcgetattr(other))
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "opskit", *words],
        env={**environ, "TERM": "xterm-256color"},
        cwd=folder,
        stdin=other,
        stdout=other,
        stderr=other,
    )
    found = Terminal(process=process, main=main, other=other, before=before)
    found.reader = threading.Thread(target=found.read, daemon=True)
    found.reader.start()
    try:
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if found.main >= 0:
            found.hang_up()
