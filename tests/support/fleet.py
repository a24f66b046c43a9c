"""Whole runs: the real command line against a practice fleet, each test with its own record."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.lab import Lab

HEAD = "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: web\n"


STORE: list[Callable[[Path], str]] = [lambda folder: str(folder / "store.db")]
"""Where the runs of a test are recorded, by its folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """A lab, and a folder with the store and the files of one test."""

    lab: Lab
    folder: Path

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")},
            "OPSKIT_STORE": STORE[0](self.folder),
            "OPSKIT_INVENTORY": str(self.lab.inventory),
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "NO_COLOR": "1",
        }

    def opskit(
        self,
        *words: str | Path,
        status: int | None = 0,
        timeout: float = 120,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run opskit without a terminal; the exit status must be `status` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "opskit", *map(str, words)],
            env={**self.environ, **(environ or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = f"$ opskit {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, f"exit {done.returncode}\n{said}"
        return done

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        """Start opskit in the background; the test ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "opskit", *map(str, words)],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def runbook(self, steps: str, head: str = "", name: str = "t") -> Path:
        """Write a runbook with these steps; it targets the group web."""
        path = self.folder / f"{name}.yaml"
        path.write_text(f"{HEAD.replace('name: t', f'name: {name}')}{head}steps:\n{steps}")
        return path

    def sh(self, host: str, line: str) -> str:
        """Look behind opskit's back: run a shell line on a host, as root, not over SSH."""
        done = self.lab.exec(host, ["sh", "-c", line])
        out: str | bytes = done.stdout or ""
        return out.decode() if isinstance(out, bytes) else out

    def events(self, run: str = "last") -> list[dict[str, Any]]:
        """Return the record of a run, an object for each event."""
        lines = self.opskit("audit", "log", run, "--json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def hosts(self, run: str = "last") -> dict[str, str]:
        """Return how each host came out of a run."""
        found: dict[str, str] = json.loads(
            self.opskit("status", run, "--json", status=None).stdout.splitlines()[-1]
        )["hosts"]
        return found

    def runs(self) -> list[str]:
        """Return the ids of all runs that the record has."""
        lines = self.opskit("runs", "--json", "--limit", "1000").stdout.splitlines()
        return [json.loads(line)["run"] for line in lines]

    def release(self) -> None:
        """Remove what hosts were shown of locks: a run that was left open has them still."""
        for host in self.lab.layout.hosts:
            self.sh(host.name, "rm -rf /home/*/.opskit/locks ~root/.opskit/locks")

    def proved(self) -> None:
        """The record must prove itself."""
        self.opskit("audit", "verify")


def lines(text: str) -> Sequence[str]:
    """Return the lines of an output that have something in them."""
    return [line for line in text.splitlines() if line.strip()]
