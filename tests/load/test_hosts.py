"""Host expressions: united, kept, taken away; never more hosts than were named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit import load
from opskit.errors import InputError
from opskit.load.hosts import ExpressionError, resolve
from opskit.model.inventory import Inventory

HOSTS = ("web1", "web2", "web3", "db1", "db2", "lb1")
GROUPS = {"web": HOSTS[:3], "db": HOSTS[3:5], "eu": ("web2", "web3", "db2"), "none": ()}


@pytest.mark.parametrize(
    ("expression", "hosts"),
    [
        ("all", HOSTS),
        ("web2", ("web2",)),
        ("web", HOSTS[:3]),
        ("db:web1", ("web1", "db1", "db2")),
        ("web1,db1", ("web1", "db1")),
        ("web:!web3", ("web1", "web2")),
        ("!web3:web", ("web1", "web2")),
        ("web:db:&eu", ("web2", "web3", "db2")),
        ("&eu:web:db:!db2", ("web2", "web3")),
        ("!web", ("db1", "db2", "lb1")),
        ("web*", HOSTS[:3]),
        ("*1", ("web1", "db1", "lb1")),
        ("db[2-9]", ("db2",)),
        ("web?:!*3", ("web1", "web2")),
        (" web : !web1 ", ("web2", "web3")),
        ("none", ()),
        ("web:&db", ()),
    ],
)
def test_an_expression_names_hosts_in_the_order_of_the_inventory(
    expression: str, hosts: tuple[str, ...]
) -> None:
    assert resolve(HOSTS, GROUPS, expression) == hosts


@pytest.mark.parametrize(
    ("expression", "told", "write"),
    [
        ("wbe", "no host or group 'wbe'", "web"),
        ("web:!dbs", "no host or group 'dbs'", "db"),
        ("cache*", "no host matches 'cache*'", "one of the groups web, db, eu, none"),
        ("", "'' is no term of a host expression", "a host, a group or all"),
        ("web:", "'' is no term of a host expression", "a host, a group or all"),
        ("web:!!db", "'!!db' is no term of a host expression", "a host, a group or all"),
        ("web;id", "'web;id' is no term of a host expression", "a host, a group or all"),
    ],
)
def test_a_wrong_expression_is_told(expression: str, told: str, write: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        resolve(HOSTS, GROUPS, expression)
    assert caught.value.what == told
    assert caught.value.write.startswith(write)


names = st.sampled_from([*HOSTS, *GROUPS, "all"])
terms = st.lists(st.tuples(st.sampled_from(["", "!", "&"]), names), min_size=1, max_size=5)


@given(terms, st.randoms())
def test_the_order_of_terms_does_not_matter(words: list[tuple[str, str]], chance: object) -> None:
    written = [sign + name for sign, name in words]
    there = resolve(HOSTS, GROUPS, ":".join(written))
    assert resolve(HOSTS, GROUPS, ":".join(reversed(written))) == there


@given(terms)
def test_who_is_excluded_stays_excluded(words: list[tuple[str, str]]) -> None:
    found = resolve(HOSTS, GROUPS, ":".join(sign + name for sign, name in words))
    for sign, name in words:
        members = set(GROUPS.get(name, HOSTS if name == "all" else (name,)))
        if sign == "!":
            assert not members & set(found)
        elif sign == "&":
            assert set(found) <= members


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    path = tmp_path / "hosts.yaml"
    path.write_text("opskit: 1\nhosts: {web1: , web2: , db1: }\ngroups: {web: [web2, web1]}\n")
    return load.inventory(path)


def test_select_names_the_inventory_in_its_error(inventory: Inventory) -> None:
    assert load.select(inventory, "web") == ("web1", "web2")
    with pytest.raises(InputError) as caught:
        load.select(inventory, "wbe")
    assert (
        str(caught.value)
        == f"{inventory.file}: no host or group 'wbe'\n  → web (hosts: web1, web2, db1)"
    )


def test_select_refuses_to_select_nobody(inventory: Inventory) -> None:
    with pytest.raises(InputError, match="'web:!web' selects no host"):
        load.select(inventory, "web:!web")
