"""Databases of an inventory, made fit for changes."""

from collections.abc import Sequence

from opskit.app import find
from opskit.app import secrets as fetching
from opskit.errors import InputError
from opskit.model.inventory import Database, Inventory
from opskit.settings import Settings


def marks(
    settings: Settings, inventory: str | None, name: str, role: str | None, *, payouts: bool
) -> Sequence[str]:
    """Return the statements that make the tables in which changes leave their marks.

    `payouts`: those, too, in which it is kept what is held and switched off.
    """
    from opskit.drivers.postgres.databases import tables

    schema = _named(find.inventory(settings, inventory), name).marker_schema
    return tables(schema, role, payouts=payouts)


def init(
    settings: Settings, inventory: str | None, name: str, role: str | None, *, payouts: bool
) -> str:
    """Make those tables, unless they are there; return the name of their schema."""
    from opskit.drivers.targets import Targets

    found = find.inventory(settings, inventory)
    database = _named(found, name)
    secret = database.password
    known = {secret: fetching.one(found.secrets, secret, settings.environ)} if secret else {}
    targets = Targets("init", found.hosts, databases=found.databases, secrets=known, runbook="db")
    try:
        targets.make_marks(name, role, payouts=payouts)
    finally:
        targets.close()
    return database.marker_schema


def _named(inventory: Inventory, name: str) -> Database:
    if name not in inventory.databases:
        raise InputError(
            f"there is no database {name!r}",
            where=inventory.file,
            hint=f"its databases: {', '.join(sorted(inventory.databases)) or 'none'}",
        )
    return inventory.databases[name]
