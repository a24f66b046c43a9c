"""The shipped blue-green, whole, against two balancers with two colours."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.lab import Lab
from opskit.lab.inventory import listen_colours, listen_haproxy
from opskit.lab.load import Load
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

ACTIVE = "/etc/nginx/opskit/active.conf"
BALANCERS = ("lb1", "lb2")
UNGATED = (
    "-p",
    "idle=0s",
    "-p",
    "watch=0s",
    "-p",
    "keep=0s",
    "-p",
    "sample=40",
    "-p",
    "stages=50 100",
)
QUICK = (*UNGATED, "-p", "gate=false")
GATED = (
    "-p",
    "idle=0s",
    "-p",
    "window=1s",
    "-p",
    "requests=30",
    "-p",
    "max_errors=0.05",
    "-p",
    "keep=0s",
    "-p",
    "stages=50 100",
)


@pytest.fixture
def fleet(colours: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """The fleet with all traffic on blue."""
    found = Fleet(lab=colours, folder=tmp_path)
    before = shares(found)
    yield found
    found.release()
    for host in BALANCERS:
        if shares(found)[host] != before[host]:  # a test has failed on its way
            found.sh(host, f"printf '{before[host]}' >{ACTIVE}; nginx -s reload")
    for host in ("web1", "web2"):
        found.sh(host, "echo '{}' >/srv/app/shared/switches.json")


def shares(fleet: Fleet) -> dict[str, str]:
    return {host: fleet.sh(host, f"cat {ACTIVE}") for host in BALANCERS}


def run(fleet: Fleet, *words: str, status: int = 0, to: str = "green") -> str:
    done = fleet.opskit("run", "blue-green", "--yes", "-p", f"to={to}", *words, status=status)
    return done.stdout + done.stderr


def answers(fleet: Fleet) -> set[str]:
    """Which colour each balancer says that it asks."""
    hosts = [fleet.lab.layout.host(name) for name in BALANCERS]
    line = "for i in 1 2 3 4 5 6; do curl -s -A $i -o /dev/null -D - {} | grep -i x-pool; done"
    return {
        word for h in hosts for word in fleet.sh(h.name, line.format(listen_colours(h))).split()
    }


def test_traffic_moves_in_stages_and_comes_back_and_no_request_fails(fleet: Fleet) -> None:
    before = shares(fleet)
    url, second = (listen_colours(fleet.lab.layout.host(name)) for name in BALANCERS)
    said = fleet.opskit("run", "switch-back", "--yes", status=5).stdout
    assert "lb1: - -; lb2: - -; on every balancer" in said, said
    with Load(url=url, rate=120, threads=4) as load, Load(url=second, rate=80, threads=4):
        planned = fleet.opskit("plan", "blue-green", "-p", "to=green", *QUICK).stdout
        assert "now on lb1 lb2: blue 100" in planned
        assert "give green 50 % of pool app" in planned
        gated = fleet.opskit("plan", "blue-green", "-p", "to=green").stdout
        assert "watch green beside blue in pool app for 5m" in gated
        assert re.search(
            r"wait 10m\n.*First stage.*give green 10 %.*Second.*50 %.*Third", gated, re.S
        )
        assert "No way back" not in gated, "a gate leaves nothing"
        fleet.opskit("plan", "blue-green", "-p", "to=green", *QUICK, "-p", "warm=/slow?ms=9")
        assert shares(fleet) == before, "a plan changes nothing"
        gate = (*GATED, "-p", "watch=2s", "-p", "release=A", "-p", "p95_ratio=50")
        words = (*gate, "-p", "warm=/slow?ms=9 /health/detailed/")
        said = run(fleet, *words, "-p", "smoke=/ready/ /health/detailed/")
        assert "SUCCEEDED" in said
        assert fleet.sh("web2", "grep -c path=/slow /srv/app/shared/log/access.log") == "2\n"
        assert len(re.findall(r" ok +\d+ Gate of the first stage \(", said)) == 2
        assert answers(fleet) == {"X-Pool:", "app_green"}
        refused = run(fleet, *QUICK, status=5)
        assert "lb1 has green 100; lb2 has green 100" in refused
        output = fleet.opskit("output", "last", "2", "lb1", status=None).stdout
        assert "green 100" in output
        run(fleet, *QUICK, "-p", "warm=/none/", status=1, to="blue")  # newer, and changed nothing
        planned = fleet.opskit("plan", "switch-back", "-p", "sample=40").stdout
        assert "put back the shares of pool app" in planned
        begun = time.monotonic()
        said = fleet.opskit("run", "switch-back", "--yes", "-p", "sample=40").stdout
        assert re.search(r"switch-back of pool app: succeeded after \d+\.\d\d s", said), said
        took = time.monotonic() - begun
    report = load.report()
    assert report.failures == 0, report.describe()
    assert report.requests > 500
    assert shares(fleet) == before, "byte for byte"
    assert answers(fleet) == {"X-Pool:", "app_blue"}
    assert took < 60
    said = fleet.opskit("run", "switch-back", "--yes", "-p", "sample=40", status=5).stdout
    assert re.search(r"is as run \S+ found it already: blue 100", said), said
    assert shares(fleet) == before
    fleet.proved()


@pytest.mark.soak
def test_a_canary_is_taken_back_as_well(fleet: Fleet) -> None:
    """Its gates wait for traffic, and a person says that they have seen enough."""
    before = shares(fleet)
    words = ("-p", "to=green", "-p", "idle=0s", "-p", "stages=50 100", "-p", "watch=1s")
    quick = ("-p", "keep=1s", "-p", "window=1s", "-p", "sample=40")
    fleet.opskit("run", "canary", "--yes", *words, *quick, status=4)
    for _ in range(4):  # two balancers, two gates
        said = fleet.opskit("decide", "last", "done", "--reason", "a test", status=None).stdout
    assert "SUCCEEDED" in said
    assert answers(fleet) == {"X-Pool:", "app_green"}
    said = fleet.opskit("run", "switch-back", "--yes", "-p", "sample=40").stdout
    assert "SUCCEEDED" in said
    assert shares(fleet) == before


def test_what_one_balancer_can_not_do_none_of_them_keeps(fleet: Fleet) -> None:
    before = shares(fleet)
    port = "/etc/nginx/opskit/busy.conf"
    taken = f"{fleet.lab.layout.host('lb2').address}:2222"  # its SSH server has it
    fleet.sh("lb2", f"printf 'server {{ listen {taken}; return 204; }}' >{port}")
    try:
        said = run(fleet, *QUICK, status=3)
    finally:
        fleet.sh("lb2", f"rm {port}; nginx -s reload")
    assert "[emerg]" in said
    assert "what answers is blue 100 all the same" in said
    assert shares(fleet) == before
    assert answers(fleet) == {"X-Pool:", "app_blue"}


def test_a_colour_that_is_not_well_gets_no_traffic(fleet: Fleet) -> None:
    before = shares(fleet)
    assert "answers as release A, not as B" in run(fleet, *QUICK, "-p", "release=B", status=5)
    fleet.sh(
        "lb1", f"sed -i 's/[*] app_blue/50% app_green; &/' {ACTIVE}; nginx -s reload; sleep 0.2"
    )
    said = run(fleet, *QUICK, status=5)
    fleet.sh("lb1", f"printf '{before['lb1']}' >{ACTIVE}; nginx -s reload")
    assert "lb1 has blue 50 green 50; lb2 has blue 100; a switch to green begins where" in said
    said = run(fleet, *QUICK, "-p", "warm=/ /none/", status=1)
    assert "not all of it is healthy (asked for /none/)" in said
    assert shares(fleet) == before, "its caches are warm, or it gets nothing"
    fleet.sh("web2", """echo '{"unhealthy": true}' >/srv/app/shared/switches.json""")
    said = run(fleet, *QUICK, status=5)
    assert "green can't have traffic: not all of it is healthy (asked for /health/)" in said
    fleet.sh("web2", "labctl stop app")
    try:
        said = run(fleet, *QUICK, status=5)
    finally:
        fleet.sh("web2", "labctl start app")
    assert "green can't have traffic: not all of it is healthy" in said
    assert shares(fleet) == before


@pytest.mark.parametrize("pool", ["app", pytest.param("edge", marks=pytest.mark.soak)])
def test_a_gate_that_fails_has_the_old_colour_back_within_seconds(
    fleet: Fleet, pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """lb2 has no traffic: its gate, which could not tell, ends with that of lb1."""
    if pool == "edge" and not fleet.lab.layout.haproxy:
        pytest.skip("needs haproxy (scripts/setup)")
    before = shares(fleet)
    words = ("-p", f"pool={pool}", "-p", "to=green", "-p", "watch=40s", "-p", "sample=80", *GATED)
    listen = listen_colours if pool == "app" else listen_haproxy
    url = listen(fleet.lab.layout.host("lb1")).replace("/alive/", "/")
    with Load(url=url, rate=150, threads=4):
        process = fleet.start("run", "blue-green", "--yes", *words)
        try:
            wait_for(process, "Gate of the first stage")
            fleet.sh("web2", """echo '{"error_share": 0.1}' >/srv/app/shared/switches.json""")
            wait_for(process, "FAIL: ")
            failed = time.monotonic()
            for _ in BALANCERS:  # each has counted who answers
                wait_for(process, "Back to what was (")
            took = time.monotonic() - failed
            said, _ = process.communicate(timeout=90)
        finally:
            process.kill()
            process.wait()
    with capsys.disabled():
        sys.stdout.write(
            f"\nfrom the end of the failing window to all back on blue: {took:.1f} s\n"
        )
    assert (process.returncode, "ended, as the gate failed on lb1" in said) == (3, True), said
    assert took < (10 if os.getloadavg()[0] < 4 * (os.cpu_count() or 1) else 40)
    assert shares(fleet) == before
    assert answers(fleet) == {"X-Pool:", "app_blue"}


def wait_for(process: subprocess.Popen[str], what: str) -> None:
    deadline, said = time.monotonic() + 60, [""]
    while what not in said[-1]:
        said.append(str(process.stdout and process.stdout.readline()))
        assert time.monotonic() < deadline, "".join(said)
        assert said[-1] or process.poll() is None, "".join(said)


def test_a_gate_without_traffic_waits_for_a_person(fleet: Fleet) -> None:
    before = shares(fleet)
    said = run(fleet, *GATED, "-p", "watch=1s", status=4)
    assert "'Gate of the first stage' is inconclusive on lb1: too few requests" in said, said
    assert shares(fleet) != before, "it neither goes on nor back by itself"
    said = fleet.opskit(
        "decide", "last", "failed", "--reason", "nobody is awake", status=None
    ).stdout
    assert "UNDONE" in said
    assert shares(fleet) == before


@pytest.mark.soak
def test_a_balancer_that_a_person_leaves_out_stays_at_its_share_and_that_is_told(
    fleet: Fleet,
) -> None:
    before = shares(fleet)
    run(fleet, *GATED, "-p", "watch=1s", status=4)
    shown = fleet.opskit("decide", "last", status=4).stdout
    assert "nothing more starts there, it stays as 'First stage' has left it" in shown, shown
    reason = ("--reason", "a test")
    fleet.opskit("decide", "last", "exclude", *reason, status=4)
    said = fleet.opskit("decide", "last", "failed", *reason, status=None).stdout
    assert re.search(r"excluded, and stays as it was left by: \d+ First stage on lb1\n", said), said
    assert "50% app_green" in shares(fleet)["lb1"]
    assert shares(fleet)["lb2"] == before["lb2"]
    fleet.opskit("undo", "last", "--yes", status=None)
    assert shares(fleet) == before


@pytest.mark.soak
def test_a_gate_that_fails_waits_for_no_balancer_that_is_cut_off(fleet: Fleet) -> None:
    """Its own gate would have been looked for until it was out of time: two minutes."""
    before = shares(fleet)
    words = ("-p", "to=green", "-p", "watch=60s", "-p", "sample=80", *GATED)
    url = listen_colours(fleet.lab.layout.host("lb1")).replace("/alive/", "/")
    with Load(url=url, rate=150, threads=4):
        process = fleet.start("run", "blue-green", "--yes", *words)
        try:
            wait_for(process, "Gate of the first stage")
            time.sleep(2)
            fleet.lab.cut("lb2", reset=True)
            fleet.sh("web2", """echo '{"error_share": 0.1}' >/srv/app/shared/switches.json""")
            wait_for(process, "FAIL: ")
            failed = time.monotonic()
            said, _ = process.communicate(timeout=90)
            took = time.monotonic() - failed
        finally:
            process.kill()
            process.wait()
            fleet.lab.heal("lb2")
    assert (process.returncode, "  undo failed        lb2\n" in said) == (1, True), said
    assert took < 40, said
    assert shares(fleet)["lb1"] == before["lb1"]
    fleet.opskit("undo", "last", "--yes", status=None)
    assert shares(fleet) == before


@pytest.mark.soak
def test_a_gate_between_stages_survives_a_kill_and_is_found_again(fleet: Fleet) -> None:
    before = shares(fleet)
    words = ("-p", "to=green", "-p", "watch=8s", "-p", "sample=80", "-p", "p95_ratio=5", *GATED)
    url, second = (listen_colours(fleet.lab.layout.host(name)) for name in BALANCERS)
    with Load(url=url, rate=100, threads=4), Load(url=second, rate=100, threads=4):
        process = fleet.start("run", "blue-green", "--yes", *words)
        wait_for(process, "Gate of the first stage")
        time.sleep(2)
        process.kill()
        process.communicate()
        assert "50% app_green" in fleet.sh("lb2", f"cat {ACTIVE}")
        said = fleet.opskit("resume", "last").stdout
    assert "SUCCEEDED" in said
    assert len(re.findall(r" ok +\d+ Gate of the first stage \(", said)) == 2
    assert not re.search(r" started +\d+ Gate of the first", said), "found, not begun anew"
    assert answers(fleet) == {"X-Pool:", "app_green"}
    fleet.opskit("undo", "last", "--yes")
    assert shares(fleet) == before
