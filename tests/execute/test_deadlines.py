"""Deadlines and pauses count from the record: a crash gives no more time, and takes none away."""

import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from opskit.execute import Stop
from opskit.execute.driver import Write
from opskit.model.event import Chunk, Event
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from tests.support.world import Crash, Paper, World, go, planned, records, runbook

LONG = 1000.0


def waiting_for(folder: Path, successes: int = 1, more: str = "") -> Plan:
    until = f"until: {{every: 1ms, for: {LONG:g}s, successes: {successes}}}"
    step = f"  - {{name: a, run: a, effect: read, {until}{more}}}\n"
    return planned(runbook(step), folder, hosts=1)


def later(paper: Paper, seconds: float) -> None:
    """Let so much time pass between two processes."""
    paper.entries[:] = [replace(entry, at=entry.at - seconds) for entry in paper.entries]


def crashed(plan: Plan, world: World, paper: Paper) -> None:
    world.crash_before = "1/web1"
    with pytest.raises(Crash):
        go(plan, world, paper)


def quickly(plan: Plan, world: World, paper: Paper) -> str:
    began = time.monotonic()
    state, _ = go(plan, world, paper)
    assert time.monotonic() - began < LONG / 10
    return state


@pytest.mark.parametrize("crashes", [1, 2, 5])
def test_what_is_left_of_an_until_is_all_that_a_resume_takes(tmp_path: Path, crashes: int) -> None:
    plan, world = waiting_for(tmp_path), World(fails={"1/web1": -1})
    paper = Paper(world)
    for _ in range(crashes):
        crashed(plan, world, paper)
        later(paper, (LONG - 0.3) / crashes)
    assert quickly(plan, world, paper) == "failed"
    starts = [e for e in paper.entries if e.event.kind == "step started"]
    assert len(starts) == crashes + 1
    assert LONG - 1 < paper.entries[-1].at - starts[0].at < LONG + LONG / 10
    record = records(paper)["1/web1"]
    assert "not so within 1000 s" in str(record.data["reason"])
    tries = record.data["evidence"]["tries"]  # type: ignore[index, call-overload]
    assert int(str(tries)) > 5


def test_time_that_is_left_is_used(tmp_path: Path) -> None:
    plan, world = waiting_for(tmp_path), World(fails={"1/web1": 40})
    paper = Paper(world)
    crashed(plan, world, paper)
    later(paper, LONG / 2)
    assert quickly(plan, world, paper) == "succeeded"


@pytest.mark.parametrize("successes", [1, 3])
def test_once_the_time_is_over_it_is_seen_whether_it_holds_by_now(
    tmp_path: Path, successes: int
) -> None:
    """Nobody was there when it came true; successes in a row count anew."""
    plan = waiting_for(tmp_path, successes)
    for fails, state, tries in ((0, "succeeded", successes), (1, "failed", 1)):
        world = World()
        paper = Paper(world)
        crashed(plan, world, paper)
        later(paper, 2 * LONG)
        world.fails["1/web1"] = fails
        world.sent.clear()
        assert quickly(plan, world, paper) == state
        assert len(world.sent) == tries


@pytest.mark.parametrize("keeps", [True, False])
def test_a_crash_at_any_append_around_an_until_changes_nothing(tmp_path: Path, keeps: bool) -> None:
    until = f"effect: read, until: {{every: 1ms, for: {LONG:g}s, successes: 2}}"
    steps = f"  - {{run: a, undo: []}}\n  - {{run: b, {until}}}\n  - {{run: c}}\n"
    plan = planned(runbook(steps), tmp_path)
    fails = {"2/web1": 3, "2/web2": 4}
    _, undisturbed = go(plan, World(fails=dict(fails)))
    for at in range(len(undisturbed.entries) - 1):
        world = World(fails=dict(fails))
        paper = Paper(world, crash_at=at, keeps=keeps)
        with pytest.raises(Crash):
            go(plan, world, paper)
        later(paper, LONG / 2)
        assert quickly(plan, world, paper) == "succeeded", at
        changes = sorted(effect.split("@")[0] for effect in world.effects)
        assert changes == ["1/web1", "1/web2", "3/web1", "3/web2"], at


class Late(World):
    """Its second good answer is followed by a bad one."""

    def perform(self, job: Job, write: Write) -> Output:
        done = super().perform(job, write)
        bad = Output(outcome="failed", status=1, reason="exit status 1")
        return bad if len(self.sent) == 3 else done


def test_a_row_that_breaks_after_the_time_is_over_has_failed(tmp_path: Path) -> None:
    plan, world = waiting_for(tmp_path, successes=3), Late()
    paper = Paper(world)
    crashed(plan, world, paper)
    later(paper, 2 * LONG)
    assert quickly(plan, world, paper) == "failed"
    assert len(world.sent) == 3


def test_a_stop_and_a_resume_are_no_new_beginning(tmp_path: Path) -> None:
    plan, world, stop = waiting_for(tmp_path), World(fails={"1/web1": -1}), Stop()
    world.acts["1/web1"] = lambda write: stop.press()
    state, paper = go(plan, world, stop=stop)
    assert state == "waiting"
    world.acts.clear()
    later(paper, LONG - 0.2)
    assert quickly(plan, world, paper) == "failed"


