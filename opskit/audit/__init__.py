"""The record: events in, runs out; it proves itself. See docs/reference/record.md."""

from pathlib import Path

from opskit.audit.chain import Finding
from opskit.audit.journal import Journal
from opskit.audit.sqlite import SqliteDatabase
from opskit.audit.store import Store
from opskit.errors import InputError

__all__ = ["Finding", "Journal", "Store", "open"]


def open(location: str | Path) -> Store:  # noqa: A001 (`audit.open` is what it does)
    """Open the record at this path, and make it when it is not there. StoreError."""
    if "://" in str(location):
        raise InputError(
            f"a record can't be kept at {location}", hint="OPSKIT_STORE takes the path of a file"
        )
    return Store(SqliteDatabase(Path(location).expanduser()))
