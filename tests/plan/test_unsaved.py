"""A value that no step of the plan saves is found when planning, not after changes."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.plan import Plan
from opskit.model.problem import ProblemsError
from opskit.plan.make import make
from tests.support.world import World, go, no_files, planned, runbook

LOOK = "  - {name: Look, run: look, effect: read, save: v}\n"


def begun_at(steps: str, folder: Path, step: str, head: str = "") -> Plan:
    planned(runbook(steps, head), folder)  # writes the files
    book = load.runbook(folder / "r.yaml", [])
    inventory = load.inventory(folder / "i.yaml")
    return make(book, inventory, {}, from_step=step, files=no_files)


@pytest.mark.parametrize(
    "uses",
    [
        "run: 'do {{ v }}'",
        "run: do, when: v",
        "run: do, unless: 'test {{ v }}'",
        "run: do, undo: {run: 'back {{ v }}'}",
        "run: do, undo: {run: back, when: v == 'x'}",
        "run: do, on: {group: lb, per: host}, stdin: '{{ v }}'",
        "assert: {that: v == 'x' and run.id, message: m}",
        "run: 'do {{ v or run.id }}'",
    ],
)
def test_a_step_that_needs_what_from_leaves_out_is_refused(uses: str, tmp_path: Path) -> None:
    steps = f"{LOOK}  - {{name: Change, run: change}}\n  - {{name: Use, {uses}}}\n"
    with pytest.raises(ProblemsError) as error:
        begun_at(steps, tmp_path, "Change")
    [problem] = error.value.problems
    file = tmp_path / "r.yaml"
    saved = f"`v` will not be there: step 1 Look ({file}:7:5) saves it, and --from leaves it out"
    assert (problem.what, problem.write) == (saved, "begin with --from 1, or before it")
    assert problem.place.line == 9


@pytest.mark.parametrize(
    "uses",
    [
        "run: do",
        "run: \"do {{ v | default('x') }}\"",
        "run: do, when: v is defined and v",
        "run: 'do {{ v }}', when: v is defined and run.id",
        "run: 'do {{ v }}', when: false",
        'run: "do {{ v if v is defined else run.id }}"',
    ],
)
def test_who_can_do_without_it_is_not_refused(uses: str, tmp_path: Path) -> None:
    steps = f"{LOOK}  - {{name: Change, run: change}}\n  - {{name: Use, {uses}}}\n"
    begun_at(steps, tmp_path, "Change")


def test_what_a_later_step_or_preflight_saves_is_there(tmp_path: Path) -> None:
    steps = (
        "  - {name: Early, run: e, effect: read, phase: preflight, save: e}\n"
        f"{LOOK}"
        "  - {name: Again, run: look, effect: read, save: v, on: once}\n"
        "  - {name: Use, run: 'do {{ v }} {{ e }}'}\n"
    )
    begun_at(steps, tmp_path, "Again")
    with pytest.raises(ProblemsError, match="`v` will not be there"):
        begun_at(steps, tmp_path, "Use")


def test_a_step_whose_saver_is_known_to_be_skipped_is_refused_on_that_host(tmp_path: Path) -> None:
    steps = (
        "  - {name: Look, run: look, effect: read, when: host.name == 'web1', save: v}\n"
        "  - {name: Use, run: 'do {{ v }}', undo: {run: 'back {{ v }}'}}\n"
    )
    with pytest.raises(ProblemsError) as error:
        planned(runbook(steps), tmp_path)
    found = [(p.what.partition("saves it, and ")[2], p.place.line) for p in error.value.problems]
    assert found == [("its `when` is false on web2", 8), ("its `when` is false on web2", 8)]
    same = steps.replace("{{ v }}'}}", "{{ v }}'}, when: host.name == 'web1'}")
    planned(runbook(same), tmp_path)
    with pytest.raises(ProblemsError, match="its `for_each` is empty on web1"):
        planned(runbook(steps.replace("when: host.name == 'web1'", "for_each: []")), tmp_path)


def test_an_include_that_is_not_done_asks_for_nothing_of_its_own(tmp_path: Path) -> None:
    inner = (
        "  - {name: Look, run: look, effect: read, save: v}\n"
        "  - {name: Use, run: 'do {{ v }}', when: v}\n"
    )
    (tmp_path / "inner.yaml").write_text(runbook(inner).replace("name: r", "name: inner", 1))
    for when in ("false", "\"run.status == 'x'\""):
        steps = f"  - {{name: In, runbook: {{name: ./inner.yaml}}, when: {when}}}\n"
        plan = planned(runbook(steps), tmp_path)
        world = World()
        state, _ = go(plan, world)
        assert (state, world.effects) == ("succeeded", [])
