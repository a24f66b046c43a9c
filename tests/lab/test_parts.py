"""The parts of the lab that need no host."""

import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit import lab as labs
from opskit.cli import lab as cli
from opskit.errors import InputError, OpskitError
from opskit.lab import (
    address,
    failures,
    ground,
    inventory,
    layout,
    processes,
    programs,
    release,
    switches,
    texts,
)
from opskit.lab.layout import Layout, Mode


@pytest.fixture
def plan(tmp_path: Path) -> Layout:
    return Layout(
        folder=tmp_path,
        made_folder=False,
        net=7,
        mode=Mode.NAMESPACES,
        why="",
        user="ops",
        uid=2001,
        gid=2001,
        home="/home/ops",
        python="/usr/bin/python3",
        release="A",
        disk_size="64m",
        hosts=layout.fleet(2, 1, 7),
    )


def test_a_release_is_the_same_bytes_each_time_and_says_its_name(tmp_path: Path) -> None:
    first = release.write("B", tmp_path / "b1.tar.gz")
    second = release.write("B", tmp_path / "b2.tar.gz")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        names = archive.getnames()
        told = archive.extractfile("RELEASE")
        assert told is not None
        assert (names, told.read()) == (["RELEASE", "app.py", "websocket.py"], b"B\n")


def test_a_broken_release_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = release.write("C", tmp_path / "new" / "c.tar.gz", "unhealthy")
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["FAULT", "RELEASE", "app.py", "websocket.py"]
    with pytest.raises(InputError, match="no fault 'typo'"):
        release.write("C", tmp_path / "c.tar.gz", "typo")


def test_the_inventory_is_yaml_with_everything_that_opskit_asks_for(plan: Layout) -> None:
    value = yaml.safe_load(inventory.text(plan, {"web2": {"vars": {"odd": "no: 'x'"}}}))
    assert value["hosts"] == {
        "web1": {"address": "127.42.7.10"},
        "web2": {"address": "127.42.7.11", "vars": {"odd": "no: 'x'"}},
        "lb1": {"address": "127.42.7.12"},
    }
    assert value["groups"] == {
        "web": {"hosts": ["web1", "web2"]},
        "lb": {"hosts": ["lb1"]},
        "blue": {"hosts": ["web1"]},
        "green": {"hosts": ["web2"]},
    }
    assert value["services"]["app"]["user"] is None
    assert value["balancers"]["web"]["listen"] == "http://127.42.7.12:8080/"
    assert value["balancers"]["app"]["listen"] == "http://127.42.7.12:8081/alive/"
    assert "edge" not in value["balancers"]
    edge = yaml.safe_load(inventory.text(replace(plan, no_haproxy=""), {}))["balancers"]["edge"]
    assert edge["colours"] == {"blue": ["web1"], "green": ["web2"]}
    assert edge["listen"] == "http://127.42.7.12:8082/alive/"


def test_haproxy_begins_with_all_traffic_on_blue_and_asks_a_large_fleet_less_often(
    plan: Layout,
) -> None:
    conf, states, _ = texts.haproxy(plan, plan.host("lb1"), top="/x")
    assert b"server web2 127.42.7.11:8000" in conf.content
    assert b'stats socket "/x/run/haproxy.sock"' in conf.content
    assert b"inter 500ms" in conf.content
    _, _, green = states.content.decode().splitlines()
    assert green.split()[:8] == ["3", "app", "2", "web2", "127.42.7.11", "2", "8", "100"]
    large = replace(plan, hosts=layout.fleet(100, 2, 7))
    assert b"inter 4000ms" in texts.haproxy(large, large.host("lb1"), top="")[0].content


def test_what_is_no_switch_is_refused_with_examples() -> None:
    right = ["error_share=0.1", "unhealthy=quiet", 'checks={"cache": "degraded"}']
    assert switches.parse(right) == {
        "error_share": 0.1,
        "unhealthy": "quiet",
        "checks": {"cache": "degraded"},
    }
    for wrong in ("eror_share=0.1", "error_share=2", "unhealthy=loud", "slow_ms", "slow_ms=true"):
        with pytest.raises(InputError, match=r"no switch|can't be") as raised:
            switches.parse([wrong])
        assert "=" in str(raised.value.hint)


def test_a_colour_is_broken_by_its_name_and_a_balancer_has_no_service(plan: Layout) -> None:
    assert [host.name for host in switches.hosts(plan, "green")] == ["web2"]
    assert [host.name for host in switches.hosts(plan, "web")] == ["web1", "web2"]
    with pytest.raises(InputError, match="lb1 has no service"):
        switches.hosts(plan, "lb1")


