"""Inventories that Ansible lists, and how it lists them.

Each folder in tests/cases/ansible has one, and NAME.json beside it has what `ansible-inventory
--list` said. To record that anew, with Ansible on the PATH or OPSKIT_ANSIBLE_INVENTORY naming it:

    .venv/bin/python -m tests.support.ansible
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.load.ansible.taken import own_name
from opskit.model.inventory import Inventory

CASES = Path(__file__).parent.parent / "cases" / "ansible"
NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())
Listing = Mapping[str, Any]


def inventory_of(case: str) -> Path:
    """Return what `-i` is to name in a case: the only thing there that is no folder of vars."""
    there = [path for path in (CASES / case).iterdir() if not path.name.endswith("_vars")]
    assert len(there) == 1, there
    return there[0]


def recorded(case: str) -> Listing:
    found: Listing = json.loads((CASES / f"{case}.json").read_text())
    return found


def program() -> str | None:
    """Return the real `ansible-inventory`, None where there is none."""
    return os.environ.get("OPSKIT_ANSIBLE_INVENTORY") or shutil.which("ansible-inventory")


def listed(case: str, ansible: str) -> Listing:
    """Let Ansible list an inventory: by its defaults, whatever is configured on this machine."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "ansible.cfg").write_text("[defaults]\n")
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE")
        }
        environ |= {"HOME": home, "ANSIBLE_CONFIG": f"{home}/ansible.cfg", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [ansible, "-i", str(inventory_of(case)), "--list"],
            env=environ, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, check=True,
        )  # fmt: skip
    return plain(json.loads(done.stdout))


def plain(found: Mapping[str, Any]) -> Listing:
    """Return hosts with their vars, and groups with all of their hosts."""
    hostvars = found["_meta"]["hostvars"]
    within: dict[str, set[str]] = {}

    def members(name: str) -> set[str]:
        if name not in within:
            group = found.get(name, {})
            within[name] = set(group.get("hosts", []))
            for child in group.get("children", []):
                within[name] |= members(child)
        return within[name]

    members("all")
    hosts = {name: hostvars.get(name, {}) for name in sorted(within["all"])}
    return {"hosts": hosts, "groups": {name: sorted(within[name]) for name in sorted(within)}}


def ours(found: Inventory) -> Listing:
    """Return the same of an inventory that opskit has read."""
    hosts = {name: json.loads(json.dumps(host.vars)) for name, host in sorted(found.hosts.items())}
    groups = {name: sorted(hosts) for name, hosts in sorted(found.groups.items())}
    return {"hosts": hosts, "groups": groups}


def expected(listing: Listing, withheld: Mapping[str, str]) -> Listing:
    """Return what opskit must make of Ansible's listing: names of IPv6, no values of Jinja."""
    hosts = {
        own_name(name): {key: _safe(value) for key, value in found.items() if not _unknown(value)}
        for name, found in listing["hosts"].items()
    }
    unknown = {
        key
        for found in listing["hosts"].values()
        for key, value in found.items()
        if _unknown(value)
    }
    assert unknown == withheld.keys()
    groups = {
        name: sorted(own_name(host) for host in hosts) for name, hosts in listing["groups"].items()
    }
    return {"hosts": hosts, "groups": groups}


def _safe(value: object) -> object:
    """Return what is marked as never to be rendered: a text as any other."""
    return (
        value["__ansible_unsafe"]
        if isinstance(value, dict) and "__ansible_unsafe" in value
        else value
    )


def _unknown(value: object) -> bool:
    text = json.dumps(value)
    unsafe = "__ansible_unsafe" in text
    return "__ansible_vault" in text or (("{{" in text or "{%" in text) and not unsafe)


def main() -> None:
    ansible = program()
    assert ansible is not None, "there is no ansible-inventory: set OPSKIT_ANSIBLE_INVENTORY"
    for case in NAMES:
        text = json.dumps(listed(case, ansible), indent=1, sort_keys=True, ensure_ascii=False)
        (CASES / f"{case}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
