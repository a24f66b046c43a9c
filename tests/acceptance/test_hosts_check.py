"""`hosts check` finds what would stop a run, and says how the fit hosts are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from opskit.lab import Lab
from opskit.lab.layout import Mode
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance


@contextmanager
def meanwhile(fleet: Fleet, host: str, do: str, back: str) -> Iterator[None]:
    """Have something be otherwise on a host, for as long as this lasts."""
    fleet.sh(host, do)
    try:
        yield
    finally:
        fleet.sh(host, back)


def facts(fleet: Fleet, host: str, status: int) -> dict[str, Any]:
    said = fleet.opskit("hosts", "check", host, "--json", status=status)
    return {fact["name"]: fact for fact in json.loads(said.stdout)["facts"]}


def test_the_figures_of_fit_hosts_are_shown_at_80_columns(fleet: Fleet) -> None:
    told = fleet.opskit("hosts", "check", "web").stdout
    title, first = told.splitlines()[:2]
    assert title.split() == [
        "HOST",
        "KEY",
        "SUDO",
        "CLOCK",
        "DISK",
        "INODES",
        "TOOLS",
        "HOME",
        "ON",
    ]
    assert first.startswith("ok  web1")
    assert " known " in first
    assert first.count("% free") == 2
    assert all(len(line) <= 80 for line in told.splitlines())
    assert told.endswith("4 hosts: 4 ok\n")


def test_a_home_where_nothing_can_be_made_is_critical(fleet: Fleet) -> None:
    away = "chown root /home/ops && mv /home/ops/.opskit /home/ops/.away 2>/dev/null; true"
    back = "mv /home/ops/.away /home/ops/.opskit 2>/dev/null; chown ops /home/ops"
    if fleet.lab.layout.mode is Mode.SHARED:
        pytest.skip("the hosts share a home here")
    with meanwhile(fleet, "web1", away, back):
        found = facts(fleet, "web1", 1)["state"]
    assert found["level"] == "critical"
    assert "can't be made: /home/ops is not writable" in found["text"]


@pytest.mark.parametrize("value", ["yes", "true", "1", "ON"])
@pytest.mark.parametrize("folder", ["/etc/systemd", "/usr/lib/systemd/logind.conf.d"])
def test_a_login_manager_that_ends_processes_is_warned_of(
    fleet: Fleet, folder: str, value: str
) -> None:
    if fleet.lab.layout.mode is Mode.SHARED:
        pytest.skip("the hosts share their settings here")
    file = f"{folder}/{'logind.conf' if folder.endswith('systemd') else '10-kill.conf'}"
    do = f"mkdir -p {folder} && printf '[Login]\\nKillUserProcesses = {value}\\n' > {file}"
    with meanwhile(fleet, "web1", do, f"rm {file}"):
        found = facts(fleet, "web1", 0)["kill"]
    assert (found["level"], found["figure"]) == ("warning", "yes")


def test_the_last_drop_in_counts(fleet: Fleet) -> None:
    if fleet.lab.layout.mode is Mode.SHARED:
        pytest.skip("the hosts share their settings here")
    run, etc = "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"
    do = f"mkdir -p {run} {etc}; echo KillUserProcesses=1 >{run}/1.conf; echo >{etc}/1.conf"
    with meanwhile(fleet, "web1", do, f"rm {run}/1.conf {etc}/1.conf"):
        assert facts(fleet, "web1", 0)["kill"]["level"] == "ok"  # /etc hides the one in /run
        fleet.sh("web1", f"echo KillUserProcesses=1 >{run}/2.conf")
        assert facts(fleet, "web1", 0)["kill"]["level"] == "warning"
        fleet.sh("web1", f"rm {run}/2.conf")


def test_a_host_without_a_shell_says_what_it_says_and_how_to_try_it(fleet: Fleet) -> None:
    if fleet.lab.layout.mode is Mode.SHARED:
        pytest.skip("the hosts share their accounts here")
    do = "cp /etc/passwd /tmp/passwd && sed -i '/^ops:/s,:[^:]*$,:/usr/sbin/nologin,' /etc/passwd"
    with meanwhile(fleet, "web1", do, "cp /tmp/passwd /etc/passwd"):
        found = facts(fleet, "web1", 1)["reachable"]
    assert "This account is currently not available" in found["text"]
    assert f"-p 2222 ops@{_address(fleet.lab, 'web1')} sh`" in found["text"]


def test_a_frozen_host_is_said_to_be_silent(fleet: Fleet) -> None:
    inventory = fleet.folder / "quick.yaml"
    text = fleet.lab.inventory.read_text()
    inventory.write_text(text.replace("connection: {", "connection: {connect_timeout: 2s, ", 1))
    fleet.lab.freeze("web4")
    try:
        told = fleet.opskit("hosts", "check", "web4", "-i", inventory, status=1).stdout
    finally:
        fleet.lab.heal("web4")
    assert "port 2222 takes the connection, and then says nothing in time" in told


def _address(lab: Lab, name: str) -> str:
    return next(host.address for host in lab.layout.hosts if host.name == name)
