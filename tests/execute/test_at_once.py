"""Reads that are made at once: on one target, and beside each other at the end of a run."""

import threading
import time
from pathlib import Path

import pytest

from opskit.model.problem import ProblemsError
from tests.support.world import World, go, hosts, planned, runbook

LOOK = "  - {name: look, run: look, effect: read, for_each: [1, 2, 3, 4, 5, 6], at_once: 3}\n"


class Gate:
    """Lets reads go on once so many of them are there; counts how many there were at most."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=10)
        self.lock, self.inside, self.most = threading.Lock(), 0, 0

    def __call__(self, _: object) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.barrier.wait()
        with self.lock:
            self.inside -= 1


def test_so_many_items_are_looked_at_at_once_and_no_more(tmp_path: Path) -> None:
    plan = planned(runbook(LOOK), tmp_path, hosts=1)
    gate = Gate(3)
    world = World(acts={action.key: gate for action in plan.actions})
    state, paper = go(plan, world)
    assert (state, gate.most, len(world.sent)) == ("succeeded", 3, 6)
    kinds = [entry.event.kind for entry in paper.entries]
    assert kinds.count("host opened") == 1
    assert kinds.index("host opened") < kinds.index("step started")


def test_a_host_that_nobody_reaches_is_tried_once(tmp_path: Path) -> None:
    tried: list[str] = []

    class Gone(World):
        def open(self, host: str, **how: object) -> None:  # type: ignore[override]
            tried.append(host)
            super().open(host, **how)  # type: ignore[arg-type]

    plan = planned(runbook(LOOK), tmp_path, hosts=1)
    world = Gone(gone={"web1"})
    _, paper = go(plan, world)
    assert (tried, world.sent, hosts(paper)) == (["web1"], [], {"web1": "unreachable"})


def test_after_one_that_fails_nothing_new_is_begun(tmp_path: Path) -> None:
    plan = planned(runbook(LOOK.replace("at_once: 3", "at_once: 2")), tmp_path, hosts=1)
    world = World(fails={"1/web1#0": -1})
    state, _ = go(plan, world)
    assert state == "failed"
    assert len(world.sent) <= 3


def test_what_is_looked_at_in_the_end_is_looked_at_beside_each_other(tmp_path: Path) -> None:
    late = "  - {name: %s, run: %s, effect: read, on: controller, for_each: [1, 2], at_once: 8}\n"
    text = runbook("  - {name: one, run: one}\n") + "always:\n" + late % ("a", "a")
    text += late % ("b", "b") + "  - {name: c, run: c, on: controller}\n"
    plan = planned(text, tmp_path)
    gate = Gate(4)
    world = World(acts={a.key: gate for a in plan.actions if a.position in ("a1", "a2")})
    state, _ = go(plan, world)
    assert (state, gate.most) == ("succeeded", 4)
    assert world.sent[-1] == "a3/>controller"


def test_what_uses_what_another_has_saved_comes_after_it_in_the_end_too(tmp_path: Path) -> None:
    late = "  - {name: %s, run: %s, effect: read, on: controller, for_each: [1, 2], at_once: 8%s}\n"
    text = runbook("  - {name: one, run: one}\n") + "always:\n" + late % ("a", "a", ", save: it")
    plan = planned(text + late % ("b", "'b {{ it }}'", ""), tmp_path)
    world = World(acts={a.key: lambda _: time.sleep(0.02) for a in plan.actions if a.batch < 0})
    assert go(plan, world)[0] == "succeeded"
    ends = [key[:2] for key in world.sent if key[0] == "a"]
    assert ends == ["a1", "a1", "a2", "a2"]


@pytest.mark.parametrize("many", [8, 9])
def test_how_many_at_once_may_be_a_parameter_up_to_eight(tmp_path: Path, many: int) -> None:
    step = LOOK.replace("at_once: 3", "at_once: '{{ many }}'")
    text = runbook(step, "params: {many: {type: int}}\n")
    if many == 8:
        assert planned(text, tmp_path, hosts=1, many=many).stages["1"].at_once == 8
    else:
        with pytest.raises(ProblemsError, match="came to 9"):
            planned(text, tmp_path, hosts=1, many=many)


PREPARES = """
  - {name: lay, run: lay, prepares: true, undo: {run: take}}
  - {name: judge, run: judge, effect: read}
  - {name: switch, run: switch, undo: {run: back}}
  - {name: see, run: see, effect: read}
"""


@pytest.mark.parametrize(
    ("fails", "policy", "state", "status"),
    [
        ("2/web1", "undo", "undone", 5),
        ("1/web1", "undo", "undone", 5),
        ("3/web1", "undo", "undone", 3),
        ("4/web1", "undo", "undone", 3),
        ("2/web1", "stop", "failed", 1),
        ("2/web1 1/web1!1", "undo", "failed", 1),
    ],
)
def test_what_only_prepares_and_is_taken_back_is_no_change(
    tmp_path: Path, fails: str, policy: str, state: str, status: int
) -> None:
    plan = planned(runbook(PREPARES, f"on_failure: {policy}\n"), tmp_path, hosts=1)
    ended, paper = go(plan, World(fails=dict.fromkeys(fails.split(), -1)))
    assert (ended, paper.entries[-1].event.data["exit"]) == (state, status)
