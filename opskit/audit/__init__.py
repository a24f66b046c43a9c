"""The record: events in, runs out; it proves itself. See docs/reference/record.md."""

from pathlib import Path

from opskit.audit.chain import Finding
from opskit.audit.database import Database
from opskit.audit.holders import Driver
from opskit.audit.journal import Journal
from opskit.audit.postgres.address import is_address, parse
from opskit.audit.pulse import Kind as WishKind
from opskit.audit.pulse import Wish
from opskit.audit.store import Store
from opskit.errors import InputError

__all__ = [
    "Driver",
    "Finding",
    "Journal",
    "Store",
    "Wish",
    "WishKind",
    "database",
    "exists",
    "location",
    "open",
]


def open(place: str | Path) -> Store:  # noqa: A001 (`audit.open` is what it does)
    """Open the record at this place: a file, made when it is not there, or a URL. StoreError."""
    return Store(database(place))


def database(place: str | Path) -> Database:
    """Open what a record is kept in."""
    if is_address(str(place)):
        from opskit.audit.postgres.database import PostgresDatabase  # psycopg: only for those

        return PostgresDatabase(parse(str(place)))
    if "://" in str(place):
        raise InputError(
            f"a record can't be kept at {str(place).partition('://')[0]}://…",
            hint="OPSKIT_STORE takes the path of a file, or postgresql://HOST/DATABASE",
        )
    from opskit.audit.sqlite import SqliteDatabase

    return SqliteDatabase(Path(place).expanduser())


def location(place: str) -> str:
    """Return a place as it may be shown and recorded: without a password."""
    return parse(place).location if is_address(place) else place


def exists(place: str) -> bool:
    """Tell whether there may be a record at this place, without making one."""
    return is_address(place) or Path(place).expanduser().exists()
