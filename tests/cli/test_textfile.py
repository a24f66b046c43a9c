"""`--nagios`: what goes with it, and a file that can't be written, which hides nothing."""

from pathlib import Path

import pytest

from opskit.cli.root import call
from tests.cli.test_commands import Capture, folder

__all__ = ["folder"]
pytestmark = pytest.mark.acceptance

RUNBOOK = """\
opskit: 1
name: looks
version: 1.0.0
summary: A check that has found harm, and that takes the folder of the metrics away
params: {{gone: {{type: bool, default: false}}}}
hosts: all
steps:
  - {{name: asked, run: 'touch {folder}/asked', effect: read, on: controller}}
  - {{name: away, run: 'rmdir {folder}/metrics', effect: read, on: controller, when: gone}}
  - name: check
    health: {{label: disk, run: 'echo full; exit 2'}}
    on_unknown: fail
    on: controller
"""


@pytest.fixture
def file(folder: Path) -> Path:
    (folder / "runbooks" / "looks.yaml").write_text(RUNBOOK.format(folder=folder))
    (folder / "metrics").mkdir()
    return folder / "metrics" / "opskit.prom"


def test_it_is_put_in_its_place_and_nothing_beside_it(file: Path, capsys: Capture) -> None:
    assert call(["run", "looks", "--nagios", "--textfile", str(file)]) == 2
    assert 'check="disk"} 2\n' in file.read_text()
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert capsys.readouterr().out.startswith("LOOKS CRITICAL - ")


def test_a_place_that_is_not_there_is_refused_before_anybody_is_asked(
    folder: Path, file: Path, capsys: Capture
) -> None:
    bad = folder / "nowhere" / "opskit.prom"
    assert call(["run", "looks", "--nagios", "--textfile", str(bad)]) == 3
    assert f"--textfile {bad} can't be written: " in capsys.readouterr().out
    assert not (folder / "asked").exists()


def test_one_that_can_be_written_no_more_hides_nothing(file: Path, capsys: Capture) -> None:
    assert call(["run", "looks", "--nagios", "--textfile", str(file), "-p", "gone=true"]) == 2
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("LOOKS CRITICAL - ")
    assert "; and 1 UNKNOWN | " in line


@pytest.mark.parametrize(
    "words",
    ["--detach", "--dry-run", "--override-window X", "--pause-after-batch", "--wait 1s",
     "--steal 20260101-000000-abcd", "--json"],
)  # fmt: skip
def test_what_a_check_has_no_use_for_is_refused_and_not_passed_over(
    folder: Path, file: Path, capsys: Capture, words: str
) -> None:
    assert call(["run", "looks", "--nagios", *words.split()]) == 3
    told = capsys.readouterr()
    option = words.split(maxsplit=1)[0]
    assert told.out.startswith(f"OPSKIT UNKNOWN - {option} does not go with --nagios")
    assert f"leave {option} out" in told.err
    assert not (folder / "asked").exists()
    assert not file.exists()


def test_a_check_is_held_to_the_plan_that_was_saved(
    folder: Path, file: Path, capsys: Capture
) -> None:
    saved = folder / "plan.json"
    assert call(["plan", "looks", "--no-reads", "-o", str(saved)]) == 0
    assert call(["run", "looks", "--nagios", "--yes", "--plan", str(saved)]) == 2
    (folder / "asked").unlink()
    (folder / "runbooks" / "looks.yaml").write_text(
        RUNBOOK.format(folder=folder).replace("full; exit 2", "empty")
    )
    capsys.readouterr()
    assert call(["run", "looks", "--nagios", "--plan", str(saved)]) == 3
    assert "the plan has changed since it was saved" in capsys.readouterr().out
    assert not (folder / "asked").exists()
    assert not file.exists()
