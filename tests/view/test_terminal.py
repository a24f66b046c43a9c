"""The live picture on a real terminal (tmux): what a person has on the screen afterwards."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.acceptance

SCRIPT = """
import sys, time
from opskit.view.live import Live, terminal_size
from opskit.view.paint import Paint
from tests.view import samples

def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()

plan = samples.plan({hosts}, (1, 99))
with Live(plan, write=write, size=terminal_size(1), paint=Paint(colour=True)) as watch:
    for action in plan.actions:
        watch(samples.started(action.key, "x"))
        time.sleep({pause})
        bad = action.key == "4@web2"
        watch(samples.ended(action.key, "failed" if bad else "succeeded", status=3 if bad else 0))
        {then}
print("the end")
"""


class Tmux:
    """One window of a tmux server of its own."""

    def __init__(self, columns: int, lines: int, script: str, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        program = folder / "program.py"
        program.write_text(script)
        run = f"{sys.executable} {program}; echo status $?"
        command = f"trap : INT; clear; echo before; {run}; exec sleep 60"
        self(
            "-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", str(lines),
            "-c", str(ROOT), f"export PYTHONPATH={ROOT}; {command}",
        )  # fmt: skip

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        return done.stdout

    def screen(self) -> list[str]:
        return self("capture-pane", "-p").rstrip("\n").split("\n")

    def wait(self, holds: Callable[[list[str]], bool]) -> list[str]:
        deadline = time.monotonic() + 60
        while not holds(self.screen()):
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.1)
        return self.screen()

    def until_end(self) -> list[str]:
        return self.wait(lambda rows: any(row.startswith("status ") for row in rows))


Start = Callable[..., Tmux]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    windows: list[Tmux] = []

    def begin(
        hosts: int = 4, pause: float = 0.1, then: str = "", columns: int = 80, lines: int = 24
    ) -> Tmux:
        script = SCRIPT.format(hosts=hosts, pause=pause, then=then)
        windows.append(Tmux(columns, lines, script, tmp_path))
        return windows[-1]

    yield begin
    for window in windows:
        with suppress(subprocess.CalledProcessError):  # it ends with its last program
            window("kill-server")


def told(rows: list[str]) -> list[str]:
    """Return what is left on the screen, without the times of day."""
    return [row.split("Z ", 1)[-1] for row in rows if row]


def test_only_what_matters_is_left_when_it_is_over(start: Start) -> None:
    assert told(start().until_end()) == [
        "before",
        "web2 FAILED   4 Switch (1.2s, exit 3)",
        "the end",
        "status 0",
    ]


def test_while_it_runs_the_picture_stands_below_what_stays(start: Start) -> None:
    window = start(pause=0.3)
    rows = window.wait(lambda rows: any("FAILED" in row for row in rows))
    rows = window.wait(lambda rows: any(row.startswith("deploy") for row in rows))
    assert rows[0] == "before"
    heads = [n for n, row in enumerate(rows) if row.startswith("deploy · batch 2 of 2")]
    assert len(heads) == 1
    assert rows[heads[0] + 2].startswith("web2 ✓✓✓✗")
    assert all(len(row) <= 80 for row in rows)


def test_a_resized_terminal_keeps_one_picture(start: Start) -> None:
    window = start(hosts=30, pause=0.04)
    for columns, lines in ((50, 12), (100, 30), (40, 10), (80, 24)):
        time.sleep(0.5)
        window("resize-window", "-x", str(columns), "-y", str(lines))
    window.wait(lambda rows: sum(row.startswith("deploy ·") for row in rows) == 1)
    window.until_end()


def test_200_hosts_fit_the_screen(start: Start) -> None:
    window = start(hosts=200, pause=0.002)
    rows = window.wait(lambda rows: any("more:" in row for row in rows))
    assert sum(row.startswith("deploy ·") for row in rows) == 1
    assert all(len(row) <= 80 for row in rows)
    assert told(window.until_end())[-2:] == ["the end", "status 0"]


def test_an_exception_wipes_the_picture_and_the_terminal_still_works(start: Start) -> None:
    rows = told(start(then="if bad: raise SystemExit(9)").until_end())
    assert rows == ["before", "web2 FAILED   4 Switch (1.2s, exit 3)", "status 9"]


def test_ctrl_c_wipes_the_picture(start: Start) -> None:
    window = start(pause=0.3)
    window.wait(lambda rows: any(row.startswith("deploy") for row in rows))
    window("send-keys", "C-c")
    rows = window.wait(lambda rows: any("KeyboardInterrupt" in row for row in rows))
    assert not any(row.startswith(("deploy ·", "[#", "[.")) for row in rows)
