"""Labs begin and end, as root or not, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from opskit import lab as labs
from opskit.errors import InputError, OpskitError
from opskit.lab import processes
from opskit.lab.layout import Mode
from opskit.lab.load import Load
from tests.lab.conftest import Stranger
from tests.lab.remote import leftovers, service_answers, ssh, ssh_words

pytestmark = pytest.mark.acceptance


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
        pids: list[int] = []
        end = time.monotonic() + 60
        while len(pids) < 6:
            assert time.monotonic() < end, pids
            pids = [pid for name in ("web1", "lb1") for pid in second.pids(name)]
    finally:
        second.down()
    session.wait(60)
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
    assert first.layout.ready
    pids = processes.families(processes.marked(folder))
    assert processes.end(found for pid in pids if (found := processes.identify(pid))) == ()
    second = labs.up(folder, web=1, lb=0)
    try:
        assert ssh(second, "web1", "true").returncode == 0
    finally:
        second.down()
    assert leftovers(folder) == []


def test_where_namespaces_are_refused_the_lab_says_so_and_works(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("shows what root of a container without CAP_SYS_ADMIN gets")
    kept = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,sys_chroot"
    bounds = "-all," + ",".join(f"+{name}" for name in kept.split(","))
    words = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", sys.executable, "-m"]
    words += ["opskit", "lab", "up", "--web", "1", "--dir", str(tmp_path / "lab")]
    began = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    try:
        assert began.returncode == 0, began.stderr
        assert "hosts share this machine's files and processes" in began.stdout
        assert "does not allow namespaces: unshare" in began.stdout
        lab = labs.Lab.load(tmp_path / "lab")
        assert ssh(lab, "web1", "true").returncode == 0
        with Load(url=lab.url, rate=100) as load:
            time.sleep(0.2)
            assert load.stop().failures == 0
    finally:
        labs.down(tmp_path / "lab")
    assert leftovers(tmp_path / "lab") == []


@pytest.mark.parametrize("isolation", [[], ["--isolation", "shared"]])
def test_an_ordinary_user_has_a_lab_too(stranger: Stranger, isolation: list[str]) -> None:
    try:
        assert "there is no sudo" in stranger.lab("up", "--web", "1", *isolation)
        lab = labs.Lab.load(stranger.home / "lab")
        login = stranger.run(*ssh_words(lab, "web1", "id -un; pwd"))
        assert login.stdout.split() == [stranger.name, str(stranger.home)], login.stderr
        stranger.lab("exec", "web1", "--", "true")
        for fault in (["freeze"], ["cut"], ["cut", "--reset"]):
            stranger.lab(*fault, "web1")
            assert not service_answers(lab, "web1")
            stranger.lab("heal", "web1")
            assert service_answers(lab, "web1")
        stranger.lab("reboot", "web1")
        counted = stranger.lab("load", "--seconds", "0.3", "--rate", "100", "--json")
        assert json.loads(counted)["failures"] == 0
    finally:
        stranger.lab("down")
    assert leftovers(stranger.home / "lab") == []
    assert not (stranger.home / "lab").exists()


def test_every_command_answers_a_program_with_one_object(tmp_path: Path) -> None:
    folder = tmp_path / "lab"

    def opskit(*words: str, status: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "opskit", "lab", *words],
            env={**os.environ, "OPSKIT_LAB": str(folder)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    try:
        up = opskit("up", "--web", "1", "--lb", "0", "--json")
        assert up["inventory"] == str(folder / "inventory.yaml")
        assert [host["name"] for host in up["hosts"]] == ["web1"]
        assert opskit("status", "--json") == up
        command = ["sh", "-c", "printf '\\377'; exit 3"]
        done = opskit("exec", "--json", "web1", "--", *command, status=3)
        assert (done["status"], done["stdout"]["base64"]) == (3, "/w==")
        assert done["stderr"] == {"text": ""}
        offered = subprocess.run(
            [sys.executable, "-m", "opskit"],
            capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "OPSKIT_LAB": str(folder), "_OPSKIT_COMPLETE": "bash_complete",
                 "COMP_WORDS": "opskit lab freeze ", "COMP_CWORD": "3"},
        )  # fmt: skip
        assert offered.stdout == "plain,web1\n"
        assert opskit("freeze", "web1", "--json")["state"] == "frozen"
        assert opskit("heal", "web1", "--json")["state"] == "up"
        assert opskit("cut", "web1", "--json")["state"] == "cut"
        assert opskit("heal", "web1", "--json")["name"] == "web1"
        assert opskit("reboot", "web1", "--json")["state"] == "up"
        made = opskit("release", "B", "-o", str(tmp_path / "b.tar.gz"), "--json")
        assert Path(made["file"]).is_file()
    finally:
        assert opskit("down", "--json") == {"kind": "lab", "ended": True}
    assert opskit("down", "--json") == {"kind": "lab", "ended": False}
