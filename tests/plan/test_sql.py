"""SQL steps in a plan: their database, where they run, and the look that comes before them."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.plan import Action, Plan
from opskit.model.problem import ProblemsError
from opskit.model.text import Bound, Fixed
from opskit.model.work import Query, Survey
from opskit.plan.again import reads_only
from opskit.plan.make import make
from tests.support.world import no_files

HEAD = (
    "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: web\nparams: {x: {type: string}}\n"
)
INVENTORY = """
opskit: 1
hosts: {web1: 10.0.0.1, web2: 10.0.0.2, db1: 10.0.0.3}
groups: {web: [web1, web2]}
secrets: {word: env:WORD}
databases:
  main: {url: postgresql://app@db1/app, password: word, via: db1}
  copy: {url: postgresql://app@db2/app, standby: true}
"""


def plan(folder: Path, steps: str, inventory: str = INVENTORY, x: str = "it's") -> Plan:
    (folder / "t.yaml").write_text(f"{HEAD}steps:\n{steps}")
    (folder / "i.yaml").write_text(inventory)
    runbook = load.runbook(folder / "t.yaml", [])
    return make(runbook, load.inventory(folder / "i.yaml"), {"x": x}, files=no_files)


def spots(actions: tuple[Action, ...]) -> list[tuple[str, str, str]]:
    return [(action.key, action.host, action.target) for action in actions]


def test_a_statement_is_done_once_a_run_at_its_database_after_a_look(tmp_path: Path) -> None:
    made = plan(tmp_path, "  - sql: {query: 'UPDATE t SET n = {{ x }}', database: main}\n")
    assert spots(made.actions) == [("0:main/", "", "db:main"), ("1/>db:main", "", "db:main")]
    look, change = made.actions
    assert look.work == Survey(database="main", marks=True)
    assert made.stage(look).phase == "preflight"
    assert isinstance(change.work, Query)
    assert change.work.text.parts == (Fixed(text="UPDATE t SET n = "), Bound(value="it's"))
    assert made.databases["main"].via == "db1"
    assert "db1" in made.hosts
    assert "db:main" not in made.hosts
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


def test_on_each_host_actions_have_the_database_for_their_target(tmp_path: Path) -> None:
    steps = "  - sql: {query: 'UPDATE t SET h = {{ host }}', database: main}\n    on: each\n"
    made = plan(tmp_path, steps)
    assert spots(made.actions[1:]) == [
        ("1/web1>db:main", "web1", "db:main"), ("1/web2>db:main", "web2", "db:main")
    ]  # fmt: skip


def test_reads_alone_need_no_look(tmp_path: Path) -> None:
    made = plan(tmp_path, "  - sql: {query: SELECT 1, database: copy}\n    effect: read\n")
    assert spots(made.actions) == [("1/>db:copy", "", "db:copy")]


def test_what_is_left_out_for_certain_needs_nothing_there(tmp_path: Path) -> None:
    """Else who only looks would be kept from it by a table that only a change wants."""
    step = "  - sql: {query: UPDATE t SET n = 1, database: main}\n    undo: {run: 'true'}\n"
    steps = f"{step}    when: x == 'change'\n"
    made = plan(tmp_path, steps, x="show")
    assert spots(made.actions) == [("1/>db:main", "", "db:main")]
    assert reads_only(made)
    made = plan(tmp_path, steps, x="change")
    assert [action.key for action in made.actions] == ["0:main/", "1/>db:main"]
    assert not reads_only(made)
    late = (
        "  - run: echo x\n    effect: read\n    on: controller\n    save: word\n"
        + step
        + "    when: word == 'x'\n"
    )
    assert not reads_only(plan(tmp_path, late))


@pytest.mark.parametrize(
    ("keys", "marks"),
    [
        ("", True),
        ("\n    done_when: {sql: {query: SELECT true, database: main, expect: 'true'}}", False),
    ],
)
def test_marks_are_needed_unless_something_else_tells(
    tmp_path: Path, keys: str, *, marks: bool
) -> None:
    made = plan(tmp_path, f"  - sql: {{query: UPDATE t SET n = 1, database: main}}{keys}\n")
    assert made.actions[0].work == Survey(database="main", marks=marks)


def test_an_undo_of_another_kind_runs_where_its_step_belongs(tmp_path: Path) -> None:
    steps = "  - sql: {query: UPDATE t SET n = 1, database: main}\n    undo:\n"
    steps += "      - {run: 'true'}\n      - sql: {query: UPDATE t SET n = 0, database: main}\n"
    steps += "  - {run: 'true', undo: {sql: {query: UPDATE t SET n = 3, database: main}}}\n"
    made = plan(tmp_path, steps)
    assert spots(made.actions[1].undo) == [
        ("1/>db:main!1", "", "controller"), ("1/>db:main!2", "", "db:main")
    ]  # fmt: skip
    assert spots(made.actions[2].undo) == [("2/web1!1", "web1", "db:main")]
    assert made.actions[0].work == Survey(database="main", marks=True)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("sql: {query: SELECT 1, database: other}", "the inventory has no database 'other'"),
        ("sql: SELECT 1", "the step does not say on which database it works"),
        ("sql: {query: UPDATE t SET n = 1, database: copy}", "the database copy is a standby"),
        ("sql: {query: 'SELECT {{ (x * 70) | identifier }}', database: main}", "identifier"),
    ],
)
def test_what_can_not_be_planned_is_told_at_its_place(tmp_path: Path, step: str, said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan(tmp_path, f"  - {step}\n")
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert problem.place.line == 8


def test_the_only_database_is_meant_where_none_is_named(tmp_path: Path) -> None:
    alone = INVENTORY.replace("  copy: {url: postgresql://app@db2/app, standby: true}\n", "")
    assert plan(tmp_path, "  - sql: UPDATE t SET n = 1\n", alone).actions[1].target == "db:main"
