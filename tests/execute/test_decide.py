"""What a person can decide where a run waits: what is offered, what follows, and that it follows
once."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from opskit.execute import Outside, Stop, clear, take_back
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.states import RunState
from opskit.model.value import Json
from opskit.plan import repeated
from tests.support.world import FACTS, Crash, Paper, World, go, hosts, planned, records, runbook

STEPS = """
  - {name: one, run: one, undo: {run: back one}}
  - {name: two, run: two, undo: {run: back two}}
  - {name: three, run: three}
"""
ALWAYS = "always:\n  - {name: tell, run: tell, on: controller}\n"
ASK = "on_failure: ask\nmax_failures: 1\n"


def decided(paper: Paper, choice: str, **more: Json) -> Event:
    """Return the answer to what the run waits for."""
    asked = paper.entries[-1].event
    assert asked.kind == "waiting"
    choices = asked.data["choices"]
    assert isinstance(choices, list)
    assert choice in choices
    data = {"choice": choice, "why": asked.data["why"], "who": "me", **more}
    return Event(kind="decided", key=asked.key, host=asked.host, step=asked.step, data=data)


def of_hosts(plan: Plan, paper: Paper, choice: str) -> list[Event]:
    """Return the answers about each host that fell out, as `decide` writes them."""
    asked = paper.entries[-1].event.data
    names = asked["hosts"]
    assert isinstance(names, list)
    data = {"choice": choice, "why": "budget"}
    keys = repeated(plan, records(paper), list(map(str, names))) if choice == "retry" else []
    return [
        *(
            Event(kind="decided", key=key, data={"choice": "retry", "why": "budget"})
            for key in keys
        ),
        *(Event(kind="decided", host=str(name), data=data) for name in names),
    ]


def waiting(
    folder: Path, steps: str = STEPS, head: str = ASK, count: int = 3, **world: object
) -> tuple[Plan, World, Paper]:
    """Come to a run that waits for a person."""
    plan = planned(runbook(steps, head) + ALWAYS, folder, hosts=count)
    there = World(**world)  # type: ignore[arg-type]
    state, paper = go(plan, there)
    assert state == "waiting"
    return plan, there, paper


def end(paper: Paper) -> tuple[object, object]:
    return paper.entries[-1].event.data["status"], paper.entries[-1].event.data["exit"]


# --- what is offered ---


def choices(paper: Paper) -> Json:
    return paper.entries[-1].event.data["choices"]


def test_after_a_failure_all_that_is_possible_is_offered(tmp_path: Path) -> None:
    _, _, paper = waiting(tmp_path, fails={"2/web2": -1})
    assert choices(paper) == ["retry", "done", "skip", "failed", "exclude", "undo", "abort"]


def test_of_an_unknown_change_it_can_be_said_how_it_went(tmp_path: Path) -> None:
    _, _, paper = waiting(tmp_path, unknown={"2/web2"})
    assert choices(paper) == ["done", "failed", "retry", "exclude", "undo", "abort"]


def test_where_nothing_would_be_taken_back_no_undo_is_offered(tmp_path: Path) -> None:
    _, _, paper = waiting(tmp_path, count=1, unknown={"2/web1"})
    assert choices(paper) == ["done", "failed", "retry", "abort"]  # what lies under it is not


def test_what_stands_for_several_hosts_excludes_none(tmp_path: Path) -> None:
    steps = "  - {name: pay, run: pay, on: once}\n"
    _, _, paper = waiting(tmp_path, steps, fails={"1/web1": -1})
    assert choices(paper) == ["retry", "done", "skip", "failed", "abort"]


def test_what_failed_and_is_skipped_then_may_have_changed_something(tmp_path: Path) -> None:
    steps = "  - {name: one, run: one}\n  - {name: look, run: look, effect: read}\n"
    plan, world, paper = waiting(tmp_path, steps, count=1, fails={"1/web1": -1, "2/web1": -1})
    paper.append(decided(paper, "skip", reason="r"))
    assert go(plan, world, paper)[0] == "waiting"
    paper.append(decided(paper, "failed", reason="r"))
    go(plan, world, paper)
    assert end(paper) == ("failed", 1)


def test_what_a_person_has_skipped_is_not_taken_back_and_the_run_does_not_say_so(
    tmp_path: Path,
) -> None:
    steps = (
        "  - {name: one, run: one, undo: {run: back}}\n  - {name: two, run: two, undo: {run: b}}\n"
    )
    plan, world, paper = waiting(tmp_path, steps, count=1, fails={"1/web1": -1, "2/web1": -1})
    paper.append(decided(paper, "skip", reason="r"))
    assert go(plan, world, paper)[0] == "waiting"
    paper.append(decided(paper, "undo"))
    go(plan, world, paper)
    assert [key for key in world.sent if "!" in key] == ["2/web1!1"]
    assert end(paper) == ("failed", 1)


def test_a_look_and_what_others_need_the_output_of_can_not_be_called_done(tmp_path: Path) -> None:
    steps = "  - {name: look, run: look, effect: read}\n"
    _, _, paper = waiting(tmp_path, steps, count=1, fails={"1/web1": -1})
    assert choices(paper) == ["retry", "skip", "failed", "abort"]
    steps = "  - {name: make, run: make, save: made}\n  - {name: use, run: 'use {{ made }}'}\n"
    _, _, paper = waiting(tmp_path, steps, count=1, fails={"1/web1": -1})
    assert choices(paper) == ["retry", "skip", "failed", "abort"]


def test_a_question_offers_to_take_back_what_was_done_by_then(tmp_path: Path) -> None:
    steps = "  - {name: sure, confirm: sure?}\n" + STEPS + "  - {name: on, confirm: go on?}\n"
    plan, world, paper = waiting(tmp_path, steps)
    assert choices(paper) == ["yes", "no", "abort"]
    paper.append(decided(paper, "yes"))
    assert go(plan, world, paper)[0] == "waiting"
    assert choices(paper) == ["yes", "no", "undo", "abort"]


def test_an_undo_asks_only_how_it_went(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, fails={"2/web2": -1}, unknown={"1/web1!1"})
    paper.append(decided(paper, "undo"))
    assert go(plan, world, paper)[0] == "waiting"
    assert choices(paper) == ["done", "failed", "retry", "abort"]


def test_where_too_many_fell_out_they_can_be_left_out_or_tried_again(tmp_path: Path) -> None:
    _, _, paper = waiting(tmp_path, gone={"web2", "web3"})
    assert (choices(paper), paper.entries[-1].event.data["hosts"]) == (
        ["retry", "exclude", "undo", "stop", "abort"], ["web2", "web3"],
    )  # fmt: skip
    _, _, paper = waiting(tmp_path, head="on_failure: ask\n", count=1, gone={"web1"})
    assert choices(paper) == ["retry", "stop", "abort"]  # no host would be left


# --- a host is left out ---


@pytest.mark.parametrize("how", ["fails", "unknown"])
def test_the_run_goes_on_without_a_host_and_counts_it_no_more(tmp_path: Path, how: str) -> None:
    head = "on_failure: ask\n"
    if how == "fails":
        plan, world, paper = waiting(tmp_path, head=head, fails={"2/web2": -1})
    else:
        plan, world, paper = waiting(tmp_path, head=head, unknown={"2/web2"})
    before = list(world.sent)
    paper.append(decided(paper, "exclude", reason="its disk"))
    state, _ = go(plan, world, paper)
    assert world.sent[len(before) :] == ["3/web1", "3/web3", "a1/>controller"]
    left = "excluded" if how == "fails" else "unknown"  # not knowing is told of, whatever else is
    assert hosts(paper) == {"web1": "done", "web2": left, "web3": "done"}
    assert end(paper) == (("failed", 1) if how == "fails" else ("unknown", 6))
    assert state == end(paper)[0]


def test_a_host_that_is_left_out_is_not_taken_back_with_the_others(tmp_path: Path) -> None:
    head = "on_failure: undo\nbatches: [2, 1]\n"
    steps = STEPS.replace("run: two,", "run: two, on_failure: ask,")
    plan, world, paper = waiting(tmp_path, steps, head, fails={"2/web2": -1, "3/web3": -1})
    paper.append(decided(paper, "exclude"))
    go(plan, world, paper)
    undone = sorted(e for e in world.effects if "!" in e)
    assert undone == ["1/web1!1@1", "1/web3!1@1", "2/web1!1@1", "2/web3!1@1"]
    assert hosts(paper) == {"web1": "undone", "web2": "excluded", "web3": "undone"}
    assert end(paper) == ("failed", 1)


def test_hosts_that_were_too_many_are_left_out(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, gone={"web2", "web3"})
    assert "2/web1" not in world.sent
    for event in of_hosts(plan, paper, "exclude"):
        paper.append(event)
    state, _ = go(plan, world, paper)
    assert hosts(paper) == {"web1": "done", "web2": "excluded", "web3": "excluded"}
    assert (state, end(paper)[1]) == ("failed", 1)


def test_hosts_that_were_too_many_are_tried_again(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, gone={"web2", "web3"})
    world.gone.clear()
    for event in of_hosts(plan, paper, "retry"):
        paper.append(event)
    assert go(plan, world, paper)[0] == "succeeded"


def test_a_host_that_was_left_out_can_be_tried_again_later(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, fails={"2/web2": 1})
    paper.append(decided(paper, "exclude"))
    go(plan, world, paper)
    only: dict[str, Json] = {"choice": "retry", "hosts": ["web2"]}
    paper.append(Event(kind="decided", host="web2", data=only))
    for key in repeated(plan, records(paper), ["web2"]):
        paper.append(Event(kind="decided", key=key, host="web2", data={"choice": "retry"}))
    assert go(plan, world, paper)[0] == "succeeded"
    assert world.effects.count("2/web2@2") == 1


# --- all is taken back ---


@pytest.mark.parametrize("how", ["failed", "confirm"])
def test_all_is_taken_back_on_every_host_and_the_run_ends(tmp_path: Path, how: str) -> None:
    if how == "failed":
        plan, world, paper = waiting(tmp_path, fails={"3/web2": -1})
    else:
        plan, world, paper = waiting(tmp_path, STEPS[: STEPS.index("  - {name: three")]
            + "  - {name: on, confirm: go on?}\n")  # fmt: skip
    paper.append(decided(paper, "undo"))
    state, _ = go(plan, world, paper)
    undone = [e.split("@")[0] for e in world.effects if "!" in e]
    assert sorted(undone) == [f"{n}/web{h}!1" for n in (1, 2) for h in (1, 2, 3)]
    assert [n.split("/")[0] for n in undone] == ["2"] * 3 + ["1"] * 3  # the last step first
    assert world.sent[-1] == "a1/>controller"
    assert world.sent.count("a1/>controller") == 1
    if how == "confirm":
        assert (state, *end(paper)) == ("undone", "undone", 3)
        assert set(hosts(paper).values()) == {"undone"}
    else:  # step three has no undo: it stands
        assert (state, *end(paper)) == ("failed", "failed", 1)


def test_what_nobody_knows_of_stays_and_the_rest_is_taken_back(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, unknown={"2/web2"})
    paper.append(decided(paper, "undo"))
    state, _ = go(plan, world, paper)
    assert hosts(paper) == {"web1": "undone", "web2": "unknown", "web3": "undone"}
    assert (state, end(paper)[1]) == ("unknown", 6)
    assert not [e for e in world.effects if "web2!" in e]


# --- once, wherever opskit is killed ---


def _retry(plan: Plan, paper: Paper) -> list[Event]:
    return [decided(paper, "retry")]


def _exclude(plan: Plan, paper: Paper) -> list[Event]:
    return [decided(paper, "exclude", reason="r")]


def _undo(plan: Plan, paper: Paper) -> list[Event]:
    return [decided(paper, "undo")]


def _skip(plan: Plan, paper: Paper) -> list[Event]:
    return [decided(paper, "skip", reason="r")]


Answer = Callable[[Plan, Paper], list[Event]]


def _carried_out(
    folder: Path, answer: Answer, crash: int, *, keeps: bool = True, again: int = -1
) -> tuple[RunState, list[str], object, int]:
    """Decide; be killed at the so-many-th entry after that (and after that again); go on."""
    plan, world, paper = waiting(folder, fails={"2/web2": 1})
    for event in answer(plan, paper):
        paper.append(event)
    paper.keeps = keeps
    start = len(paper.entries)
    for at in [at for at in (crash, again) if at >= 0]:
        paper.crash_at = start + at
        with suppress(Crash):
            go(plan, world, paper)
        if paper.entries[-1].event.kind == "run ended":
            break
    paper.crash_at = -1
    if paper.entries[-1].event.kind != "run ended":
        go(plan, world, paper)
    written = len(paper.entries) - start
    state: RunState = paper.entries[-1].event.data["status"]  # type: ignore[assignment]
    return state, sorted(world.effects), hosts(paper), written


@pytest.mark.parametrize("answer", [_retry, _exclude, _undo, _skip])
def test_a_decision_is_carried_out_once_wherever_opskit_is_killed(
    tmp_path: Path, answer: Answer
) -> None:
    *whole, written = _carried_out(tmp_path, answer, -1)
    for keeps in (True, False):
        for at in range(written):
            found = _carried_out(tmp_path, answer, at, keeps=keeps)
            assert [_effects(x) for x in found[:3]] == [_effects(x) for x in whole], at
    for at in range(0, written, 3):
        found = _carried_out(tmp_path, answer, at, again=at + 4)
        assert [_effects(x) for x in found[:3]] == [_effects(x) for x in whole], at


def _effects(found: object) -> object:
    """Attempts that never began may have been given other numbers."""
    return [one.split("@")[0] for one in found] if isinstance(found, list) else found


# --- a run that a person has ended is settled ---


def cleared(plan: Plan, world: World, paper: Paper) -> RunState:
    outside = Outside(
        targets=world, journal=paper, secrets={}, watch=lambda item: None, stop=Stop(),
        hide=lambda secret: None,
    )  # fmt: skip
    return clear(plan, list(paper.entries), outside, FACTS)


def test_of_an_aborted_run_only_what_is_unknown_is_settled(tmp_path: Path) -> None:
    steps = STEPS.replace("run: two,", "run: two, done_when: {run: look}, on_unknown: retry,")
    steps = steps.replace("on_unknown: retry", "on_unknown: retry, repeatable: true")
    plan = planned(runbook(steps, ASK) + ALWAYS, tmp_path, hosts=3)
    world = World(crash_after="2/web2")
    paper = Paper(world=world)
    with suppress(Crash):
        go(plan, world, paper)
    world.dead, world.forgets = False, True
    paper.append(Event(kind="run ended", data={"status": "aborted", "hosts": {}, "exit": 6}))
    before = list(world.effects)
    world.fails = {"2/web1?done": -1, "2/web3?done": -1}
    assert cleared(plan, world, paper) == "aborted"
    assert world.effects == before
    assert "2/web2?done" in world.sent
    assert not {action.state for action in records(paper).values()} & {"unknown", "started"}


def test_what_is_unknown_on_a_host_that_was_left_out_is_asked_for_too(tmp_path: Path) -> None:
    plan, world, paper = waiting(tmp_path, head="on_failure: ask\n", unknown={"2/web2"})
    paper.append(decided(paper, "exclude"))
    paper.append(Event(kind="run ended", data={"status": "aborted", "hosts": {}, "exit": 6}))
    before = list(world.effects)
    assert cleared(plan, world, paper) == "waiting"
    assert choices(paper) == ["done", "failed", "abort"]
    paper.append(decided(paper, "failed"))
    assert cleared(plan, world, paper) == "aborted"
    assert world.effects == before


def test_of_an_aborted_run_an_unknown_undo_and_look_are_asked_for_too(tmp_path: Path) -> None:
    steps = STEPS + "  - {name: look, run: look, effect: read, phase: preflight}\n"
    head = "on_failure: stop\nmax_failures: 3\n"
    plan = planned(runbook(steps, head), tmp_path, hosts=3)
    world = World(fails={"2/web2": -1}, unknown={"2/web2!1"})
    _, paper = go(plan, world)
    undone(plan, world, paper)
    assert records(paper)["2/web2!1"].state == "unknown"
    started = Event(kind="step started", key="4/web3", host="web3", step="look", attempt=2)
    lost = Event(kind="step ended", key="4/web3", host="web3", step="look", attempt=2,
                 data={"outcome": "unknown"})  # fmt: skip
    paper.append(started, lost)
    paper.append(Event(kind="run ended", data={"status": "aborted", "hosts": {}, "exit": 6}))
    before = list(world.sent)
    asked = []
    while cleared(plan, world, paper) == "waiting":
        asked.append((paper.entries[-1].event.key, choices(paper)))
        back: dict[str, Json] = {"undoes": "2/web2", "last": True} if "!" in asked[-1][0] else {}
        paper.append(decided(paper, "failed" if back else "done", **back))
    three = ["done", "failed", "abort"]
    assert sorted(asked) == [("2/web2!1", three), ("4/web3", three)]
    assert world.sent == before
    assert records(paper)["2/web2"].state == "undo failed"


def undone(plan: Plan, world: World, paper: Paper) -> None:
    outside = Outside(
        targets=world, journal=paper, secrets={}, watch=lambda item: None, stop=Stop(),
        hide=lambda secret: None,
    )  # fmt: skip
    take_back(plan, list(paper.entries), outside, FACTS)
