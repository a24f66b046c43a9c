"""What the page of coverage names is there, and what it calls not built is not."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reference" / "coverage.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| (teams|site|tickets|sync|youtility)[a-z, ]* \|.*\|.*\|.*\|", line)
]
"""Of each item: the system, what it is, how far, what carries it, what shows it."""
FARS = ("yes", "part", "not yet", "no")
RUNBOOKS = {path.stem: path.read_text() for path in (ROOT / "runbooks").glob("*.yaml")}
TEST = re.compile(r"`(\w+/test_\w+\.py)::(test_\w+)`")


@cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef))


def named(text: str) -> Iterator[tuple[str, str]]:
    """Return each runbook that a text names, alone and with each step that it names of it."""
    runbook = ""
    for bold, step in re.findall(r"\*\*([^*]+)\*\*|\*([^*]+)\*", text):
        runbook = bold or runbook
        yield runbook, step


def test_every_test_that_is_named_exists() -> None:
    found = TEST.findall(PAGE)
    assert len(found) > 100
    assert [(f, name) for f, name in found if name not in defined(f)] == []
    assert PAGE.count("::") == len(found), "a test is not written as `folder/file.py::test`"


def test_every_runbook_and_step_that_is_named_exists() -> None:
    found = {one for row in ROWS for one in named(row[3])}
    assert len(found) > 40
    lines = {name: text.splitlines() for name, text in RUNBOOKS.items()}
    steps = {
        (n, re.sub(" +#.*", "", line.partition("name: ")[2])) for n in lines for line in lines[n]
    }
    assert sorted(found - steps - {(name, "") for name in RUNBOOKS}) == []


def test_what_is_carried_has_a_test_and_what_is_not_has_none() -> None:
    for system, item, far, carried, shown in ROWS:
        assert far in FARS, (system, item, far)
        assert bool(TEST.fullmatch(shown.split(" ")[0])) == (far in ("yes", "part")), item
        assert carried or far == "not yet", item


def test_what_is_not_built_yet_is_not() -> None:
    """Whoever builds one says on the page what it carries."""
    waiting = {name for row in ROWS for name in re.findall(r"for `([a-z-]+)`", row[3])}
    assert waiting & RUNBOOKS.keys() == set()


def test_the_items_are_counted() -> None:
    count = Counter(row[2] for row in ROWS)
    yes, part, later, no = (count[far] for far in FARS)
    said = f"Of {len(ROWS)} items {yes} are carried, {part} in part, {later} not yet, and {no} not."
    assert said in PAGE


def test_every_known_fault_has_a_test_of_its_name() -> None:
    found = re.findall(r"^\| F(\d+) \|.*::test_f(\d+)_\w+` \|$", PAGE, re.MULTILINE)
    assert [(int(fault), int(test)) for fault, test in found] == [(n, n) for n in range(1, 24)]


def test_bad_input_that_must_be_refused_has_tests_that_show_it() -> None:
    begin = PAGE.index("## Bad input")
    lines = [line for line in PAGE[begin:].partition("\n## ")[0].splitlines() if "::" in line]
    assert len(lines) >= 28
    runbook = ""
    for line in lines:
        name, what, status, shown = (cell.strip() for cell in line.strip("|").split("|"))
        runbook = name.strip("*") or runbook
        assert runbook in RUNBOOKS, line
        assert set(status.split(", ")) <= {"2", "5"}, line
        assert what
        assert TEST.fullmatch(shown.split(" ")[0]), line


def test_every_trap_of_a_balancer_has_a_test_that_provokes_it() -> None:
    """By number without a gap; and each test that was written for a trap is named."""
    lines = PAGE[PAGE.index("## Traps of the balancers") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "::" in line]
    assert all(len(row) == 4 and row[1] and row[2] and TEST.match(row[3]) for row in rows)
    numbers = Counter(row[0][0] for row in rows)
    assert [row[0] for row in rows] == [f"{of}{n + 1}" for of in "NH" for n in range(numbers[of])]
    assert (numbers["N"], numbers["H"]) >= (16, 18)
    own = "steps/test_colours_traps.py"
    named = {name for row in rows for file, name in TEST.findall(row[3]) if file == own}
    assert named == {name for name in defined(own) if name.startswith("test_")}
