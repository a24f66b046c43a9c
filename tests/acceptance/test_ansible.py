"""Inventories of Ansible: opskit reads of them what Ansible lists."""

import pytest

from tests.support.ansible import NAMES, listed, program, recorded

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("case", NAMES)
def test_what_is_recorded_is_what_ansible_lists(case: str) -> None:
    ansible = program()
    if ansible is None:
        pytest.skip("no ansible-inventory on the PATH, and OPSKIT_ANSIBLE_INVENTORY names none")
    assert listed(case, ansible) == recorded(case)
