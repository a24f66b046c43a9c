"""Hosts that fall out: who falls with them, what is taken back, what a resume and a retry do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest

from opskit.app.again import asked_of
from opskit.app.runs import undo_under_way
from opskit.execute import Outside, Stop, settle, take_back
from opskit.execute.driver import Write
from opskit.model.event import Chunk, Event
from opskit.model.job import Contact, Job, Output
from opskit.model.plan import Plan
from opskit.model.states import RunState
from opskit.plan import failed_undos, repeated, reverse, standing
from tests.support.world import (
    FACTS,
    Crash,
    Paper,
    World,
    go,
    hosts,
    planned,
    records,
    runbook,
)

TWO = """
  - {name: one, run: one, undo: {run: back one}}
  - {name: two, run: two, undo: {run: back two}}
"""
ONCE = "  - {name: one, run: one}\n  - {name: pay, run: pay, on: once}\n  - {name: two, run: two}\n"


def answer(paper: Paper, choice: str, **more: bool | str) -> None:
    """Answer what the run waits for."""
    asked = paper.entries[-1].event
    assert asked.kind == "waiting"
    data = {"choice": choice, "why": asked.data["why"], **more}
    paper.append(Event(kind="decided", key=asked.key, host=asked.host, data=data))


def retry(plan: Plan, paper: Paper, *chosen: str) -> None:
    """Decide that these hosts may be tried again, as the command does."""
    only = {"choice": "retry", "hosts": list(chosen)}
    for host in chosen:
        paper.append(Event(kind="decided", host=host, data=only))
    for key in repeated(plan, records(paper), chosen):
        host = records(paper)[key].host
        paper.append(Event(kind="decided", key=key, host=host, data={"choice": "retry"}))


def back(plan: Plan, world: World, paper: Paper, only: list[str] | None = None) -> RunState:
    """Take a run back because a person wants it: first what was lost from sight is settled."""
    world.dead = False
    outside = Outside(
        targets=world, journal=paper, secrets={}, watch=lambda item: None, stop=Stop(),
        hide=lambda secret: None,
    )  # fmt: skip
    settle(plan, list(paper.entries), outside, FACTS)
    return take_back(plan, list(paper.entries), outside, FACTS, only)


def pressing(stop: Stop, key: str) -> Callable[[Event | Chunk], None]:
    """Return a watcher that stops the run when an action begins."""

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and item.kind == "step started" and item.key == key:
            stop.press()

    return watch


def test_an_undo_of_a_run_that_a_check_refused_leaves_nothing_unknown(tmp_path: Path) -> None:
    check = (
        "  - {name: sound, health: {run: sound, crit: '< 1'}, phase: preflight, on_unknown: fail}\n"
    )
    plan = planned(runbook(check + "  - {name: one, run: one, undo: {run: back}}\n"), tmp_path)
    world = World(unknown={"1/web1"})
    _, paper = go(plan, world)
    assert paper.entries[-1].event.data["exit"] == 5
    assert back(plan, world, paper) == "failed"
    assert paper.entries[-1].event.data["exit"] == 0, "as where the check is CRIT"


# --- once, batch ---


@pytest.mark.parametrize("how", ["gone", "lost"])
def test_a_step_done_once_goes_on_to_the_next_host_while_nothing_was_sent(
    tmp_path: Path, how: str
) -> None:
    steps = "  - {name: pay, run: pay, on: once}\n  - {name: two, run: two}\n"
    plan = planned(runbook(steps, "max_failures: 1\n"), tmp_path, hosts=3)
    world = World(gone={"web1"}) if how == "gone" else World(lost={"1/web1"})
    _, paper = go(plan, world)
    assert world.sent == ["1/web2", "2/web2", "2/web3"]
    assert hosts(paper) == {"web1": "unreachable", "web2": "done", "web3": "done"}


def test_a_step_done_once_stays_where_it_is_unknown(tmp_path: Path) -> None:
    plan = planned(runbook(ONCE, "max_failures: 3\n"), tmp_path, hosts=3)
    world = World(unknown={"2/web1"})
    state, paper = go(plan, world)
    assert state == "waiting"
    answer(paper, "done")
    assert go(plan, world, paper)[0] == "succeeded"
    assert [k for k in world.sent if k.startswith("2/")] == ["2/web1"]


def test_nobody_goes_on_without_a_step_done_once(tmp_path: Path) -> None:
    head = "batches: [1]\nmax_failures: 100%\n"
    plan = planned(runbook(ONCE, head), tmp_path, hosts=3)
    for world in (World(fails={"2/web1": -1}), World(fails={"1/web1": -1})):
        state, paper = go(plan, world)
        assert state == "failed"
        assert not [k for k in world.sent if "web2" in k or "web3" in k]
        assert hosts(paper) == {"web1": "failed", "web2": "not started", "web3": "not started"}


def test_a_step_done_once_a_batch_fails_for_its_batch_alone(tmp_path: Path) -> None:
    steps = "  - {name: sync, run: sync, on: batch}\n  - {name: two, run: two}\n"
    plan = planned(runbook(steps, "batches: [2]\nmax_failures: 2\n"), tmp_path, hosts=4)
    state, paper = go(plan, World(fails={"1/web1": -1}))
    assert state == "failed"
    assert hosts(paper) == {
        "web1": "failed", "web2": "not started", "web3": "done", "web4": "done",
    }  # fmt: skip


def test_a_step_on_a_group_once_a_run_fails_for_the_whole_run(tmp_path: Path) -> None:
    steps = "  - {name: lb, run: lb, on: {group: lb, per: run}}\n  - {name: two, run: two}\n"
    plan = planned(runbook(steps, "batches: [1]\nmax_failures: 100%\n"), tmp_path)
    world = World(fails={"1/>lb1": -1})
    state, _ = go(plan, world)
    assert state == "failed"
    assert world.sent == ["1/>lb1"]


# --- undo ---


def test_what_lies_under_an_unknown_change_is_not_taken_back(tmp_path: Path) -> None:
    steps = TWO.replace("name: two,", "name: two, on_unknown: fail,")
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path)
    world = World(unknown={"2/web1"})
    state, paper = go(plan, world)
    assert state == "unknown"
    assert sorted(k for k in world.sent if "!" in k) == ["1/web2!1", "2/web2!1"]
    assert hosts(paper) == {"web1": "unknown", "web2": "undone"}
    assert paper.entries[-1].event.data["exit"] == 6


@pytest.mark.parametrize("limit", [0, 1])
def test_an_undo_that_was_cut_short_is_gone_on_with(tmp_path: Path, limit: int) -> None:
    steps = TWO + "  - {name: three, run: three, on_failure: undo}\n"
    plan = planned(runbook(steps, f"max_failures: {limit}\n"), tmp_path)
    for key in ("2/web1!1", "1/web1!1"):
        world = World(fails={"3/web1": -1}, crash_before=key, forgets=True)
        paper = Paper(world)
        with pytest.raises(Crash):
            go(plan, world, paper)
        state, _ = go(plan, world, paper)
        assert state == "waiting"  # was that undo done? nobody knows
        answer(paper, "retry")
        go(plan, world, paper)
        undone = [k.split("@")[0] for k in world.effects if "web1!" in k]
        assert undone == ["2/web1!1", "1/web1!1"]
        assert hosts(paper) == {"web1": "undone", "web2": "done" if limit else "undone"}


def test_an_undo_that_failed_is_not_gone_around_by_a_resume(tmp_path: Path) -> None:
    steps = TWO + "  - {name: three, run: three}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path)
    stop = Stop()
    world = World(fails={"3/web1": -1, "2/web1!1": -1})
    state, paper = go(plan, world, watch=pressing(stop, "2/web1!1"), stop=stop)
    assert state == "waiting"
    state, _ = go(plan, world, paper)
    assert state == "failed"
    assert "1/web1!1" not in world.sent
    assert hosts(paper) == {"web1": "undo failed", "web2": "undone"}


def test_a_person_may_have_a_failed_undo_done_again(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(fails={"2/web1": -1, "2/web1!1": 1})
    _, paper = go(plan, world)
    assert hosts(paper) == {"web1": "undo failed"}
    assert reverse(plan, records(paper)).actions == ()
    keys = failed_undos(plan, records(paper), None)
    assert keys == ["2/web1!1"]
    paper.append(Event(kind="decided", key=keys[0], host="web1", data={"choice": "retry"}))
    assert back(plan, world, paper) == "undone"
    assert [e for e in world.effects if "!" in e] == ["2/web1!1@1", "2/web1!1@2", "1/web1!1@1"]


@pytest.mark.parametrize("begins", [False, True])
def test_what_failed_stands_until_it_has_been_done_again(tmp_path: Path, begins: bool) -> None:
    plan = planned(runbook(TWO), tmp_path, hosts=1)
    world = World(fails={"2/web1": -1})
    _, paper = go(plan, world)
    paper.append(Event(kind="decided", key="2/web1", host="web1", data={"choice": "retry"}))
    if begins:  # and comes to nothing: it never reached the host
        begun = Event(kind="step started", key="2/web1", host="web1", step="two", attempt=2)
        paper.append(
            begun, replace(begun, kind="step ended", data={"outcome": "failed", "sent": False})
        )
    assert [a.key for a in standing(plan, records(paper))] == ["1/web1", "2/web1"]
    assert back(plan, world, paper) == "undone"
    assert [e for e in world.effects if "!" in e] == ["2/web1!1@1", "1/web1!1@1"]
    assert standing(plan, records(paper)) == []


def test_what_nobody_knows_of_is_not_known_because_it_may_be_tried_again(tmp_path: Path) -> None:
    plan = planned(runbook(TWO), tmp_path, hosts=1)
    _, paper = go(plan, World(unknown={"2/web1"}))
    paper.append(Event(kind="decided", key="2/web1", host="web1", data={"choice": "retry"}))
    assert reverse(plan, records(paper)).actions == ()


def test_an_undo_that_was_asked_for_is_not_taken_for_a_run_that_goes_on(tmp_path: Path) -> None:
    plan = planned(runbook(TWO), tmp_path)
    world = World(forgets=True)
    _, paper = go(plan, world)
    world.crash_after = "2/web1!1"
    with pytest.raises(Crash):
        back(plan, world, paper)
    under_way = undo_under_way(paper.entries)
    assert under_way is not None
    assert under_way.hosts is None
    assert back(plan, world, paper) == "waiting"
    answer(paper, "done", undoes="2/web1", last=True)
    assert back(plan, world, paper) == "undone"
    assert undo_under_way(paper.entries) is None
    assert sorted(e for e in world.effects if "!" in e) == [
        "1/web1!1@1", "1/web2!1@1", "2/web1!1@1", "2/web2!1@1",
    ]  # fmt: skip


def test_an_undo_of_some_hosts_stays_with_them_when_it_is_gone_on_with(tmp_path: Path) -> None:
    plan = planned(runbook(TWO), tmp_path)
    world = World()
    _, paper = go(plan, world)
    world.crash_before = "1/web2!1"
    with pytest.raises(Crash):
        back(plan, world, paper, ["web2"])
    under_way = undo_under_way(paper.entries)
    assert under_way is not None
    assert under_way.hosts == ["web2"]


# --- always ---


def test_what_nobody_knows_of_always_is_asked(tmp_path: Path) -> None:
    text = runbook("  - {name: one, run: one}\n") + "always:\n  - {name: t, run: t, on: batch}\n"
    plan = planned(text, tmp_path)
    state, paper = go(plan, World(unknown={"a1/web1"}))
    assert state == "waiting"
    answer(paper, "failed")
    state, paper = go(plan, World(), paper)
    assert state == "failed"
    assert paper.entries[-1].event.data["exit"] == 1
    text = text.replace("run: t,", "run: t, on_unknown: fail,")
    state, paper = go(planned(text, tmp_path), World(unknown={"a1/web1"}))
    assert state == "unknown"
    assert paper.entries[-1].event.data["exit"] == 6


# --- retry ---


def test_a_retry_leaves_other_hosts_as_they_are(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "batches: [2]\nmax_failures: 1\n"), tmp_path, hosts=4)
    world = World(fails={"1/web1": 1, "1/web2": 1})
    _, paper = go(plan, world)
    retry(plan, paper, "web1")
    state, _ = go(plan, world, paper)
    assert state == "failed"
    assert hosts(paper) == {
        "web1": "done", "web2": "failed", "web3": "not started", "web4": "not started",
    }  # fmt: skip
    retry(plan, paper, "web2", "web3", "web4")
    state, _ = go(plan, world, paper)
    assert state == "succeeded"
    assert sorted(world.effects) == sorted(
        [f"{n}/web{h}@1" for n in (1, 2) for h in (3, 4)]
        + [f"{n}/web{h}@{a}" for h in (1, 2) for n, a in ((1, 1), (1, 2), (2, 1))]
    )


RELEASE = """
  - {name: look, run: look, effect: read}
  - {name: switch, run: switch, undo: {run: back}}
  - {name: note, run: note, effect: read, save: noted}
  - {name: restart, run: restart, undo: []}
  - {name: migrate, run: migrate}
  - {name: well, run: well, effect: read}
  - {name: pause, wait: 10ms}
  - {name: last, run: last, undo: {run: back last}}
