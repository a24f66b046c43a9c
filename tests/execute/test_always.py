"""What comes at the end of a run comes at the end of each retry, too: once."""

from contextlib import suppress
from pathlib import Path

import pytest

from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.plan import closing, repeated
from tests.support.world import Crash, Paper, World, go, planned, records, runbook

STEPS = """
  - {name: one, run: one}
  - {name: two, run: two}
"""
ALWAYS = """
always:
  - {name: tell, run: "tell {{ run.status }}", on: controller}
  - {name: once, run: once, on: once}
  - {name: open, run: open}
  - {name: bad, run: bad, on: controller, when: run.status != "succeeded"}
"""
HEAD = "max_failures: 3\n"


def ended(folder: Path, **world: object) -> tuple[Plan, World, Paper]:
    plan = planned(runbook(STEPS, HEAD) + ALWAYS, folder, hosts=3)
    there = World(**world)  # type: ignore[arg-type]
    state, paper = go(plan, there)
    assert state == "failed"
    return plan, there, paper


def retry(plan: Plan, paper: Paper, *hosts: str) -> None:
    """Decide to try hosts again, as `opskit retry` does."""
    found = records(paper)
    keys = repeated(plan, found, hosts)
    keys += [key for key in closing(plan, found, hosts) if key not in keys]
    for host in hosts:
        data = {"choice": "retry", "hosts": list(hosts)}
        paper.append(Event(kind="decided", host=host, data=data))
    for key in keys:
        paper.append(Event(kind="decided", key=key, data={"choice": "retry"}))


def done(world: World) -> list[str]:
    """Return what was done, less the attempts and less the host that was chosen for all."""
    return [one.partition("@")[0] for one in world.effects]


def test_it_follows_a_retry_on_the_hosts_of_that(tmp_path: Path) -> None:
    plan, world, paper = ended(tmp_path, fails={"2/web2": 1})
    assert [one for one in done(world) if one[0] == "a"] == [
        "a1/>controller", "a2/web1", "a3/web1", "a3/web2", "a3/web3", "a4/>controller",
    ]  # fmt: skip
    world.effects.clear()
    retry(plan, paper, "web2")
    assert go(plan, world, paper)[0] == "succeeded"
    assert done(world) == ["2/web2", "a1/>controller", "a2/web1", "a3/web2"]
    assert records(paper)["a4/>controller"].state == "skipped"  # it is decided anew, too


def test_nothing_of_it_is_due_again_where_it_never_came(tmp_path: Path) -> None:
    plan = planned(runbook(STEPS, "on_failure: ask\n") + ALWAYS, tmp_path, hosts=3)
    state, paper = go(plan, World(fails={"2/web2": 1}))
    assert state == "waiting"
    assert closing(plan, records(paper), ["web2"]) == []


@pytest.mark.parametrize("keeps", [True, False])
def test_it_follows_a_retry_once_wherever_that_is_killed(tmp_path: Path, keeps: bool) -> None:
    for point in range(40):
        plan, world, paper = ended(tmp_path, fails={"2/web2": 1})
        retry(plan, paper, "web2")
        world.effects.clear()
        paper.crash_at, paper.keeps = len(paper.entries) + point, keeps
        with suppress(Crash):
            go(plan, world, paper)
        crashed, paper.crash_at = paper.crash_at < 0, -1
        if paper.entries[-1].event.kind != "run ended":
            assert go(plan, world, paper)[0] == "succeeded"
        assert done(world) == ["2/web2", "a1/>controller", "a2/web1", "a3/web2"], point
        if not crashed:
            return
    raise AssertionError("the run is longer than that")
