"""A practice fleet behaves like hosts, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import yaml

from opskit import lab as labs
from opskit.errors import InputError, OpskitError
from opskit.lab import failures, processes, programs
from opskit.lab.layout import Mode
from opskit.lab.load import Load
from tests.lab.conftest import UP_SECONDS, Fleet

pytestmark = pytest.mark.acceptance
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def ssh_words(lab: labs.Lab, host: str, command: str) -> list[str]:
    options = {
        "UserKnownHostsFile": lab.folder / "known_hosts",
        "IdentityFile": lab.folder / "id_ed25519",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 2,
        "IdentitiesOnly": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f'{name}="{value}"')]
    login = f"{lab.layout.user}@{lab.layout.host(host).address}"
    return ["ssh", "-F", "/dev/null", "-p", "2222", *words, login, command]


def ssh(lab: labs.Lab, host: str, command: str) -> subprocess.CompletedProcess[str]:
    words = ssh_words(lab, host, command)
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def told(lab: labs.Lab, host: str, *argv: str, user: str | None = None) -> str:
    done = lab.exec(host, argv, user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def only_isolated(lab: labs.Lab) -> None:
    if not lab.layout.isolated:
        pytest.skip("hosts share this machine's files and processes")


def service_answers(lab: labs.Lab, host: str) -> bool:
    try:
        with socket.create_connection((lab.layout.host(host).address, 8000), 0.5) as peer:
            peer.settimeout(0.5)
            peer.sendall(b"GET /alive/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return peer.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


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
    lab.reboot("web2")
    assert told(lab, "web2", "cat", BOOT_ID) != before
    assert told(lab, "web2", "cat", "/home/kept") == "kept"
    assert told(lab, "web2", "sh", "-c", "ls /run/gone || true") == ""
    assert not pids & set(lab.pids("web2"))
    assert "sleep" not in told(lab, "web2", "ps", "-eo", "comm")
    assert told(lab, "web2", "labctl", "status").endswith("/srv/app/releases/A")
    assert ssh(lab, "web2", "true").returncode == 0
    lab.reboot("lb2")
    assert told(lab, "lb2", "cat", "/run/nginx.pid")


def test_a_frozen_host_answers_nobody_until_it_is_healed(lab: labs.Lab) -> None:
    words = ssh_words(lab, "web3", "echo begun; sleep 0.5; echo ended")
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
        assert session.wait(10) == 0
    assert service_answers(lab, "web3")


def test_a_cut_host_is_silent_goes_on_and_comes_back(lab: labs.Lab) -> None:
    home = lab.layout.home
    words = ssh_words(lab, "web3", f"echo begun; sleep 0.5; echo ended | tee {home}/cut.done")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "begun\n"
        lab.cut("web3")
        try:
            time.sleep(1)
            assert told(lab, "web3", "cat", f"{home}/cut.done") == "ended"
            assert session.poll() is None
            assert not service_answers(lab, "web3")
            assert ssh(lab, "web3", "true").returncode == 255
        finally:
            lab.heal("web3")
        assert session.stdout.readline() == "ended\n"
        assert session.wait(10) == 0
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
            assert session.wait(5) == 255
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
    socket.create_connection((host, 8080), 1).close()


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


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def leftovers(folder: Path) -> list[str]:
    """Whatever still speaks of a lab's folder: processes, mounts, files."""
    found = [f"process {pid}" for pid in processes.marked(folder)]
    for pid in processes.every():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and "pytest" not in words:
            found.append(f"process {pid}: {words}")
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    found += [line for line in mounts.splitlines() if str(folder) in line]
    return [*found, *map(str, folder.rglob("*"))]


