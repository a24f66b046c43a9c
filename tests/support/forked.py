"""opskit as processes forked from one that has it loaded: one begins in 10 ms, not in 300.

Nothing of opskit is left out: each is a process with its own environment, arguments and exit
status, that is killed as any other. What it saves is to load Python, so that many are affordable,
and that every kill falls where something is done. `python -m tests.support.forked` is the one that
forks; a test has it by `Forks`.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

LONGEST = 120.0
"""Seconds after which whatever was begun hangs."""


@dataclass
class Child:
    """One opskit; `begun` and `over` are heard of the step that is watched."""

    forks: "Forks"
    pid: int
    handle: int
    heard: int
    """Where it says a byte when the step that is watched has begun, and one when it is over."""
    out: Path
    said: bytes = b""
    began: float = field(default_factory=time.monotonic)

    def step(self, number: int) -> bool:
        """Wait until the step has begun (1) or is over (2); tell whether it came to that."""
        while len(self.said) < number:
            if time.monotonic() > self.began + LONGEST:
                raise AssertionError(f"it hangs: {self.out.read_text()}")
            ready = select.select([self.heard, self.handle], [], [], 1.0)[0]
            if self.heard in ready:
                if not (data := os.read(self.heard, 8)):
                    return False
                self.said += data
            elif ready:  # it is over, and has not even come to where it would say something
                return False
        return True

    def wait(self, seconds: float = LONGEST) -> bool:
        """Wait so long for its end; tell whether it came."""
        return bool(select.select([self.handle], [], [], max(seconds, 0.0))[0])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)

    def end(self) -> int:
        """Return its exit status, a signal's as the negative of it; kill it where it hangs."""
        if not (ended := self.wait(LONGEST)):
            self.kill()
        with contextlib.suppress(BlockingIOError):
            self.said += os.read(self.heard, 8)
        os.close(self.handle)
        os.close(self.heard)
        status = int(self.forks.ask({"wait": self.pid})["status"])
        assert ended, f"it hangs: {self.out.read_text()}"
        return status


class Forks:
    """The process that forks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._number = 0

    def ask(self, what: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def begin(
        self, words: list[str], environ: Mapping[str, str], cwd: Path, *, undo: bool = False
    ) -> Child:
        """Begin opskit; what is watched is the first step of the runbook, or its undo."""
        self._number += 1
        out, fifo = self.folder / f"out{self._number % 8}", self.folder / f"fifo{self._number % 8}"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        heard = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        told = self.ask({
            "words": words, "environ": dict(environ), "cwd": str(cwd), "out": str(out),
            "fifo": str(fifo), "undo": undo,
        })  # fmt: skip
        return Child(self, told["pid"], os.pidfd_open(told["pid"]), heard, out)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        self._process.stdout.close()


@contextlib.contextmanager
def forks(folder: Path) -> Iterator[Forks]:
    made = Forks(folder)
    try:
        yield made
    finally:
        made.close()


# --- the process that forks


def load() -> None:
    """Load all that a run may want, and begin nothing."""
    import opskit

    for found in pkgutil.walk_packages(opskit.__path__, "opskit."):
        if not found.name.startswith(("opskit.lab", "opskit.__main__")):
            importlib.import_module(found.name)


def watch(fifo: str, *, undo: bool) -> None:
    """Say when the first step has been recorded as begun, and before it is as over."""
    from opskit.audit.journal import Journal
    from opskit.model.event import Event

    line = os.open(fifo, os.O_WRONLY)
    inner = Journal.append

    def meant(event: Event, kind: str) -> bool:
        return event.kind == kind and event.key[:2] == "1/" and ("!" in event.key) == undo

    def outer(self: Journal, *events: Event, wait: bool = True) -> None:
        if any(meant(event, "step ended") for event in events):
            os.write(line, b"e")
        inner(self, *events, wait=wait)
        if any(meant(event, "step started") for event in events):
            os.write(line, b"s")

    Journal.append = outer  # type: ignore[method-assign]


def become(asked: Mapping[str, Any]) -> NoReturn:
    """Be opskit, in the child."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, number)
    watch(asked["fifo"], undo=asked["undo"])
    from opskit.cli import main

    main(asked["words"])


def serve(asked: IO[str], answer: int) -> None:
    for line in iter(asked.readline, ""):
        what = json.loads(line)
        if "wait" in what:
            status = os.waitstatus_to_exitcode(os.waitpid(what["wait"], 0)[1])
            told = {"status": status}
        else:
            pid = os.fork()
            if pid == 0:
                os.close(answer)
                become(what)
            told = {"pid": pid}
        os.write(answer, json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    load()
    with os.fdopen(os.dup(0)) as source:
        serve(source, os.dup(1))
