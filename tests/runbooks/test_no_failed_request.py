"""Blue-green under load: no request fails, none is delivered twice, no socket goes early.

The soak counts the ways without opskit beside it, round by round: `sed -i` and a reload, the same
with the old colour restarted at once, and a restart in place.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import pytest

from opskit import lab as labs
from opskit.lab import Lab, switches
from tests.support import haproxy
from tests.support.constant import POOLS, Constant, asked, constant
from tests.support.fleet import Fleet
from tests.support.nginx import wait_until
from tests.support.tally import Tally, table

pytestmark = pytest.mark.acceptance

RATE, HELD = 520.0, 500.0
"""Requests per second that are asked for, and that must have been held."""
HELD_BESIDE_OTHERS = 300.0
"""The same in CI, where other tests have the processors, too."""
DRAIN = 2.0
"""How long WebSockets may outlive a reload of nginx, and a stop of their service."""
ROUNDS = int(os.environ.get("OPSKIT_ROUNDS", "20"))
UNWATCHED = ("-p", "idle=0s", "-p", "watch=0s", "-p", "gate=false")
GATED = (
    "idle=0s", "watch=4s", "keep=4s", "window=1s", "requests=20", "max_errors=0.02", "p95_ratio=4",
    "sample=100",
)  # fmt: skip
"""Gates as short as 5 % of the load allows: 104 requests; 57 without an error are a pass."""
GIVES_UP = {"app": {"nobody", "service"}, "edge": {"service"}}
"""Who may close a socket that its client has not: HAProxy gives up on none."""
GATES = {"canary": 4, "blue-green": 3}
"""How many gates a run has with its own stages (5 25 50 100, and 10 50 100)."""
OTHERS_EVERY = 2
"""After every second round the other ways have theirs."""


class Wish(TypedDict):
    """What load is asked for."""

    rate: float
    hold: float
    afterwards: float


LOAD = {
    "app": Wish(rate=RATE, hold=10.0, afterwards=3.0),
    "edge": Wish(rate=RATE, hold=5.0, afterwards=3.0),  # HAProxy waits for each socket
}
CONF, CFG, ACTIVE = (
    "/etc/nginx/nginx.conf",
    "/etc/haproxy/opskit.cfg",
    "/etc/nginx/opskit/active.conf",
)

SHIP = """
cd /srv/app/releases && mkdir B && tar -xzf - -C B && chown -R --reference=A B &&
ln -sfn releases/B ../current && labctl restart app
"""
"""Green is another release: who answered is known of each request."""

both = pytest.mark.parametrize(
    "pool",
    [
        "app",
        pytest.param(
            "edge",
            marks=pytest.mark.skipif(haproxy.program() is None, reason="needs haproxy"),
        ),
    ],
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start two web hosts, one of each colour, and a balancer that soon gives up on sockets."""
    folder = tmp_path_factory.mktemp("constant") / "lab"
    try:
        made = labs.up(folder, web=2, lb=1)
        if not made.layout.isolated:
            pytest.skip("hosts share this machine's files and processes")
        patience = (
            f"sed -i 's/worker_shutdown_timeout 30s/worker_shutdown_timeout {DRAIN:g}s/' {CONF}"
        )
        made.exec("lb1", ["sh", "-c", f"{patience} && nginx -s reload"])
        green = made.release("B", tmp_path_factory.mktemp("green") / "B.tar.gz").read_bytes()
        shipped = made.exec("web2", ["sh", "-c", SHIP], stdin=green)
        assert shipped.returncode == 0, shipped.stderr
        switches.put(made.layout, "web", {"socket_seconds": DRAIN})
        yield made
    finally:
        labs.down(folder)


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Fleet:
    return Fleet(lab=lab, folder=tmp_path)


Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what shows a line of figures at once, also of a test that holds."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}")
            sys.stdout.flush()

    return say


def there_and_back(fleet: Fleet, pool: str, *words: str) -> None:
    """Switch to green in stages, then roll back."""
    before = state(fleet, pool)
    told = ("-p", f"pool={pool}", "-p", "drain_timeout=60s", "-p", "keep=0s", *words)
    fleet.opskit("run", "blue-green", "--yes", "-p", "to=green", *told)
    assert state(fleet, pool) == ON_GREEN[pool]
    fleet.opskit("undo", "last", "--yes")
    assert state(fleet, pool) == before


def state(fleet: Fleet, pool: str) -> list[str]:
    """What the balancer runs by: nginx its file, HAProxy the drained bit and the weight of each."""
    if pool == "app":
        lines = fleet.sh("lb1", f"cat {ACTIVE}").splitlines()
        return [line.strip() for line in lines if not line.startswith("#")]
    rows = fleet.sh("lb1", asked("show servers state app")).splitlines()[2:4]
    return [" ".join(row.split()[6:8]) for row in rows]


ON_GREEN = {
    "app": ['split_clients "${remote_addr}${http_user_agent}" $app_pool {', "* app_green;", "}"],
    "edge": ["8 256", "0 100"],
}


