"""When the next word about an incident is due: read from the record, said once for each time."""

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit.cli.root import call

pytestmark = pytest.mark.acceptance

Capture = pytest.CaptureFixture[str]
INVENTORY = """\
opskit: 1
hosts: {one: {address: 127.0.0.1}}
channels:
  chat: {command: 'cat >>chat; printf "\\n--\\n" >>chat'}
  dead: {command: 'exit 67'}
  seldom: {command: 'cat >>chat; printf "\\n--\\n" >>chat', every: 1h}
"""
LOOK = """\
opskit: 1
name: sync-outage
version: 1.0.0
summary: A look
params: {level: {default: '2'}}
hosts: all
steps:
  - name: Look
    health: {label: page, run: 'echo away; exit {{ level }}', severity: P1}
    on: controller
    on_unknown: fail
"""
QUARTER = 900.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "sync-outage.yaml").write_text(LOOK)
    (tmp_path / "runbooks" / "outage-over.yaml").write_text(
        LOOK.replace("sync-outage", "outage-over")
    )
    (tmp_path / "live.yaml").write_text(INVENTORY)
    (tmp_path / "test.yaml").write_text(INVENTORY)
    (tmp_path / "opskit.yaml").write_text("inventory: live.yaml\nstore: store.db\n")
    (tmp_path / "chat").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield tmp_path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time go on; who takes the clock when he is imported has been, so that he keeps none."""
    for name in ("opskit.execute.hours", "opskit.view.jsonl", "opskit.view.lines"):
        importlib.import_module(name)
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def go_on(seconds: float) -> None:
        ahead[0] += seconds

    return go_on


def heard(folder: Path) -> list[str]:
    """Return the first line of all that came to the chat since it was asked last."""
    said = (folder / "chat").read_text().split("\n--\n")[:-1]
    (folder / "chat").write_text("")
    return [one.partition("\n")[0] for one in said]


def due(*words: str) -> int:
    return call(["incident", "--due", *words])


def test_a_word_is_due_every_quarter_of_an_hour_until_it_is_resolved(
    folder: Path, later: Callable[[float], None], capsys: Capture
) -> None:
    assert due("--to", "chat") == 0, "nothing was ever looked at"
    call(["run", "sync-outage"])
    later(QUARTER)
    assert due("--to", "chat") == 0, "a look alone opens nothing that somebody is told of"
    assert heard(folder) == []
    assert call(["incident", "--to", "chat"]) == 0
    [first] = heard(folder)
    assert first.startswith("[critical] Investigating: incident of "), first
    assert first.endswith(": P1")
    assert (due(), due("--to", "chat")) == (0, 0)
    later(QUARTER)
    assert (due(), due("--to", "chat"), due(), due("--to", "chat")) == (1, 0, 1, 0)
    [told] = heard(folder)
    assert told.startswith("[critical] A word to users is due since "), told
    later(2 * QUARTER + 60)
    assert due("--to", "chat") == 0
    assert len(heard(folder)) == 1, "once for the last time that one is due, not for each missed"
    assert due("-i", "test.yaml") == 0, "it is an incident of another inventory"
    for name, address, status in (("other", "127.0.0.2", 0), ("copy", "127.0.0.1", 1)):
        (folder / name).mkdir()
        (folder / name / "live.yaml").write_text(INVENTORY.replace("127.0.0.1", address))
        assert due("-i", f"{name}/live.yaml") == status, "the name of a file alone says nothing"
    assert call(["incident", "--said", "status page: we are at it"]) == 0
    assert (due(), due("--to", "chat")) == (0, 0)
    capsys.readouterr()
    assert call(["incident"]) == 0
    assert "| **The next word to users, every 15 minutes** | by " in capsys.readouterr().out
    assert call(["incident", "--resolved", "--to", "chat"]) == 2
    assert "no outage-over of ten minutes or more succeeded after" in capsys.readouterr().err
    assert heard(folder) == []
    assert call(["incident", "--resolved", "--unproven", "--to", "chat"]) == 0
    [told] = heard(folder)
    assert told.startswith("[critical] Resolved: incident of "), "who heard of it hears its end"
    later(QUARTER)
    assert due("--to", "chat") == 0
    assert heard(folder) == []
    assert call(["incident", "--resolved"]) == 2, "it is already"


def test_a_reminder_that_came_nowhere_is_tried_again_and_one_that_came_somewhere_is_not(
    folder: Path, later: Callable[[float], None]
) -> None:
    call(["run", "sync-outage"])
    assert call(["incident", "--to", "chat"]) == 0
    later(QUARTER)
    heard(folder)
    assert (due("--to", "dead"), due("--to", "dead")) == (1, 1)
    assert due("--to", "chat", "--to", "dead") == 1
    assert due("--to", "chat", "--to", "dead") == 0
    assert len(heard(folder)) == 1


def test_it_is_resolved_when_a_look_of_ten_minutes_found_nothing_after_the_last_that_did(
    folder: Path, later: Callable[[float], None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(["run", "sync-outage"])
    assert call(["incident", "--to", "chat"]) == 0
    (folder / "runbooks" / "outage-over.yaml").write_text(
        (folder / "runbooks" / "outage-over.yaml").read_text().replace("echo away", "sleep 0.6")
    )
    assert call(["run", "outage-over", "-p", "level=0"]) == 0
    assert call(["incident", "--resolved"]) == 2, "a moment is not ten minutes"
    monkeypatch.setattr("opskit.app.incident.HEALTHY", 0.5)
    call(["run", "sync-outage", "-p", "level=1"])  # WARN
    assert call(["incident", "--to", "chat"]) == 0
    assert "Update: incident of " in (folder / "chat").read_text()
    assert "As it was looked at again at " in (folder / "chat").read_text()
    assert "- WARN controller: page: away" in (folder / "chat").read_text()
    call(["run", "sync-outage", "-p", "level=2"])
    assert call(["incident", "--resolved"]) == 2, "it was over, and is not any more"
    assert call(["run", "outage-over", "-p", "level=0"]) == 0
    capsys.readouterr()
    assert call(["incident", "--resolved", "--to", "chat"]) == 0
    assert re.search(r"No request failed within \d+s \(run ", (folder / "chat").read_text())
    capsys.readouterr()
    assert call(["incident", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next_update"] is None


@pytest.mark.parametrize(
    "words",
    [["--due", "-o", "f"], ["--due", "--said", "x"], ["--due", "--resolved"],
     ["--resolved", "--said", "x"], ["--resolved", "-o", "f"], ["--unproven"]],
)  # fmt: skip
def test_what_can_not_be_meant_together_is_refused(folder: Path, words: list[str]) -> None:
    assert call(["incident", *words]) == 2
    assert not (folder / "store.db").exists()


def test_a_clock_reminds_by_a_schedule_of_its_own(folder: Path, capsys: Capture) -> None:
    entry = (
        "opskit: 1\nschedules:\n  word: {remind: chat, at: '*/5 * * * *', user: me, tell: dead}\n"
    )
    (folder / "s.yaml").write_text(entry)
    assert call(["schedule", "s.yaml", "--as", "cron"]) == 0
    line = capsys.readouterr().out
    assert f"-m opskit incident --due -i {folder}/live.yaml --to chat && {{ " in line, line
    assert "did not succeed" in line
    (folder / "s.yaml").write_text(entry.replace("chat", "nobody"))
    assert call(["schedule", "s.yaml"]) == 2
    assert "the inventory has no channel 'nobody'" in capsys.readouterr().err


def test_who_was_told_hears_once_that_it_is_over_and_then_of_the_next_time(
    folder: Path, capsys: Capture
) -> None:
    bad = ["notify", "it's bad", "--severity", "critical", "--to", "seldom"]
    over = ["notify", "it's over", "--severity", "critical", "--ends", "it's bad"]
    over += ["--to", "seldom", "--to", "chat"]
    assert call(over) == 0
    assert "nobody was told of it" in capsys.readouterr().out
    assert heard(folder) == []
    for words, told in (
        (bad, ["[critical] it's bad"]),
        (bad, []),
        ([*over, "-i", "test.yaml"], []),
        (over, ["[critical] it's over"]),
        (over, []),
        (bad, ["[critical] it's bad"]),
        (bad, []),
        (over, ["[critical] it's over"]),
    ):
        assert call(words) == 0
        assert heard(folder) == told, (words, told)


def test_what_went_well_in_between_is_no_repetition_when_it_fails_again(folder: Path) -> None:
    """Who has heard that all is well hears at once that it is not, whatever `every` says."""
    tell = "always:\n  - {name: Tell, notify: {message: 'it {{ run.status }}', to: seldom}}\n"
    (folder / "job.yaml").write_text(LOOK.replace("sync-outage", "job") + tell)
    for level, told in (
        ("2", ["[critical] it failed"]), ("2", []), ("0", ["it succeeded"]), ("0", []),
        ("2", ["[critical] it failed"]), ("2", []),
    ):  # fmt: skip
        call(["run", "./job.yaml", "-p", f"level={level}"])
        assert heard(folder) == told, level
