"""Inventories of Ansible: compared with Ansible itself, printed by programs, used in whole runs."""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from opskit import load
from opskit.model.problem import ProblemsError
from tests.support.ansible import NAMES, listed, program, recorded
from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, step, until

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("case", NAMES)
def test_what_is_recorded_is_what_ansible_lists(case: str) -> None:
    ansible = program()
    if ansible is None:
        pytest.skip("no ansible-inventory on the PATH, and OPSKIT_ANSIBLE_INVENTORY names none")
    assert listed(case, ansible) == recorded(case)


def script(folder: Path, text: str, name: str = "hosts") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def told(path: Path) -> list[str]:
    _, problems = load.check_inventory(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in problems]


GOOD = '{"all": {"hosts": ["h1"]}, "_meta": {"hostvars": {}}}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo hunter2 >&2; exit 3", "hosts: `--list` ended with status 3; it said: hunter2"),
        ("kill -9 $$", "hosts: `--list` was ended by signal 9"),
        ("echo '{'", "hosts: what it printed is not JSON (line 2) → print nothing else on stdout"),
        ("echo '[]'", 'hosts: what it printed is no mapping → print {"GROUP": {"hosts": […]}}'),
        ("printf '\\377'", "hosts: what it printed is not UTF-8 → print JSON in UTF-8"),
        ("cat /dev/zero", "hosts: `--list` printed more than 16 MiB"),
        ("cat", "hosts: what it printed is not JSON (line 1) → print nothing else on stdout"),
        ("test $1 = --list || exit 4; echo '{\"a\": [\"h1\"]}'",
         "hosts: `--host` ended with status 4"),
        ("echo '{\"a\": {\"hosts\": \"h1\"}, \"b\": [\"h1\"], \"_meta\": {}}'",
         "hosts --list: the hosts of 'a' are no list of names → [\"NAME\"]"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_told_with_what_it_said(
    text: str, problem: str, tmp_path: Path
) -> None:
    assert told(script(tmp_path, text)) == [problem]


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    inner = script(tmp_path, f"echo $$ >{tmp_path}/pid; sleep 60 & echo $! >>{tmp_path}/pid; wait")
    path = tmp_path / "i.yaml"
    path.write_text(f"opskit: 1\nansible: {{inventory: {inner.name}, timeout: 1s}}\n")
    began = time.monotonic()
    assert told(path) == ["hosts: `--list` took longer than 1 s"]
    assert time.monotonic() - began < 10
    for pid in (tmp_path / "pid").read_text().split():
        until(partial(_gone, int(pid)), f"the end of {pid}")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_others_may_write_to_is_not_run(tmp_path: Path) -> None:
    path = script(tmp_path, f"touch {tmp_path}/ran; echo '{GOOD}'")
    path.chmod(0o757)
    assert told(path) == ["hosts: everybody may write to this program → chmod o-w hosts"]
    path.chmod(0o755)
    tmp_path.chmod(0o777)
    assert told(path) == [
        "hosts: everybody may put another program in its place → chmod o-w its folder"
    ]
    path.chmod(0o644)
    tmp_path.chmod(0o700)
    assert told(path) == ["hosts: it begins as a program does, and can't be run → chmod +x hosts"]
    assert not (tmp_path / "ran").exists()
    path.chmod(0o755)
    assert told(path) == []
    assert (tmp_path / "ran").exists()


def test_a_program_is_run_by_no_shell_and_not_where_nothing_may_run(tmp_path: Path) -> None:
    path = script(tmp_path, f"touch {tmp_path}/ran; echo '{GOOD}'", "my hosts; touch oops $(id)")
    with pytest.raises(ProblemsError, match="it is a program"):
        load.inventory(path, run=False)
    assert not (tmp_path / "ran").exists()
    assert list(load.inventory(path).hosts) == ["h1"]
    assert {name.name for name in tmp_path.iterdir()} == {path.name, "ran"}


def hostvars(fleet: Fleet) -> Mapping[str, Mapping[str, object]]:
    """Return how the hosts of the lab are reached, in the words of Ansible."""
    lab = load.inventory(fleet.lab.inventory)
    return {
        name: {
            "ansible_host": host.address,
            "ansible_port": host.connection.port or 22,
            "ansible_user": host.connection.user,
            "ansible_ssh_private_key_file": host.connection.key,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.connection.known_hosts}",
        }
        for name, host in lab.hosts.items()
        if name in lab.groups["web"]
    }


def test_a_run_on_hosts_of_ini_with_vars_beside_it(fleet: Fleet) -> None:
    found = hostvars(fleet)
    lines = [
        f"{name} " + " ".join(f"{key}='{value}'" for key, value in own.items())
        for name, own in found.items()
    ]
    ini = fleet.folder / "hosts"
    ini.write_text("\n".join(["[web]", *lines, "[eu:children]", "web"]))
    (fleet.folder / "group_vars").mkdir()
    (fleet.folder / "group_vars/eu.yml").write_text("greeting: hello\nurl: '{{ x }}'\n")
    (fleet.folder / "host_vars").mkdir()
    (fleet.folder / "host_vars/web2.yml").write_text("greeting: hi there\n")
    assert "4 hosts: 4 ok" in fleet.opskit("hosts", "check", "eu", "-i", ini).stdout
    path = fleet.runbook("  - run: echo {{ vars.greeting }} {{ host.groups | length }}\n")
    fleet.opskit("run", path, "-i", ini, "--yes", "--limit", "web1:web2")
    said = [fleet.opskit("output", "last", "1", name).stdout for name in ("web1", "web2")]
    assert said == ["hello 2\n", "hi there 2\n"]
    fleet.proved()
    refused = fleet.runbook("  - run: echo {{ vars.url | default(1) }}\n")
    assert "`url` is not known here" in fleet.opskit("plan", refused, "-i", ini, status=2).stderr
    linted = fleet.opskit("lint", "-i", ini).stdout
    assert "group_vars/eu.yml:2:1: warning: `url` is not known here" in linted


def test_a_run_goes_on_with_what_a_program_said_when_it_began(fleet: Fleet) -> None:
    groups = {"web": {"hosts": [*hostvars(fleet)]}, "_meta": {"hostvars": hostvars(fleet)}}
    path = script(fleet.folder, f"cat <<'E'\n{json.dumps(groups)}\nE", "dynamic")
    trouble = Trouble(fleet=fleet)
    two = step("two", did("two-{{ want }}") + "; test {{ want }} = good", on_failure="ask")
    book = trouble.write(two, "", hosts="web1")
    more = "params: {tag: {type: string}, want: {type: string, default: bad}}\n"
    book.write_text(book.read_text().replace("params: {tag: {type: string}}\n", more))
    trouble.run("-i", str(path), status=4)
    path.unlink()
    fleet.opskit("decide", "last", "retry", "-p", "want=good")
    assert trouble.tally("web1") == ["two-bad", "two-good"]
    fleet.proved()
