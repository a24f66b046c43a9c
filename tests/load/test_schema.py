"""What the schema refuses is wrong, and what is right it lets pass."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from opskit import load
from opskit.load.yaml import parse, plain

CASES = Path(__file__).parent.parent / "cases"
GOOD = sorted((CASES / "good").glob("*.yaml"))
BAD = sorted((CASES / "bad").glob("*.yaml"))
INVENTORIES = sorted((CASES / "bad-inventory").glob("*.yaml"))
RUNBOOK = json.loads(json.dumps(load.schema()))
INVENTORY = json.loads(json.dumps(load.inventory_schema()))
EXPECTED = json.loads(json.dumps(load.expectations_schema()))
LEDGER = json.loads(json.dumps(load.ledger_schema()))
CHECKS = json.loads(json.dumps(load.checks_schema()))
SCHEDULES = json.loads(json.dumps(load.schedules_schema()))
SHIPPED_CHECKS = sorted((CASES.parent.parent / "inventories" / "checks").glob("*.yaml"))
BAD_LEDGERS = sorted((CASES / "bad-ledgers").glob("*.yaml"))
BAD_EXPECTED = sorted((CASES / "bad-expectations").glob("*.yaml"))
SHIPPED = sorted((CASES.parent.parent / "opskit" / "lab" / "data" / "expect").glob("*.yaml"))
PLAIN = re.findall(
    r"\S+",
    "unknown-key unknown-key-in-step unknown-key-in-kind two-kinds no-kind batches max-failures "
    "max-failures-negative on-failure on head-missing no-steps values",
)


def errors(schema: dict[str, Any], path: Path) -> list[str]:
    root = parse(path.read_bytes(), str(path)).root
    if root is None:
        return []  # not YAML at all: the cases say so
    data = json.loads(json.dumps(plain(root)))
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize(
    "schema",
    [RUNBOOK, INVENTORY, EXPECTED, LEDGER, CHECKS, SCHEDULES],
    ids=["runbook", "inventory", "expected", "ledger", "checks", "schedules"],
)
def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_runbook_fits_the_schema(path: Path) -> None:
    assert errors(RUNBOOK, path) == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_whatever_the_schema_refuses_is_a_problem_too(path: Path) -> None:
    if errors(RUNBOOK, path):
        assert load.check(path, [])[1]


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.stem)
def test_whatever_the_schema_refuses_in_an_inventory_is_a_problem_too(path: Path) -> None:
    if errors(INVENTORY, path):
        assert load.check_inventory(path)[1]


@pytest.mark.parametrize("name", PLAIN)
def test_an_editor_sees_plain_mistakes_too(name: str) -> None:
    assert errors(RUNBOOK, CASES / "bad" / f"{name}.yaml")


def test_every_key_has_a_description() -> None:
    step = RUNBOOK["$defs"]["step"]["properties"]
    for properties in (RUNBOOK["properties"], step, INVENTORY["properties"]):
        assert [name for name, value in properties.items() if not value.get("description")] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_expectations_of_the_lab_fit_the_schema(path: Path) -> None:
    assert errors(EXPECTED, path) == []


@pytest.mark.parametrize("path", BAD_EXPECTED, ids=lambda path: path.stem)
def test_whatever_the_schema_refuses_in_expectations_is_a_problem_too(path: Path) -> None:
    if errors(EXPECTED, path):
        assert load.lint(path, [])


@pytest.mark.parametrize("name", ["payouts", "teams", "sync"])
def test_the_ledgers_of_the_lab_fit_the_schema(name: str) -> None:
    assert errors(LEDGER, SHIPPED[0].parent.parent / "ledger" / f"{name}.yaml") == []


@pytest.mark.parametrize("path", BAD_LEDGERS, ids=lambda path: path.stem)
def test_whatever_the_schema_refuses_in_a_ledger_is_a_problem_too(path: Path) -> None:
    if errors(LEDGER, path):
        assert load.lint(path, [])
    assert path.stem == "fields" or errors(LEDGER, path)


@pytest.mark.parametrize("path", SHIPPED_CHECKS, ids=lambda path: path.stem)
def test_the_checks_that_are_shipped_fit_the_schema(path: Path) -> None:
    assert errors(CHECKS, path) == []


def test_checks_and_schedules_with_a_mistake_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("opskit: 1\nchecks: [{run: 'true'}, {label: a, severity: P9}]\n")
    assert len(errors(CHECKS, path)) == 2
    good = "{runbook: r, at: 0 * * * *, user: ops, alert: mail, wait: 5m, params: {a: b}}"
    path.write_text(f"opskit: 1\nschedules: {{a: {good}}}\n")
    assert errors(SCHEDULES, path) == []
    path.write_text(f"opskit: 1\nschedules: {{a: {good.replace('alert', 'alarm')}}}\n")
    assert len(errors(SCHEDULES, path)) == 2
