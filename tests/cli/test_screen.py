"""Output goes where it should, in an encoding that can say it, and a closed pipe ends nothing."""

import os
import subprocess
import sys

import pytest

SAY = """
from opskit.cli import screen
screen.prepare()
for n in range(3):
    screen.out("→ … ✓ 変\\n")
screen.err("still here\\n")
"""


def run(script: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=True,
        env={**os.environ, **environ},
    )  # fmt: skip


def test_an_ascii_terminal_gets_ascii() -> None:
    done = run(SAY, PYTHONIOENCODING="ascii:strict")
    assert done.stdout.splitlines()[0] == b"-> ... + \\u5909"


def test_utf8_stays_as_it_is() -> None:
    done = run(SAY, PYTHONIOENCODING="utf-8")
    assert done.stdout.decode().splitlines()[0] == "→ … ✓ 変"


def test_a_reader_that_goes_away_stops_nothing() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SAY.replace("range(3)", "range(20000)")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b"still here\n"
    child.stderr.close()
    assert child.wait(30) == 0


COLOUR = "from opskit.cli import screen; print(screen.paint().bold('x'), screen.can_draw())"


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_there_is_no_colour_in_a_pipe(environ: dict[str, str]) -> None:
    assert run(COLOUR, **environ).stdout == b"x False\n"
