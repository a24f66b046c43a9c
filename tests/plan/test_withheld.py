"""A var whose value is not known here (Ansible renders it): no runbook may name it."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.plan import Plan
from opskit.model.problem import ProblemsError
from opskit.plan.make import make
from tests.support.world import no_files

HEAD = "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: web\nsteps:\n"
INVENTORY = "[web]\nh1 url='http://{{ x }}/' plain=1 urls=2\n"


def plan(folder: Path, step: str) -> Plan:
    (folder / "t.yaml").write_text(f"{HEAD}  - run: {step}\n")
    (folder / "hosts").write_text(INVENTORY)
    runbook = load.runbook(folder / "t.yaml")
    return make(runbook, load.inventory(folder / "hosts"), {}, files=no_files)


@pytest.mark.parametrize(
    "step",
    [
        "echo {{ vars.url }}",
        "echo {{ host.vars.url | default('x') }}",
        "echo {{ vars['url'] | default('x') }}",
        'echo {{ vars["url"] }}',
        "echo {{ vars.get('url') or 'x' }}",
        "echo {{ 1 if vars . url is defined else 2 }}",
    ],
)
def test_a_runbook_that_names_it_is_refused_with_the_place_of_both(
    step: str, tmp_path: Path
) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan(tmp_path, step)
    (problem,) = caught.value.problems
    assert (problem.place.file, problem.place.line) == (f"{tmp_path}/t.yaml", 7)
    there = f"{tmp_path}/hosts:2:1"
    assert problem.what == f"`url` is not known here: Ansible renders it (Jinja), {there}"
    assert problem.write


@pytest.mark.parametrize(
    "step",
    ["echo {{ vars.plain }} url", "echo {{ vars.urls }}", "|\n      # vars.url\n      true"],
)
def test_what_does_not_name_it_is_planned(step: str, tmp_path: Path) -> None:
    assert len(plan(tmp_path, step).actions) == 1


def test_every_file_that_was_read_is_in_the_plan(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/web.yml").write_text("a: 1\n")
    before = plan(tmp_path, "echo {{ vars.plain }}")
    assert set(before.sources) == {
        f"{tmp_path}/{name}" for name in ("t.yaml", "hosts", "group_vars/web.yml")
    }
    (tmp_path / "group_vars/web.yml").write_text("a: 1 # again\n")
    assert plan(tmp_path, "echo {{ vars.plain }}").digest != before.digest
