"""What the plan calls determined is what a run does, over runbooks made by chance.

The runs here are in a small world (tests/support/world.py); a sample goes to real hosts in
tests/acceptance/test_dry_run.py.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import pytest

from opskit.execute.driver import Write
from opskit.model.codec import from_json, parse, to_json
from opskit.model.event import Event
from opskit.model.inventory import CONTROLLER
from opskit.model.job import Job, Output
from opskit.model.plan import Action, Plan
from opskit.model.text import Late, Text
from opskit.model.value import Json
from opskit.model.work import Ask, Check, Command, Notify, Upload, Wait, Work
from opskit.plan import preview, progress
from opskit.plan.make import seal
from opskit.view import works
from opskit.view.planned import objects
from tests.support import runbooks
from tests.support.world import Paper, World, go

RUNS = 200
PARTS = 8
OURS = (Check, Wait, Notify, Ask)
"""Work that is done here and sent to nobody."""


@dataclass
class Witness(World):
    """Keeps every job that is sent; each command says something that can be saved."""

    jobs: list[Job] = field(default_factory=list)

    def perform(self, job: Job, write: Write) -> Output:
        with self.lock:
            self.jobs.append(job)
        return replace(super().perform(job, write), stdout=f"said by {job.key}\n".encode())

    def probe(self, job: Job) -> Output:
        self.jobs.append(job)
        return super().probe(job)


def carry_out(plan: Plan, world: Witness) -> Paper:
    """Run a plan to its end; whatever it asks is answered with yes."""
    state, paper = go(plan, world)
    for _ in range(50):
        asked = paper.entries[-1].event
        if state != "waiting":
            return paper
        data: dict[str, Json] = {"who": "me", "choice": "yes", "why": asked.data["why"]}
        paper.append(
            Event(kind="decided", key=asked.key, host=asked.host, step=asked.step, data=data)
        )
        state, paper = go(plan, world, paper)
    raise AssertionError("it asks without end")


# --- what a plan promises, worked out from nothing but the plan


def waves(plan: Plan) -> Iterator[list[Action]]:
    """Yield what a step does in a batch; of a step that is done once, only for the first host."""
    for _, group in groupby(plan.actions, key=lambda a: (a.batch, a.position)):
        wave = list(group)
        once = plan.stage(wave[0]).scope in ("once", "batch")
        yield [a for a in wave if a.host == wave[0].host] if once else wave


def promised(plan: Plan, *, fails: Sequence[str]) -> Iterator[list[str]]:
    """Yield the keys that each wave sends, in order; `fails` are the looks that don't succeed."""
    for wave in waves(plan):
        keys: list[str] = []
        for action in wave:
            if action.when is not None and str(action.when) == "False":
                continue
            if action.skip_if is not None:
                keys.append(f"{action.key}?skip")
                if f"{action.key}?skip" not in fails:
                    continue
            if not isinstance(action.work, OURS):
                keys.append(action.key)
        yield keys


def same(planned: Work, sent: Work) -> bool:
    """Tell whether a work was sent as planned: what was late then may be anything now."""
    if not any(text.late for text in works.texts(planned)):
        return planned == sent
    pairs = zip(works.texts(planned), works.texts(sent), strict=True)
    return type(planned) is type(sent) and all(_matches(text, now) for text, now in pairs)


def _matches(planned: Text, sent: Text) -> bool:
    parts = (
        ".*" if isinstance(p, Late) else re.escape(str(Text(parts=(p,)))) for p in planned.parts
    )
    return re.fullmatch("".join(parts), str(sent), re.DOTALL) is not None


def by_key(plan: Plan) -> dict[str, tuple[Action, Work]]:
    """Return every work that a plan allows to be sent, by the key of its job."""
    found: dict[str, tuple[Action, Work]] = {}
    for action in plan.actions:
        for one in (action, *action.undo):
            found[one.key] = one, one.work
            if one.skip_if is not None:
                found[f"{one.key}?skip"] = one, one.skip_if
            if isinstance(one.work, Upload):
                found[f"{one.key}?dest"] = one, one.work
    return found


def check_jobs(plan: Plan, jobs: Sequence[Job]) -> None:
    """Every job is one of the plan: its text, its host, its effect; none is sent twice."""
    allowed = by_key(plan)
    shown = {str(o["key"]): o for o in objects(plan, {}, run=None, refused=None) if "key" in o}
    assert len({job.key for job in jobs}) == len(jobs)
    for job in jobs:
        action, work = allowed[job.key]
        assert same(work, job.work), job.key
        if action.target != CONTROLLER:
            assert job.host == plan.hosts[action.target]
        assert job.host.name == action.target
        probe = job.key.endswith(("?skip", "?dest"))
        assert job.effect == ("read" if probe else plan.stage(action).effect)
        if job.key in shown and shown[job.key]["determined"]:
            assert works.lines(job.work, full=True) == shown[job.key]["text"]
            check_shown(job.work, shown[job.key]["text"])


def check_shown(work: Work, shown: Json) -> None:
    """The plan shows a command to the letter."""
    assert isinstance(shown, list)
    if isinstance(work, Command) and not work.summary and work.text.fixed().isprintable():
        assert work.text.fixed() in [line.removeprefix("$ ") for line in shown] or not work.shell


