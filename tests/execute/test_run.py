"""How runs go and end: budget, undo, always, once, questions."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.execute import Stop
from opskit.model.event import Chunk, Event
from tests.support.world import World, go, hosts, planned, records, runbook

TWO = """
  - {name: one, run: one, undo: {run: back one}}
  - {name: two, run: two, undo: [{run: back two}, {run: and check, effect: read}]}
"""


def test_undo_takes_back_last_first_per_batch(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "batches: [1]\non_failure: undo\n"), tmp_path)
    world = World(fails={"2/web2": -1})
    state, paper = go(plan, world)
    assert state == "undone"
    undos = [k for k in world.sent if "!" in k]
    assert undos == [
        "2/web2!1", "2/web2!2", "1/web2!1", "2/web1!1", "2/web1!2", "1/web1!1",
    ]  # fmt: skip
    assert paper.entries[-1].event.data["exit"] == 3
    assert hosts(paper) == {"web1": "undone", "web2": "undone"}


def test_stop_leaves_changes_and_starts_nothing_new(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "batches: [1]\n"), tmp_path, hosts=3)
    world = World(fails={"1/web2": -1})
    state, paper = go(plan, world)
    assert state == "failed"
    assert world.sent == ["1/web1", "2/web1", "1/web2"]
    assert hosts(paper) == {"web1": "done", "web2": "failed", "web3": "not started"}
    assert paper.entries[-1].event.data["exit"] == 1


def test_a_host_that_was_begun_when_the_run_stopped_is_told_from_one_that_was_not(
    tmp_path: Path,
) -> None:
    plan = planned(runbook(TWO, "batches: [2]\n"), tmp_path, hosts=4)
    world = World(fails={"1/web2": -1})
    state, paper = go(plan, world)
    assert state == "failed"
    assert hosts(paper) == {
        "web1": "begun", "web2": "failed", "web3": "not started", "web4": "not started",
    }  # fmt: skip


def test_a_host_that_fails_within_the_budget_undoes_itself_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    head = "batches: [2]\nmax_failures: 1\non_failure: undo\n"
    plan = planned(runbook(TWO, head), tmp_path, hosts=4)
    world = World(fails={"2/web1": -1})
    state, paper = go(plan, world)
    assert state == "failed"
    assert hosts(paper) == {"web1": "undone", "web2": "done", "web3": "done", "web4": "done"}
    assert world.sent.index("1/web1!1") < world.sent.index("1/web3")


@pytest.mark.parametrize(
    ("limit", "failing", "trips"), [("50%", 2, False), ("50%", 3, True), ("0", 1, True)]
)
def test_the_budget_trips_on_more_than_its_share(
    tmp_path: Path, limit: str, failing: int, trips: bool
) -> None:
    plan = planned(runbook(TWO, f"batches: [1]\nmax_failures: {limit}\n"), tmp_path, hosts=4)
    world = World(fails={f"1/web{n + 1}": -1 for n in range(failing)})
    _, paper = go(plan, world)
    kinds = [e.event.kind for e in paper.entries]
    assert ("budget tripped" in kinds) is trips
    assert ("1/web4" in world.sent) is (not trips or failing > 3)


def test_an_unreachable_host_counts_and_nothing_was_sent_to_it(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "max_failures: 1\n"), tmp_path)
    state, paper = go(plan, World(gone={"web1"}))
    assert state == "failed"
    assert hosts(paper) == {"web1": "unreachable", "web2": "done"}


def test_a_failed_preflight_refuses_before_any_change(tmp_path: Path) -> None:
    steps = "  - {name: ok, run: look, effect: read, phase: preflight}\n" + TWO
    plan = planned(runbook(steps, "batches: [1]\non_failure: undo\n"), tmp_path)
    world = World(fails={"1/web2": -1})
    state, paper = go(plan, world)
    assert state == "failed"
    assert paper.entries[-1].event.data["exit"] == 5
    assert world.effects == []


def test_an_undo_that_fails_stops_the_undo_on_that_host(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "on_failure: undo\n"), tmp_path)
    world = World(fails={"2/web1": -1, "2/web1!1": -1})
    state, paper = go(plan, world)
    assert state == "failed"
    assert hosts(paper) == {"web1": "undo failed", "web2": "undone"}
    assert "1/web1!1" not in world.sent
    assert paper.entries[-1].event.data["exit"] == 1


def test_once_runs_on_the_first_live_host_of_the_first_batch(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a}\n  - {name: migrate, run: migrate, on: once}\n"
    plan = planned(runbook(steps, "max_failures: 2\nbatches: [2, 100%]\n"), tmp_path, hosts=4)
    world = World(fails={"1/web1": -1})
    go(plan, world)
    assert [k for k in world.sent if k.startswith("2/")] == ["2/web2"]


def test_always_runs_once_after_the_undo_and_its_failure_shows(tmp_path: Path) -> None:
    text = runbook(TWO, "on_failure: undo\n") + "always:\n  - {name: t, run: t, on: controller}\n"
    plan = planned(text, tmp_path)
    world = World(fails={"2/web1": -1})
    state, _ = go(plan, world)
    assert world.sent[-1] == "a1/>controller"
    assert state == "undone"
    state, paper = go(plan, World(fails={"a1/>controller": -1}))
    assert state == "failed"
    assert paper.entries[-1].event.data["exit"] == 1


def test_continue_lets_the_host_go_on(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a, on_failure: continue}\n  - {name: b, run: b}\n"
    plan = planned(runbook(steps), tmp_path)
    world = World(fails={"1/web1": -1})
    state, _ = go(plan, world)
    assert state == "succeeded"
    assert "2/web1" in world.sent


def test_retry_repeats_after_failed_with_a_new_attempt(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a, retry: {times: 2, backoff: 0.001}}\n"
    plan = planned(runbook(steps), tmp_path, hosts=1)
    world = World(fails={"1/web1": 2})
    state, paper = go(plan, world)
    assert state == "succeeded"
    assert world.effects == ["1/web1@1", "1/web1@2", "1/web1@3"]
    starts = [e.event.attempt for e in paper.entries if e.event.kind == "step started"]
    assert starts == [1, 2, 3]


def test_unknown_is_never_repeated_without_permission(tmp_path: Path) -> None:
    plan = planned(runbook("  - {name: a, run: a, retry: {times: 3, backoff: 0.001}}\n"), tmp_path)
    world = World(unknown={"1/web1"})
    state, paper = go(plan, world)
    assert state == "waiting"
    assert world.effects.count("1/web1@1") == 1
    choices = ["done", "failed", "retry", "exclude", "abort"]
    assert paper.entries[-1].event.data["choices"] == choices


def test_unknown_that_may_be_repeated_is(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a, repeatable: true, on_unknown: retry}\n"
    plan = planned(runbook(steps), tmp_path, hosts=1)
    world = World(unknown={"1/web1"})
    state, _ = go(plan, world)
    assert state == "waiting"
    assert world.effects == ["1/web1@1", "1/web1@2", "1/web1@3"]


def test_done_when_settles_unknown(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a, done_when: {run: test -e x}}\n  - {name: b, run: b}\n"
    plan = planned(runbook(steps), tmp_path, hosts=1)
    state, paper = go(plan, World(unknown={"1/web1"}))
    assert state == "succeeded"
    assert records(paper)["1/web1"].state == "succeeded"
    state, paper = go(plan, World(unknown={"1/web1"}, fails={"1/web1?done": -1}))
    assert state == "failed"


def test_a_confirm_waits_and_goes_on_after_yes(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a}\n  - {name: ok, confirm: Go on?}\n  - {name: b, run: b}\n"
    plan = planned(runbook(steps), tmp_path)
    world = World()
    state, paper = go(plan, world)
    assert state == "waiting"
    question = paper.entries[-1].event
    assert question.data["choices"] == ["yes", "no", "abort"]
    paper.append(Event(kind="decided", key=question.key, data={"choice": "yes", "why": "confirm"}))
    state, _ = go(plan, world, paper)
    assert state == "succeeded"
    assert world.effects == ["1/web1@1", "1/web2@1", "3/web1@1", "3/web2@1"]


def test_a_soft_stop_starts_nothing_new_and_can_be_resumed(tmp_path: Path) -> None:
    plan = planned(runbook(TWO, "batches: [1]\n"), tmp_path)
    stop = Stop()
    world = World()

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and item.kind == "step ended":
            stop.press()

    state, paper = go(plan, world, watch=watch, stop=stop)
    assert state == "waiting"
    assert world.sent == ["1/web1"]
    state, _ = go(plan, world, paper)
    assert state == "succeeded"
    assert world.sent == ["1/web1", "2/web1", "1/web2", "2/web2"]


def test_pause_after_batch_waits_between_batches(tmp_path: Path) -> None:
    plan = planned(runbook("  - {name: a, run: a}\n", "batches: [1]\n"), tmp_path, hosts=3)
    world = World()
    states = []
    state, paper = go(plan, world, pause_after_batch=True)
    states.append(state)
    for _ in range(2):
        state, paper = go(plan, world, paper, pause_after_batch=True)
        states.append(state)
    assert states == ["waiting", "waiting", "succeeded"]


def test_creates_skips_what_is_there(tmp_path: Path) -> None:
    plan = planned(runbook("  - {name: a, run: a, creates: /x}\n"), tmp_path)
    world = World(fails={"1/web1?skip": -1})
    go(plan, world)
    assert world.effects == ["1/web1@1"]


def test_a_late_value_that_is_missing_fails_before_anything_is_sent(tmp_path: Path) -> None:
    steps = (
        "  - {name: a, run: a, effect: read, save: x, when: host == 'web2' and run.id}\n"
        "  - {name: b, run: 'use {{ x }}', when: run.id}\n"
    )
    plan = planned(runbook(steps, "max_failures: 1\n"), tmp_path)
    world = World(answers={"1/web2": b"v\n"})
    _, paper = go(plan, world)
    assert "2/web1" not in world.sent
    record = records(paper)["2/web1"]
    assert record.data["sent"] is False
    assert "did not run here" in str(record.data["reason"])
    assert str(record.data["reason"]).endswith(f" ({plan.stages['2'].place})")
    assert records(paper)["2/web2"].state == "succeeded"


def test_a_step_for_all_hosts_sees_what_each_has_saved(tmp_path: Path) -> None:
    steps = (
        "  - {name: a, run: a, effect: read, save: x}\n"
        "  - {name: b, run: 'use {{ by_host.x.web1 }} {{ by_host.x | length }}', on: controller}\n"
        "  - name: c\n"
        "    assert: {that: (by_host.x.values() | max) < '3', message: '{{ by_host.x.web2 }}'}\n"
        "    on: controller\n"
    )
    plan = planned(runbook(steps), tmp_path)
    world = World(answers={"1/web1": b"1\n", "1/web2": b"2\n"})
    state, _ = go(plan, world)
    assert state == "succeeded"
    state, paper = go(plan, World(answers={"1/web1": b"1\n", "1/web2": b"3\n"}))
    assert state == "failed"
    assert records(paper)["3/>controller"].data["reason"] == "3"


def test_a_watcher_sees_each_event_after_it_was_recorded(tmp_path: Path) -> None:
    plan = planned(runbook(TWO), tmp_path)
    seen: list[Event] = []
    _, paper = go(plan, World(), watch=lambda i: seen.append(i) if isinstance(i, Event) else None)
    assert sorted(e.kind for e in seen) == sorted(e.event.kind for e in paper.entries)


def test_targets_of_a_group_are_used_one_action_at_a_time(tmp_path: Path) -> None:
    steps = "  - {name: d, run: 'd {{ host }}', on: {group: lb, per: host}}\n"
    plan = planned(runbook(steps), tmp_path, hosts=3)
    world = World(fails={"1/web1>lb1": -1})
    _, paper = go(plan, world)
    assert world.sent == ["1/web1>lb1"]
    assert hosts(paper)["web1"] == "failed"


def test_a_change_that_leaves_nothing_does_not_spoil_an_undo(tmp_path: Path) -> None:
    steps = "  - {name: r, run: restart, undo: []}\n" + TWO
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path)
    state, _ = go(plan, World(fails={"3/web1": -1}))
    assert state == "undone"
    left = planned(runbook(steps.replace(", undo: []", ""), "on_failure: undo\n"), tmp_path)
    state, paper = go(left, World(fails={"3/web1": -1}))
    assert state == "failed"
    assert paper.entries[-1].event.data["exit"] == 1


def test_a_question_that_one_host_skips_is_still_asked_for_the_others(tmp_path: Path) -> None:
    steps = """
  - {name: sure, confirm: 'Go on with {{ host }}?', on: each, when: "host.name != 'web1'"}
  - {name: two, run: two}
