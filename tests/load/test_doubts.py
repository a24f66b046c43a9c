"""Values that a condition may leave unsaved: who cares for that, and who only seems to."""

from pathlib import Path

import pytest

from opskit import load
from opskit.load.names import terms
from opskit.model.problem import Problem
from tests.support.world import World, go, planned, records, runbook

SAVER = "  - {name: save, run: s, effect: read, when: %s, save: v}\n"
FIRST = "  - {name: look, run: look, effect: read, save: p}\n"


def problems(folder: Path, *steps: str, when: str = "p") -> list[Problem]:
    path = folder / "r.yaml"
    text = FIRST + SAVER % f'"{when}"' + "".join(f"  - {step}\n" for step in steps)
    path.write_text(runbook(text))
    return load.check(path, [])[1]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("a", ["a"]),
        ("a  and (b or c)\n and not d.e", ["a", "( b or c )", "not d . e"]),
        ("a and b or c", ["a and b or c"]),
        ("a and b if c else d", ["a and b if c else d"]),
        ("f(a and b) and [x and y]", ["f ( a and b )", "[ x and y ]"]),
        ("a == 'x and y' and b is defined", ["a == 'x and y'", "b is defined"]),
        ("a and", []),
        ("a b and c", []),
    ],
)
def test_a_condition_is_split_where_and_joins_the_whole_of_it(
    condition: str, found: list[str]
) -> None:
    assert list(terms(condition)) == found


@pytest.mark.parametrize(
    ("use", "severity"),
    [
        ("{run: 'u {{ v }}'}", "error"),
        ("{run: u, when: v}", "error"),
        ("{run: u, when: v and p}", "error"),
        ("{run: 'u {{ v }}', when: run.id}", "warning"),
        ("{run: 'u {{ v }}', when: p == 'x'}", "warning"),
        ("{run: u, when: \"p != '' and v\"}", "warning"),
        ("{run: 'u {{ v }}', when: p}", ""),
        ("{run: 'u {{ v }}', when: p and run.id}", ""),
        ("{run: u, when: p and v}", ""),
        ("{run: 'u {{ v }}', when: v is defined}", ""),
        ("{run: \"u {{ v | default('') }}\"}", ""),
        ("{run: \"u {{ v | d('') }} {{ v }}\"}", "error"),
        ("{run: u, unless: 't {{ v }}'}", "error"),
        ("{run: u, creates: '/{{ v }}', when: p}", ""),
        ("{run: u, on_failure: continue, stdin: '{{ v }}'}", "warning"),
    ],
)
def test_how_sure_it_is_that_a_use_goes_wrong(tmp_path: Path, use: str, severity: str) -> None:
    found = problems(tmp_path, use)
    assert [problem.severity for problem in found] == ([severity] if severity else [])
    if found:
        assert "`v` may not be there: step 2 (line 8) saves it" in found[0].what
        assert found[0].place.line == 9


@pytest.mark.parametrize(
    ("when", "sure"), [("p and host.name != 'web1'", True), ("host.name != 'web1'", False)]
)
def test_what_is_known_when_planning_is_left_to_planning(
    tmp_path: Path, when: str, sure: bool
) -> None:
    assert bool(problems(tmp_path, "{run: 'u {{ v }}'}", when=when)) is sure


def test_an_assert_that_says_the_same_is_as_good_as_a_when(tmp_path: Path) -> None:
    use = "{run: 'u {{ v }}'}"
    assert problems(tmp_path, "{assert: {that: [p, run.id]}}", use) == []
    [other] = problems(tmp_path, "{assert: {that: p != 'x'}}", use)
    assert other.severity == "warning"
    for idle in ("when: run.id", "on_failure: continue"):
        [problem] = problems(tmp_path, f"{{assert: {{that: p}}, {idle}}}", use)
        assert problem.severity == "error"
    broken, still = problems(tmp_path, "{assert: {that: p b c}}", use)
    assert "does not parse" in broken.what
    assert still.severity == "error"


def test_of_two_steps_that_save_it_one_may_well_have(tmp_path: Path) -> None:
    other = "{name: other, run: o, effect: read, when: not p, save: v}"
    found = problems(tmp_path, other, "{run: 'u {{ v }}'}")
    assert [problem.what for problem in found] == ["`v` was saved by step 2 already"]


@pytest.mark.parametrize(
    ("use", "state"),
    [
        ("{run: 'u {{ v }}', when: \"p != 'x'\"}", "failed"),  # what the warning is about
        ("{run: 'u {{ v }}', when: p and run.id}", "succeeded"),
        ("{run: u, when: p and v}", "succeeded"),
        ("{run: \"u {{ v | default('') }}\"}", "succeeded"),
        ("{run: \"u {{ v if p else '' }}\"}", "succeeded"),
    ],
)
def test_what_is_said_to_be_safe_is_when_the_run_comes_there(
    tmp_path: Path, use: str, state: str
) -> None:
    plan = planned(runbook(FIRST + SAVER % "p" + f"  - {use}\n"), tmp_path, hosts=1)
    ended, paper = go(plan, World())  # `p` is empty
    assert records(paper)["2/web1"].state == "skipped"
    assert ended == state
