"""Change windows, whole commands: refused before anything, told by a dry run, overridden."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.cli.root import call
from opskit.execute import hours
from tests.cli.test_commands import INVENTORY, Capture, folder, objects

__all__ = ["folder"]
pytestmark = pytest.mark.acceptance

NOW = (
    "freezes:\n  - {from: 2020-01-01, until: 9998-12-31, reason: nobody touches this}\n"
    "  - {from: 2020-01-01, until: 9998-12-31, reason: elsewhere, runbooks: [deploy]}\n"
)
THEN = "freezes:\n  - {from: 2020-01-01, until: 2020-01-31, reason: long ago}\n"
STEPS = """\
opskit: 1
name: two
version: 1.0.0
summary: Two changes with a wait between them
{urgent}steps:
  - name: one
    run: echo 1 >>{folder}/done
    on: controller
    undo: {{run: echo back >>{folder}/done}}
  - {{name: watch, wait: 10ms, on: controller}}
  - {{name: two, run: echo 2 >>{folder}/done, on: controller}}
"""


def write(folder: Path, inventory: str, urgent: str = "") -> Path:
    (folder / "hosts.yaml").write_text(INVENTORY + inventory)
    text = STEPS.format(folder=folder, urgent=urgent)
    (folder / "runbooks" / "two.yaml").write_text(text)
    return folder / "done"


def test_a_slip_in_the_name_of_a_runbook_is_warned_of(folder: Path, capsys: Capture) -> None:
    freezes = NOW.replace("[deploy]", "[two, tow, deploy]")
    write(folder, freezes)
    assert call(["lint", "-i", "hosts.yaml"]) == 0
    told = capsys.readouterr().out
    assert "hosts.yaml:6:5: warning: there is no runbook 'tow' here, so this holds for none" in told
    assert "→ two" in told
    assert call(["lint", "hosts.yaml", "--strict"]) == 2
    assert "'deploy' here" not in capsys.readouterr().out, "shipped ones are here, too"


def test_a_freeze_refuses_what_changes_something_before_anything_is_touched(
    folder: Path, capsys: Capture
) -> None:
    done = write(folder, NOW)
    assert call(["run", "two", "--yes"]) == 5
    told = capsys.readouterr().err
    assert "changes are frozen until" in told
    assert "UTC: nobody touches this; nothing was sent anywhere" in told
    assert f"{folder / 'hosts.yaml'}:5:5" in told or "hosts.yaml:5:5" in told
    assert "--override-window REASON" in told
    assert not done.exists()
    assert not (folder / "store.db").exists()
    assert call(["plan", "two"]) == 0
    assert "not now: changes are frozen until" in capsys.readouterr().out
    assert call(["plan", "two", "--json"]) == 0
    told = objects(capsys.readouterr().out)[0]["changes_now"]
    assert (told["allowed"], told["opens"]) == (False, "9999-01-01T00:00:00+00:00")


def test_a_reason_overrides_it_and_is_in_the_record(folder: Path, capsys: Capture) -> None:
    done = write(folder, NOW)
    assert call(["run", "two", "--yes", "--override-window", "INC-7: shop is down"]) == 0
    assert done.read_text() == "1\n2\n"
    assert "change windows overridden: INC-7: shop is down" in capsys.readouterr().out
    call(["report", "last"])
    assert "| **Change windows** | overridden: INC-7: shop is down |" in capsys.readouterr().out
    call(["status", "last", "--json"])
    assert '"override_window": "INC-7: shop is down"' in capsys.readouterr().out
    assert call(["audit", "verify"]) == 0
    assert call(["undo", "last", "--yes"]) == 0, "what was done may be taken back at any time"
    assert done.read_text() == "1\n2\nback\n"


def test_a_reason_that_was_not_needed_is_said_and_not_recorded(
    folder: Path, capsys: Capture
) -> None:
    done = write(folder, THEN)
    assert call(["run", "two", "--yes", "--override-window", "INC-7: shop is down"]) == 0
    assert done.read_text() == "1\n2\n"
    told = capsys.readouterr()
    assert "--override-window was not needed: this may be done now" in told.err
    assert "overridden" not in told.out
    call(["report", "last"])
    assert "Change windows" not in capsys.readouterr().out
    call(["audit", "log", "last", "--json"])
    log = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not any("override" in json.dumps({**one, "command": ""}) for one in log)


def test_a_reason_that_was_given_before_is_recorded_where_it_lets_the_run_go_on(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = write(folder, THEN)
    ago = datetime(2020, 1, 5, tzinfo=UTC).timestamp()
    stage = iter([0.0])
    monkeypatch.setattr(hours, "clock", lambda: next(stage, ago))
    assert call(["run", "two", "--yes", "--override-window", "INC-7: half is out"]) == 0
    assert done.read_text() == "1\n2\n"
    said = capsys.readouterr().out
    assert "WAITING  window: changes are frozen until" in said
    assert "override by" in said
    assert "INC-7: half is out" in said


@pytest.mark.parametrize("words", [["--override-window", "  "], []])
def test_no_reason_is_none_and_an_urgent_runbook_needs_none(
    folder: Path, capsys: Capture, words: list[str]
) -> None:
    done = write(folder, NOW)
    assert call(["run", "two", "--yes", *words]) == 5
    write(folder, NOW, urgent="urgent: true\n")
    assert call(["run", "two", "--yes"]) == 0
    assert done.exists()
    capsys.readouterr()
    call(["exec", "all", "--", "true"])
    told = str(capsys.readouterr())
    assert "exec by" in told, "a command that is typed is meant"
    assert "frozen" not in told


def test_a_run_that_is_held_says_how_to_go_on(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = write(folder, THEN)
    ago = datetime(2020, 1, 5, tzinfo=UTC).timestamp()
    stage = iter([0.0])  # the clock as the first stage finds it; then the freeze has begun
    monkeypatch.setattr(hours, "clock", lambda: next(stage, ago))
    assert call(["run", "two", "--yes"]) == 4
    assert "long ago" in capsys.readouterr().out
    assert done.read_text() == "1\n"
    assert call(["decide", "last"]) == 4
    told = capsys.readouterr().out
    assert "override" in told
    assert "go on in spite of it" in told
    assert call(["resume", "last"]) == 4, "it looks at the clock again"
    capsys.readouterr()
    assert call(["decide", "last", "override"]) == 2
    assert "needs a reason" in capsys.readouterr().err
    assert call(["decide", "last", "override", "--reason", "half is out"]) == 0
    assert done.read_text() == "1\n2\n"
    capsys.readouterr()
    call(["audit", "log", "last", "--json"])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("half is out" in json.dumps(one) for one in said)
