"""Runs that go wrong on real hosts, and what they left there.

Each command of these runbooks adds a word to a file of its own run on its host ("tally"), so that
the hosts themselves tell what was done there, how often and in which order.
"""

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.lab import Lab
from tests.support.fleet import Fleet

PATIENCE = 60.0
"""Seconds that a test waits for what must come."""


def did(word: str) -> str:
    """Return shell text that adds a word to the tally."""
    return f"echo {word} >>~/{{{{ tag }}}}"


def slowly(word: str, seconds: float = 3.0) -> str:
    """Return shell text that adds `begin-WORD`, takes its time, and adds `WORD`."""
    return f"{did('begin-' + word)}; sleep {seconds}; {did(word)}"


def fails(word: str) -> str:
    return f"{did(word)}; exit 7"


def fails_on(host: str, word: str) -> str:
    """Return shell text that adds a word everywhere, and fails on one host."""
    return f"{did(word)}; test {{{{ host }}}} != {host}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """One runbook with a tally of its own."""

    fleet: Fleet
    name: str

    @property
    def tag(self) -> str:
        return f"tally.{self.fleet.folder.name}.{self.name}"

    def write(self, steps: str, head: str = "", always: str = "", hosts: str = "web") -> Path:
        """Write the runbook. A step is a YAML flow mapping; `head` holds further keys."""
        top = f"opskit: 1\nname: {self.name}\nversion: 1.0.0\nsummary: a test\nhosts: '{hosts}'\n"
        params = "params: {tag: {type: string}}\n"
        rest = f"always:\n{always}" if always else ""
        path = self.fleet.folder / f"{self.name}.yaml"
        path.write_text(f"{top}{params}{head}steps:\n{steps}{rest}")
        return path

    def words(self, *more: str | Path) -> list[str]:
        """Return the words of `opskit run` for the runbook that was written."""
        path = self.fleet.folder / f"{self.name}.yaml"
        return ["run", str(path), "-p", f"tag={self.tag}", "--yes", *map(str, more)]

    def run(self, *more: str, status: int | None = None) -> "subprocess.CompletedProcess[str]":
        return self.fleet.opskit(*self.words(*more), status=status)

    def tally(self, host: str) -> list[str]:
        """Return what the host itself says was done there, in order."""
        lab = self.fleet.lab
        line = f"cat ~/{shlex.quote(self.tag)} 2>/dev/null || true"
        done = lab.exec(host, ["sh", "-c", line], user=lab.layout.user)
        return done.stdout.decode().split()

    def started(self, *more: str) -> "Begun":
        """Start the run in the background, with its events as they come."""
        path = self.fleet.folder / f"{self.name}.out"
        with path.open("w") as out:
            process = subprocess.Popen(
                [*self.fleet.command, *self.words("--json", *more)],
                env=self.fleet.environ,
                cwd=self.fleet.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return Begun(process=process, output=path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A run in the background."""

    process: "subprocess.Popen[str]"
    output: Path
