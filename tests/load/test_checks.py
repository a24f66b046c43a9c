"""Files of checks: what comes with opskit, what is merged, what is wrong in one."""

import re
from pathlib import Path

import pytest

from opskit.load import inventory, runbook
from opskit.load.checks import lint

SHIPPED = sorted((Path(__file__).parents[2] / "inventories" / "checks").glob("*.yaml"))
HEAD = "opskit: 1\nhosts: {web1: 10.0.0.1}\nservices:\n  app:\n    hosts: web1\n    checks:\n"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_is_sound(path: Path) -> None:
    assert lint(path) == []


def test_each_limit_says_whose_it_is_and_there_are_as_many_as_the_systems_name() -> None:
    text = "".join(path.read_text() for path in SHIPPED)
    assert {line.split(": ")[1] for line in text.splitlines() if "  system: " in line} >= {
        "teams", "site", "tickets", "sync", "youtility",
    }  # fmt: skip


def test_what_is_to_be_done_next_is_a_runbook_that_can_be_called_so() -> None:
    folder = SHIPPED[0].parents[2] / "runbooks"
    said = [line for path in SHIPPED for line in path.read_text().splitlines() if "next: " in line]
    asked = [
        found for line in said for found in re.findall(r"opskit run ([\w-]+)((?: -p \w+=)*)", line)
    ]
    assert len(asked) > 20
    for name, params in asked:
        known = runbook(folder / f"{name}.yaml").params
        assert set(re.findall(r"-p (\w+)=", params)) <= {one.name for one in known}, (name, params)


def labels(path: Path) -> list[object]:
    checks = inventory(path).services["app"]["checks"]
    assert isinstance(checks, tuple)
    return [one["label"] for one in checks if isinstance(one, dict)]


def test_a_check_of_a_file_is_changed_by_its_label_and_the_file_is_kept(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("opskit: 1\nchecks: [{label: mine, run: echo 1, warn: '> 1', severity: P3}]\n")
    path = tmp_path / "i.yaml"
    lines = "[own.yaml, {label: mine, warn: '> 5'}, {file: checks/redis.yaml, server: cache, "
    path.write_text(f"{HEAD}      {lines}without: ['keys evicted in 5 s']}}]\n")
    found = inventory(path)
    checks = found.services["app"]["checks"]
    assert isinstance(checks, tuple)
    assert checks[0] == {"label": "mine", "run": "echo 1", "warn": "> 5", "severity": "P3"}
    assert checks[1]["server"] == "cache"
    assert "keys evicted in 5 s" not in labels(path)
    assert len(found.others) == 2
    texts = {**found.others, str(path): path.read_text()}
    own.unlink()
    assert inventory(path, texts) == found, "a run goes on with the files that it began with"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]", "a file of checks must be a mapping"),
        ("opskit: 2\nchecks: []", "format 2 is not known here"),
        ("opskit: 1", "`checks` must be a list"),
        ("opskit: 1\nchecks: {}", "`checks` must be a list"),
        ("opskit: 1\nchecks: [{run: 'true'}]", "a check in a file has no `label`"),
        ("opskit: 1\nmore: 1\nchecks: [{label: a, run: 'true'}]", "unknown key 'more'"),
        ("opskit: 1\nchecks: [{label: a, run: x}, {label: a, run: y}]", "'a' is there already"),
        ("opskit: 1\nchecks: [{label: a, path: /, json: {a: '{{ b }}'}}]", "is not rendered"),
    ],
)
def test_a_file_with_a_mistake_is_told_of_with_its_line(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(text)
    found = [str(problem) for problem in lint(path)]
    assert any(told in line and line.startswith(str(path)) for line in found), found
