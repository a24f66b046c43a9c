"""What can't be taken back yet is refused, and it is said why."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.cli.root import call

pytestmark = pytest.mark.acceptance

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
      for n in $(seq 100); do
        test ! -e end || break
        sleep 0.2
      done
      echo ended >>order
    cwd: FOLDER
    on: controller
    undo:
      - run: echo undone >>order && rm -f begun
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
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
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
        until = time.monotonic() + 60
        while not (folder / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        (folder / "end").write_text("")
        process.kill()
        process.wait(30)


def test_of_a_run_that_is_carried_out_nothing_is_taken_back_or_repeated(
    running: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["undo"], ["retry", "--hosts", "failed"]):
        assert call([*words, "last"]) == 5
        told = capsys.readouterr().err
        assert "is being carried out right now by" in told
        assert f"process {running.pid}" in told
        assert "opskit status" in told


def test_an_undo_waits_for_what_still_runs_and_takes_it_back_then(
    folder: Path, running: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    running.kill()
    running.wait(30)
    later = threading.Timer(0.4, (folder / "end").write_text, ("",))
    later.start()
    try:
        assert call(["undo", "last", "--yes"]) == 0
    finally:
        later.join()
    assert (folder / "order").read_text().split() == ["ended", "undone"]
    assert not (folder / "begun").exists()
    told = capsys.readouterr().err
    assert "what became of a change on one: asking there" in told


def test_what_nobody_can_tell_is_not_taken_back_and_it_is_said_how_to_settle_it(
    folder: Path, running: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    running.kill()
    running.wait(30)
    (folder / "end").write_text("")
    until = time.monotonic() + 60
    while not (folder / "order").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    for traces in (folder / "home").rglob("runs/*"):
        shutil.rmtree(traces)
    assert call(["undo", "last", "--yes"]) == 5
    told = capsys.readouterr().err
    assert "nobody knows yet what became of a change on one" in told
    assert "`opskit abort" in told
    assert "only asks" in told
    assert (folder / "order").read_text().split() == ["ended"]


def test_an_undo_that_is_stopped_while_it_waits_takes_nothing_back(
    folder: Path, running: "subprocess.Popen[bytes]"
) -> None:
    running.kill()
    running.wait(30)
    words = [sys.executable, "-m", "opskit", "undo", "last", "--yes"]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    ) as undo:  # fmt: skip
        try:
            said = ""
            while "asking there" not in said:
                assert undo.stderr is not None
                line = undo.stderr.readline()
                assert line, said
                said += line
            undo.send_signal(signal.SIGINT)
            said += undo.communicate(timeout=60)[1]
        finally:
            undo.kill()
    assert (undo.returncode, "Nothing was taken back; `opskit undo" in said) == (130, True), said
    (folder / "end").write_text("")
    until = time.monotonic() + 60
    while not (folder / "order").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (folder / "order").read_text().split() == ["ended"]
