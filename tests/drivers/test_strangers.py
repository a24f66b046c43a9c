"""Whether a host's key is known can be told before anything is sent: for all hosts of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.app.admission import acquainted
from opskit.drivers.targets import connector
from opskit.errors import RefusedError
from opskit.model.inventory import Connection, Host
from opskit.model.plan import Plan
from tests.support.sshd import keygen
from tests.support.world import planned, runbook


@pytest.fixture
def key(tmp_path: Path) -> str:
    keygen(tmp_path / "k")
    return " ".join((tmp_path / "k.pub").read_text().split()[:2])


def host(known: Path, address: str = "192.0.2.1", **how: object) -> Host:
    how = {"known_hosts": str(known), "port": 2222, **how}
    return Host(name="web1", address=address, connection=Connection(**how))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("[192.0.2.1]:2222 {key}", True),
        ("other,[192.0.2.1]:2222 {key}", True),
        ("[192.0.2.*]:2222 {key}", True),
        ("192.0.2.1 {key}", False),
        ("[192.0.2.1]:22 {key}", False),
        ("@revoked * {key}\n[192.0.2.1]:2222 {key}", False),
        ("", False),
    ],
)
def test_a_host_is_a_stranger_unless_a_key_is_known_for_its_name(
    tmp_path: Path, key: str, line: str, known: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line.format(key=key) + "\n")
    why = connector().stranger(host(file))
    assert (why is None) is known
    if why is not None:
        assert why == f"no key is known of [192.0.2.1]:2222 (looked in {file})"


def test_behind_a_jump_host_only_connecting_tells(tmp_path: Path) -> None:
    assert connector().stranger(host(tmp_path / "none", jump="bastion")) is None
    (tmp_path / "config").write_text("Host 192.0.2.1\n  ProxyJump bastion\n")
    told = host(tmp_path / "none", ssh_config=str(tmp_path / "config"))
    assert connector().stranger(told) is None


def two(folder: Path, known: Sequence[str], key: str, steps: str, budget: int = 0) -> Plan:
    """Plan steps on two hosts, of which some have a known key."""
    plan = planned(runbook(steps, f"max_failures: {budget}\n"), folder)
    file = folder / "known_hosts"
    file.write_text("".join(f"{plan.hosts[name].address} {key}\n" for name in known))
    hosts = {
        name: Host(name=name, address=h.address, connection=Connection(known_hosts=str(file)))
        for name, h in plan.hosts.items()
    }
    return replace(plan, hosts=hosts)


CHANGE = "  - {name: one, run: one}\n"


def test_a_run_is_refused_when_more_hosts_are_strangers_than_may_fail(
    tmp_path: Path, key: str
) -> None:
    with pytest.raises(RefusedError, match=r"no key is known of 10\.0\.0\.1") as caught:
        acquainted(two(tmp_path, [], key, CHANGE))
    assert "and of 1 more hosts; nothing was sent anywhere" in str(caught.value)
    assert "opskit hosts trust web1,web2" in str(caught.value)
    with pytest.raises(RefusedError, match="host web2"):
        acquainted(two(tmp_path, ["web1"], key, CHANGE))
    acquainted(two(tmp_path, ["web1"], key, CHANGE, budget=1))
    acquainted(two(tmp_path, ["web1", "web2"], key, CHANGE))


def test_what_changes_nothing_or_nothing_there_is_not_refused(tmp_path: Path, key: str) -> None:
    acquainted(two(tmp_path, [], key, "  - {name: look, run: look, effect: read}\n"))
    acquainted(two(tmp_path, [], key, "  - {name: here, run: one, on: controller}\n"))
