"""A run that goes on with other parameters: each host has one value, and an undo the value of each
attempt, wherever the process is killed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from opskit.execute import Outside, Stop, take_back
from opskit.execute.driver import Write
from opskit.model.event import Event
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from opskit.model.states import RunState
from opskit.model.work import Command
from opskit.plan.amend import Merged, UnsoundError, merge
from tests.support.world import FACTS, Crash, Paper, World, go, planned, records, runbook

HEAD = "on_failure: ask\nparams: {word: {type: string}, items: {type: string, default: a}}\n"
ONE = "  - {name: one, run: one, undo: {run: back one}}\n"
TWO = "  - {name: two, run: 'two {{ word }}', undo: {run: 'back two {{ word }}'}}\n"
THREE = "  - {name: three, run: 'three {{ word }}', undo: {run: 'back three {{ word }}'}}\n"
BATCHES = "batches: [1]\n"


@dataclass
class Texts(World):
    """A world that keeps what was run, not only that it was."""

    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    def perform(self, job: Job, write: Write) -> Output:
        assert isinstance(job.work, Command)
        self.texts[f"{job.key}@{job.attempt}"] = job.host.name, job.work.text.fixed()
        return super().perform(job, write)

    def done(self, host: str) -> list[str]:
        """Return what changed something on a host, in its order."""
        found = (self.texts[effect] for effect in self.effects)
        return [text for name, text in found if name == host]


@dataclass
class Case:
    """A run that has come to a question."""

    folder: Path
    steps: str
    head: str
    world: Texts
    paper: Paper
    plan: Plan
    hosts: int

    def merged(self, key: str, word: str, **more: str) -> Merged:
        text = runbook(self.steps, self.head)
        new = planned(text, self.folder, self.hosts, word=word, **{"items": "a", **more})
        return merge(self.plan, new, records(self.paper), key)

    def amend(self, key: str, word: str, **more: str) -> Merged:
        """Decide to do an action again with another word, as `decide` records it."""
        found = self.merged(key, word, **more)
        asked = self.paper.entries[-1].event
        assert (asked.kind, asked.key) == ("waiting", key)
        self.paper.append(
            Event(kind="plan amended", data={"plan": found.plan.digest}),
            *(
                Event(kind="decided", key=one, data={"choice": "retry"})
                for one in (key, *found.again)
            ),
        )
        self.plan = found.plan
        return found

    def answer(self, choice: str) -> None:
        asked = self.paper.entries[-1].event
        data = {"choice": choice, "why": asked.data["why"]}
        self.paper.append(Event(kind="decided", key=asked.key, data=data))

    def go(self) -> RunState:
        return go(self.plan, self.world, self.paper)[0]

    def undo(self) -> RunState:
        self.world.dead = False
        outside = Outside(
            targets=self.world,
            journal=self.paper,
            secrets={},
            watch=lambda item: None,
            stop=Stop(),
            hide=lambda secret: None,
        )
        return take_back(self.plan, list(self.paper.entries), outside, FACTS)


def case(
    folder: Path, steps: str, more: str = "", hosts: int = 3, *, fails: Mapping[str, int]
) -> Case:
    """Run into the first question; `fails`: by action, how often it does."""
    head = HEAD + more
    plan = planned(runbook(steps, head), folder, hosts, word="old", items="a")
    world = Texts(fails=dict(fails))
    state, paper = go(plan, world)
    assert state == "waiting"
    return Case(folder, steps, head, world, paper, plan, hosts)


def test_hosts_that_are_done_stay_and_others_get_the_new_value(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO + THREE, BATCHES, fails={"2/web2": 1})
    found = run.amend("2/web2", "new")
    assert (found.hosts, found.kept) == (("web2", "web3"), ("web1",))
    assert found.steps == {"2": ("web2", "web3"), "3": ("web2", "web3")}
    assert run.go() == "succeeded"
    assert run.world.done("web1") == ["one", "two old", "three old"]
    assert run.world.done("web2") == ["one", "two old", "two new", "three new"]
    assert run.world.done("web3") == ["one", "two new", "three new"]
    run.world.effects.clear()
    assert run.undo() == "undone"
    assert run.world.done("web1") == ["back three old", "back two old", "back one"]
    assert run.world.done("web2") == ["back three new", "back two new", "back two old", "back one"]
    assert run.world.done("web3") == ["back three new", "back two new", "back one"]


def test_a_host_beside_it_comes_to_its_end_as_it_began(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO + THREE, fails={"2/web2": 1})
    found = run.amend("2/web2", "new")
    assert (found.hosts, found.kept) == (("web2",), ("web1", "web3"))
    assert run.go() == "succeeded"
    assert run.world.done("web1") == run.world.done("web3") == ["one", "two old", "three old"]
    assert run.world.done("web2")[-2:] == ["two new", "three new"]


def test_where_it_failed_too_the_next_attempt_has_the_new_value(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO, fails={"2/web1": 1, "2/web2": 1})
    assert run.amend("2/web1", "new").hosts == ("web1", "web2")
    assert run.go() == "waiting"  # it asks of web2
    assert run.merged("2/web2", "new").plan.digest == run.plan.digest
    run.answer("retry")
    assert run.go() == "succeeded"
    assert run.world.done("web2") == ["one", "two old", "two new"]
    assert run.undo() == "undone"
    assert run.world.done("web2")[3:] == ["back two new", "back two old", "back one"]


def test_what_was_not_tried_again_is_taken_back_as_it_was(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO, "max_failures: 2\n", fails={"2/web1": 1, "2/web2": 1})
    run.amend("2/web1", "new")
    assert run.go() == "waiting"
    run.answer("failed")
    assert run.go() == "failed"
    assert run.undo() == "undone"
    assert run.world.done("web2") == ["one", "two old", "back two old", "back one"]


def test_an_attempt_that_never_left_is_not_taken_back(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO, "max_failures: 2\n", hosts=1, fails={"2/web1": 1})
    run.world.lost.add("2/web1")
    run.amend("2/web1", "new")
    assert run.go() == "waiting"
    run.answer("failed")
    run.world.lost.clear()
    run.go()
    run.undo()
    assert run.world.done("web1") == ["one", "two old", "back two old", "back one"]


def test_a_third_value_keeps_the_undo_of_both_before(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO, hosts=1, fails={"2/web1": 2})
    run.amend("2/web1", "new")
    assert run.go() == "waiting"
    run.amend("2/web1", "newer")
    assert run.go() == "succeeded"
    assert run.undo() == "undone"
    backs = ["back two newer", "back two new", "back two old", "back one"]
    assert run.world.done("web1") == ["one", "two old", "two new", "two newer", *backs]


def test_an_undo_that_fails_keeps_what_lies_under_it(tmp_path: Path) -> None:
    run = case(tmp_path, ONE + TWO, hosts=1, fails={"2/web1": 1})
    run.amend("2/web1", "new")
    run.go()
    run.world.fails["2/web1!2"] = 1
    run.undo()
    assert run.world.done("web1")[3:] == ["back two new"]


CHECK = "  - {name: check, run: 'check {{ word }}', effect: read, phase: preflight}\n"
WATCH = "  - {name: watch, run: 'watch {{ word }}', effect: read, on: controller}\n"


def test_looks_are_made_again_where_the_new_value_counts(tmp_path: Path) -> None:
    run = case(tmp_path, CHECK + WATCH + ONE + TWO, BATCHES, fails={"4/web2": 1})
    found = run.amend("4/web2", "new")
    assert (found.hosts, found.kept) == (("web2", "web3"), ("web1",))
    assert set(found.again) == {"1/web2", "1/web3", "2/>controller"}
    run.world.sent.clear()
    assert run.go() == "succeeded"
    looks = [run.world.texts[f"{key}@2"][1] for key in found.again]
    assert sorted(looks) == ["check new", "check new", "watch new"]
    assert run.world.sent.count("1/web1") == 0
    assert run.world.sent.index("1/web3") < run.world.sent.index("4/web2")
    assert run.world.done("web2") == ["one", "two old", "two new"]


def test_a_look_that_says_no_to_the_new_value_holds_its_host_back(tmp_path: Path) -> None:
    run = case(tmp_path, CHECK + TWO, BATCHES + "max_failures: 3\n", fails={"2/web2": 1})
    run.amend("2/web2", "new")
    run.world.fails["1/web2"] = -1
    run.go()
    assert run.paper.entries[-1].event.key == "1/web2"
    assert run.world.done("web2") == ["two old"]


SAVE = "  - {name: look, run: 'look {{ word }}', effect: read, save: seen}\n"
ONCE = "  - {name: pay, run: 'pay {{ word }}', on: once}\n"
SHARED = "  - {name: all, run: 'all {{ word }}', on: {group: lb, per: batch}}\n"


@pytest.mark.parametrize(
    ("steps", "key", "says"),
    [
        (SAVE + TWO, "2/web2", "'look' on web2 (succeeded)"),
        (ONCE + TWO, "2/web2", "'pay' on web1 (succeeded)"),
        (TWO + THREE, "2/web2", "'two' on web2 (succeeded)"),
        (TWO + SHARED, "1/web2", "'all' on lb1 is done once for several hosts"),
    ],
)  # fmt: skip
def test_what_would_be_some_of_both_is_refused(
    tmp_path: Path, steps: str, key: str, says: str
) -> None:
    run = case(tmp_path, steps, fails={key: 1})
    with pytest.raises(UnsoundError) as caught:
        run.merged(key, "new")
    assert says in str(caught.value)


def test_items_that_come_and_go_do_so_only_where_it_was_not_begun(tmp_path: Path) -> None:
    each = "  - {name: each, run: 'do {{ item }}', for_each: '{{ items.split(\".\") }}'}\n"
    run = case(tmp_path, TWO + each, BATCHES, fails={"1/web2": 1})
    run.amend("1/web2", "new", items="b.c")
    assert run.go() == "succeeded"
    assert run.world.done("web1") == ["two old", "do a"]
    assert run.world.done("web3") == ["two new", "do b", "do c"]
    assert [a.batch for a in run.plan.actions] == sorted(a.batch for a in run.plan.actions)


def test_the_end_of_the_run_comes_last_whatever_comes_and_goes(tmp_path: Path) -> None:
    new = "  - {name: new, run: 'new', for_each: '{{ [] if word == \"old\" else [1] }}'}\n"
    last = (
        "always:\n  - {name: last, run: 'last', for_each: '{{ [1] if word == \"old\" else [] }}'}\n"
    )
    run = case(tmp_path, TWO + new + last, BATCHES, hosts=2, fails={"1/web2": 1})
    run.amend("1/web2", "new")
    assert run.go() == "succeeded"
    assert run.world.done("web1") == ["two old", "last"]
    assert run.world.done("web2") == ["two old", "two new", "new"]


def undisturbed(run: Case) -> Mapping[str, Sequence[str]]:
    run.go()
    run.undo()
    return {host: run.world.done(host) for host in ("web1", "web2", "web3")}


def copied(run: Case) -> Case:
    """Return the run as it stands, to go on with it more than once."""
    old = run.world
    world = Texts(
        effects=[*old.effects], texts={**old.texts}, fails={**old.fails}, results={**old.results}
    )
    return replace(run, world=world, paper=Paper(world, entries=list(run.paper.entries)))


def test_killed_anywhere_it_comes_to_the_same(tmp_path: Path) -> None:
    begun = case(tmp_path, ONE + TWO + THREE, BATCHES, fails={"2/web2": 1})
    begun.amend("2/web2", "new")
    expected = undisturbed(copied(begun))
    for point in range(60):
        run = copied(begun)
        run.paper.crash_at, run.paper.keeps = len(run.paper.entries) + point, point % 2 == 0
        with suppress(Crash):
            run.go()
            run.undo()
        crashed, run.paper.crash_at = run.paper.crash_at < 0, -1
        if not any(entry.event.kind == "run ended" for entry in run.paper.entries):
            run.go()
        run.undo()
        assert {host: run.world.done(host) for host in expected} == expected, point
        if not crashed:
            return
    raise AssertionError("the run is longer than that")


def generated(chance: Random) -> tuple[str, str, dict[str, int]]:
    """Return steps, the head, and what fails in them (once)."""
    steps, count = "", chance.randint(2, 4)
    for number in range(1, count + 1):
        word = chance.choice(["{{ word }}", "{{ word }}", "fixed"])
        place = chance.choice(["", "", "", ", on: once", ", on: {group: lb, per: batch}"])
        look = chance.random() < 0.2
        text = f"s{number} {word}"
        more = ", effect: read" if look else f", undo: {{run: 'back {text}'}}"
        steps += f"  - {{name: s{number}, run: '{text}'{more}{place}}}\n"
    batches = chance.choice(["", BATCHES, "batches: [1, 2]\n"])
    hosts = chance.sample(["web1", "web2", "web3"], chance.randint(1, 2))
    return steps, batches, {f"{chance.randint(1, count)}/{host}": 1 for host in hosts}


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 500), marks=pytest.mark.soak)])
def test_every_host_ends_with_one_value_and_an_undo_mirrors_what_was_done(
    tmp_path: Path, seeds: range
) -> None:
    amended = 0
    for seed in seeds:
        steps, batches, fails = generated(Random(seed))
        plan = planned(runbook(steps, HEAD + batches), tmp_path, 3, word="old", items="a")
        world = Texts(fails=dict(fails))
        state, paper = go(plan, world)
        run = Case(tmp_path, steps, HEAD + batches, world, paper, plan, 3)
        while state == "waiting":
            with suppress(UnsoundError):
                run.amend(paper.entries[-1].event.key, "new")
                amended += 1
            if paper.entries[-1].event.kind == "waiting":
                run.answer("retry")
            state = run.go()
        assert state == "succeeded", seed
        failed = {key for key, count in fails.items() if count}
        done = [one for one in world.effects if one.removesuffix("@1") not in failed]
        for host in ("web1", "web2", "web3"):
            words = {world.texts[one][1].split()[1] for one in done if world.texts[one][0] == host}
            assert len(words - {"fixed"}) <= 1, (seed, host, words)
        once = {(one.rpartition("@")[0], *world.texts[one]): None for one in world.effects}
        before = {
            host: [text for _, where, text in once if where == host]
            for host in ("web1", "web2", "web3", "lb1")
        }
        world.effects.clear()
        run.undo()
        for host, texts in before.items():
            assert run.world.done(host) == [f"back {one}" for one in reversed(texts)], (seed, host)
    assert amended * 4 >= len(seeds)