"""


def test_a_retry_does_again_what_rests_on_a_change_that_was_taken_back(tmp_path: Path) -> None:
    """The service was restarted into the release that is gone again, and seen to be well with it.

    What lasts though nothing takes it back, and what the run has saved, stay as they are.
    """
    plan = planned(runbook(RELEASE, "batches: [1]\n"), tmp_path, hosts=2)
    world = World()
    _, paper = go(plan, world)
    assert back(plan, world, paper, ["web1"]) == "failed"  # the other host has its changes still
    assert hosts(paper) == {"web1": "undone", "web2": "done"}
    retry(plan, paper, "web1")
    world.sent.clear()
    assert go(plan, world, paper)[0] == "succeeded"
    assert world.sent == ["2/web1", "4/web1", "6/web1", "8/web1"]


def test_a_retry_after_a_failure_that_took_nothing_back_repeats_that_step_alone(
    tmp_path: Path,
) -> None:
    plan = planned(runbook(RELEASE), tmp_path, hosts=1)
    world = World(fails={"8/web1": 1})
    state, paper = go(plan, world)
    assert state == "failed"
    retry(plan, paper, "web1")
    world.sent.clear()
    assert go(plan, world, paper)[0] == "succeeded"
    assert world.sent == ["8/web1"]


def test_a_retry_that_is_cut_short_stays_with_its_hosts(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "batches: [2]\n"), tmp_path, hosts=4)
    world = World(fails={"1/web1": 1})
    _, paper = go(plan, world)
    retry(plan, paper, "web1")
    stop = Stop()
    assert go(plan, world, paper, watch=pressing(stop, "1/web1"), stop=stop)[0] == "waiting"
    go(plan, world, paper)
    assert "2/web1" in world.sent
    assert not [k for k in world.sent if "web3" in k or "web4" in k]


def test_what_is_done_again_after_an_undo_is_taken_back_again(tmp_path: Path) -> None:
    steps = TWO + "  - {name: three, run: three}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(fails={"3/web1": 2})
    _, paper = go(plan, world)
    for _ in range(2):
        retry(plan, paper, "web1")
        state, _ = go(plan, world, paper)
    assert state == "succeeded"
    undos = [e for e in world.effects if "!" in e]
    assert undos == ["2/web1!1@1", "1/web1!1@1", "2/web1!1@2", "1/web1!1@2"]


# --- stopped by a person ---


def test_a_change_that_a_person_stopped_is_asked_about_and_not_taken_back(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(stopped={"2/web1"})
    stop = Stop()
    state, paper = go(plan, world, watch=pressing(stop, "2/web1"), stop=stop)
    assert state == "waiting"
    assert paper.entries[-1].event.data["why"] == "interrupted"
    state, _ = go(plan, world, paper)
    assert state == "waiting"
    choices = ["retry", "done", "skip", "failed", "undo", "abort"]
    assert paper.entries[-1].event.data["choices"] == choices
    assert not [k for k in world.sent if "!" in k]
    answer(paper, "retry")
    assert go(plan, world, paper)[0] == "succeeded"


def test_a_read_that_a_person_stopped_is_made_again(tmp_path: Path) -> None:
    steps = "  - {name: look, run: look, effect: read}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(stopped={"1/web1"})
    stop = Stop()
    state, paper = go(plan, world, watch=pressing(stop, "1/web1"), stop=stop)
    assert state == "waiting"
    assert go(plan, world, paper)[0] == "succeeded"
    assert world.sent == ["1/web1", "1/web1"]


def test_a_stop_between_two_tries_leaves_the_second_to_a_resume(tmp_path: Path) -> None:
    steps = "  - {name: one, run: one, retry: {times: 2, backoff: 0.01}}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(fails={"1/web1": -1})
    stop = Stop()
    state, paper = go(plan, world, watch=pressing(stop, "1/web1"), stop=stop)
    assert state == "waiting"
    assert world.effects == ["1/web1@1"]
    assert go(plan, world, paper)[0] == "failed"
    assert world.effects == ["1/web1@1", "1/web1@2", "1/web1@3"]


def test_nothing_is_tried_again_once_too_many_hosts_have_failed(tmp_path: Path) -> None:
    steps = "  - {name: one, run: one, undo: {run: back}, retry: {times: 3, backoff: 0.5}}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path)
    began, fell = Flag(), Flag()

    class Late(World):
        def open(self, host: str, *, writes: bool, become: str | None = None) -> Contact:
            assert host != "web1" or began.wait(10)
            return super().open(host, writes=writes, become=become)

    world = Late(gone={"web1"}, fails={"1/web2": -1})

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and item.kind == "step started" and item.key == "1/web2":
            began.set()
            assert fell.wait(10)
        if isinstance(item, Event) and item.kind == "host unreachable":
            fell.set()

    state, paper = go(plan, world, watch=watch)
    assert state == "undone"
    assert world.effects == ["1/web2@1", "1/web2!1@1"]
    assert hosts(paper) == {"web1": "unreachable", "web2": "undone"}


def test_what_was_never_sent_is_not_taken_back(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "on_failure: undo\n"), tmp_path, hosts=1)
    world = World(lost={"2/web1"})
    state, paper = go(plan, world)
    assert (state, hosts(paper)) == ("undone", {"web1": "undone"})
    assert world.effects == ["1/web1@1", "1/web1!1@1"]


def test_what_never_begins_is_given_up_and_nothing_follows_it(tmp_path: Path) -> None:
    class Deaf(World):
        def perform(self, job: Job, write: Write) -> Output:
            if job.key == "1/web1":
                self.sent.append(job.key)
                return Output(outcome="unknown", lost=True, reason="the line broke")
            return super().perform(job, write)

    world = Deaf()
    state, paper = go(planned(runbook(TWO), tmp_path), world)
    assert (state, hosts(paper)["web1"]) == ("failed", "failed")
    assert world.sent.count("1/web1") == 6
    assert "2/web1" not in world.sent


THREE = """
  - {name: one, run: one, undo: {run: back one}}
  - {name: two, run: two, on_unknown: fail, timeout: 0.2s, undo: {run: back two}}
  - {name: three, run: three, undo: {run: back three}}
