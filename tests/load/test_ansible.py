"""What opskit makes of an Ansible inventory. What is wrong in one: see cases/bad-ansible, too."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from opskit import load
from opskit.model.inventory import Connection, Inventory
from opskit.model.problem import ProblemsError


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write some files; return the path of the first one."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / next(iter(files))


def read(folder: Path, **files: str) -> Inventory:
    return load.inventory(written(folder, {"hosts.ini": "h1\n", **files}))


def told(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return all problems; the path of the folder is left out."""
    _, problems = load.check_inventory(written(folder, files))
    return [str(problem).replace(f"{folder}/", "") for problem in problems]


OUT = "leave it out: `without_vars` under `ansible` in an opskit inventory"
SECRET = "is a secret that opskit would not use: it logs in with keys, and sudo must not ask"


def test_a_file_of_aliases_that_explodes_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    text = "all:\n  hosts: {h1: }\n  vars:\n" + "".join(f"    {line}\n" for line in lines)
    assert "aliases stand for more than" in told(tmp_path, {"hosts.yml": text})[0]


def test_files_of_vars_are_told_of_with_their_own_lines(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        {
            "hosts.ini": "[web]\nh1",
            "group_vars/web.yml": "a: 1\nansible_password: hunter2\n",
            "group_vars/all/vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
            "group_vars/wbe.yml": "a: 1",
            "host_vars/h1.yml": "- a\n",
        },
    )
    assert found == [
        (
            "group_vars/all/vault.yml:1:1: this file is encrypted (Ansible Vault): what it says "
            "can't be known → leave it out by name: `without_files` under `ansible` in an opskit "
            "inventory"
        ),
        "group_vars/wbe.yml: warning: there is no group 'wbe': nothing of this is read → web",
        f"group_vars/web.yml:2:1: `ansible_password` {SECRET} → {OUT}",
        "host_vars/h1.yml:1:1: a file of vars is a mapping → write NAME: VALUE",
    ]


def test_what_opskit_does_in_its_own_way_is_a_warning(tmp_path: Path) -> None:
    text = "h1 ansible_become=yes ansible_ssh_common_args='-o StrictHostKeyChecking=no'\n"
    assert told(tmp_path, {"hosts.ini": text}) == [
        "hosts.ini:1:1: warning: `ansible_become` has no meaning here → steps say `sudo: USER`",
        (
            "hosts.ini:1:1: warning: host keys are checked all the same → `opskit hosts trust` "
            "learns them"
        ),
    ]


def test_connection_vars_become_a_connection_and_stay_vars(tmp_path: Path) -> None:
    host = read(tmp_path, **{"hosts.ini": (
        "h1 ansible_host=10.0.0.1 ansible_port=2222 ansible_user=deploy ansible_timeout=7"
        " ansible_ssh_private_key_file=~/.ssh/k ansible_python_interpreter=/usr/bin/python3"
        " ansible_become_user=app"
        " ansible_ssh_common_args='-C -o ControlMaster=auto -o ProxyJump=ops@gate:2200'\n"
    )}).hosts["h1"]  # fmt: skip
    assert host.address == "10.0.0.1"
    assert host.connection == Connection(
        user="deploy", port=2222, key="~/.ssh/k", jump="ops@gate:2200", connect_timeout=7
    )
    assert host.vars["ansible_become_user"] == "app"
    assert host.vars["ansible_python_interpreter"] == "/usr/bin/python3"


def test_an_address_for_a_name_keeps_its_address_and_can_be_said(tmp_path: Path) -> None:
    found = read(tmp_path, **{"hosts.ini": "[six]\n[2001:db8::1]:2222\n::1\n"})
    hosts = {name: (host.address, host.connection.port) for name, host in found.hosts.items()}
    assert hosts == {"2001-db8--1": ("2001:db8::1", 2222), "0--1": ("::1", None)}
    assert load.select(found, "six:!2001-db8--1") == ("0--1",)


WRAPPED = """opskit: 1
ansible: {inventory: ansible/hosts.ini, hosts: 'all:!win', without_files: [group_vars/*/vault.yml],
  without_vars: [ansible_become_*]}
connection: {known_hosts: known, user: weakest, state_dir: /run/opskit}
vars: {a: top, b: top}
hosts: {h1: {vars: {c: own}, connection: {read_user: reader}, services: {app: {port: 81}}}}
services: {app: {hosts: web, port: 80}}
"""
ANSIBLE = {
    "ansible/hosts.ini": "[web]\nh[1:2] ansible_user=ops\n[windows]\nwin ansible_connection=winrm\n"
    "[web:vars]\nb=ansible\nc=ansible\n",
    "ansible/group_vars/all/vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
    "ansible/group_vars/all/vars.yml": "ansible_become_password: '{{ vaulted }}'\nd: 4\n",
}