@pytest.mark.parametrize("isolation", [None, Mode.SHARED])
def test_two_labs_live_side_by_side_and_leave_nothing(
    lab: labs.Lab, tmp_path: Path, isolation: Mode | None
) -> None:
    folder = tmp_path / "second, lab's"
    second = labs.up(folder, web=1, lb=1, isolation=isolation)
    try:
        assert second.layout.net != lab.layout.net
        assert ssh(second, "web1", "true").returncode == 0
        assert ssh(lab, "web1", "true").returncode == 0
        with Load(url=second.url, rate=100) as load:
            time.sleep(0.2)
            assert load.stop().failures == 0
        with pytest.raises(InputError, match="running here already"):
            labs.up(folder)
        session = subprocess.Popen(
            ssh_words(second, "web1", "setsid sleep 1000 & sleep 1000"),
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        pids = [pid for name in ("web1", "lb1") for pid in second.pids(name)]
        assert len(pids) >= 6
    finally:
        second.down()
    session.wait(10)
    assert leftovers(folder) == []
    assert not folder.exists()
    assert [pid for pid in pids if processes.start_time(pid)] == []
    assert ssh(lab, "web1", "true").returncode == 0
    with pytest.raises(OpskitError, match="is not there"):
        labs.Lab.load(folder)


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.25, 0.35, 0.5])
@pytest.mark.parametrize("isolation", ["", "shared"])
def test_what_a_killed_up_leaves_is_cleared_by_down_or_the_next_up(
    tmp_path: Path, seconds: float, isolation: str
) -> None:
    folder = tmp_path / "lab"
    words = [sys.executable, "-m", "opskit", "lab", "up", "--web", "2", "--dir", str(folder)]
    words += ["--isolation", isolation] if isolation else []
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as starting:
        time.sleep(seconds)
        os.kill(starting.pid, signal.SIGKILL)
    time.sleep(0.2)  # what it had just started goes on for a moment
    labs.down(folder)
    assert leftovers(folder) == []
    if seconds == 0.35:
        labs.up(folder, web=1, lb=0).down()
        assert leftovers(folder) == []


def test_a_killed_lab_is_replaced_by_the_next_up(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    first = labs.up(folder, web=1, lb=0)
    for pid in processes.families(processes.marked(folder)):
        os.kill(pid, signal.SIGKILL)
    assert first.layout.ready
    second = labs.up(folder, web=1, lb=0)
    try:
        assert ssh(second, "web1", "true").returncode == 0
    finally:
        second.down()
    assert leftovers(folder) == []


@pytest.fixture
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An ordinary user of this machine, made for one test, and a folder of his."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a user; the other tests ran as an ordinary one")
    name = f"opskit-lab-{os.getpid()}"
    useradd = programs.find("useradd")
    if useradd is None or not programs.host_python().startswith("/usr"):
        pytest.skip("needs useradd, and a Python that other users may run")
    with tempfile.TemporaryDirectory(prefix="opskit-lab-", dir="/tmp") as home:
        subprocess.run([useradd, "-M", "-d", home, "-s", "/bin/bash", name], check=True)
        try:
            packages = Path(home) / "packages"
            packages.mkdir()
            shutil.copytree(Path(labs.__file__).parents[1], packages / "opskit")
            shutil.copytree(Path(click.__file__).parent, packages / "click")
            subprocess.run(["chown", "-R", name, home], check=True)
            yield name, Path(home)
        finally:
            userdel = programs.program("userdel")
            subprocess.run([userdel, name], check=True, capture_output=True)


@pytest.mark.parametrize("isolation", ["", "shared"])
def test_an_ordinary_user_has_a_lab_too(stranger: tuple[str, Path], isolation: str) -> None:
    name, home = stranger
    folder = home / "lab"

    def opskit(*words: str) -> subprocess.CompletedProcess[str]:
        become = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]
        python = [programs.host_python(), "-m", "opskit", "lab", *words]
        environment = {"PATH": "/usr/bin:/bin", "OPSKIT_LAB": str(folder), "HOME": str(home)}
        return subprocess.run(
            [*become, *python],
            env=environment | {"PYTHONPATH": str(home / "packages"), "LC_ALL": "C.UTF-8"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    began = opskit("up", "--web", "1", *(["--isolation", isolation] if isolation else []))
    try:
        assert began.returncode == 0, began.stderr
        assert "there is no sudo" in began.stdout
        lab = labs.Lab.load(folder)
        assert lab.layout.user == name
        become = ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups"]
        login = subprocess.run(
            [*become, *ssh_words(lab, "web1", "id -un; pwd")],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert login.stdout.split() == [name, str(home)], login.stderr
        assert opskit("exec", "web1", "--", "true").returncode == 0
        for fault in (["freeze"], ["cut"], ["cut", "--reset"]):
            done = opskit(*fault, "web1")
            assert done.returncode == 0, done.stderr
            assert not service_answers(lab, "web1")
            done = opskit("heal", "web1")
            assert done.returncode == 0, done.stderr
            assert service_answers(lab, "web1")
        rebooted = opskit("reboot", "web1")
        assert rebooted.returncode == 0, rebooted.stderr
        counted = opskit("load", "--seconds", "0.3", "--rate", "100", "--json")
        assert json.loads(counted.stdout)["failures"] == 0
    finally:
        ended = opskit("down")
    assert ended.returncode == 0, ended.stderr
    assert leftovers(folder) == []
    assert not folder.exists()
