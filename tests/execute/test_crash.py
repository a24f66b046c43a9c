"""Every crash point x what had happened x failing step x resumes: nothing is done twice unasked."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import combinations

import pytest

from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.value import Json
from tests.support.world import Crash, Paper, World, go, hosts, planned, records, runbook

STEPS = """
  - {name: look, run: cat /etc/x, effect: read, phase: preflight, save: before}
  - {name: drain, run: drain, undo: {run: undrain}}
  - {name: switch, run: 'switch {{ before }}', undo: {run: switch back}, on_unknown: ask}
  - {name: check, run: check, effect: read, retry: {times: 1, backoff: 0.001}}
  - {name: pay, run: pay once, on: once}
"""
ALWAYS = """
always:
  - {name: tell, run: tell, on: controller}
"""
ANSWERS = {"1/web1": b"one\n", "1/web2": b"two\n"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    text = runbook(STEPS, "batches: [1]\non_failure: undo\n") + ALWAYS
    return planned(text, tmp_path_factory.mktemp("plan"))


def answer(paper: Paper, choice: str) -> None:
    """Answer what the run waits for, as a person would after having looked."""
    question = paper.entries[-1].event
    assert question.kind == "waiting"
    data = {"choice": choice, "why": question.data["why"]}
    paper.append(Event(kind="decided", key=question.key, host=question.host, data=data))


def carry_on(plan: Plan, world: World, paper: Paper, limit: int = 12) -> str:
    """Resume until the run has ended; questions are answered by the truth."""
    state = "running"
    for _ in range(limit):
        try:
            state, _ = go(plan, world, paper)
        except Crash:
            continue
        if state != "waiting":
            return state
        world.dead = False
        key = paper.entries[-1].event.key
        done = any(effect.startswith(f"{key}@") for effect in world.effects)
        answer(paper, "done" if done else "retry")
    raise AssertionError(f"still {state} after {limit} resumes")


def appends(plan: Plan) -> int:
    _, paper = go(plan, World(answers=dict(ANSWERS)))
    return len(paper.entries)


def test_an_undisturbed_run_does_everything_once(plan: Plan) -> None:
    world = World(answers=dict(ANSWERS))
    state, paper = go(plan, world)
    assert state == "succeeded"
    assert Counter(e.split("@")[0] for e in world.effects).most_common(1)[0][1] == 1
    assert {r.state for r in records(paper).values()} == {"succeeded"}


def undisturbed(plan: Plan, fails: Mapping[str, int]) -> tuple[str, list[str], Mapping[str, Json]]:
    """Return how a run ends that nobody disturbs, and what it does."""
    world = World(answers=dict(ANSWERS), fails=dict(fails))
    state, paper = go(plan, world)
    return state, sorted(effect.split("@")[0] for effect in world.effects), hosts(paper)


def crashing(
    plan: Plan, fails: Mapping[str, int], crashes: Iterable[int], *, keeps: bool
) -> tuple[str, World, Paper]:
    """Crash at these appends, one after another, and resume each time; nobody is asked anything."""
    world = World(answers=dict(ANSWERS), fails=dict(fails))
    paper = Paper(world, keeps=keeps)
    for at in crashes:
        paper.crash_at = at
        with suppress(Crash):
            go(plan, world, paper)
        if paper.entries and paper.entries[-1].event.kind == "run ended":
            break
    paper.crash_at = -1
    if not paper.entries or paper.entries[-1].event.kind != "run ended":
        go(plan, world, paper)
    return str(paper.entries[-1].event.data.get("status")), world, paper


FAILING: Mapping[str, Mapping[str, int]] = {
    "nothing": {},
    "a change": {"3/web1": -1},
    "a read": {"4/web2": -1},
    "a change, late": {"3/web2": -1},
    "a read, once": {"4/web1": 1},
}


def nothing_twice(plan: Plan, fails: Mapping[str, int], crashes: tuple[int, ...]) -> None:
    for keeps in (True, False):
        state, world, paper = crashing(plan, fails, crashes, keeps=keeps)
        where = f"crashes at appends {crashes}, the last one {'kept' if keeps else 'lost'}"
        effects = sorted(effect.split("@")[0] for effect in world.effects)
        assert (state, effects, hosts(paper)) == undisturbed(plan, fails), where
        asked = [e for e in paper.entries if e.event.kind in ("waiting", "decided")]
        unknown = [e for e in paper.entries if e.event.data.get("outcome") == "unknown"]
        assert not asked + unknown, where


@pytest.mark.parametrize("what", FAILING)
def test_with_hosts_that_remember_a_crash_leaves_no_trace(plan: Plan, what: str) -> None:
    for at in range(appends(plan) + 4):
        nothing_twice(plan, FAILING[what], (at,))


@pytest.mark.parametrize("what", FAILING)
def test_nor_do_three_crashes(plan: Plan, what: str) -> None:
    rng = random.Random(what)
    last = appends(plan) + 4
    for _ in range(12):
        nothing_twice(plan, FAILING[what], tuple(sorted(rng.sample(range(last), 3))))


@pytest.mark.soak
@pytest.mark.parametrize("what", FAILING)
def test_nor_do_any_two(plan: Plan, what: str) -> None:
    for pair in combinations(range(appends(plan) + 4), 2):
        nothing_twice(plan, FAILING[what], pair)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("fails", ["", "3/web1", "4/web2", "3/web2"])
def test_where_hosts_forget_a_crash_at_any_append_repeats_nothing(
    plan: Plan, fails: str, keeps: bool
) -> None:
    for at in range(appends(plan) + 4):
        world = World(answers=dict(ANSWERS), fails={fails: -1} if fails else {}, forgets=True)
        paper = Paper(world, crash_at=at, keeps=keeps)
        carry_on(plan, world, paper)
        twice = {e: n for e, n in Counter(world.effects).items() if n > 1}
        assert twice == {}, f"crash at append {at}"
        attempts = Counter(e.split("@")[0] for e in world.effects)
        unasked = {k: n for k, n in attempts.items() if n > 1 and not _asked(paper, k)}
        assert unasked == {}, f"crash at append {at}"


@pytest.mark.parametrize("forgets", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fails", ["", "3/web2"])
def test_a_crash_around_any_effect_repeats_nothing(
    plan: Plan, fails: str, when: str, forgets: bool
) -> None:
    keys = [a.key for a in plan.actions] + [u.key for a in plan.actions for u in a.undo]
    for key in keys:
        world = World(answers=dict(ANSWERS), fails={fails: -1} if fails else {}, forgets=forgets)
        setattr(world, f"crash_{when}", key)
        paper = Paper(world)
        state = carry_on(plan, world, paper)
        assert state in ("succeeded", "undone", "failed"), key
        effects = Counter(e.split("@")[0] for e in world.effects)
        assert all(n == 1 or _asked(paper, k) for k, n in effects.items()), key


def _asked(paper: Paper, key: str) -> bool:
    """Tell whether a person allowed a second attempt at an action."""
    events = [e.event for e in paper.entries]
    return any(e.kind == "decided" and e.key == key and e.data["choice"] == "retry" for e in events)


def test_a_second_resume_still_asks_where_the_host_can_not_tell(plan: Plan) -> None:
    world = World(answers=dict(ANSWERS), crash_after="3/web1", forgets=True)
    paper = Paper(world)
    with pytest.raises(Crash):
        go(plan, world, paper)
    for _ in range(3):
        state, _ = go(plan, world, paper)
        assert state == "waiting"
        assert paper.entries[-1].event.data["why"] == "unknown"
    assert Counter(world.effects)["3/web1@1"] == 1
