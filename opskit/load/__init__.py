"""Files → Runbook, Inventory, parameters, and every problem in them."""

from opskit.load.hosts import select
from opskit.load.inventory import check_inventory, inventory
from opskit.load.parameters import Parameters, parameters
from opskit.load.params import WrongValueError, value_of
from opskit.load.plain import mapping
from opskit.load.runbook import check, runbook

__all__ = [
    "Parameters",
    "WrongValueError",
    "check",
    "check_inventory",
    "inventory",
    "mapping",
    "parameters",
    "runbook",
    "select",
    "value_of",
]
