"""However a command ends, there is one text and one exit status for it."""

import json
import stat
from pathlib import Path

import click
import pytest

from opskit.cli import failure
from opskit.errors import (
    InputError,
    OpskitError,
    RefusedError,
    StoreError,
    UnrecordedError,
    WaitingError,
)
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.value import Secret

ERRORS = [
    (InputError("x"), 2),
    (RefusedError("x"), 5),
    (StoreError("x"), 2),
    (UnrecordedError("x"), 130),
    (WaitingError("x"), 4),
    (OpskitError("x"), 1),
    (click.UsageError("x"), 2),
    (KeyboardInterrupt(), 130),
    (click.Abort(), 130),
    (BrokenPipeError(), 0),
    (ZeroDivisionError("x"), 70),
]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(failure, "_secrets", [])
    return tmp_path


def test_a_terminal_that_is_gone_at_an_interruption_is_no_bug(state: Path) -> None:
    error = OSError(5, "Input/output error")
    error.__context__ = KeyboardInterrupt()  # it was told of that, on a terminal that is gone
    assert failure.told(error, []) == 130
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda v: type(v).__name__)
def test_every_error_has_its_exit_status(error: BaseException, status: int) -> None:
    assert failure.told(error, []) == status


def test_an_error_says_what_where_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    failure.told(RefusedError("the lock is held", where="web", hint="wait for it"), [])
    assert capsys.readouterr().err == "error: web: the lock is held\n  → wait for it\n"


def test_what_a_host_put_into_an_error_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    failure.told(OpskitError("\x1b[2Jgone", where="\u202eweb1"), [])
    assert capsys.readouterr().err == "error: \\u202eweb1: \\x1b[2Jgone\n"


def problems() -> ProblemsError:
    place = Place(file="a.yaml", line=3, column=7)
    return ProblemsError([Problem(place=place, what="unknown key 'hots'", write="hosts")])


def test_problems_are_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.told(problems(), []) == 2
    told = capsys.readouterr().err
    assert "a.yaml:3:7: error: unknown key 'hots'\n    → hosts\n1 error\n" in told


def test_problems_are_objects_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    failure.told(problems(), ["lint", "--json"])
    found = json.loads(capsys.readouterr().err)
    assert found["problems"][0]["line"] == 3
    assert found["exit"] == 2


def test_json_after_two_dashes_is_a_word_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    failure.told(InputError("x"), ["exec", "web", "--", "curl", "--json"])
    assert capsys.readouterr().err == "error: x\n"


def int_of(text: str) -> int:
    raise ValueError(text)


def test_a_bug_leaves_a_log_without_secrets_that_only_its_owner_can_read(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failure.keep_out([Secret("db", "correct-horse")])
    with pytest.raises(ValueError, match="password") as caught:
        int_of("bad password correct-horse, Y29ycmVjdC1ob3JzZQ==")
    assert failure.told(caught.value, ["run", "deploy", "-p", "token=correct-horse"]) == 70
    (log,) = (state / "opskit" / "bugs").iterdir()
    text = log.read_text()
    told = capsys.readouterr().err
    assert "correct-horse" not in text + told
    assert "Y29ycmVjdC1ob3JzZQ" not in text + told
    assert "ValueError: bad password [secret], [secret]" in text
    assert "Traceback" in text
    assert "command: opskit run deploy -p …" in text
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert str(log) in told
    assert "Traceback" not in told


def test_a_bug_is_told_even_when_no_log_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert failure.told(ZeroDivisionError("x"), []) == 70
    assert "could not be written" in capsys.readouterr().err
