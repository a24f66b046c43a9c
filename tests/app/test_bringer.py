"""The command that brings a secret: what it leaves behind is nothing, however it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opskit.app.bringer import NothingError, brought

pytestmark = pytest.mark.acceptance
BEGETS = "sh -c 'sleep 61 & echo $! >\"$0\"; wait' {pid} & {more}wait"


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def begun(path: Path) -> int:
    until = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(path.read_text())


def gone(pid: int) -> bool:
    until = time.monotonic() + 60
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not runs(pid)


def refused(command: str, seconds: float = 20) -> str:
    with pytest.raises(NothingError) as caught:
        brought(command, seconds)
    return str(caught.value)


def test_it_is_what_the_command_prints() -> None:
    assert brought("echo 'a b' | tr a-z A-Z; echo; cat", 20) == "A B\n"
    assert refused("echo token; exit 3") == "its command ended with status 3"
    assert refused(r"printf '\377'") == "what its command prints is not UTF-8"


@pytest.mark.parametrize(
    ("more", "seconds", "told"),
    [
        ("", 1.0, "its command took longer than 1 s"),
        ("exec true; ", 1.0, "its command took longer than 1 s (it has ended; what it began"),
        ("sleep 0.3; exec yes; ", 20, "its command prints more than 1 MiB"),
    ],
)
def test_one_that_is_late_or_too_long_is_ended_with_its_grandchildren(
    tmp_path: Path, more: str, seconds: float, told: str
) -> None:
    pid = tmp_path / "pid"
    assert refused(BEGETS.format(pid=pid, more=more), seconds).startswith(told)
    assert gone(begun(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_ended_with_opskit(tmp_path: Path, number: signal.Signals) -> None:
    pid = tmp_path / "pid"
    program = "import sys; from opskit.app.bringer import brought; brought(sys.argv[1], 60)"
    ours = subprocess.Popen(
        [sys.executable, "-c", program, BEGETS.format(pid=pid, more="")], stderr=subprocess.DEVNULL
    )
    try:
        grandchild = begun(pid)
        ours.send_signal(number)
        assert ours.wait(20) == -number
        assert gone(grandchild)
    finally:
        ours.kill()
        ours.wait()


EARLY = """
import os, pathlib, subprocess, sys, time
from opskit.app.bringer import brought
command, number, pid = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
class Early(subprocess.Popen):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        while not (pid.exists() and pid.read_text().endswith("\\n")):
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        time.sleep(0.1)
subprocess.Popen = Early
brought(command, 60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_ended_with_opskit_while_it_is_begun(tmp_path: Path, number: signal.Signals) -> None:
    """It runs before the one who begins it knows of it; a busy machine makes that long."""
    pid = tmp_path / "pid"
    words = [BEGETS.format(pid=pid, more=""), str(int(number)), str(pid)]
    done = subprocess.run(
        [sys.executable, "-c", EARLY, *words], stderr=subprocess.DEVNULL, timeout=60, check=False
    )
    assert done.returncode == -number
    assert gone(begun(pid))
