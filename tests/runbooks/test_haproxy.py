"""The shipped deploy and rollback, whole, on hosts behind HAProxy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.lab.load import Load
from tests.support import haproxy
from tests.support.deploying import artifact, live
from tests.support.fleet import Fleet

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.soak,
    pytest.mark.skipif(haproxy.program() is None, reason="needs haproxy (scripts/setup)"),
]
SOCKET = "/run/edge.sock"
CONF = """
global
    stats socket {socket} mode 600 level admin
    server-state-file /var/tmp/edge.states
    pidfile /run/edge.pid
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    load-server-state-from-file global
frontend front
    bind {address}:8091
    default_backend web
backend web
    option httpchk GET /health/
    default-server inter 300 rise 1 check weight 100
{servers}
"""
ASK = (
    "printf '%s\\n' '{}' | perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => "
    f'"{SOCKET}"); print $s <STDIN>; shutdown $s, 1; print <$s>\''
)
SICK = '{"error_share": 0.5}'
WEB = ("web1", "web2", "web3", "web4")


@pytest.fixture
def edge(fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """HAProxy on lb1 in front of the web hosts; the words that name it to a run."""
    if not fleet.lab.layout.isolated:
        pytest.skip("hosts have no /run of their own here")
    address = fleet.lab.layout.host("lb1").address
    where = {name: fleet.lab.layout.host(name).address for name in WEB}
    servers = "\n".join(f"    server s-{name} {at}:8000" for name, at in where.items())
    conf = CONF.format(socket=SOCKET, address=address, servers=servers)
    program = str(haproxy.program())
    fleet.sh("lb1", f"printf '%s' '{conf}' >/etc/edge.cfg; echo 1 >/var/tmp/edge.states")
    fleet.sh("lb1", f"{program} -W -D -f /etc/edge.cfg; sleep 1")
    entry = {
        "type": "haproxy",
        "hosts": "lb1",
        "members": "web",
        "port": 8000,
        "backend": "web",
        "socket": SOCKET,
        "state_file": "/var/tmp/edge.states",
        "test": f"{program} -c -f /etc/edge.cfg",
        "sudo": "root",
    }
    inventory = fleet.folder / "inventory.yaml"
    text = fleet.lab.inventory.read_text()
    inventory.write_text(
        text.replace("balancers:\n", f"balancers:\n  front: {json.dumps(entry)}\n", 1)
    )
    yield ("-i", str(inventory), "-p", "pool=front")
    fleet.sh("lb1", "kill $(cat /run/edge.pid)")


def states(fleet: Fleet) -> list[str]:
    """Of each server: its name, and what the socket says of its state and its weight."""
    lines = fleet.sh("lb1", ASK.format("show servers state web")).splitlines()[2:]
    return [" ".join([line.split()[3], *line.split()[5:8]]) for line in lines if line]


def shipped(fleet: Fleet, folder: Path, release: str, fault: str | None = None) -> tuple[str, ...]:
    path = artifact(fleet.lab, folder, release, fault)
    return ("-p", f"release={release}", "-p", f"artifact={path}", "-p", "bake=0s")


@pytest.mark.parametrize("hosts", ["web1", "web"])
def test_a_release_goes_live_behind_haproxy_and_comes_back_and_no_request_fails(
    fleet: Fleet, edge: tuple[str, ...], tmp_path: Path, hosts: str
) -> None:
    before = states(fleet)
    assert before == [f"s-{name} 2 0 100" for name in WEB]
    address = fleet.lab.layout.host("lb1").address
    words = (*edge, "--yes", "--limit", hosts)
    with Load(url=f"http://{address}:8091/alive/", rate=100, threads=4) as load:
        fleet.opskit("run", "deploy", *words, *shipped(fleet, tmp_path, "B"))
        assert "releases/B /srv/app/releases/B" in live(fleet)
        assert states(fleet) == before
        if hosts == "web":
            assert live(fleet) == ["releases/B /srv/app/releases/B"] * 4
            fleet.opskit("run", "rollback", *words, "-p", "bake=0s", "--reason", "a test")
            assert live(fleet) == ["releases/A /srv/app/releases/A"] * 4
    report = load.report()
    assert report.failures == 0, report.describe()
    assert states(fleet) == before


def test_a_broken_release_leaves_haproxy_as_it_was(
    fleet: Fleet, edge: tuple[str, ...], tmp_path: Path
) -> None:
    fleet.sh("lb1", ASK.format("set server web/s-web1 weight 40"))
    before = states(fleet)
    address = fleet.lab.layout.host("lb1").address
    with Load(url=f"http://{address}:8091/alive/", rate=100, threads=4) as load:
        given = shipped(fleet, tmp_path, "X", "unhealthy")
        said = fleet.opskit("run", "deploy", *edge, "--yes", *given, status=3).stdout
    assert "UNDONE" in said
    assert live(fleet) == ["releases/A /srv/app/releases/A"] * 4
    assert states(fleet) == before
    assert load.report().failures == 0, load.report().describe()


@pytest.mark.parametrize("ill", [False, True])
def test_the_gate_takes_back_a_release_that_fails_once_it_has_traffic(
    fleet: Fleet, edge: tuple[str, ...], tmp_path: Path, ill: bool
) -> None:
    """Its health page says that it is well."""
    before = states(fleet)
    address = fleet.lab.layout.host("lb1").address
    quick = ("gate=12s", "window=3s", "windows=1", "requests=20", "p95_ratio=0")
    words = [word for one in quick for word in ("-p", one)]
    given = shipped(fleet, tmp_path, "B")
    said = ""
    with Load(url=f"http://{address}:8091/", rate=100, threads=8):
        run = fleet.start("run", "deploy", *edge, "--yes", "--limit", "web1", *given, *words)
        with run:
            for line in run.stdout or ():
                said += line
                if ill and "Back in the pool" in line:
                    fleet.sh("web1", f"echo '{SICK}' >/srv/app/shared/switches.json")
    assert "No worse than the others" in said
    assert run.returncode == (3 if ill else 0), said
    assert live(fleet)[0].startswith("releases/A" if ill else "releases/B")
    assert states(fleet) == before


def test_a_pool_of_haproxy_that_is_not_whole_is_refused_untouched(
    fleet: Fleet, edge: tuple[str, ...], tmp_path: Path
) -> None:
    fleet.sh("lb1", ASK.format("set server web/s-web3 state drain"))
    before = states(fleet)
    given = shipped(fleet, tmp_path, "B")
    done = fleet.opskit("run", "deploy", *edge, "--yes", *given, status=5)
    assert "not every member of backend web is in service: web3" in done.stdout + done.stderr
    assert states(fleet) == before
