"""Two runs on one server keep apart, however it is called: to refuse one it needs no server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

RUNBOOK = """\
opskit: 1
name: park
version: 1.0.0
summary: A question, and a change
params: {server: {default: ''}}
hosts: all
lock: queue {{ server }}
steps:
  - {name: Sure, confirm: "Sure?", on: controller}
  - {name: Change, run: "echo done >>FOLDER/changed", on: controller}
"""
INVENTORY = "opskit: 1\nhosts: {one: 127.0.0.1}\nredis:\n  broker: {url: 'redis://cache'}\n"


def opskit(folder: Path, *words: str, status: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *words],
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")},
             "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"),
             "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_run_that_names_the_only_server_is_refused_beside_one_that_names_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "park.yaml").write_text(RUNBOOK.replace("FOLDER", str(tmp_path)))
    (tmp_path / "hosts.yaml").write_text(INVENTORY)
    (tmp_path / "opskit.yaml").write_text("inventory: hosts.yaml\nstore: store.db\n")
    assert "Sure?" in opskit(tmp_path, "run", "park.yaml", "--yes", status=4)
    named = ("run", "park.yaml", "--yes", "-p", "server=broker")
    assert "the lock 'queue broker' is held by run" in opskit(tmp_path, *named, status=5)
    (tmp_path / "hosts.yaml").write_text(INVENTORY + "  cache: {url: 'redis://cache:6379/0'}\n")
    other = ("run", "park.yaml", "--yes", "-p", "server=cache")
    assert "the lock 'queue broker' is held by run" in opskit(tmp_path, *other, status=5)
    assert not (tmp_path / "changed").exists()