def test_an_opskit_file_says_which_part_of_an_ansible_inventory_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path, {"production.yaml": WRAPPED, **ANSIBLE})
    found, problems = load.check_inventory(path)
    assert problems == []
    assert found is not None
    assert list(found.hosts) == ["h1", "h2"]
    assert found.groups == {
        "all": ("h1", "h2"), "ungrouped": (), "web": ("h1", "h2"), "windows": ()
    }  # fmt: skip
    assert found.hosts["h1"].vars == {
        "a": "top", "b": "ansible", "c": "own", "d": 4, "ansible_user": "ops"
    }  # fmt: skip
    assert found.hosts["h1"].connection == Connection(
        user="ops", known_hosts=str(tmp_path / "known"), state_dir="/run/opskit", read_user="reader"
    )
    assert found.vars == {"a": "top", "b": "top", "d": 4}
    assert [host.services["app"]["port"] for host in found.hosts.values()] == [81, 80]
    kept = {found.file: found.source, **found.others}
    assert set(kept) == {
        str(tmp_path / name)
        for name in ("production.yaml", "ansible/hosts.ini", "ansible/group_vars/all/vars.yml")
    }
    assert load.inventory(path, kept=kept) == found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("'all:!win'", "web", ""),
        ("'all:!win'", "wbe", "2:1: `hosts`: no host or group 'wbe' → web"),
        ("*/vault", "none", ("2:1: `without_files` leaves out 'group_vars/none.yml', and there is "
         "no such file → a path below ansible, such as group_vars/all/vault.yml")),
        ("{h1: {vars", "{h3: {vars", ("6:9: the Ansible inventory has no host 'h3' → write it into "
         "that inventory")),
        ("{h1: {vars", "{h1: {address: x, vars", ("6:9: the address of h1 comes from the Ansible "
         "inventory → write {services: …, vars: …, connection: …}")),
        ("services: {app: {hosts", "groups: {x: [h1]}\nservices: {app: {hosts", ("7:1: `groups` "
         "beside `ansible`: groups come from there → write them into that inventory")),
        ("inventory: ansible", "inventory: missing", "missing/hosts.ini: there is no such file"),
        ("ansible/hosts.ini", "production.yaml", ("production.yaml: this is opskit's own "
         "inventory, or a runbook, and none of Ansible's → name it with -i by itself")),
    ],
)  # fmt: skip
def test_what_is_wrong_in_such_a_file_is_told(
    old: str, new: str, problem: str, tmp_path: Path
) -> None:
    found = told(tmp_path, {"production.yaml": WRAPPED.replace(old, new, 1), **ANSIBLE})
    found = [
        line.replace(str(tmp_path), "FOLDER").removeprefix("production.yaml:") for line in found
    ]
    assert problem.removeprefix("production.yaml:") in found if problem else found == []


def test_a_var_that_is_rendered_or_sealed_wins_and_is_not_known(tmp_path: Path) -> None:
    path = written(tmp_path, {
        "i.yaml": "opskit: 1\nansible: hosts.ini\nvars: {url: top, all: top, a: 1}\n",
        "hosts.ini": (
            "[web]\nh1 url=http://{{ansible_host}}/\nh2\nh3\n[web:vars]\nurl=group\n"
            "[all:vars]\nurl=all\nall={{x}}\n"
        ),
        "host_vars/h2.yml": "url: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n",
    })  # fmt: skip
    found = load.inventory(path)
    assert [host.vars for host in found.hosts.values()] == [
        {"a": 1}, {"a": 1}, {"a": 1, "url": "group"}
    ]  # fmt: skip
    assert found.vars == {"a": 1, "url": "all"}
    assert found.withheld == {
        "url": f"Ansible renders it (Jinja), {tmp_path}/hosts.ini:2:1",
        "all": f"Ansible renders it (Jinja), {tmp_path}/hosts.ini:9:1",
    }


SORTS = {
    "hosts.yml": ("all: {hosts: {h1: }}", ["h1"]),
    "hosts": ("# comment\nall:\n  hosts: {h1: }\n", ["h1"]),
    "plain": ("h1\n", ["h1"]),
    "dotted.example.org": ("h1\n", ["h1"]),
    "list.ini": ("---\nall:\n", None),
    "group.yml": ("redis: {hosts: {h1: }}\n", ["h1"]),
    "groups.yml": ("services:\n  children:\n    redis:\n      hosts:\n        h1:\n", ["h1"]),
    "own.yml": ("opskit: 1\nhosts: {h1: }\n", ["h1"]),
    "own-json.json": ('{"opskit": 1, "hosts": {"h1": null}}', ["h1"]),
    "list.json": ('{"all": {"hosts": {"h1": null}}}', ["h1"]),
    "forgotten.yml": ("hosts: {h1: }\n", None),
    "table.toml": ("[all.hosts]\nh1 = {}\n", None),
    "script": ("#!/bin/sh\necho '{}'\n", None),
}


@pytest.mark.parametrize("name", SORTS)
def test_what_a_file_is_is_told_by_its_content_and_its_ending(name: str, tmp_path: Path) -> None:
    text, hosts = SORTS[name]
    found, _ = load.check_inventory(written(tmp_path, {name: text}))
    try:
        load.inventory(tmp_path / name)
    except ProblemsError:
        assert hosts is None
    else:
        assert found is not None
        assert list(found.hosts) == hosts


def test_a_file_that_forgot_its_format_is_taken_for_opskits_own(tmp_path: Path) -> None:
    assert "add opskit: 1" in told(tmp_path, {"h.yml": "hosts: {h1: }\nconnection: {user: a}\n"})[0]


def test_digests_differ_with_any_file_that_was_read(tmp_path: Path) -> None:
    files = {"hosts.ini": "[web]\nh1\n", "group_vars/web.yml": "a: 1\n"}
    before = load.inventory(written(tmp_path, files)).digest
    assert load.inventory(written(tmp_path, files)).digest == before
    (tmp_path / "group_vars/web.yml").write_text("a: 2\n")
    assert load.inventory(tmp_path / "hosts.ini").digest != before


def test_a_host_in_several_groups_is_counted_once(tmp_path: Path) -> None:
    text = "[web]\nh[1:5100]\n[eu]\nh[1:5100]\n"
    found = read(tmp_path, **{"hosts.ini": text})
    assert len(found.groups["web"]) == len(found.groups["eu"]) == 5100
    assert "more than 10000 hosts" in told(tmp_path, {"h": f"{text}x[1:4901]\n"})[0]
