"""blue-green with what breaks: its new colour, its controller, the line to a balancer."""

import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from opskit.lab import Lab
from opskit.lab.inventory import listen_colours, listen_haproxy
from opskit.lab.load import Load
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

ACTIVE = "/etc/nginx/opskit/active.conf"
BALANCERS = ("lb1", "lb2")
COLOURS = ("blue", "green")
STATES = "/var/lib/haproxy/states"
TALK = (
    "echo 'show servers state app' | perl -MIO::Socket::UNIX -e '"
    '$s = IO::Socket::UNIX->new(Peer => "/run/haproxy.sock") or exit; '
    "print $s <STDIN>; shutdown $s, 1; print <$s>'"
)
ASK = "for i in $(seq 12); do curl -s -A $RANDOM$i -o /dev/null -D - {} | grep -i x-pool; done"


@dataclass(kw_only=True)
class World:
    """Both balancers of one kind: what they are set to, and who answers there."""

    fleet: Fleet
    pool: str

    def settings(self) -> dict[str, object]:
        """What the two run by, as it stands there."""
        if self.pool == "app":
            return {host: self.fleet.sh(host, f"cat {ACTIVE}") for host in BALANCERS}
        return {host: self.states(host) for host in BALANCERS}

    def states(self, host: str) -> dict[str, str]:
        """State and weight of HAProxy's servers: `0 100`, or `8 100` (drained)."""
        return states(self.fleet.sh(host, TALK))

    def live(self) -> str:
        """The colour that all balancers are set to and that alone answers; else what is so."""
        told = {self.set_to(host) for host in BALANCERS} | {
            word for host in BALANCERS for word in self.answers(host)
        }
        return told.pop() if len(told) == 1 else f"between: {sorted(told)}"

    def set_to(self, host: str) -> str:
        if self.pool == "app":
            text = self.fleet.sh(host, f"cat {ACTIVE}")
            return next((c for c in COLOURS if f"* app_{c};" in text and "%" not in text), text)
        drained = [name for name, state in self.states(host).items() if state.startswith("8 ")]
        after = states(self.fleet.sh(host, f"cat {STATES}"))
        if drained != [name for name, state in after.items() if state.startswith("8 ")]:
            return f"{drained} are drained, but {after} after a reload"
        return {"web1": "green", "web2": "blue"}.get(" ".join(drained), f"{drained} are drained")

    def answers(self, host: str) -> set[str]:
        place = self.fleet.lab.layout.host(host)
        url = listen_colours(place) if self.pool == "app" else listen_haproxy(place)
        found = self.fleet.sh(host, f"bash -c '{ASK.format(url)}'").split()
        names = {"web1": "blue", "web2": "green", "app_blue": "blue", "app_green": "green"}
        return {names.get(word, word) for word in found if word.lower() != "x-pool:"}


