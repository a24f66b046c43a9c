"""An answer is for the question that its giver saw; who comes too late is told what was said."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.acceptance

RUNBOOK = """\
opskit: 1
name: sure
version: 1.0.0
summary: Two questions, and a change
hosts: all
steps:
  - {name: First, confirm: "The first?", on: controller}
  - {name: Second, confirm: "The second?", on: controller}
  - {name: Change, run: "test -n \\"$TOKEN\\"; echo done >>FOLDER/changed", on: controller,
     secrets: {TOKEN: token}}
"""
INVENTORY = """\
opskit: 1
hosts:
  one: {address: 127.0.0.1}
secrets:
  token: "cmd:sh FOLDER/token.sh"
"""
MEANWHILE = """\
cd FOLDER
test ! -e meanwhile || {
  mv meanwhile now
  sh ./now >/dev/null 2>&1 </dev/null
}
echo correct-horse
"""
"""Gets the secret: when a command has read the run, and has not taken it yet."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"sure.yaml": RUNBOOK, "hosts.yaml": INVENTORY, "token.sh": MEANWHILE,
             "opskit.yaml": "inventory: hosts.yaml\nstore: store.db\n"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("FOLDER", str(tmp_path)))
    return tmp_path


def opskit(folder: Path, *words: str, status: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *words],
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")},
             "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"),
             "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = opskit(folder, "audit", "log", "last", "--json", status=0).splitlines()
    return [one for one in map(json.loads, lines) if one.get("event") == kind]


def meanwhile(folder: Path, *words: str) -> None:
    """Let somebody else come first the next time that a command has read the run."""
    line = " ".join((sys.executable, "-m", "opskit", *words))
    (folder / "meanwhile").write_text(line + "\n")


def test_a_second_answer_is_not_taken_for_the_next_question(folder: Path) -> None:
    opskit(folder, "run", "./sure.yaml", "--yes", status=4)
    meanwhile(folder, "decide", "last", "yes")
    said = opskit(folder, "decide", "last", "yes", status=2)
    (answer,) = events(folder, "decided")
    assert f"{answer['who']} answered 'yes'" in said
    assert "The second?" in said
    assert "the question that this is for was answered before" in said
    assert len(events(folder, "waiting")) == 2
    assert opskit(folder, "decide", "last", status=4).startswith("The second?")
    opskit(folder, "decide", "last", "yes", status=0)
    assert (folder / "changed").read_text() == "done\n"
    opskit(folder, "audit", "verify", "last", status=0)


def test_a_second_answer_is_not_taken_for_the_same_question_asked_again(folder: Path) -> None:
    runbook = (folder / "sure.yaml").read_text()
    head, _, _ = runbook.partition("  - {name: First")
    step = "  - {name: Try, run: 'echo x >>tried; test -z \"$TOKEN\"', on: controller,\n"
    step += f"     cwd: {folder}, secrets: {{TOKEN: token}}, on_failure: ask}}\n"
    (folder / "sure.yaml").write_text(head + step)
    opskit(folder, "run", "./sure.yaml", "--yes", status=4)
    meanwhile(folder, "decide", "last", "retry")
    said = opskit(folder, "decide", "last", "retry", status=2)
    assert "answered 'retry'" in said
    assert (folder / "tried").read_text() == "x\n" * 2
    assert len(events(folder, "decided")) == 1


def test_who_answers_where_nothing_is_asked_is_told_so_at_once(folder: Path) -> None:
    opskit(folder, "run", "./sure.yaml", "--yes", status=4)
    opskit(folder, "decide", "last", "no", "--reason", "not now", status=5)
    said = opskit(folder, "decide", "last", "yes", status=2)
    assert "asks nothing (failed)" in said
    assert [one["choice"] for one in events(folder, "decided")] == ["no"]


def test_a_remark_keeps_nobody_from_answering(folder: Path) -> None:
    opskit(folder, "run", "./sure.yaml", "--yes", status=4)
    meanwhile(folder, "note", "last", "looking")
    opskit(folder, "decide", "last", "yes", status=4)
    assert len(events(folder, "decided")) == 1


def killed(folder: Path, at: str, *words: str) -> None:
    line = [sys.executable, "-m", "tests.support.deadly", at, "0", *words]
    done = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_before_the_answer_is_recorded_all_say_that_it_still_asks(folder: Path) -> None:
    opskit(folder, "run", "sure.yaml", "--yes", status=4)
    killed(folder, "resumed", "decide", "last", "yes")
    kinds = [one["event"] for one in log(folder)]
    assert kinds[-2:] == ["waiting", "run resumed"]
    for words in (("decide",), ("resume",), ("status",)):
        assert "The first?" in opskit(folder, *words, "last", status=4)
    (run,) = map(json.loads, opskit(folder, "runs", "--json", status=0).splitlines())
    assert run["state"] == "waiting"
    assert "The second?" in opskit(folder, "decide", "last", "yes", status=4)
    assert [one["choice"] for one in events(folder, "decided")] == ["yes"]
    opskit(folder, "audit", "verify", status=0)


def log(folder: Path) -> list[dict[str, Any]]:
    lines = opskit(folder, "audit", "log", "last", "--json", status=0).splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_is_not_taken_without_a_choice(folder: Path) -> None:
    opskit(folder, "run", "sure.yaml", "--yes", status=4)
    before = log(folder)
    said = opskit(folder, "decide", "last", "--steal", before[0]["run"], status=2)
    assert "--steal goes with a choice" in said
    assert f"opskit decide last CHOICE --steal {before[0]['run']}" in said
    assert log(folder) == before