"""


class Cut(World):
    """The line to web2 breaks while its second step runs, and is back for a resume."""

    cut = True

    def perform(self, job: Job, write: Write) -> Output:
        output = super().perform(job, write)
        if job.key == "2/web2" and self.cut:
            return Output(outcome="unknown", lost=True, reason="the line broke")
        return output

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        if self.cut:
            return Output(outcome="unknown", lost=True, reason="no route")
        return super().rejoin(job, write, left)


@pytest.mark.parametrize("then", ["resume", "resume and ask", "undo"])
@pytest.mark.parametrize("failed", [False, True])
def test_a_host_cut_off_in_a_later_step_goes_back_whole_once_it_is_there_again(
    tmp_path: Path, failed: bool, then: str
) -> None:
    """A resume settles what was lost, though an earlier step of the others is undone already."""
    plan = planned(runbook(THREE, "on_failure: undo\n"), tmp_path)
    world = Cut(fails={"2/web2": -1} if failed else {})
    state, paper = go(plan, world)
    assert (state, hosts(paper)) == ("unknown", {"web1": "undone", "web2": "unknown"})
    world.cut = False
    if then == "undo":
        state = back(plan, world, paper)
    else:
        state, paper = go(asked_of(plan) if "ask" in then else plan, world, paper)
    assert (state, hosts(paper)) == ("undone", {"web1": "undone", "web2": "undone"})
    assert sorted(e for e in world.effects if "web2!" in e) == ["1/web2!1@1", "2/web2!1@1"]


def test_of_a_host_that_has_forgotten_a_later_step_a_person_is_asked(tmp_path: Path) -> None:
    plan = planned(runbook(THREE, "on_failure: undo\n"), tmp_path)
    world = Cut()
    _, paper = go(plan, world)
    world.cut, world.forgets = False, True
    before = list(world.effects)
    state, paper = go(asked_of(plan), world, paper)
    assert (state, paper.entries[-1].event.key, world.effects) == ("waiting", "2/web2", before)
    answer(paper, "done")
    state, paper = go(asked_of(plan), world, paper)
    assert (state, hosts(paper)) == ("undone", {"web1": "undone", "web2": "undone"})


@pytest.mark.parametrize("rule", ["undo", "stop"])
def test_of_a_host_that_a_person_has_left_out_nobody_is_asked_again(
    tmp_path: Path, rule: str
) -> None:
    """It stays unknown, as was said; what fails elsewhere is taken back without a question."""
    steps = THREE.replace("on_unknown: fail, ", "")
    plan = planned(runbook(steps, f"on_failure: {rule}\n"), tmp_path, hosts=3)
    world = World(unknown={"2/web1"}, fails={"3/web2": -1}, forgets=True)
    state, paper = go(plan, world)
    assert (state, paper.entries[-1].event.key) == ("waiting", "2/web1")
    answer(paper, "exclude")
    state, paper = go(plan, world, paper)
    assert (state, hosts(paper)["web1"]) == ("unknown", "unknown")
    assert [e for e in world.effects if "web1!" in e] == []
    assert ("2/web2!1@1" in world.effects) == (rule == "undo")