@pytest.mark.parametrize("name", ["with blank", "it's: #odd", 'q"uote', "täg", "-x"])
def test_the_inventory_survives_odd_folder_names(plan: Layout, name: str) -> None:
    odd = replace(plan, folder=plan.folder / name)
    value = yaml.safe_load(inventory.text(odd, {}))
    assert value["connection"]["key"] == str(plan.folder / name / "id_ed25519")


def test_a_layout_is_read_as_it_was_written(plan: Layout) -> None:
    plan.save()
    assert layout.load(plan.folder) == plan
    (plan.folder / layout.STATE_FILE).write_text('{"version": 0}')
    with pytest.raises(InputError, match="another version"):
        layout.load(plan.folder)


def test_two_nets_are_never_the_same_and_are_given_back() -> None:
    first, holder = address.claim()
    with holder:
        second, other = address.claim()
        other.close()
        assert second != first
    third, holder = address.claim()
    holder.close()
    assert third == first


def test_a_number_that_another_process_took_over_is_not_the_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        real = processes.identify(child.pid)
        assert real is not None
        assert real.alive()
        impostor = replace(real, begun=real.begun - 1)
        assert not impostor.alive()
        assert processes.end([impostor]) == ()
        assert child.poll() is None
        assert processes.end([real]) == ()
    finally:
        child.kill()
        child.wait()


def test_up_leaves_a_folder_with_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(InputError, match="other files in it"):
        labs.up(tmp_path, web=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert not labs.down(tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"web": 0}, "1 to 200 web hosts"),
        ({"release": "../x"}, "no release id"),
        ({"disk_size": "1m,exec"}, "no size of a disk"),
        ({"folder": 'quo"te'}, "has '\"' in it"),
    ],
)
def test_what_could_not_become_a_lab_is_refused_with_nothing_made(
    tmp_path: Path, wish: dict[str, Any], said: str
) -> None:
    folder = tmp_path / wish.pop("folder", "lab")
    with pytest.raises(InputError, match=said):
        labs.up(folder, **wish)
    assert list(tmp_path.iterdir()) == []


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PATH", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="sshd, nginx") as raised:
        programs.need(["sshd", "nginx"])
    prefix = "" if os.geteuid() == 0 else "sudo "
    assert raised.value.hint == f"install with: {prefix}apt-get install nginx-light openssh-server"


def test_commands_for_a_lab_that_is_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(OpskitError, match="the lab is not there") as raised:
        labs.Lab.load(tmp_path)
    assert raised.value.hint == "run: opskit lab up"


def test_a_host_that_does_not_exist_is_named_beside_those_that_do(plan: Layout) -> None:
    with pytest.raises(InputError, match="no host 'web9'") as raised:
        plan.host("web9")
    assert raised.value.hint == "it has web1, web2, lb1"


def test_the_command_line_offers_the_faults_that_there_are() -> None:
    assert cli.FAULTS == release.FAULTS


def test_logs_tell_how_each_request_ended(plan: Layout) -> None:
    plan = replace(plan, mode=Mode.SHARED, no_haproxy="")
    logs = ground.of(plan).files(plan, plan.host("lb1")) / "var/log"
    for folder in (logs / "nginx", logs / "haproxy", plan.folder / "run"):
        folder.mkdir(parents=True)
    (logs / "nginx/access.log").write_text(
        '200 127.42.7.10:8000 200 0.003 A 1 1 1.5 "GET / HTTP/1.1"\n'
        '200 127.42.7.10:8000, 127.42.7.11:8000 502, 200 0.003 A 1 2 1.5 "POST /?x=1 HTTP/1.1"\n'
        '499 127.42.7.11:8000 - 0.003 - 1 3 1.5 "GET / HTTP/1.1"\n'
        '502 127.42.7.11:8000 502 0.003 - 1 3 1.5 "GET / HTTP/1.1"\n'
    )
    line = "time=1.5 status={} ended={} release=A upstream=127.42.7.10 method=GET path={} ms=3\n"
    told = ((200, "--", "/"), (200, "SD", "/"), (200, "CD", "/"), (101, "SD", "/ws"))
    (logs / "haproxy/access.log").write_text("".join(line.format(*words) for words in told))
    found = failures.read(plan)["balancers"]
    assert isinstance(found, dict)
    assert found["lb1"]["by_answer"] == {
        "GET / 200 A": 1,
        "POST / 200/retried A": 1,
        "GET / 499 -": 1,
        "GET / 502 -": 1,
    }
    assert found["lb1"]["by_host"] == {"web1": 1, "web2": 3}
    assert found["lb1/haproxy"]["by_answer"] == {
        "GET / 200 A": 1,
        "GET / 200/SD A": 1,
        "GET / 200/CD A": 1,
        "GET /ws 101/SD A": 1,
    }
    counts = [found[name]["failures"] for name in ("lb1", "lb1/haproxy")]
    assert counts == [1, 1], "a client that leaves is no failure of the server's"
