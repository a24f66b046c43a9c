"""A practice fleet behaves like hosts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from opskit import lab as labs
from opskit.lab import processes
from opskit.lab.layout import Mode
from tests.lab.conftest import UP_SECONDS, Fleet
from tests.lab.remote import only_isolated, ssh, told

pytestmark = pytest.mark.acceptance
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def test_six_hosts_are_up_in_time(fleet: Fleet) -> None:
    assert len(fleet.lab.layout.hosts) == 6
    assert fleet.seconds < UP_SECONDS


def test_status_has_exactly_the_promised_keys(lab: labs.Lab) -> None:
    words = [sys.executable, "-m", "opskit", "lab", "status", "--json", "--dir", str(lab.folder)]
    told = subprocess.run(words, capture_output=True, check=True, timeout=30)
    status = json.loads(told.stdout)
    assert list(status) == ["inventory", "hosts"]
    assert Path(status["inventory"]).exists()
    assert [host["name"] for host in status["hosts"]] == [
        *("web1", "web2", "web3", "web4"),
        *("lb1", "lb2"),
    ]
    for host in status["hosts"]:
        assert list(host) == ["name", "address", "port", "user", "pid", "root"]
        assert processes.start_time(host["pid"]) is not None
        assert Path(host["root"], "etc").is_dir()


def test_the_inventory_names_what_is_there(lab: labs.Lab) -> None:
    value = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    assert Path(value["connection"]["key"]).stat().st_mode & 0o777 == 0o600
    for name in value["groups"]["web"]["hosts"]:
        service = value["services"]["app"] | value["hosts"][name].get("services", {}).get("app", {})
        done = ssh(lab, name, f"{service['pids']} && readlink -e {service['root']}/current")
        pid, live = done.stdout.split()
        assert int(pid) > 0
        assert live.endswith("/releases/A")


def test_hosts_differ_in_name_key_boot_id_and_files(lab: labs.Lab) -> None:
    only_isolated(lab)
    names = [host.name for host in lab.layout.hosts]
    assert [ssh(lab, name, "hostname").stdout.strip() for name in names] == names
    assert len({ssh(lab, name, f"cat {BOOT_ID}").stdout for name in names}) == len(names)
    keys = lab.folder.joinpath("known_hosts").read_text().splitlines()
    assert len({line.split()[2] for line in keys}) == len(names)
    told(lab, "web1", "touch", "/etc/only-here", "/tmp/only-here")
    assert told(lab, "web2", "sh", "-c", "ls -d /etc/only* /tmp/only* || true") == ""
    assert not Path("/etc/only-here").exists()
    assert "only-here" in " ".join(lab.tree("web1"))


def test_the_user_may_become_root_where_the_lab_is_roots(lab: labs.Lab) -> None:
    if lab.layout.mode is not Mode.NAMESPACES:
        pytest.skip("there is no sudo in a lab of an ordinary user")
    assert ssh(lab, "web1", "sudo -n id -u").stdout == "0\n"
    assert ssh(lab, "web1", "sudo -n -H -u nobody sh -c 'id -un'").stdout == "nobody\n"
    assert told(lab, "web1", "id", "-un") == "root"
    assert told(lab, "web1", "id", "-un", user="ops") == "ops"
    assert "sudo:" not in ssh(lab, "web1", "sudo -n true").stderr


def test_processes_of_a_host_are_its_own(lab: labs.Lab) -> None:
    only_isolated(lab)
    listed = told(lab, "web1", "ps", "-eo", "args")
    assert "127.42." in listed
    assert lab.layout.host("web2").address not in listed
    assert told(lab, "web1", "readlink", "/proc/1/exe").endswith("/sshd")


def test_labctl_restarts_moves_to_current_and_proves_it_by_its_folder(lab: labs.Lab) -> None:
    only_isolated(lab)
    told(lab, "web4", "sh", "-c", "cd /srv/app/releases && cp -a A B && echo B > B/RELEASE")
    first = ssh(lab, "web4", "labctl pids app").stdout.strip()
    try:
        ssh(lab, "web4", "ln -sfn releases/B /srv/app/current")
        kept = ssh(lab, "web4", f"readlink /proc/{first}/cwd").stdout.strip()
        assert kept == "/srv/app/releases/A"
        done = ssh(lab, "web4", "labctl restart app")
        assert done.returncode == 0, done.stderr
        second = ssh(lab, "web4", "labctl pids app").stdout.strip()
        moved = ssh(lab, "web4", f"readlink /proc/{second}/cwd").stdout.strip()
        assert (moved, second != first) == ("/srv/app/releases/B", True)
        told(lab, "web4", "sh", "-c", "echo crash > /srv/app/releases/B/FAULT")
        failed = ssh(lab, "web4", "labctl restart app")
        assert failed.returncode == 1
        assert "ended with status 1" in failed.stderr
    finally:
        ssh(lab, "web4", "ln -sfn releases/A /srv/app/current")
        told(lab, "web4", "labctl", "restart", "app")
        told(lab, "web4", "rm", "-r", "/srv/app/releases/B")


def test_a_reboot_keeps_files_and_changes_all_else(lab: labs.Lab) -> None:
    only_isolated(lab)
    told(lab, "web2", "sh", "-c", "echo kept >/home/kept; : >/run/gone")
    told(lab, "web2", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
    before, pids = told(lab, "web2", "cat", BOOT_ID), set(lab.pids("web2"))
    assert lab.reboot("web2")
    assert told(lab, "web2", "cat", BOOT_ID) != before
    assert told(lab, "web2", "cat", "/home/kept") == "kept"
    assert told(lab, "web2", "sh", "-c", "ls /run/gone || true") == ""
    assert not pids & set(lab.pids("web2"))
    assert "sleep" not in told(lab, "web2", "ps", "-eo", "comm")
    assert told(lab, "web2", "labctl", "status").endswith("/srv/app/releases/A")
    assert ssh(lab, "web2", "true").returncode == 0
    assert lab.reboot("lb2")
    assert told(lab, "lb2", "cat", "/run/nginx.pid")


def test_a_host_without_a_release_boots_all_the_same(lab: labs.Lab) -> None:
    only_isolated(lab)
    told(lab, "web2", "mv", "/srv/app/current", "/srv/app/away")
    try:
        assert not lab.reboot("web2")
        assert ssh(lab, "web2", "true").returncode == 0
    finally:
        told(lab, "web2", "mv", "/srv/app/away", "/srv/app/current")
        told(lab, "web2", "labctl", "start")
