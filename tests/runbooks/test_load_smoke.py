"""The shipped load-smoke, with a program that says it has made load."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.cli.root import call

pytestmark = pytest.mark.acceptance

Capture = pytest.CaptureFixture[str]
P95 = "aggregate/summaries/http.response_time/p95"
LOST = "lost=aggregate/lost/0,aggregate/lost/1"
ALL = ["-p", f"p95={P95}", "-p", LOST, "-p", "rate=aggregate/rate", "-p", "rate_least=1000"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "opskit.yaml").write_text("inventory: i.yaml\nstore: store.db\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield tmp_path


def load(folder: Path, *words: str, report: object = None, environment: str = "staging") -> int:
    """Make load as far as anybody is told, and weigh it."""
    named = f"vars: {{environment: {environment}}}\n" if environment else ""
    (folder / "i.yaml").write_text(f"opskit: 1\nhosts: {{web1: 127.0.0.1}}\n{named}")
    (folder / "report").write_text(report if isinstance(report, str) else json.dumps(report))
    (folder / "loads").write_text("#!/bin/sh\necho x >>began\ncat report\nexit $1\n")
    (folder / "loads").chmod(0o755)
    verb = [] if "--dry-run" in words else ["--yes"]
    status = [] if "-p" in words and "command=./loads 3" in words else ["-p", "command=./loads 0"]
    return call(["run", "load-smoke", *verb, *status, *words])


def measured(p95: object, lost: int = 0, rate: float = 1043.5) -> dict[str, object]:
    of = {"summaries": {"http.response_time": {"p95": p95}}, "lost": [lost, 0], "rate": rate}
    return {"aggregate": of}


def test_what_a_program_measured_is_weighed_and_all_of_it_is_told(
    folder: Path, capsys: Capture
) -> None:
    assert load(folder, *ALL, report=measured(143.2)) == 0
    said = capsys.readouterr().out
    assert "OK P95, ms: 143.2" in said
    assert "OK lost: 0" in said
    assert "OK requests a second: 1043.5" in said
    assert load(folder, *ALL, report=measured(200, 1, 999)) == 1
    said = capsys.readouterr().out
    assert "CRIT P95, ms: 200 (>= 200" in said
    assert "CRIT lost: 1 (> 0" in said
    assert "CRIT requests a second: 999 (< 1000" in said


def test_what_was_not_measured_passes_nothing(folder: Path, capsys: Capture) -> None:
    for report, told in (
        ("", "what it printed is no JSON"),
        (measured("fast"), f"in its report {P95} is no number: 'fast'"),
        (measured(None), f"in its report {P95} is no number: None"),
        (measured(float("nan")), f"in its report {P95} is no number: nan"),
        ({"aggregate": {}}, f"its report has no {P95}"),
    ):
        assert load(folder, *ALL, report=report) == 1
        assert told in capsys.readouterr().out
    assert load(folder, *ALL, "-p", "command=./loads 3", report=measured(1)) == 1
    assert "the load program ended with status 3" in capsys.readouterr().out


def test_no_load_on_production_nor_where_nobody_says_what_it_is_nor_in_a_dry_run(
    folder: Path, capsys: Capture
) -> None:
    for environment in ("production", "Prod", "null", ""):
        assert load(folder, *ALL, report=measured(1), environment=environment) == 5, environment
        assert "load is for one that is named and is no production" in capsys.readouterr().out
    assert load(folder, *ALL, "--dry-run", report=measured(1)) == 0
    assert not (folder / "began").exists()
    said = [*ALL, "-p", "production=true"]
    assert load(folder, *said, report=measured(1), environment="production") == 0
    assert (folder / "began").read_text() == "x\n"
