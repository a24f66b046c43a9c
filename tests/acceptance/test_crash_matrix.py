"""opskit is killed at every kind of moment, also while it goes on: nothing shows of it in the end.

Every command adds a word to a file on its host. After the resumes each file must be what it is
after a run that nobody disturbed; nobody may be asked anything, nothing may be unknown.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from opskit.lab import Lab
from tests.support.deadly import POINTS
from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, step

pytestmark = pytest.mark.acceptance

HOSTS = ("web1", "web2", "web3")
CASES = 36
SOAK = int(os.environ.get("OPSKIT_KILLS", "1000"))
LONG = f"{did('begin')}; sleep 0.2; {did('end')}"
MOODY = f'{did("try")}; test "$(grep -c try ~/{{{{ tag }}}})" -ge 2'
"""It fails the first time."""
LOUD = f"seq 1 3000; {did('loud')}; seq 3001 6000"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A runbook, and how a run of it ends that nobody disturbs."""

    steps: str
    head: str = ""
    always: str = ""
    exit: int = 0


def both(name: str, text: str, **keys: object) -> str:
    return step(name, text, undo=did(f"undo-{name}"), **keys)


SCENES: Mapping[str, Scene] = {
    "good": Scene(
        steps=both("one", did("one")) + both("long", LONG) + both("loud", LOUD),
        head="batches: [1, 100%]\n",
        always=step("say", did("said"), on="batch"),
    ),
    "tries": Scene(
        steps=both("one", did("one"))
        + both("moody", MOODY, retry="{times: 2, backoff: 0.1s}")
        + step("pay", did("paid"), on="once")
        + both("two", did("two")),
        head="batches: [2]\n",
    ),
    "undone": Scene(
        steps=both("one", did("one"))
        + both("long", LONG)
        + step("bad", f"{did('bad')}; test {{{{ host }}}} != web2"),
        head="on_failure: undo\nbatches: [1, 1]\nmax_failures: 0\n",
        always=step("say", did("said"), on="batch"),
        exit=1,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kills:
    """A scene, and where opskit is killed: in the run, then in each resume."""

    number: int
    scene: str
    points: tuple[tuple[str, int], ...]


def drawn(count: int, seed: str) -> list[Kills]:
    """Draw where to kill; the same for the same seed."""
    rng = random.Random(seed)
    most = {"before": 30, "after": 30, "synced": 16, "sent": 16, "read": 40, "time": 1500}
    cases = []
    for number in range(count):
        kinds = [POINTS[number % len(POINTS)], *rng.choices(POINTS, k=rng.choice((0, 0, 1, 2)))]
        points = tuple((kind, rng.randrange(most[kind])) for kind in kinds)
        scene = rng.choice(list(SCENES))
        cases.append(Kills(number=number, scene=scene, points=points))
    return cases


def deadly(trouble: Trouble, point: tuple[str, int], words: list[str]) -> int:
    """Run opskit until it is killed, or to its end; return how it ended."""
    kind, number = point
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deadly", kind, str(number), *words],
        env={**trouble.fleet.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=trouble.fleet.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode


def undisturbed(fleet: Fleet, name: str) -> dict[str, str]:
    trouble = Trouble(fleet=fleet, name=f"plain-{name}")
    write(trouble, name)
    trouble.run(status=SCENES[name].exit)
    return trouble.tallies(HOSTS)


def write(trouble: Trouble, name: str) -> None:
    scene = SCENES[name]
    trouble.write(scene.steps, scene.head, scene.always, hosts=":".join(HOSTS))


def check(fleet: Fleet, case: Kills, expected: Mapping[str, Mapping[str, str]]) -> int:
    """Carry out one case; return how often opskit was really killed."""
    trouble = Trouble(fleet=fleet, name=f"kill{case.number}")
    write(trouble, case.scene)
    kills = 0
    words = trouble.words()
    for point in case.points:
        ended = deadly(trouble, point, words)
        kills += ended == -9
        if ended != -9:
            break
        words = ["resume", "last"]
    status = fleet.opskit("status", "last", status=None).returncode
    if status == 130:
        begun = fleet.opskit("resume", "last", status=None)
        assert begun.returncode == SCENES[case.scene].exit, f"{case}\n{begun.stdout}{begun.stderr}"
    events = fleet.events("last")
    asked = [e for e in events if e["event"] in ("waiting", "decided")]
    unknown = [e for e in events if e.get("outcome") == "unknown"]
    assert asked + unknown == [], case
    assert trouble.ended()[0] == SCENES[case.scene].exit, case
    assert trouble.tallies(HOSTS) == expected[case.scene], case
    if case.scene == "good":
        loud = fleet.opskit("output", "last", "loud", "web1").stdout.split()
        assert [word for word in loud if word.isdigit()][-6000:] == [
            str(number) for number in range(1, 6001)
        ], case
    trouble.proved()
    return kills


def carried_out(
    lab: Lab, factory: pytest.TempPathFactory, cases: list[Kills], at_once: int
) -> Iterator[list["Future[int]"]]:
    plain = Fleet(lab=lab, folder=factory.mktemp("plain"))
    expected = {name: undisturbed(plain, name) for name in SCENES}
    with ThreadPoolExecutor(at_once) as pool:
        yield [
            pool.submit(
                check, Fleet(lab=lab, folder=factory.mktemp(f"k{case.number}")), case, expected
            )
            for case in cases
        ]


@pytest.fixture(scope="module")
def outcomes(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list["Future[int]"]]:
    yield from carried_out(lab, tmp_path_factory, drawn(CASES, "sample"), 3)


@pytest.mark.parametrize("case", drawn(CASES, "sample"), ids=lambda case: f"{case.number}")
def test_a_kill_leaves_no_trace(case: Kills, outcomes: list["Future[int]"]) -> None:
    outcomes[case.number].result()


@pytest.mark.soak
def test_a_thousand_kills_leave_no_trace(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kills = 0
    for turn in range(1000):
        cases = drawn(60, f"turn {turn}")
        for futures in carried_out(lab, tmp_path_factory, cases, 3):
            kills += sum(future.result() for future in futures)
        sys.stderr.write(f"{kills} kills\n")
        if kills >= SOAK:
            return
    raise AssertionError(f"only {kills} kills")
