"""Whether a run is for the hosts of an inventory, whatever path the file of that has by now."""

import os
from collections.abc import Mapping
from pathlib import Path

from opskit.audit import Store
from opskit.model.inventory import Host
from opskit.model.run import Run


def of_inventory(store: Store, run: Run, file: str, hosts: Mapping[str, Host]) -> bool:
    """Tell whether a run is for an inventory: its `file`, and `hosts` of it.

    Another copy of it, as on another machine or of another release, counts as the same: a file of
    the same name that has one of its hosts at the same address. Many inventories are called
    hosts.yaml, each in a folder of its own, so the name alone says nothing.
    """
    here = os.path.realpath(file)
    if run.inventory == here:
        return True
    plan = store.plan(run.id)
    # A record from before the whole path was kept has it as it was written, to an unknown folder.
    there = Path(run.inventory or plan.inventory)
    if there.is_absolute() and os.path.realpath(there) == here:
        return True
    return there.name == Path(here).name and any(
        name in hosts and hosts[name].address == host.address for name, host in plan.hosts.items()
    )