def check(found: Constant, *, stopped: tuple[float, ...] = ()) -> None:
    """Nobody has seen a failure, and all counts come to the same."""
    assert found.failures() == {}, (found.row(), found.load["failed"], found.logs)
    requests, again = found.load["requests"], found.load["reconnects"]
    answered = found.asked(found.at_balancer())
    assert requests <= answered <= requests + again, "the balancer has seen as many"
    hosts = found.logs["hosts"].values()
    assert sum(found.asked(count) for count in hosts) == answered, "and so have the services"
    assert found.load["known"] == requests, "each answer was that to the request"
    by_client = {release: n["200"] for release, n in found.load["by_release"].items()}
    by_services = [found.answered(found.logs["hosts"][host]) for host in ("web1", "web2")]
    assert [list(told) for told in by_services] == [["A"], ["B"]], "each by its own release"
    for release, count in found.answered(found.at_balancer()).items():
        assert 0 <= count - by_client[release] <= again, "and by whom the client was told"
    kept = sum(n["requests"] for way, n in found.load["by_way"].items() if "kept" in way)
    assert found.load["reused"] > 0.9 * kept, "what is called kept is kept"
    posts = {"ids": found.posts, "deliveries": found.posts, "twice": {}}
    assert found.logs["posts"] == posts, "each was delivered once"
    assert found.closed_early(DRAIN, stopped) == []
    unanswered = sum(one["unanswered"] for one in found.closings)
    assert found.load["sockets"]["unanswered"] == unanswered, "no word is lost while one is open"


@both
def test_no_request_fails_while_colours_are_switched_and_back(fleet: Fleet, pool: str) -> None:
    hold = 2 * DRAIN if pool == "app" else DRAIN  # nginx gives up on some; HAProxy waits for all
    with constant(fleet, pool, rate=RATE, hold=hold) as found:
        there_and_back(fleet, pool, "-p", "stages=50 100", *UNWATCHED, "-p", "sample=40")
    check(found)
    assert found.rate >= HELD_BESIDE_OTHERS, found.row()


@pytest.mark.soak
@pytest.mark.skipif(haproxy.program() is None, reason="needs haproxy")
def test_sockets_stay_with_the_colour_before_until_its_service_has_given_them_their_time(
    fleet: Fleet, say: Say
) -> None:
    """With HAProxy nothing else ends them: the run asks, and whoever stops the service is kind."""
    with constant(fleet, "edge", rate=RATE, hold=None) as found:
        told = ("-p", "pool=edge", "-p", "stages=100", "-p", "drain_timeout=1s", "-p", "keep=0s")
        to = ("-p", "to=green", "-p", "idle=0s")
        said = fleet.opskit("run", "blue-green", "--yes", *to, *told, status=4)
        assert "HAProxy still has 50 sessions with blue" in said.stdout + said.stderr
        stopped = time.time()
        fleet.sh("web1", "labctl stop app; labctl start app; sleep 1")
        fleet.opskit("decide", "last", "undo", status=None)
        assert state(fleet, "edge") == ["0 100", "8 100"]
    say(found.row())
    check(found, stopped=(stopped,))
    assert [(one["by"], one["code"]) for one in found.closings] == [("service", 1001)] * 50


# --- without opskit ------------------------------------------------------------------------------


def _reload(pool: str) -> str:
    return "nginx -s reload" if pool == "app" else "kill -USR2 $(cat /run/haproxy.pid)"


def _change(pool: str, to: str, of: str) -> str:
    """What a page on the net tells one to write."""
    if pool == "app":
        return f"sed -i 's/app_{of}/app_{to}/' {ACTIVE}"
    leaves, comes = {"green": ("web1", "web2"), "blue": ("web2", "web1")}[to]
    off = f"sed -i '/server {leaves} /s/$/ disabled/' {CFG}"
    return f"sed -i '/server {comes} /s/ disabled//' {CFG} && {off}"


def by_sed(fleet: Fleet, pool: str) -> tuple[float, ...]:
    fleet.sh("lb1", f"{_change(pool, 'green', 'blue')} && {_reload(pool)}")
    time.sleep(2)
    fleet.sh("lb1", f"{_change(pool, 'blue', 'green')} && {_reload(pool)}")
    time.sleep(2)
    return ()


def by_sed_and_stop(fleet: Fleet, pool: str) -> tuple[float, ...]:
    stopped = []
    for to, of, host in (("green", "blue", "web1"), ("blue", "green", "web2")):
        fleet.sh("lb1", f"{_change(pool, to, of)} && {_reload(pool)}")
        stopped.append(time.time())
        fleet.sh(host, "labctl restart app")
        time.sleep(1)
    return tuple(stopped)


def by_restart(fleet: Fleet, pool: str) -> tuple[float, ...]:
    stopped = time.time()
    fleet.sh("web1", "labctl restart app")
    time.sleep(1)
    return (stopped,)


