"""Change windows that close while a run goes: it is held where nothing is half done."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.execute import hours
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.windows import Freeze
from opskit.plan.make import seal
from tests.execute.test_decide import decided
from tests.support.world import Paper, World, go, planned, records, runbook
from tests.support.world import hosts as states

STEPS = """
  - {name: look, run: look, effect: read}
  - {name: out, run: out, undo: {run: in}}
  - {name: switch, run: switch, undo: {run: back}}
"""
STAGES = """
  - {name: ten, run: ten, undo: {run: none}}
  - {name: watch, wait: 10ms}
  - {name: well, run: well, effect: read}
  - {name: all, run: all, undo: {run: none}}
  - {name: keep, wait: 10ms}
  - {name: still, run: still, effect: read}
"""
FROZEN = Freeze(begin="2026-12-20T00:00", end="2026-12-21T00:00", reason="a sale", place="i:3:5")
BEFORE, WITHIN, AFTER = (
    datetime(2026, 12, day, 23, tzinfo=UTC).timestamp() for day in (19, 20, 21)
)
Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set what the time is; before the freeze at first."""

    def set_(now: float) -> None:
        monkeypatch.setattr(hours, "clock", lambda: now)

    set_(BEFORE)
    return set_


def plan_of(folder: Path, steps: str = STEPS, count: int = 3) -> Plan:
    made = planned(runbook(steps, "batches: [1]\non_failure: undo\n"), folder, hosts=count)
    return seal(replace(made, freezes=(FROZEN,)))


def held(folder: Path, clock: Clock, after: str, steps: str = STEPS) -> tuple[Plan, World, Paper]:
    """Come to a run in which the freeze begins while an action runs."""
    plan = plan_of(folder, steps)
    world = World(acts={after: lambda _: clock(WITHIN)})
    state, paper = go(plan, world)
    assert state == "waiting"
    return plan, world, paper


def test_a_batch_that_was_begun_comes_to_its_end_and_the_next_is_not_begun(
    tmp_path: Path, clock: Clock
) -> None:
    _, world, paper = held(tmp_path, clock, "2/web1")
    assert world.sent == ["1/web1", "2/web1", "3/web1"]
    asked = paper.entries[-1].event.data
    assert asked["why"] == "window"
    assert asked["question"] == (
        "changes are frozen until Mon 2026-12-21 00:00 UTC: a sale (i:3:5); changes may be made "
        "from Mon 2026-12-21 00:00 UTC on. Nothing new was begun"
    )
    assert asked["choices"] == ["override", "undo", "abort"]


def test_it_goes_on_by_itself_once_changes_may_be_made(tmp_path: Path, clock: Clock) -> None:
    plan, world, paper = held(tmp_path, clock, "2/web1")
    assert go(plan, world, paper)[0] == "waiting", "a resume looks again"
    assert len(world.sent) == 3
    clock(AFTER)
    assert go(plan, world, paper)[0] == "succeeded"
    assert [key for key in world.sent if key[0] == "3"] == ["3/web1", "3/web2", "3/web3"]


def test_a_person_overrides_it_for_the_rest_of_the_run(tmp_path: Path, clock: Clock) -> None:
    plan, world, paper = held(tmp_path, clock, "2/web1")
    paper.append(decided(paper, "override", reason="it is half done"))
    assert go(plan, world, paper)[0] == "succeeded"


def test_a_person_takes_it_back_at_any_time(tmp_path: Path, clock: Clock) -> None:
    plan, world, paper = held(tmp_path, clock, "2/web1")
    paper.append(decided(paper, "undo"))
    assert go(plan, world, paper)[0] == "undone"
    assert world.sent[3:] == ["3/web1!1", "2/web1!1"]
    assert states(paper)["web1"] == "undone"


def test_what_fails_within_the_freeze_is_taken_back(tmp_path: Path, clock: Clock) -> None:
    plan = plan_of(tmp_path)
    world = World(acts={"2/web1": lambda _: clock(WITHIN)}, fails={"3/web1": -1})
    assert go(plan, world)[0] == "undone"


def test_the_clock_is_looked_at_between_stages_too(tmp_path: Path, clock: Clock) -> None:
    plan, world, paper = held(tmp_path, clock, "1/web1", STAGES)
    assert world.sent == ["1/web1"]
    clock(AFTER)
    assert go(plan, world, paper)[0] == "succeeded"
    assert records(paper)


POOL = """
  - {name: out, run: out, undo: {run: in}}
  - {name: settle, wait: 10ms}
  - {name: in, run: in, undo: {run: out}}
  - {name: bake, wait: 10ms}
  - {name: mark, run: mark}
"""


def test_a_batch_that_takes_hosts_out_of_their_pool_comes_to_its_end(
    tmp_path: Path, clock: Clock
) -> None:
    plan = plan_of(tmp_path, POOL)
    pool = {"1": "traffic", "3": "traffic"}
    stages = {p: replace(s, kind=pool.get(p, s.kind)) for p, s in plan.stages.items()}
    world = World(acts={"1/web1": lambda _: clock(WITHIN)})
    state, paper = go(seal(replace(plan, stages=stages)), world)
    assert (state, paper.entries[-1].event.data["why"]) == ("waiting", "window")
    assert world.sent == ["1/web1", "3/web1", "5/web1"], "nobody is out until the morning"


def test_a_run_is_not_held_for_hosts_that_it_has_nothing_to_do_with(
    tmp_path: Path, clock: Clock
) -> None:
    plan = seal(replace(plan_of(tmp_path), on_failure="stop"))
    world = World(fails={"2/web1": 1})
    state, paper = go(plan, world)
    assert state == "failed"
    again = {"choice": "retry", "hosts": ["web1"], "who": "me"}
    paper.append(Event(kind="decided", host="web1", data=again))
    paper.append(Event(kind="decided", key="2/web1", host="web1", step="out", data=again))
    world.acts["3/web1"] = lambda _: clock(WITHIN)
    assert go(plan, world, paper)[0] in ("failed", "succeeded"), "web2 and web3 were not meant"
    assert world.sent[-1] == "3/web1"


def test_what_only_reads_is_not_held(tmp_path: Path, clock: Clock) -> None:
    clock(WITHIN)
    plan = plan_of(tmp_path, "\n  - {name: look, run: look, effect: read}\n")
    assert go(plan, World())[0] == "succeeded"


def test_a_run_that_was_begun_in_spite_of_it_is_not_held(tmp_path: Path, clock: Clock) -> None:
    clock(WITHIN)
    world = World()
    paper = Paper(world)
    paper.append(Event(kind="run created", data={"override_window": "INC-7"}))
    assert go(plan_of(tmp_path), world, paper)[0] == "succeeded"


def test_after_the_end_of_a_run_a_retry_is_held_again(tmp_path: Path, clock: Clock) -> None:
    clock(WITHIN)
    plan, world = plan_of(tmp_path), World(fails={"3/web2": 1})
    paper = Paper(world)
    paper.append(Event(kind="run created", data={"override_window": "INC-7"}))
    plan = seal(replace(plan, on_failure="stop"))
    assert go(plan, world, paper)[0] == "failed"
    again = Event(kind="decided", key="3/web2", host="web2", data={"choice": "retry", "why": "r"})
    paper.append(again, Event(kind="decided", host="web2", data={"choice": "retry", "why": "r"}))
    assert go(plan, world, paper)[0] == "waiting"
    assert paper.entries[-1].event.data["why"] == "window"
