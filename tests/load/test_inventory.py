"""Inventories: what wins over what, and where relative paths lead."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from opskit import load
from opskit.model.inventory import Connection, Inventory
from opskit.model.problem import ProblemsError
from opskit.model.value import Json

TEXT = """
opskit: 1
connection: {user: ops, port: 2222, key: keys/id, known_hosts: ~/.ssh/known, ssh_config: /etc/s}
vars: {where: top, who: top, deep: {a: 1, b: 2}}
hosts:
  web1: {address: 10.0.0.1, vars: {who: host}, connection: {port: 22, jump: 'root@gate:2200'}}
  web2: 10.0.0.2
  web3:
  six: '2001:db8::1'
groups:
  late: [web1, web2]
  web: {hosts: [web1, web2, web3], vars: {where: web, which: web}, connection: {user: www}}
  eu: {groups: [web], vars: {where: eu, which: eu, deep: {c: 3}}, connection: {user: eu, key: ~/k}}
  world: {groups: [eu], vars: {which: world, size: big}}
services:
  app: {hosts: web, root: /srv/app, port: 8000, restart: [systemctl, restart, app], user: app}
  batch: {hosts: 'web1', notes: [a, {b: 1}]}
balancers:
  front: {type: nginx, hosts: six, members: 'web:!web3', port: 8000, file: /etc/front.conf}
secrets: {a: 'env:TOKEN', b: file:secret.txt, c: 'cmd:pass show x', d: file:~/x}
"""


def read(tmp_path: Path, text: str = TEXT) -> Inventory:
    path = tmp_path / "production.yaml"
    path.write_text(text)
    return load.inventory(path)


def test_a_host_is_a_table_an_address_or_only_a_name(tmp_path: Path) -> None:
    hosts = read(tmp_path).hosts
    addresses = {name: host.address for name, host in hosts.items()}
    assert addresses == {
        "web1": "10.0.0.1", "web2": "10.0.0.2", "web3": "web3", "six": "2001:db8::1"
    }  # fmt: skip


def test_vars_host_wins_over_inner_group_over_outer_group_over_top(tmp_path: Path) -> None:
    variables = read(tmp_path).hosts["web1"].vars
    assert variables == {
        "where": "web",  # the group web lies inside eu
        "who": "host",
        "deep": {"c": 3},  # replaced as a whole
        "which": "web",
        "size": "big",
    }


def test_equally_deep_groups_win_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "opskit: 1\nhosts: {a: }\ngroups:\n"
    text += "  one: {hosts: [a], vars: {x: one}}\n  two: {hosts: [a], vars: {x: two}}\n"
    assert read(tmp_path, text).hosts["a"].vars == {"x": "two"}


def test_connections_are_merged_key_by_key_and_paths_lead_from_the_file(tmp_path: Path) -> None:
    hosts = read(tmp_path).hosts
    assert hosts["web1"].connection == Connection(
        user="www",
        port=22,
        key="~/k",
        known_hosts="~/.ssh/known",
        ssh_config="/etc/s",
        jump="root@gate:2200",
    )
    assert hosts["six"].connection.key == str(tmp_path / "keys/id")


def test_groups_hold_the_hosts_of_inner_groups_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.groups["world"] == ("web1", "web2", "web3")
    assert found.groups["all"] == ("web1", "web2", "web3", "six")
    assert found.hosts["web1"].groups == ("late", "world", "eu", "web")


def service(found: Inventory, host: str) -> Mapping[str, Mapping[str, Json]]:
    return found.hosts[host].services


def test_a_service_is_on_the_hosts_that_it_names(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert list(service(found, "web1")) == ["app", "batch"]
    assert list(service(found, "web3")) == ["app"]
    assert service(found, "six") == {}
    assert found.services["app"]["hosts"] == ("web1", "web2", "web3")
    assert found.services["batch"]["notes"] == ("a", {"b": 1})


def test_a_host_says_what_differs_and_null_takes_back(tmp_path: Path) -> None:
    text = TEXT.replace("  web3:\n", "  web3: {services: {app: {root: /opt/app, user: null}}}\n")
    own = service(read(tmp_path, text), "web3")["app"]
    assert (own["root"], own["port"]) == ("/opt/app", 8000)
    assert "user" not in own  # `service.user is defined` must say no
    everywhere = text.replace("root: /opt/app, user: null", "root: null, notes: null")
    assert {"root", "notes"}.isdisjoint(service(read(tmp_path, everywhere), "web3")["app"])


def test_a_balancer_knows_its_members_by_name(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.hosts["six"].balancers["front"]["members"] == ("web1", "web2")
    assert found.hosts["web1"].balancers == {}


def test_secrets_are_references_with_paths_from_the_file(tmp_path: Path) -> None:
    sources = {name: secret.source for name, secret in read(tmp_path).secrets.items()}
    assert sources == {
        "a": "env:TOKEN",
        "b": f"file:{tmp_path}/secret.txt",
        "c": "cmd:pass show x",
        "d": "file:~/x",
    }


def test_a_secret_written_into_the_file_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, TEXT.replace("'env:TOKEN'", "hunter2hunter2"))
    assert "hunter2" not in str(caught.value)


def test_the_source_is_kept_for_the_record(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.source == TEXT
    assert len(found.digest) == 64


def test_a_missing_inventory_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="there is no such file"):
        load.inventory(tmp_path / "nowhere.yaml")


def test_five_hundred_hosts_in_nested_groups_load_quickly(tmp_path: Path) -> None:
    hosts = "".join(f"  h{i}: {{address: 10.0.{i // 250}.{i % 250}}}\n" for i in range(500))
    groups = "".join(f"  g{i}: {{groups: [g{i + 1}], hosts: [h{i}]}}\n" for i in range(30))
    text = f"opskit: 1\nhosts:\n{hosts}groups:\n{groups}  g30: [h30]\n"
    found = read(tmp_path, text)
    assert len(found.groups["g0"]) == 31
    assert found.hosts["h30"].groups[-1] == "g30"


def test_a_database_is_named_with_what_is_to_be_asserted_of_it(tmp_path: Path) -> None:
    text = "opskit: 1\nhosts: {db1: }\nsecrets: {word: env:WORD}\ndatabases:\n"
    text += "  main: {url: 'postgresql://app@db1:5433/app?sslmode=require', password: word,\n"
    text += "         via: db1, system_identifier: 7000000000000000001, read_role: reader}\n"
    text += "  copy: {url: 'postgresql://app@/app?host=/run/postgresql', standby: true}\n"
    main, copy = read(tmp_path, text).databases.values()
    assert (main.password, main.via, main.read_role) == ("word", "db1", "reader")
    assert main.system_identifier == "7000000000000000001"
    assert (copy.standby, copy.marker_schema, copy.password) == (True, "opskit_db", None)


def test_a_password_in_the_address_of_a_database_is_shown_nowhere(tmp_path: Path) -> None:
    text = "opskit: 1\nhosts: {db1: }\ndatabases:\n"
    text += "  a: {url: 'postgresql://app:hidden0@db1/app'}\n"
    text += "  b: {url: 'postgresql://app@db1/app?password=hidden0'}\n"
    text += "  c: {url: 'postgresql://app:hidden0@db1:x/'}\n"
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, text)
    assert "hidden0" not in str(caught.value)
    assert len(caught.value.problems) == 3
