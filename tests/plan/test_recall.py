"""What an earlier run saved is looked up when planning: the plan shows what it comes to."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opskit import load
from opskit.drivers.targets import Targets
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from opskit.model.work import Command, Recall
from opskit.plan.make import make
from tests.support.world import no_files, planned, runbook, texts

RECORD = "  - {name: before, record: {runbook: deploy, value: replaced}, save: was}\n"
USE = """
  - {name: back, run: 'link {{ was }}', undo: [{run: 'forward {{ was }}'}]}
  - {name: sure, run: 'check {{ was }}', when: was != 'none'}
"""
DOUBT = "when: run.id != 'x'"


@dataclass
class Past:
    """A record in which each host has a value of its own, less those that it does not know."""

    unknown: tuple[str, ...] = ()
    asked: list[Recall] = field(default_factory=list)

    def __call__(self, work: Recall) -> str | None:
        self.asked.append(work)
        return None if work.host in self.unknown else f"of {work.host}"


def plan_with(folder: Path, steps: str, past: Past) -> Plan:
    planned(runbook("  - run: nothing\n"), folder)
    (folder / "r.yaml").write_text(runbook(steps))
    book = load.runbook(folder / "r.yaml", [folder])
    return make(book, load.inventory(folder / "i.yaml"), {}, files=no_files, history=past)


def test_what_it_comes_to_is_in_the_plan_of_each_host(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, RECORD + USE, Past())
    assert texts(plan) == [
        "link 'of web1'", "link 'of web2'", "check 'of web1'", "check 'of web2'",
    ]  # fmt: skip
    assert [str(a.when) for a in plan.actions[-2:]] == ["True", "True"]
    undo = [u.work for a in plan.actions for u in a.undo]
    assert [str(w.text) for w in undo if isinstance(w, Command)] == [
        "forward 'of web1'", "forward 'of web2'",
    ]  # fmt: skip
    assert [a.work.planned for a in plan.actions if isinstance(a.work, Recall)] == [
        "of web1", "of web2",
    ]  # fmt: skip


def test_another_value_makes_another_plan(tmp_path: Path) -> None:
    steps = RECORD.replace("replaced}", "replaced, default: d}") + USE
    one, two = (plan_with(tmp_path, steps, Past(unknown=names)) for names in ((), ("web2",)))
    assert one.digest != two.digest
    assert "link d" in texts(two)


@pytest.mark.parametrize(
    "steps",
    [
        RECORD.replace("save:", f"{DOUBT}, save:")
        + USE.replace("undo:", f"{DOUBT}, undo:").replace("when: was", f"{DOUBT} and was"),
        RECORD.replace("save:", "on: once, save:") + USE,
        RECORD + RECORD.replace("before", "again") + USE,
        RECORD.replace("replaced}", "replaced, run: '{{ run.id }}'}") + USE,
    ],
    ids=["not sure to be done", "of one host for all", "saved twice", "of a run not known yet"],
)
def test_what_only_the_run_can_tell_stays_late(tmp_path: Path, steps: str) -> None:
    plan = plan_with(tmp_path, steps, Past())
    assert "link {{ was }}" in texts(plan)
    assert all(a.work.planned is None for a in plan.actions if isinstance(a.work, Recall))


def test_a_value_that_nobody_saved_stays_late_and_fails_the_run(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, RECORD + USE, Past(unknown=("web2",)))
    assert texts(plan)[:2] == ["link 'of web1'", "link {{ was }}"]


def test_an_include_keeps_what_it_recalls_to_itself(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        runbook(RECORD + USE).replace("name: r\n", "name: inner\n").replace("hosts: web\n", "")
    )
    outer = "  - {name: look, run: look, effect: read, save: was}\n  - {runbook: inner}\n" + USE
    plan = plan_with(tmp_path, outer, Past())
    assert [t for t in texts(plan) if t.startswith("link")] == [
        "link 'of web1'", "link 'of web2'", "link {{ was }}", "link {{ was }}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "planned_", "outcome"),
    [
        ("a", "a", "succeeded"),
        ("b", "a", "failed"),
        (None, "a", "failed"),
        ("b", None, "succeeded"),
    ],
)
def test_a_run_holds_to_the_value_that_it_was_planned_with(
    now: str | None, planned_: str | None, outcome: str, tmp_path: Path
) -> None:
    plan = planned(runbook("  - run: nothing\n"), tmp_path)
    work = Recall(runbook="deploy", value="v", host="web1", planned=planned_)
    targets = Targets("r", plan.hosts, history=lambda _: now)
    said: list[bytes] = []
    job = Job(
        run="r",
        key="1/web1",
        attempt=1,
        host=plan.hosts["web1"],
        work=work,
        effect="read",
        timeout=1,
    )
    output: Output = targets.perform(job, lambda _, data: said.append(data))
    assert output.outcome == outcome
    if outcome == "succeeded":
        assert said == [output.stdout]
    elif now is not None:
        assert "the record now has 'b', and had 'a' when this was planned" in output.reason
