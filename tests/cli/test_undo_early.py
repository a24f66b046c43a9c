"""What can't be taken back yet is refused, and it is said why."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.cli.root import call

RUNBOOK = """\
opskit: 1
name: slow
version: 1.0.0
summary: A change that takes its time
hosts: all
steps:
  - name: Change
    run: |
      touch begun
      for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        test ! -e end || break
        sleep 1
      done
    cwd: FOLDER
    on: controller
    undo:
      - run: rm -f begun
        cwd: FOLDER
        on: controller
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slow.yaml").write_text(RUNBOOK.replace("FOLDER", str(tmp_path)))
    (tmp_path / "hosts.yaml").write_text("opskit: 1\nhosts:\n  one: {address: 127.0.0.1}\n")
    (tmp_path / "opskit.yaml").write_text("inventory: hosts.yaml\nstore: store.db\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a run and wait until its change has begun."""
    words = [sys.executable, "-m", "opskit", "run", "./slow.yaml", "--yes", "--no-live"]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not (folder / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        (folder / "end").write_text("")
        process.kill()
        process.wait(30)


@pytest.mark.parametrize("words", [["undo"], ["retry", "--hosts", "failed"]])
def test_of_a_run_that_is_carried_out_nothing_is_taken_back_or_repeated(
    running: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert call([*words, "last"]) == 5
    told = capsys.readouterr().err
    assert "is being carried out right now by" in told
    assert f"process {running.pid}" in told
    assert "opskit status" in told


def test_an_unknown_change_is_settled_before_anything_is_taken_back(
    running: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    running.kill()
    running.wait(30)
    assert call(["undo", "last", "--yes"]) == 5
    told = capsys.readouterr().err
    assert "nobody knows yet what became of a change on one" in told
    assert "settle that first: `opskit resume" in told
