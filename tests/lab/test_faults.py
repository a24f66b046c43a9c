"""Hosts that are frozen or cut off, and healed."""

import socket
import subprocess
import time
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab.layout import Mode
from tests.lab.remote import only_isolated, service_answers, ssh, ssh_words, told, wait_for

pytestmark = pytest.mark.acceptance


def test_a_frozen_host_answers_nobody_until_it_is_healed(lab: labs.Lab) -> None:
    words = ssh_words(lab, "web3", "echo begun; sleep 3; echo ended")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "begun\n"
        lab.freeze("web3")
        try:
            assert "frozen" in lab.describe()
            time.sleep(1)
            assert session.poll() is None
            assert not service_answers(lab, "web3")
            assert ssh(lab, "web3", "true").returncode == 255
        finally:
            lab.heal("web3")
        assert session.stdout.readline() == "ended\n"
        assert session.wait(60) == 0
    assert service_answers(lab, "web3")


def test_a_cut_host_is_silent_goes_on_and_comes_back(lab: labs.Lab) -> None:
    home = lab.layout.home
    goes_on = f"until [ -e {home}/cut.now ]; do sleep 0.1; done; echo ended | tee {home}/cut.done"
    words = ssh_words(lab, "web3", f"echo begun; {goes_on}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "begun\n"
        lab.cut("web3")
        try:
            told(lab, "web3", "touch", f"{home}/cut.now")
            time.sleep(1)
            assert told(lab, "web3", "cat", f"{home}/cut.done") == "ended"
            assert session.poll() is None
            assert not service_answers(lab, "web3")
            assert ssh(lab, "web3", "true").returncode == 255
        finally:
            lab.heal("web3")
        assert session.stdout.readline() == "ended\n"
        assert session.wait(60) == 0
    assert service_answers(lab, "web3")


def test_a_cut_by_reset_ends_connections_and_refuses_new_ones(lab: labs.Lab) -> None:
    words = ssh_words(lab, "lb2", "echo begun; sleep 60")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "begun\n"
        lab.cut("lb2", reset=True)
        try:
            assert session.wait(60) == 255
            host = lab.layout.host("lb2").address
            for port in (2222, 8080):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((host, port), 1)
            before = sum_of_cpu(lab, "lb2")
            time.sleep(1)
            assert sum_of_cpu(lab, "lb2") - before < 20  # ticks: nobody spins on a refusing port
        finally:
            lab.heal("lb2")
    assert ssh(lab, "lb2", "true").returncode == 0
    socket.create_connection((host, 8080), 30).close()


def sum_of_cpu(lab: labs.Lab, host: str) -> int:
    total = 0
    for pid in lab.pids(host):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def test_a_service_that_starts_on_a_cut_host_is_not_reachable_either(lab: labs.Lab) -> None:
    only_isolated(lab)
    if lab.layout.mode is not Mode.NAMESPACES:
        pytest.skip("an ordinary user's cut stops the service, and a restart takes long")
    lab.cut("web3")
    try:
        assert told(lab, "web3", "labctl", "restart", "app")
        assert not service_answers(lab, "web3")
    finally:
        lab.heal("web3")
    wait_for(lambda: service_answers(lab, "web3"))
