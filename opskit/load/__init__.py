"""Files → Runbook, Inventory, parameters, and every problem in them."""

from opskit.load.hosts import select
from opskit.load.inventory import check_inventory, inventory
from opskit.load.parameters import Parameters, changed, parameters
from opskit.load.params import WrongValueError, value_of
from opskit.load.plain import mapping
from opskit.load.runbook import check, kind, lint, runbook
from opskit.model.value import Json

__all__ = [
    "Parameters",
    "WrongValueError",
    "changed",
    "check",
    "check_inventory",
    "checks_schema",
    "inventory",
    "expectations_schema",
    "inventory_schema",
    "kind",
    "ledger_schema",
    "lint",
    "mapping",
    "parameters",
    "runbook",
    "schedules_schema",
    "schema",
    "select",
    "value_of",
]


def schema() -> Json:
    """Return the JSON Schema (2020-12) of a runbook file, from the tables of keys."""
    from opskit.load.schemas import runbook_schema  # only `opskit schema` needs it

    return runbook_schema()


def expectations_schema() -> Json:
    """Return the JSON Schema of files that say what a database is expected to have."""
    from opskit.load.schemas import expectations_schema as made

    return made()


def ledger_schema() -> Json:
    """Return the JSON Schema of files that describe a ledger."""
    from opskit.load.schemas import ledger_schema as made

    return made()


def checks_schema() -> Json:
    """Return the JSON Schema of files of health checks."""
    from opskit.load.schemas import checks_schema as made

    return made()


def schedules_schema() -> Json:
    """Return the JSON Schema of files of schedules."""
    from opskit.load.schemas import schedules_schema as made

    return made()


def inventory_schema() -> Json:
    """Return the JSON Schema (2020-12) of an inventory file."""
    from opskit.load.schemas import inventory_schema as made

    return made()