"""
    plan = planned(runbook(steps), tmp_path, hosts=3)
    world = World()
    state, paper = go(plan, world)
    assert state == "waiting"
    assert paper.entries[-1].event.key == "1/web2"
    nobody = planned(runbook(steps.replace("!= 'web1'", "== 'x'")), tmp_path, hosts=3)
    assert go(nobody, world)[0] == "succeeded"


def test_a_look_that_wants_a_value_which_is_not_there_fails_the_step(tmp_path: Path) -> None:
    steps = """
  - {name: one, run: one, effect: read, save: there, when: "run.id and host.name != 'web1'"}
  - {name: two, run: two, unless: 'test -e {{ there }}', when: run.id}
"""
    plan = planned(runbook(steps, "max_failures: 1\n"), tmp_path)
    world = World(fails={"2/web2?skip": -1})
    _, paper = go(plan, world)
    assert hosts(paper) == {"web1": "failed", "web2": "done"}
    assert world.effects == ["2/web2@1"]


def test_a_wait_counts_from_its_first_start_also_after_a_resume(tmp_path: Path) -> None:
    steps = "  - {name: a, run: a}\n  - {name: w, wait: 2s}\n  - {name: b, run: b}\n"
    plan = planned(runbook(steps), tmp_path, hosts=1)
    stop = Stop()
    world = World()

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event) and (item.kind, item.step) == ("step started", "w"):
            stop.press()

    state, paper = go(plan, world, watch=watch, stop=stop)
    assert state == "waiting"
    began = next(e for e in paper.entries if (e.event.kind, e.event.step) == ("step started", "w"))
    paper.entries[began.number] = replace(began, at=began.at - 1.9)
    state, _ = go(plan, world, paper)
    assert state == "succeeded"
    starts = [e for e in paper.entries if (e.event.kind, e.event.step) == ("step started", "w")]
    assert len(starts) == 1
    assert time.time() - starts[0].at < 3


def test_a_check_of_which_nobody_knows_refuses_what_would_be_changed_after_it(
    tmp_path: Path,
) -> None:
    check = (
        "  - name: sound\n    health: {run: sound, crit: '< 1'}\n    phase: preflight\n"
        "    on_unknown: fail\n"
    )
    early = "  - {name: place, run: place, prepares: true, undo: {run: away}}\n"
    late = check.replace("preflight", "main")
    idle = "  - {name: idle, run: idle, when: \"run.id == 'none'\"}\n"
    for steps, unknown, expected in (
        (check + TWO, "1/web1", ("failed", 5)),
        (early + late + TWO, "2/web1", ("failed", 5)),  # what only prepared is taken back
        (idle + late, "2/web1", ("unknown", 6)),
        (check, "1/web1", ("unknown", 6)),  # where nothing is to be changed it is the result
        (TWO + late, "3/web1", ("unknown", 6)),
        (idle + late + TWO, "2/web1", ("failed", 5)),  # what was skipped has changed nothing
        ("  - {name: a, run: a, on_unknown: fail}\n", "1/web1", ("unknown", 6)),
    ):
        plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path, hosts=1)
        state, paper = go(plan, World(unknown={unknown}))
        assert (state, paper.entries[-1].event.data["exit"]) == expected, steps
        assert hosts(paper) == {"web1": "unknown"}, steps
    plan = planned(runbook(check + TWO), tmp_path)
    state, paper = go(plan, World(gone={"web1", "web2"}))
    assert (state, paper.entries[-1].event.data["exit"]) == ("failed", 5)


def test_a_run_that_ends_before_its_first_change_was_refused(tmp_path: Path) -> None:
    look = "  - {name: look, run: look, effect: read}\n"
    plan = planned(runbook(look + TWO, "on_failure: undo\n"), tmp_path)
    _, paper = go(plan, World(gone={"web1", "web2"}))
    assert paper.entries[-1].event.data["exit"] == 5
    _, paper = go(plan, World(fails={"1/web1": -1}))
    assert paper.entries[-1].event.data["exit"] == 5
    _, paper = go(plan, World(fails={"2/web1": -1}))
    assert paper.entries[-1].event.data["exit"] == 3
    for idle in ("when: \"run.id == 'none'\"", "unless: 'true'"):  # skipped: it changed nothing
        first = f"  - {{name: idle, run: idle, {idle}}}\n"
        _, paper = go(planned(runbook(first + look + TWO), tmp_path), World(fails={"2/web1": -1}))
        assert paper.entries[-1].event.data["exit"] == 5, idle
        _, paper = go(planned(runbook(first + look), tmp_path), World(fails={"2/web1": -1}))
        assert paper.entries[-1].event.data["exit"] == 1, idle  # it had nothing to change
    reads = planned(runbook(look), tmp_path)
    _, paper = go(reads, World(fails={"1/web1": -1}))
    assert paper.entries[-1].event.data["exit"] == 1


@pytest.mark.parametrize("more", ["notify: taken back", "wait: 1ms", "run: and this"])
def test_each_host_has_all_of_its_undo_also_what_is_else_done_once(
    tmp_path: Path, more: str
) -> None:
    """A host of whose undo a part is done for another host only would never be undone."""
    steps = f"  - {{name: s, run: change, undo: [{{run: back}}, {{{more}}}]}}\n"
    plan = planned(runbook(steps, "on_failure: undo\n"), tmp_path)
    state, paper = go(plan, World(fails={"1/web2": -1}))
    assert (state, hosts(paper)) == ("undone", {"web1": "undone", "web2": "undone"})
