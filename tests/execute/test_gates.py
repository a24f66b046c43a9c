"""Gates on several hosts: one that has failed needs no word of the others."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.execute.driver import Write
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from opskit.model.work import Command
from opskit.steps.verdict import verdict
from tests.support.world import World, go, hosts, planned, runbook

pytestmark = pytest.mark.acceptance
STEPS = """
  - {name: stage, run: to green, undo: {run: to blue}}
  - name: gate
    run: watch
    timeout: %s
"""
GONE = Output(outcome="unknown", lost=True, reason="the line broke")


def gated(folder: Path, timeout: str = "60s", more: str = "") -> Plan:
    """Return a plan whose second step is a gate, on two hosts."""
    steps = STEPS % timeout + more
    plan = planned(runbook(steps, "on_failure: undo\nmax_failures: 0\n"), folder)
    actions = tuple(
        replace(a, work=replace(a.work, verdict=True))
        if a.position == "2" and isinstance(a.work, Command)
        else a
        for a in plan.actions
    )
    stages = {**plan.stages, "2": replace(plan.stages["2"], lasting=False)}
    return replace(plan, actions=actions, stages=stages)


class Watched(World):
    """The gate of `cut` is out of sight from its beginning; that of the other host fails."""

    def __init__(self, cut: str, after: float = 0.0) -> None:
        super().__init__()
        self.cut, self.after, self.lost_once = cut, after, threading.Event()

    def perform(self, job: Job, write: Write) -> Output:
        if job.key == f"2/{self.cut}":
            self.lost_once.set()
            return GONE
        if job.key.startswith("2/"):
            assert self.lost_once.wait(60)
            time.sleep(self.after)
            failed = Output(outcome="failed", status=1, stdout=b"FAIL: 5 % errors\n")
            return verdict(failed)
        return super().perform(job, write)

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        return GONE if job.key == f"2/{self.cut}" else super().rejoin(job, write, left)


def test_a_gate_that_fails_waits_for_none_that_is_out_of_sight(tmp_path: Path) -> None:
    world = Watched("web1")
    began = time.monotonic()
    state, paper = go(gated(tmp_path), world)
    assert time.monotonic() - began < 5
    assert state == "undone", paper.entries[-1].event
    assert {"1/web1!1@1", "1/web2!1@1"} <= set(world.effects)
    assert hosts(paper)["web2"] == "undone"


@pytest.mark.parametrize("cut", ["web1", "web2"])
def test_one_out_of_sight_for_too_long_is_no_question_where_another_has_failed(
    tmp_path: Path, cut: str
) -> None:
    """The time of the one is over before the other fails."""
    state, paper = go(gated(tmp_path, "0.2s"), Watched(cut, after=0.6))
    assert state == "undone", paper.entries[-1].event


class Heeded(World):
    """The gate of web1 fails while that of web2 watches on for a while, and passes."""

    def perform(self, job: Job, write: Write) -> Output:
        if job.key == "2/web1":
            return verdict(Output(outcome="failed", status=1, stdout=b"FAIL: errors\n"))
        if job.key == "2/web2":
            ended = self.over.wait(1.5)
            assert not ended, "ended, though nothing follows from it"
            return verdict(Output(outcome="succeeded", status=0, stdout=b"PASS: well\n"))
        return super().perform(job, write)


def test_a_gate_whose_failure_is_no_reason_to_stop_stops_nobody(tmp_path: Path) -> None:
    more = "    on_failure: continue\n  - {name: after, run: on, unless: is on}\n"
    world = Heeded(fails={"3/web1?skip": -1, "3/web2?skip": -1})
    state, paper = go(gated(tmp_path, more=more), world)
    assert state == "succeeded", paper.entries[-1].event
    assert {"3/web1@1", "3/web2@1"} <= set(world.effects)
