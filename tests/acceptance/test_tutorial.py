"""The tutorial, typed word by word on a fleet of its own: what it shows is what one sees."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.terminal import terminal

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
YES = "[y/N] y"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
VARIES = (
    (r"\d{8}-\d{6}-[0-9a-z]{4}", "RUN"),
    (r"\d{2}:\d{2}:\d{2}Z", "TIME"),
    (r"just now|\d+ (?:s|min) ago", "AGO"),
    (r"\b\d+(?:\.\d+)?m?s\b", "TOOK"),
    (r"\b0\.[0-9] s  ", "CLOCK "),  # of a host beside ours: how late an answer came is in it
    (r"\S+@\S+", "WHO"),
    (r"\s+", " "),
)
"""What is another at each time that somebody types the same."""


@dataclass(frozen=True)
class Typed:
    """A command of the tutorial, with what it says one will see."""

    command: str
    shown: tuple[str, ...]


def parts() -> Iterator[tuple[str, str, str]]:
    """Yield the fenced blocks: language, file name, text."""
    yield from FENCE.findall(TUTORIAL.read_text())


def typed(block: str) -> Iterator[Typed]:
    for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = piece.rstrip("\n").split("\n")
        yield Typed(command, tuple(shown))


class Reader:
    """Somebody who does what the tutorial says, in a shell of their own."""

    def __init__(self, home: Path) -> None:
        self.folder = home
        self.status = 0
        programs = home / "bin"
        programs.mkdir()
        (programs / "opskit").write_text(f'#!/bin/sh\nexec {sys.executable} -m opskit "$@"\n')
        (programs / "opskit").chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "XDG_"))}
        self.environ = {
            **kept,
            "HOME": str(home),
            "PATH": f"{programs}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def types(self, line: Typed) -> str:
        """Type a command, answer its question; return what is seen then."""
        if any(YES in row for row in line.shown):
            return self.answers(line.command)
        done = subprocess.run(
            ["bash", "-c", f"(exit {self.status}); {line.command}"],
            cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.status = done.returncode
        return done.stdout

    def answers(self, command: str) -> str:
        program, *words = shlex.split(command)
        assert program == "opskit"
        with terminal(words, environ=self.environ, folder=self.folder, columns=120) as found:
            found.until("[y/N] ")
            found.type("y\n")
            self.status = found.end()
            return CONTROL.sub("\n", found.text())


def plain(row: str) -> str:
    for pattern, word in VARIES:
        row = re.sub(pattern, word, row)
    return row.strip()


def matches(wanted: str, row: str) -> bool:
    """Compare two lines; a … in the first stands for anything."""
    pattern = ".*".join(re.escape(piece.strip()) for piece in plain(wanted).split("…"))
    return re.fullmatch(pattern.replace(".*", r"\s*.*\s*"), plain(row)) is not None


def missing(line: Typed, seen: str) -> str | None:
    """Return the first line that should have been seen and was not, in its order.

    Lines that stand together in the tutorial must do so on the screen too, unless a picture was
    drawn between them.
    """
    rows = [row for row in re.split(r"[\r\n]+", seen) if row.strip()]
    drawn = any(YES in row for row in line.shown)
    at, skip = 0, drawn
    for wanted in (row for row in line.shown if row.strip()):
        if wanted.strip() == "…":
            skip = True
            continue
        ahead = range(at, len(rows)) if skip else range(at, min(at + 1, len(rows)))
        found = next((n for n in ahead if matches(wanted, rows[n])), None)
        if found is None:
            return wanted
        at, skip = found + 1, drawn
    return None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    try:
        yield made
    finally:
        made.types(Typed("cd practice 2>/dev/null; opskit lab down --dir lab", ()))


def test_what_the_tutorial_says_is_what_happens(reader: Reader) -> None:
    done = 0
    for language, name, text in parts():
        if language == "yaml":
            (reader.folder / name).write_text(text)
        for line in typed(text) if language == "console" else ():
            if line.command.startswith("cd "):
                reader.folder = reader.folder / line.command.removeprefix("cd ")
                continue
            seen = reader.types(line)
            gap = missing(line, seen)
            assert gap is None, f"$ {line.command}\n{seen}\n--- is not as the tutorial says: {gap}"
            done += 1
    assert done > 15


def test_a_line_that_is_not_there_would_be_noticed() -> None:
    line = Typed("x", ("one 2.0s", "…", "three", "four …"))
    assert missing(line, "one 4ms\ntwo\nthree\nfour 4\n") is None
    assert missing(line, "one 4ms\nthree\nelse\nfour 4\n") == "four …"
    assert missing(line, "zero\none 1s\nthree\nfour 4\n") == "one 2.0s"
    assert missing(line, "one 1s\n") == "three"