class Cut(World):
    """The line breaks in the middle of the first try."""

    def perform(self, job: Job, write: Write) -> Output:
        super().perform(job, write)
        lost = len(self.sent) == 1
        return Output(outcome="failed", status=None if lost else 1, reason="no", lost=lost)


def test_a_broken_line_is_no_new_beginning(tmp_path: Path) -> None:
    text = "  - {name: a, run: a, effect: read, until: {every: 400ms, for: 600ms}}\n"
    plan = planned(runbook(text), tmp_path, hosts=1)
    slow = Cut(acts={"1/web1": lambda write: time.sleep(0.4)})
    _, paper = go(plan, slow)
    starts = [e.event.attempt for e in paper.entries if e.event.kind == "step started"]
    assert starts == [1, 2]
    assert slow.sent == ["1/web1"] * 2  # not another 600 ms


def test_another_try_by_retry_or_by_a_person_has_all_its_time(tmp_path: Path) -> None:
    plan = waiting_for(tmp_path, more=", retry: {times: 1, backoff: 1ms}, on_failure: ask")
    world = World(fails={"1/web1": -1})
    paper = Paper(world)
    crashed(plan, world, paper)
    later(paper, 2 * LONG)

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and (item.kind, item.attempt) == ("step started", 3):
            world.fails["1/web1"] = 20  # far more than fit into no time

    state, _ = go(plan, world, paper, watch=watch)
    assert state == "succeeded"


# --- retry


BACKOFF = 0.03
TRIED = f"""
  - {{name: look, run: look, effect: read, retry: {{times: 2, backoff: {BACKOFF}}}}}
  - {{name: set, run: set, retry: {{times: 2, backoff: {BACKOFF}}}}}
"""


def pauses(paper: Paper, key: str) -> list[float]:
    """Return how long it was, by the record, from each failure to the next start."""
    events = [e for e in paper.entries if e.event.key == key]
    return [
        then.at - entry.at
        for entry, then in pairwise(events)
        if entry.event.data.get("outcome") == "failed" and not entry.event.data.get("again")
    ]


@pytest.mark.parametrize("keeps", [True, False])
def test_tries_and_pauses_are_the_same_after_a_crash_at_any_append(
    tmp_path: Path, keeps: bool
) -> None:
    plan = planned(runbook(TRIED), tmp_path, hosts=1)
    fails = {"1/web1": 2, "2/web1": 2}
    _, undisturbed = go(plan, World(fails=dict(fails)))
    for at in range(len(undisturbed.entries)):
        world = World(fails=dict(fails))
        paper = Paper(world, crash_at=at, keeps=keeps)
        with suppress(Crash):
            go(plan, world, paper)
        if paper.entries and paper.entries[-1].event.kind == "run ended":
            continue
        state, _ = go(plan, world, paper)
        assert state == "succeeded", at
        assert len(set(world.effects)) == len(world.effects) == 3, at
        for key in ("1/web1", "2/web1"):
            assert all(
                pause >= BACKOFF * 2**n - 0.01 for n, pause in enumerate(pauses(paper, key))
            ), at


@pytest.mark.parametrize("keeps", [True, False])
def test_tries_before_a_crash_count(tmp_path: Path, keeps: bool) -> None:
    plan = planned(runbook(TRIED.replace(str(BACKOFF), "1ms")), tmp_path, hosts=1)
    for at in range(20):
        world = World(fails={"2/web1": 3})
        paper = Paper(world, crash_at=at, keeps=keeps)
        with suppress(Crash):
            go(plan, world, paper)
        if not paper.entries or paper.entries[-1].event.kind != "run ended":
            later(paper, 10)
            assert go(plan, world, paper)[0] == "failed"
        assert len(set(world.effects)) == len(world.effects) == 3, at


def test_only_what_is_left_of_a_pause_is_waited(tmp_path: Path) -> None:
    step = "  - {name: set, run: set, retry: {times: 1, backoff: 100s}}\n"
    plan, stop = planned(runbook(step), tmp_path, hosts=1), Stop()
    world = World(fails={"1/web1": 1})

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and item.kind == "step ended":
            stop.press()

    state, paper = go(plan, world, watch=watch, stop=stop)
    assert (state, world.effects) == ("waiting", ["1/web1@1"])
    later(paper, 99.6)
    began = time.monotonic()
    assert go(plan, world, paper)[0] == "succeeded"
    assert 0.2 < time.monotonic() - began < 50
    assert world.effects == ["1/web1@1", "1/web1@2"]


def test_a_stop_ends_a_pause_that_is_waited_after_a_resume(tmp_path: Path) -> None:
    step = "  - {name: set, run: set, retry: {times: 1, backoff: 100s}}\n"
    plan, stop = planned(runbook(step), tmp_path, hosts=1), Stop()
    world = World(fails={"1/web1": 1})
    paper = Paper(world, crash_at=2)  # opened, started, ended
    with suppress(Crash):
        go(plan, world, paper)
    assert paper.entries[-1].event.kind == "step ended"
    stop.press()
    assert go(plan, world, paper, stop=stop)[0] == "waiting"
    assert world.effects == ["1/web1@1"]
