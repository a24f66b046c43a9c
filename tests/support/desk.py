"""A person with a runbook, and a database that it changes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.database import Base

SECRET = "correct-horse-battery"


@dataclass
class Desk:
    """A folder with a runbook and an inventory that names a database; its record is its own."""

    db: Base
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, steps: str, head: str = "", entry: str = "") -> None:
        top = "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\n"
        (self.folder / "t.yaml").write_text(f"{top}{head}steps:\n{steps}")
        (self.folder / "i.yaml").write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\nsecrets: {word: env:DB_WORD}\n"
            f"databases:\n  main: {{url: '{self.db.database.url}', password: word{entry}}}\n"
        )

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "opskit", *words]

    @property
    def settings(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "PG"))}
        return {
            **kept, "OPSKIT_STORE": str(self.folder / "store.db"), "DB_WORD": SECRET,
            "OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "HOME": str(self.folder),
            "NO_COLOR": "1", **self.environ,
        }  # fmt: skip

    def opskit(self, *words: str, status: int | None = 0, program: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *program, *words] if program else self.words(*words),
            env=self.settings, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        said = f"$ opskit {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        assert status in (None, done.returncode), f"exit {done.returncode}\n{said}"
        assert SECRET not in said
        return done.stdout + done.stderr

    def run(self, *words: str, status: int = 0) -> str:
        return self.opskit("run", "t.yaml", "--yes", *words, status=status)

    def background(
        self, *words: str, program: tuple[str, ...] = (), **environ: str
    ) -> "subprocess.Popen[str]":
        """Begin something; whoever asked sees to its end."""
        return subprocess.Popen(
            [sys.executable, "-m", *program, *words] if program else self.words(*words),
            env={**self.settings, **environ}, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def cut(self, after: float, *words: str) -> None:
        """Begin something, and kill it so many seconds later unless it is over by then."""
        with self.background(*words) as process:
            try:
                process.communicate(timeout=after)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self.opskit("audit", "log", "last", "--json").splitlines()
        return [e for e in map(json.loads, lines) if e["event"] == kind]

    def proved(self) -> None:
        self.opskit("audit", "verify")
        kept = [path for path in self.folder.rglob("*") if path.is_file()]
        assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
