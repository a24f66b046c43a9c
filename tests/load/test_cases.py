"""Each file under tests/cases/bad* has mistakes, and on top what must be said about them."""

import re
from pathlib import Path

import pytest

from opskit import load
from opskit.load.expectations import check_expectations, expectations
from opskit.load.ledgers import check_ledger, field, ledger
from opskit.model.codec import from_json, to_json
from opskit.model.ledger import Field, Ledger
from opskit.model.problem import Problem, ProblemsError

CASES = Path(__file__).parent.parent / "cases"
RUNBOOKS = sorted((CASES / "bad").glob("*.yaml"))
INVENTORIES = sorted((CASES / "bad-inventory").glob("*.yaml"))
ANSIBLE = sorted((CASES / "bad-ansible").iterdir())
EXPECTATIONS = sorted((CASES / "bad-expectations").glob("*.yaml"))
LEDGERS = sorted((CASES / "bad-ledgers").glob("*.yaml"))
SHIPPED_LEDGERS = sorted((CASES.parent.parent / "opskit/lab/data/ledger").glob("*.yaml"))
SHIPPED = sorted((CASES.parent.parent / "opskit" / "lab" / "data" / "expect").glob("*.yaml"))
GOOD = sorted((CASES / "good").glob("*.yaml"))


def expected(path: Path) -> list[str]:
    return re.findall(r"^# expect: (.*)$", path.read_text(), re.MULTILINE)


def told(problems: list[Problem], path: Path, wanted: list[str]) -> list[str]:
    """Return what was told; a line that is only wanted up to "…" is cut there."""
    found = [str(problem).removeprefix(f"{path.name}:") for problem in problems]
    for number, (line, want) in enumerate(zip(found, wanted, strict=False)):
        if want.endswith("…") and line.startswith(want[:-1]):
            found[number] = want
    return found


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_bad_runbook_is_told_with_line_column_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    _, problems = load.check(Path(path.name), [])
    assert told(problems, path, expected(path)) == expected(path)
    assert problems, "a case without a problem shows nothing"


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_bad_runbook_does_not_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    errors = [line for line in expected(path) if ": warning: " not in line]
    if not errors:
        assert load.runbook(Path(path.name)).file == path.name
        return
    with pytest.raises(ProblemsError) as caught:
        load.runbook(Path(path.name))
    assert told(list(caught.value.problems), path, errors) == errors


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.stem)
def test_a_bad_inventory_is_told_with_line_column_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    _, problems = load.check_inventory(Path(path.name))
    assert told(problems, path, expected(path)) == expected(path)
    assert problems, "a case without a problem shows nothing"


@pytest.mark.parametrize("path", ANSIBLE, ids=lambda path: path.name)
def test_a_bad_inventory_of_ansible_is_told_with_line_column_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    _, problems = load.check_inventory(Path(path.name))
    found = [line.strip() for line in told(problems, path, expected(path))]
    assert found == expected(path)
    assert problems, "a case without a problem shows nothing"
    assert "hunter2" not in str(found)
    with pytest.raises(ProblemsError):
        load.inventory(Path(path.name))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_runbook_has_no_problem(path: Path) -> None:
    found, problems = load.check(path, [CASES])
    assert problems == []
    assert found is not None


@pytest.mark.parametrize("path", EXPECTATIONS, ids=lambda path: path.stem)
def test_bad_expectations_are_told_with_line_column_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    _, problems = check_expectations(Path(path.name))
    assert told(problems, path, expected(path)) == expected(path)
    assert problems, "a case without a problem shows nothing"
    with pytest.raises(ProblemsError):
        expectations(Path(path.name))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_expectations_of_the_lab_have_no_problem(path: Path) -> None:
    assert load.lint(path, []) == []
    assert expectations(path).relations


@pytest.mark.parametrize("path", LEDGERS, ids=lambda path: path.stem)
def test_a_bad_ledger_is_told_with_line_column_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    _, problems = check_ledger(Path(path.name))
    assert told(problems, path, expected(path)) == expected(path)
    assert problems, "a case without a problem shows nothing"
    with pytest.raises(ProblemsError):
        ledger(Path(path.name))


@pytest.mark.parametrize("path", SHIPPED_LEDGERS, ids=lambda path: path.stem)
def test_the_ledgers_of_the_lab_have_no_problem_and_come_back_from_a_plan(path: Path) -> None:
    assert load.lint(path, []) == []
    found = ledger(path)
    assert from_json(Ledger, to_json(found)) == found


@pytest.mark.parametrize(
    ("text", "column", "path"),
    [
        ("order_id", "order_id", ()),
        ("userId", "userId", ()),
        ("metadata->>'dedup_key'", "metadata", ("dedup_key",)),
        ("metadata -> 'a' ->> 'b.c'", "metadata", ("a", "b.c")),
    ],
)
def test_a_field_is_a_column_or_a_way_into_one(
    text: str, column: str, path: tuple[str, ...]
) -> None:
    found = field(text)
    assert found == Field(column=column, path=path)
    assert field(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a b", '"a"', "a;", "a--", "a->'b'", "a->>b", "a->>'b''c'", "a->>'b'::int", "1a",
     "a->>'" + "b" * 64 + "'", "a" * 64, "ä" * 40, "lower(a)", "a->>'b' OR true"],
)  # fmt: skip
def test_nothing_else_is_a_field(text: str) -> None:
    assert field(text) is None
