"""Requests through the balancer while hosts are restarted."""

import time
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import failures
from opskit.lab.load import Load
from tests.lab.remote import only_isolated, told, wait_for

pytestmark = pytest.mark.acceptance


def test_a_rolling_restart_behind_the_balancer_fails_no_request(lab: labs.Lab) -> None:
    only_isolated(lab)
    pool = "/etc/nginx/opskit/web.conf"
    balancers = ("lb1", "lb2")
    failures.mark(lab.layout)
    whole = {lb: told(lab, lb, "cat", pool) + "\n" for lb in balancers}

    def set_pool(without: str | None) -> None:
        for lb in balancers:
            old = workers(lab, lb)
            lines = [line for line in whole[lb].splitlines() if not without or without not in line]
            lab.exec(lb, ["tee", pool], stdin=("\n".join(lines) + "\n").encode())
            told(lab, lb, "nginx", "-s", "reload")
            wait_for(lambda lb=lb, old=old: not old & workers(lab, lb))  # type: ignore[misc]

    with Load(url=lab.url, rate=400) as load:
        for host in ("web1", "web2", "web3", "web4"):
            set_pool(f"{lab.layout.host(host).address}:")
            wait_for(lambda host=host: not connected(lab, host))  # type: ignore[misc]
            told(lab, host, "labctl", "restart", "app")
            set_pool(None)
        report = load.stop()
    assert report.requests > 400
    assert (report.failures, report.errors) == (0, {})
    counts = failures.read(lab.layout)
    assert counts["failed"] == 0
    at_balancer, at_hosts = counts["balancers"], counts["hosts"]
    assert isinstance(at_balancer, dict)
    assert isinstance(at_hosts, dict)
    assert at_balancer["lb1"]["requests"] == report.requests
    assert sum(count["requests"] for count in at_hosts.values()) == report.requests
    assert sorted(at_balancer["lb1"]["by_host"]) == ["web1", "web2", "web3", "web4"]


def workers(lab: labs.Lab, balancer: str) -> set[int]:
    """nginx's worker processes: those of before a reload stay until their requests have ended."""
    master = int(told(lab, balancer, "cat", "/run/nginx.pid"))
    listed = told(lab, balancer, "ps", "-o", "pid=", "--ppid", str(master))
    return {int(pid) for pid in listed.split()}


def connected(lab: labs.Lab, host: str) -> bool:
    """Whether somebody has a connection to the host's service."""
    parts = reversed(lab.layout.host(host).address.split("."))
    mine = "".join(f"{int(part):02X}" for part in parts) + ":1F40"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1] == mine and line.split()[3] == "01" for line in lines)


def test_a_restart_without_draining_is_seen_as_failures(lab: labs.Lab) -> None:
    failures.mark(lab.layout)
    with Load(url=lab.url, rate=400) as load:
        time.sleep(0.2)
        told(lab, "web1", *labctl(lab, "web1"), "restart", "app")
        report = load.stop()
    assert report.failures > 0
    balancers = failures.read(lab.layout)["balancers"]
    assert isinstance(balancers, dict)
    assert balancers["lb1"]["failures"] == report.failures


def labctl(lab: labs.Lab, host: str) -> list[str]:
    if lab.layout.isolated:
        return ["labctl"]
    return [str(lab.layout.folder / "hosts" / host / "root/usr/local/bin/labctl")]