WAYS: Mapping[str, Callable[[Fleet, str], tuple[float, ...]]] = {
    "sed -i and reload": by_sed,
    "sed -i, reload, old colour restarted": by_sed_and_stop,
    "stop and start in place": by_restart,
}
"""Each returns when it has stopped a service."""


@contextmanager
def by_hand(fleet: Fleet, pool: str) -> Iterator[None]:
    """HAProxy as it is without opskit: nothing keeps its states, and green is off by its file."""
    if pool == "app":
        yield
        return
    kept = (
        f"cp -p {CFG} {CFG}.kept; sed -i '/load-server-state/d; /server web2 /s/$/ disabled/' {CFG}"
    )
    fleet.sh("lb1", f"{kept}; {_reload('edge')}")
    wait_until(lambda: stands(fleet) == ["UP", "MAINT"])
    try:
        yield
    finally:
        fleet.sh("lb1", f"mv {CFG}.kept {CFG}; {_reload('edge')}")
        wait_until(lambda: stands(fleet) == ["UP", "DRAIN"])


def stands(fleet: Fleet) -> list[str]:
    """How HAProxy's servers stand, once their checks have said that they are well."""
    lines = fleet.sh("lb1", asked("show stat")).splitlines()
    rows = [line.split(",") for line in lines if line.startswith("app,web")]
    well = [row[17] for row in rows if row[36].removeprefix("* ") in ("L7OK", "")]
    return well if len(well) == len(rows) else ["?"]


# --- both, round by round ------------------------------------------------------------------------


def by_opskit(fleet: Fleet, pool: str, number: int, say: Say) -> tuple[float, ...]:
    """Stages and gates, the whole, back; then the colour that is idle again is stopped.

    In turn: a canary and a blue-green, taken back by switch-back and by an undo.
    """
    runbook, before = ("canary", "blue-green")[number % 2], state(fleet, pool)
    chosen = [word for one in (f"pool={pool}", "to=green", *GATED) for word in ("-p", one)]
    done = fleet.opskit("run", runbook, "--yes", *chosen, status=None, timeout=300)
    said = done.stdout
    while done.returncode == 4 and said.count("is inconclusive on") < 5:
        say(f"a gate waits for a person, who has it watch again: {said[-600:]}")
        done = fleet.opskit("decide", "last", "retry", status=None, timeout=300)
        said += done.stdout
    assert done.returncode == 0, said + done.stderr
    assert len(re.findall(r" ok +[0-9.]+ Gate of ", said)) == GATES[runbook], said
    assert state(fleet, pool) == ON_GREEN[pool]
    if number // 2 % 2:
        fleet.opskit("undo", "last", "--yes")
    else:
        fleet.opskit("run", "switch-back", "--yes", "-p", f"pool={pool}", "-p", "sample=100")
    assert state(fleet, pool) == before
    stopped = time.time()
    fleet.sh("web2", "labctl stop app")
    return (stopped,)


def other_ways(fleet: Fleet, pool: str, tallies: list[Tally], say: Say) -> None:
    """Count what each of them loses under the same load."""
    with by_hand(fleet, pool):
        for way, tally in zip(WAYS.values(), tallies, strict=True):
            with constant(fleet, pool, **LOAD[pool]) as found:
                stopped = way(fleet, pool)
            tally.add(found, len(found.closed_early(DRAIN, stopped)))
            say(f"  {tally.name}: failed {found.load['failures']}")


@pytest.mark.soak
@both
def test_no_request_fails_in_many_rounds_and_what_other_ways_lose_is_counted_beside(
    fleet: Fleet, pool: str, say: Say
) -> None:
    ours, theirs = Tally(name="opskit"), [Tally(name=name) for name in WAYS]
    problems = []
    try:
        for number in range(ROUNDS):
            began = time.monotonic()
            with constant(fleet, pool, **LOAD[pool]) as found:
                stopped = by_opskit(fleet, pool, number, say)
            took = time.monotonic() - began
            fleet.sh("web2", "labctl start app")
            if pool == "edge":
                wait_until(lambda: stands(fleet) == ["UP", "DRAIN"])
            ours.add(found, len(found.closed_early(DRAIN, stopped)))
            say(f"round {number + 1}, {took:.0f} s, {found.row()}")
            try:
                check(found, stopped=stopped)
                by = {one["by"] for one in found.closings}
                assert by <= GIVES_UP[pool], "HAProxy gives up on none"
            except AssertionError as problem:
                problems.append(f"round {number + 1}: {problem}")
                say(problems[-1][:2000])
            if number % OTHERS_EVERY == 0:
                other_ways(fleet, pool, theirs, say)
    finally:
        say(f"{POOLS[pool]}, {RATE:g} requests/s and 50 sockets were asked for\n")
        say(table([ours, *theirs]))
    assert not problems, "\n".join(problems)
    assert theirs[-1].counts["failed"] > 0, "a load that sees nothing there sees nothing at all"
    assert min(ours.rates) >= HELD, f"the load was not what it should be: {min(ours.rates):.0f}/s"
