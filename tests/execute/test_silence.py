"""Steps that print nothing for long are pointed out, and ended only where they say so."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.execute.driver import Write
from opskit.model.event import Event
from opskit.model.runbook import Silent
from tests.support.world import Crash, Paper, World, go, planned, records, runbook

pytestmark = pytest.mark.acceptance

SILENT = "  - {name: a, run: a, silent: 200ms}\n"


def told(paper: Paper) -> list[Event]:
    return [entry.event for entry in paper.entries if entry.event.kind == "step silent"]


def test_a_silence_is_pointed_out_once_and_that_it_is_over(tmp_path: Path) -> None:
    plan = planned(runbook(SILENT), tmp_path, hosts=1)

    def act(write: Write) -> None:
        time.sleep(1.6)
        write("stderr", b"!")
        time.sleep(1.5)

    seen: list[str] = []
    state, paper = go(
        plan,
        World(acts={"1/web1": act}),
        watch=lambda item: seen.append(item.kind) if isinstance(item, Event) else None,
    )
    assert state == "succeeded"
    first, over, second = told(paper)
    assert (first.key, first.host, first.step, first.attempt) == ("1/web1", "web1", "a", 1)
    assert first.data == second.data == {"seconds": 0.2}
    assert over.data["over"] is True
    assert 1.5 < float(str(over.data["seconds"])) < 6
    assert seen.count("step silent") == 3


def test_what_prints_often_enough_is_not_silent(tmp_path: Path) -> None:
    plan = planned(runbook("  - {name: a, run: a, silent: 900ms}\n"), tmp_path, hosts=2)

    def act(write: Write) -> None:
        for _ in range(12):
            time.sleep(0.1)
            write("stdout", b".")

    world = World(acts={"1/web1": act})
    assert told(go(plan, world)[1]) == []
    world = World(acts={"1/web2": lambda write: time.sleep(2.2)})
    assert [event.host for event in told(go(plan, world)[1])] == ["web2"]


def test_nothing_is_expected_of_an_upload(tmp_path: Path) -> None:
    steps = "  - {name: a, upload: {src: x, dest: /y}}\n  - {name: b, run: b}\n"
    plan = planned(runbook(steps), tmp_path, hosts=1)
    assert {stage.silent for stage in plan.stages.values()} == {Silent(after=300.0)}
    soon = {p: replace(stage, silent=Silent(after=0.2)) for p, stage in plan.stages.items()}
    act = {"1/web1": lambda write: time.sleep(1.4), "2/web1": lambda write: time.sleep(1.4)}
    _, paper = go(replace(plan, stages=soon), World(acts=act))
    assert [event.key for event in told(paper)] == ["2/web1"]


def test_each_try_of_an_until_counts_by_itself(tmp_path: Path) -> None:
    """Tries that come to an end are a sign of life; one that hangs is not."""
    until = "effect: read, until: {every: 10ms, for: 20s}, silent: 400ms"
    plan = planned(runbook(f"  - {{name: a, run: a, {until}}}\n"), tmp_path, hosts=1)
    quick = World(acts={"1/web1": lambda write: time.sleep(0.05)}, fails={"1/web1": 20})
    assert told(go(plan, quick)[1]) == []
    slow = World(acts={"1/web1": lambda write: time.sleep(1.4)}, fails={"1/web1": 1})
    assert len(told(go(plan, slow)[1])) == 2


def test_it_is_ended_only_where_its_step_says_so(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a, silent: 200ms}\n  - {name: b, run: b, silent: %s}\n"
    text = runbook(steps % "{after: 200ms, stop: true}")
    plan = planned(text, tmp_path, hosts=2)
    world = World(acts={"1/web1": lambda write: time.sleep(1.4)})
    world.acts["2/web2"] = lambda write: None if world.over.wait(10) else pytest.fail("not ended")
    _, paper = go(plan, world)
    assert [event.key for event in told(paper)] == ["1/web1", "2/web2"]
    assert world.ended == {("2/web2", 1): "ended because it printed nothing for 200ms"}


def test_a_change_that_is_followed_after_a_crash_is_listened_to_as_well(tmp_path: Path) -> None:
    plan = planned(runbook(SILENT), tmp_path, hosts=1)
    world = World(crash_after="1/web1")
    paper = Paper(world)
    with pytest.raises(Crash):
        go(plan, world, paper)
    assert told(paper) == []
    world.acts["1/web1"] = lambda write: time.sleep(1.4)
    state, _ = go(plan, world, paper)
    assert state == "succeeded"
    assert world.asked == ["1/web1"]
    assert [event.key for event in told(paper)] == ["1/web1"]


def test_the_record_says_since_when_it_has_printed_nothing(tmp_path: Path) -> None:
    plan = planned(runbook(SILENT), tmp_path, hosts=1)
    world = World()
    paper = Paper(world)
    began, silent, acts = time.time(), list[float | None](), list[float]()

    def act(write: Write) -> None:
        time.sleep(1.4)
        acts.append(time.time())
        silent.append(records(paper)["1/web1"].silent)
        for _ in range(40):  # it is told within a second
            write("stdout", b".")
            time.sleep(0.05)
        silent.append(records(paper)["1/web1"].silent)

    world.acts["1/web1"] = act
    go(plan, world, paper)
    since, again = silent
    assert since is not None
    assert began <= since < acts[0] - 1.0
    assert again is None
    assert records(paper)["1/web1"].silent is None


def test_what_is_repeated_because_nobody_knows_is_listened_to(tmp_path: Path) -> None:
    step = "{name: a, run: a, silent: 200ms, repeatable: true, on_unknown: retry}"
    plan = planned(runbook(f"  - {step}\n"), tmp_path, hosts=1)
    world = World(unknown={"1/web1"})
    tries: list[str] = []

    def act(write: Write) -> None:
        tries.append("")
        if len(tries) == 2:
            world.unknown.clear()
            time.sleep(1.4)

    world.acts["1/web1"] = act
    state, paper = go(plan, world)
    assert state == "succeeded"
    assert [event.attempt for event in told(paper)] == [2]
