"""Runbooks as lists and pages, as wide as the terminal is."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.runbook import Runbook
from opskit.view import catalog

RUNBOOK = """\
opskit: 1
name: nightly
version: 1.0.0
summary: Remove everything that nobody has asked for since the day before yesterday
params:
  wait: {type: duration, default: 90s, help: how long}
  force: {type: bool, default: false, help: though somebody is there}
  name: {default: '', help: whose they are; without it they are those of everybody who is there}
  rows: {type: file, default: , help: which ones}
  who: {help: who says so}
hosts: all
steps:
  - {name: a, run: x}
"""


@pytest.fixture
def item(tmp_path: Path) -> Runbook:
    (tmp_path / "nightly.yaml").write_text(RUNBOOK)
    return load.runbook(tmp_path / "nightly.yaml", [])


def test_a_list_is_broken_between_words_below_its_column(item: Runbook) -> None:
    head, *rows = catalog.runbooks([item], columns=60).splitlines()
    column = head.index("WHAT")
    assert len(rows) > 1
    assert all(len(row) <= 60 and row[column - 1] == " " and row[column] != " " for row in rows)
    assert " ".join(" ".join(rows).split()) == f"nightly 1.0.0 {item.summary}"
    assert len(catalog.runbooks([item]).splitlines()) == 2


def test_defaults_stand_as_they_would_be_typed(item: Runbook) -> None:
    shown = catalog.runbook(item, columns=80)
    assert "how long (default 1m30s)\n" in shown
    assert "though somebody is there (default false)\n" in shown
    assert "which ones\n" in shown
    assert "who says so (required)\n" in shown
    assert max(map(len, shown.splitlines()[1:3])) <= 80
    assert "None" not in shown
