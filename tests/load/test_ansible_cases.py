"""Inventories of Ansible are read as Ansible lists them; see tests/support/ansible.py."""

import json

import pytest

from opskit import load
from opskit.model.inventory import Inventory
from tests.support.ansible import NAMES, expected, inventory_of, ours, recorded

PROGRAMS = ("program", "old-program", "folder")
"""Cases that start a process; they are in the acceptance tests."""


def read(case: str) -> Inventory:
    found, problems = load.check_inventory(inventory_of(case))
    assert [str(problem) for problem in problems if problem.severity == "error"] == []
    assert found is not None
    return found


CASES = pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.acceptance] if name in PROGRAMS else [])
        for name in NAMES
    ],
)


@CASES
def test_hosts_groups_and_vars_are_those_that_ansible_lists(case: str) -> None:
    found = read(case)
    assert json.loads(json.dumps(ours(found))) == expected(recorded(case), found.withheld)


@CASES
def test_what_is_kept_of_it_gives_the_same_without_the_disk(case: str) -> None:
    found = read(case)
    kept = {found.file: found.source, **found.others}
    assert load.inventory(inventory_of(case), kept=kept) == found
