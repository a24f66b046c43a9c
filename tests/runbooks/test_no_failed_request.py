"""Blue-green under load: no request fails, none is delivered twice, no socket goes early.

Beside it, in the same run of scripts/soak, the ways without opskit: `sed -i` and a reload, and a
restart in place.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import Lab, switches
from tests.support import haproxy
from tests.support.constant import POOLS, Constant, asked, constant
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

RATE, HELD = 520.0, 500.0
"""Requests per second that are asked for, and that must have been held."""
HELD_BESIDE_OTHERS = 300.0
"""The same in CI, where other tests have the processors, too."""
DRAIN = 2.0
"""How long WebSockets may outlive a reload of nginx, and a stop of their service."""
ROUNDS = 20
UNWATCHED = ("-p", "idle=0s", "-p", "watch=0s", "-p", "gate=false")
CONF, CFG, ACTIVE = (
    "/etc/nginx/nginx.conf",
    "/etc/haproxy/opskit.cfg",
    "/etc/nginx/opskit/active.conf",
)

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
    posts = sum(n["requests"] for way, n in found.load["by_way"].items() if "POST" in way)
    assert found.logs["posts"] == {"ids": posts, "deliveries": posts, "twice": {}}
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
@both
def test_no_request_fails_in_many_rounds(fleet: Fleet, pool: str, say: Say) -> None:
    """Stages of a canary, the whole, back; then the colour that is idle again is stopped."""
    rates = []
    hold = 10.0 if pool == "app" else 5.0  # HAProxy waits for each of them
    for number in range(ROUNDS):
        with constant(fleet, pool, rate=RATE, hold=hold) as found:
            there_and_back(fleet, pool, *UNWATCHED, "-p", "sample=100")
            stopped = time.time()
            fleet.sh("web2", "labctl stop app")
        fleet.sh("web2", "labctl start app; sleep 1")
        say(f"round {number + 1}, {found.row()}")
        check(found, stopped=(stopped,))
        assert bool(found.closings) == (pool == "app"), "nginx gives up on some, HAProxy on none"
        rates.append(found.rate)
    say(f"rates held: {sorted(round(rate) for rate in rates)}")
    assert min(rates) >= HELD, f"the load was not what it should be: {min(rates):.0f}/s"


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
    time.sleep(3)
    fleet.sh("lb1", f"{_change(pool, 'blue', 'green')} && {_reload(pool)}")
    time.sleep(3)
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


@pytest.fixture
def by_hand(fleet: Fleet) -> Iterator[None]:
    """HAProxy as it is without opskit: nothing keeps its states, and green is off by its file."""
    if not fleet.lab.layout.haproxy:
        yield
        return
    kept = (
        f"cp -p {CFG} {CFG}.kept; sed -i '/load-server-state/d; /server web2 /s/$/ disabled/' {CFG}"
    )
    fleet.sh("lb1", f"{kept}; {_reload('edge')}; sleep 1")
    yield
    fleet.sh("lb1", f"mv {CFG}.kept {CFG}; {_reload('edge')}; sleep 3")


@pytest.mark.soak
@both
@pytest.mark.usefixtures("by_hand")
def test_what_other_ways_lose_is_counted_as_well(fleet: Fleet, pool: str, say: Say) -> None:
    lost = {}
    for name, way in WAYS.items():
        with constant(fleet, pool, rate=RATE) as found:
            stopped = way(fleet, pool)
        early = len(found.closed_early(DRAIN, stopped))
        say(f"{name}: {found.row()}; sockets closed early: {early}")
        lost[name] = found.load["failures"]
    say(f"{POOLS[pool]}, failed requests: {lost}")
    assert lost["stop and start in place"] > 0, "a load that sees nothing there sees nothing at all"
