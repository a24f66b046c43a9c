"""What somebody new does first: init, lab, plan, run, undo, as the example says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance
Done = "subprocess.CompletedProcess[str]"


class Newcomer:
    """Types commands in a folder, on a machine account of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "XDG_STATE_HOME": str(folder / "state"),
        }
        self.environ.pop("OPSKIT_LAB", None)

    def __call__(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "opskit", *words], cwd=self.folder, env=self.environ,
            capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def opskit(tmp_path: Path) -> Iterator[Newcomer]:
    made = Newcomer(tmp_path)
    made("init", "new")
    made.folder = tmp_path / "new"
    try:
        made("lab", "up", "--web", "2", "--lb", "0")
        yield made
    finally:
        made("lab", "down")


def greeting(opskit: Newcomer, host: str) -> str:
    words = ("lab", "exec", host, "--")
    return opskit(*words, "sh", "-c", "cat /home/*/opskit-hello.txt 2>/dev/null || echo none")


def test_the_example_can_be_planned_run_and_taken_back(opskit: Newcomer) -> None:
    assert "No problems in " in opskit("lint")
    assert "2 ok" in opskit("hosts", "check")
    assert "Leave the greeting" in opskit("plan", "hello")
    assert greeting(opskit, "web1") == "none\n"
    opskit("run", "hello", status=2)
    assert "SUCCEEDED" in opskit("run", "hello", "--yes", "-p", "greeting=it's $(id); ok")
    assert greeting(opskit, "web2") == "it's $(id); ok\n"
    assert "SUCCEEDED" in opskit("run", "hello", "--yes", "-p", "greeting=second")
    assert greeting(opskit, "web1") == "second\n"
    opskit("undo", "last", "--yes")
    assert greeting(opskit, "web1") == "it's $(id); ok\n"
    assert "is whole" in opskit("audit", "verify")


def test_a_command_on_all_hosts_is_recorded_and_compared(opskit: Newcomer) -> None:
    told = opskit("exec", "all", "--", "echo same; echo oops >&2")
    assert told.count("|        same") == 2
    assert told.count("|err     oops") == 2
    assert "web1 web2: the same output\n  same\n" in opskit("output", "last", "1", "--diff")
    run = json.loads(opskit("runs", "--json", "--limit", "1"))
    assert (run["what"], run["state"]) == ("exec", "succeeded")