def in_turn(
    sent: Sequence[str], expected: Sequence[Sequence[str]], targets: dict[str, str]
) -> bool:
    """Tell whether keys were sent wave after wave, and on each target in the order of the plan."""
    rest = list(sent)
    for wave in expected:
        now, rest = rest[: len(wave)], rest[len(wave) :]
        for target in {targets[key] for key in wave}:
            if [k for k in now if targets[k] == target] != [
                k for k in wave if targets[k] == target
            ]:
                return False
        if sorted(now) != sorted(wave):
            return False
    return not rest


def targets_of(plan: Plan) -> dict[str, str]:
    return {key: action.target for key, (action, _) in by_key(plan).items()}


def chosen(plan: Plan, seed: int) -> list[str]:
    """Choose the looks (`unless`) that say: not there yet."""
    looks = [f"{a.key}?skip" for a in plan.actions if a.skip_if is not None]
    return [key for number, key in enumerate(looks) if (number + seed) % 3]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_sends_what_the_plan_says_where_and_when_it_says(part: int, tmp_path: Path) -> None:
    for seed in range(part, RUNS, PARTS):
        plan = runbooks.plan(seed, tmp_path)
        fails = chosen(plan, seed)
        world = Witness(fails=dict.fromkeys(fails, -1))
        paper = carry_out(plan, world)
        assert paper.entries[-1].event.data["status"] == "succeeded", seed
        check_jobs(plan, world.jobs)
        expected = list(promised(plan, fails=fails))
        assert in_turn([job.key for job in world.jobs], expected, targets_of(plan)), seed


@pytest.mark.parametrize("part", range(2))
def test_a_run_that_fails_sends_nothing_that_the_plan_has_not(part: int, tmp_path: Path) -> None:
    for seed in range(part, RUNS, 8):
        plan = runbooks.plan(seed, tmp_path)
        whole = Witness(fails=dict.fromkeys(chosen(plan, seed), -1))
        carry_out(plan, whole)
        changes = [job.key for job in whole.jobs if job.effect == "change"]
        if not changes:
            continue
        broken = changes[seed % len(changes)]
        world = Witness(fails={**whole.fails, broken: -1})
        carry_out(plan, world)
        check_jobs(plan, world.jobs)
        keys = [job.key for job in world.jobs if "!" not in job.key]
        assert broken in keys, seed
        main = [key for key in keys if by_key(plan)[key][0].batch >= 0]
        stages = [(by_key(plan)[k][0].batch, by_key(plan)[k][0].position) for k in main]
        assert list(dict.fromkeys(stages)) == [s for s, _ in groupby(stages)], seed


@pytest.mark.parametrize("part", range(2))
def test_a_value_that_is_not_there_fails_its_step_and_nothing_else(
    part: int, tmp_path: Path
) -> None:
    for seed in range(part, RUNS, 4):
        plan = runbooks.plan(seed, tmp_path, risky=True)
        world = Witness(fails=dict.fromkeys(chosen(plan, seed), -1))
        paper = carry_out(plan, world)
        assert paper.entries[-1].event.kind == "run ended", seed
        check_jobs(plan, world.jobs)


@pytest.mark.parametrize("part", range(2))
def test_a_dry_run_sends_reads_of_the_plan_and_no_change(part: int, tmp_path: Path) -> None:
    for seed in range(part, RUNS, 4):
        plan = runbooks.plan(seed, tmp_path)
        world = Witness(fails=dict.fromkeys(chosen(plan, seed), -1))
        looks = seal(preview(plan, {}))
        if not looks.actions:
            continue
        _, paper = go(looks, world)
        further = preview(plan, progress(paper.entries))
        if further.actions:
            go(further, world, paper)
        assert world.effects == []
        assert {job.effect for job in world.jobs} <= {"read"}
        check_jobs(plan, world.jobs)


def test_a_plan_is_the_same_again_and_survives_its_json(tmp_path: Path) -> None:
    for seed in range(0, RUNS, 5):
        plan = runbooks.plan(seed, tmp_path)
        assert runbooks.plan(seed, tmp_path).digest == plan.digest
        assert from_json(Plan, parse(_written(plan))) == plan
        assert seal(plan).digest == plan.digest


def _written(plan: Plan) -> bytes:
    from opskit.model.codec import canonical

    return canonical(to_json(plan))


def test_the_generator_makes_every_kind_scope_and_rule(tmp_path: Path) -> None:
    seen: set[str] = set()
    for seed in range(RUNS):
        runbooks.write(seed, tmp_path)
        text = (tmp_path / "r.yaml").read_text() + (tmp_path / "inner.yaml").read_text()
        seen |= set(
            re.findall(r"\"per\": \"\w+|[a-z_]+(?=\"?:)|\bonce\b|\bcontroller\b|run\.id", text)
        )
    wanted = "run script upload template http wait assert confirm notify record runbook save when"
    wanted += " for_each undo unless stdin cwd phase batches always once controller run.id"
    assert set(wanted.split()) | {f'"per": "{per}' for per in ("host", "batch", "run")} <= seen
