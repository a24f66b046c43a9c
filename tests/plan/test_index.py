"""Index steps in a plan: an action for each index, what it will send, and what takes it back."""

from pathlib import Path

import pytest

from opskit import load
from opskit.errors import InputError
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.plan import Plan
from opskit.model.work import Repair, Survey
from opskit.plan.make import make
from opskit.view import works
from tests.plan.test_sql import INVENTORY
from tests.support.world import no_files

HEAD = "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: web\n"
EXPECT = """
opskit: 1
tables:
  public.item:
    indexes:
      - {keys: [n DESC, lower(name)], where: n > 0, include: [at], name: item_n}
      - {keys: name, unique: true}
      - {keys: ['(a || b)'], method: gist}
  other: {}
"""
LONG = "sql> CREATE INDEX CONCURRENTLY item_n ON public.item USING btree (n DESC, lower(name))"


def plan(folder: Path, steps: str) -> Plan:
    (folder / "t.yaml").write_text(f"{HEAD}steps:\n{steps}")
    (folder / "i.yaml").write_text(INVENTORY)
    (folder / "e.yaml").write_text(EXPECT)
    runbook = load.runbook(folder / "t.yaml", [])
    return make(runbook, load.inventory(folder / "i.yaml"), {}, files=no_files)


def test_each_index_is_an_action_of_its_own(tmp_path: Path) -> None:
    made = plan(tmp_path, "  - index: {create: e.yaml, database: main}\n")
    look, *builds = made.actions
    assert look.work == Survey(database="main", marks=True)
    assert [one.key for one in builds] == [f"1/>db:main#{n}" for n in range(3)]
    assert [works.headline(one.work) for one in builds] == [
        f"{LONG} INCLUDE (at) WHERE n > 0",
        "sql> CREATE UNIQUE INDEX CONCURRENTLY item_name_idx ON public.item USING btree (name)",
        "sql> CREATE INDEX CONCURRENTLY item_expr_idx ON public.item USING gist ((a || b))",
    ]
    (undo,) = builds[0].undo
    assert (undo.key, undo.target, undo.undoes) == ("1/>db:main#0!1", "db:main", builds[0].key)
    assert isinstance(undo.work, Repair)
    assert (undo.work.do, undo.work.of) == ("undo", builds[0].key)
    assert isinstance(builds[0].skip_if, Repair)
    assert builds[0].skip_if.probe
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


@pytest.mark.parametrize("only", ["item_n", "public.item (n DESC, lower(name))"])
def test_one_index_of_the_file_can_be_meant(tmp_path: Path, only: str) -> None:
    made = plan(tmp_path, f"  - index: {{create: e.yaml, only: '{only}', database: main}}\n")
    assert [one.key for one in made.actions[1:]] == ["1/>db:main#0"]


def test_tidying_up_is_an_action_for_each_table_and_has_no_undo(tmp_path: Path) -> None:
    made = plan(tmp_path, "  - {index: {tidy: e.yaml, database: main}, undo: []}\n")
    assert [one.undo for one in made.actions[1:]] == [(), ()]
    assert "left behind on other" in works.headline(made.actions[2].work)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{create: e.yaml, only: nothing}", "e.yaml: it has no index 'nothing'"),
        ("{drop: a, database: copy}", "the database copy is a standby"),
        ("{create: gone.yaml}", "gone.yaml"),
    ],
)
def test_what_can_not_be_planned_is_told(tmp_path: Path, step: str, said: str) -> None:
    database = "" if "database" in step else ", database: main"
    with pytest.raises(InputError) as told:
        plan(tmp_path, f"  - index: {step[:-1]}{database}}}\n")
    assert said in str(told.value)


def test_standbys_are_databases_of_the_plan_or_refused(tmp_path: Path) -> None:
    asked = (
        "  - {{indexes: {{expect: e.yaml, database: main, standbys: '{}'}}, on_unknown: fail}}\n"
    )
    made = plan(tmp_path, asked.format(" copy, copy"))
    assert set(made.databases) == {"main", "copy"}
    assert "asks copy who uses indexes there" in works.lines(made.actions[0].work, full=False)
    assert set(plan(tmp_path, asked.format("")).databases) == {"main"}
    for names, told in (("main", "main is no standby"), ("copy,gone", "has no database 'gone'")):
        with pytest.raises(InputError, match=told):
            plan(tmp_path, asked.format(names))