@pytest.fixture
def fleet(colours: Lab, tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(lab=colours, folder=tmp_path)
    yield found
    found.release()


def states(text: str) -> dict[str, str]:
    """State and weight of each server, as HAProxy tells them."""
    lines = (line.split() for line in text.splitlines())
    return {w[3]: " ".join(w[6:8]) for w in lines if len(w) > 7 and w[1] == "app"}


@pytest.fixture(params=["app", "edge"])
def world(fleet: Fleet, request: pytest.FixtureRequest) -> World:
    if request.param == "edge" and not fleet.lab.layout.haproxy:
        pytest.skip(fleet.lab.layout.no_haproxy)
    return World(fleet=fleet, pool=request.param)


@contextmanager
def broken(fleet: Fleet, how: str) -> Iterator[None]:
    """Break green, as long as it takes."""
    switches = "/srv/app/shared/switches.json"
    lines = {
        "dead": ("labctl stop app", "labctl start app"),
        "unhealthy": (f"echo '{{\"unhealthy\": true}}' >{switches}", f"echo '{{}}' >{switches}"),
        "errors": (f"echo '{{\"error_share\": 0.05}}' >{switches}", f"echo '{{}}' >{switches}"),
        "slow": (f"echo '{{\"slow_ms\": 200}}' >{switches}", f"echo '{{}}' >{switches}"),
    }
    fleet.sh("web2", lines[how][0])
    try:
        yield
    finally:
        fleet.sh("web2", lines[how][1])


def run(world: World, *words: str, status: int) -> str:
    given = ("-p", "to=green", "-p", f"pool={world.pool}", "-p", "idle=0s", "-p", "keep=0s")
    words = ("-p", "stages=50 100", *words)
    done = world.fleet.opskit("run", "blue-green", "--yes", *given, *words, status=status)
    return done.stdout + done.stderr


@pytest.mark.soak
def test_a_green_that_does_not_start_is_ill_or_another_release_gets_nothing(world: World) -> None:
    before = world.settings()
    quick = ("-p", "watch=0s", "-p", "sample=30")
    said = run(world, *quick, "-p", "release=B", status=5)
    assert "answers as release A, not as B" in said
    with broken(world.fleet, "unhealthy"):
        said = run(world, *quick, status=5)
    assert "green can't have traffic: not all of it is " in said
    with broken(world.fleet, "dead"):
        said = run(world, *quick, status=5)
    assert "green can't have traffic: not all of it is " in said
    assert (world.settings(), world.live()) == (before, "blue")


@pytest.mark.soak
@pytest.mark.parametrize("how", ["errors", "slow"])
def test_a_green_with_errors_or_a_slow_one_stays_at_its_stage_and_blue_has_all_again(
    world: World, how: str
) -> None:
    before = world.settings()
    listens = listen_colours if world.pool == "app" else listen_haproxy
    urls = [
        listens(world.fleet.lab.layout.host(name)).replace("/alive/", "/") for name in BALANCERS
    ]
    gated = ("-p", "watch=60s", "-p", "window=2s", "-p", "requests=30", "-p", "sample=60")
    with broken(world.fleet, how), ExitStack() as loads:
        for url in urls:
            loads.enter_context(Load(url=url, rate=100, threads=8))
        said = run(world, *gated, status=3)
    assert "FAIL: " in said, said
    assert "Second stage" not in said
    assert (world.settings(), world.live()) == (before, "blue")


def experiment(
    world: World, rng: random.Random, longest: float, line: str = " run "
) -> tuple[str, str]:
    """Kill a switch somewhere, go on or take back, and compare; what was done, and what became.

    Up to `longest` seconds after it began, or after a line of what it prints.
    """
    fleet, before, was = world.fleet, world.settings(), world.live()
    assert was in COLOURS, was
    to = COLOURS[1 - COLOURS.index(was)]
    words = ["-p", f"to={to}", "-p", f"pool={world.pool}", "-p", "stages=50 100", "-p", "watch=0s"]
    words += ["-p", "idle=0s", "-p", "keep=0s", "-p", "sample=30"]
    known = fleet.runs()
    process = fleet.start("run", "blue-green", "--yes", *words)
    after, then = rng.uniform(0.0, longest), rng.choice(("resume", "undo"))
    assert process.stdout is not None
    try:
        while line not in (seen := process.stdout.readline()):
            assert seen, "it ended before"
        time.sleep(after)
        over = process.poll() is not None
    finally:
        process.kill()
        said, _ = process.communicate()
    begun = [run for run in fleet.runs() if run not in known]
    how = f"{world.pool} to {to}, killed after {after:.2f} s{' (was over)' if over else ''}, {then}"
    if not begun:
        assert (world.settings(), world.live()) == (before, was), f"{how}: nothing was begun"
        return how, "nothing was begun"
    asked = fleet.opskit(then, "last", *(["--yes"] if then == "undo" else []), status=None)
    if "settle that first" in asked.stderr:
        fleet.opskit("abort", "last", status=None)  # stops what runs on the balancers
        fleet.opskit("resume", "last", status=None)  # of a run that was ended it only settles
        asked = fleet.opskit("undo", "last", "--yes", status=None)
    if "did nothing that can be taken back" in asked.stderr:
        fleet.opskit("abort", "last", status=None)
        assert (world.settings(), world.live()) == (before, was), f"{how}: it was in its preflight"
        return how, "nothing was changed"
    status = json.loads(
        fleet.opskit("status", "last", "--json", status=None).stdout.splitlines()[-1]
    )
    state = status["state"]
    told = f"{how}: {state}\n{said}\n{asked.stdout}{asked.stderr}"
    now = world.live()
    if state == "succeeded":
        assert now == to, f"{now}, though {told}"
    else:
        assert state in ("undone", "aborted"), told
        assert now == was, f"{now}, though {told}"
        assert world.settings() == before, f"not as it was, though {told}"
    return how, f"{state}: {now}"


def test_killed_anywhere_it_is_one_colour_and_the_one_that_the_record_says(world: World) -> None:
    how, end = experiment(world, random.Random(3), 0.8, "First stage")
    assert end.split(":")[0] in ("succeeded", "undone"), f"{how}: {end}"
    world.fleet.proved()


@pytest.mark.soak
def test_a_hundred_kills(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("OPSKIT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    rng = random.Random(seed)
    begun, ends = time.monotonic(), dict[str, int]()
    longest = 6.0
    for _ in range(50):
        how, end = experiment(world, rng, longest, rng.choice((" run ", "First stage")))
        ends[end.split(":")[0]] = ends.get(end.split(":")[0], 0) + 1
        longest = max(2.0, longest * (0.93 if "was over" in how else 1.02))
        with capsys.disabled():
            sys.stdout.write(f"\n{how}: {end}")
    world.fleet.proved()
    with capsys.disabled():
        took = time.monotonic() - begun
        sys.stdout.write(f"\nseed {seed}, {world.pool}, 50 kills in {took:.0f} s: {ends}\n")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("line", "status", "state", "then"),
    [
        (r"lb2 started +\d+ First stage", 6, "unknown", "resume"),
        (r"ok +\d+ Watch the first stage", 1, "undo failed", "undo"),
        (r"lb2 started +\d+ Second stage", 6, "unknown", "resume"),
    ],
)
def test_a_balancer_that_is_cut_off_comes_back_and_is_what_it_was(
    world: World, line: str, status: int, state: str, then: str
) -> None:
    """The other one goes back at once, and the message says what to do about this one."""
    fleet, before = world.fleet, world.settings()
    words = ["-p", "to=green", "-p", f"pool={world.pool}", "-p", "watch=3s", "-p", "keep=0s"]
    words += ["-p", "idle=0s", "-p", "gate=false", "-p", "stage_timeout=60s", "-p", "stages=50 100"]
    words += ["-p", "drain_timeout=5s", "-p", "sample=600"]  # long enough to be cut within a stage
    process = fleet.start("run", "blue-green", "--yes", *words)
    try:
        while not re.search(line, seen := str(process.stdout and process.stdout.readline())):
            assert seen, "it ended before"
        fleet.lab.cut("lb2", reset=True)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
        fleet.lab.heal("lb2")
    assert (process.returncode, f"  {state:<18} lb2\n" in said) == (status, True), said
    assert "  undone             lb1\n" in said, said
    assert f"opskit {then} {fleet.runs()[0]}" in said, said
    assert world.settings()["lb1"] == before["lb1"]
    fleet.opskit(then, "last", *(["--yes"] if then == "undo" else []), status=None)
    assert (world.settings(), world.live()) == (before, "blue"), said
    fleet.proved()
