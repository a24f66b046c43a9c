"""Output that can't be written changes nothing about what is done; a file that can't is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

RUNBOOK = """\
opskit: 1
name: local
version: 1.0.0
summary: Something on this machine alone
hosts: all
steps:
  - name: Write
    run: printf 'done\\n' > {{ folder }}/word
    on: controller
    undo: []
params:
  folder: {type: string}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "local.yaml").write_text(RUNBOOK)
    (tmp_path / "hosts.yaml").write_text("opskit: 1\nhosts:\n  one: {address: 127.0.0.1}\n")
    (tmp_path / "opskit.yaml").write_text("inventory: hosts.yaml\nstore: store.db\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    return tmp_path


def shell(words: str) -> "subprocess.CompletedProcess[str]":
    """Run opskit by a shell, with what that makes of its output."""
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m opskit {words}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("where", ["> /dev/full", "--json > /dev/full", ">&-", ">&- 2>&- <&-"])
def test_a_run_comes_to_its_end_and_says_how_it_ended(folder: Path, where: str) -> None:
    done = shell(f"run local --yes -p folder={folder} {where}")
    assert (folder / "word").read_text() == "done\n"
    assert done.returncode == 0, done.stderr
    assert ("standard output can't be written" in done.stderr) is ("full" in where)
    assert "Traceback" not in done.stderr
    (kept,) = map(json.loads, shell("runs --json").stdout.splitlines())
    assert kept["state"] == "succeeded"


@pytest.mark.parametrize("words", ["runs", "runs --json", "list", "--help", "schema", "--version"])
def test_what_could_not_be_printed_was_not_printed(folder: Path, words: str) -> None:
    done = shell(f"{words} > /dev/full")
    assert done.returncode == 2
    assert "standard output can't be written: No space left on device" in done.stderr


def test_a_refusal_stays_one_although_nobody_can_read_why(folder: Path) -> None:
    assert shell("show no-such-runbook > /dev/full").returncode == 2


@pytest.mark.parametrize(
    "words",
    ["plan local -p folder=. --no-reads -o {}/plan", "report last -o {}/report", "init {}",
     "lab release B -o {}/b.tar.gz"],
)  # fmt: skip
@pytest.mark.parametrize("there", ["/proc/no", "file/no"])
def test_a_file_that_can_not_be_written_is_the_users_to_change(
    folder: Path, words: str, there: str
) -> None:
    (folder / "file").write_text("")
    assert shell(f"run local --yes -p folder={folder}").returncode == 0
    done = shell(words.format(there))
    assert done.returncode == 2, done.stderr
    assert "it can't be written: No" in done.stderr
    assert there in done.stderr
