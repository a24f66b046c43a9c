"""The guards of a PostgreSQL store: are all of them there, and do they still do what they did?"""

import re
from collections.abc import Mapping
from functools import cache

from opskit.audit.database import Row, Rows
from opskit.audit.postgres.schema import migrations

_TRIGGER = re.compile(r"^create (?:or replace )?trigger (\w+) .*?;", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(
    r"^create (?:or replace )?function (\w+)\(\).*?\$\$(.*?)\$\$", re.MULTILINE | re.DOTALL
)
_DROP = re.compile(r"^drop trigger (\w+) ", re.MULTILINE)

_SAFE = "search_path=pg_catalog, pg_temp"


def missing(rows: Rows) -> list[str]:
    """Say of each guard that is not there, not on, or not what it was."""
    there = {row["name"]: row for row in rows.all("guards")}
    return [
        f"the guard {name} was taken away or changed"
        for name, made in _expected().items()
        if name not in there or not _intact(there[name], made)
    ]


def _intact(found: Row, made: str) -> bool:
    body = _functions().get(found["function"])
    does = found["body"] == body and found["config"] == _SAFE
    return does and _plain(found["made"]) == made and found["fires"] == "A"


@cache
def _expected() -> Mapping[str, str]:
    """Return the guards that all migrations together leave, by name."""
    found: dict[str, str] = {}
    for migration in migrations():
        for name in _DROP.findall(migration.sql):
            found.pop(name, None)
        for match in _TRIGGER.finditer(migration.sql):
            found[match[1]] = _plain(match[0].rstrip(";"))
    return found


@cache
def _functions() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for migration in migrations():
        found |= {match[1]: match[2] for match in _FUNCTION.finditer(migration.sql)}
    return found


def _plain(text: str) -> str:
    """Write a definition as both the script and the server can be brought to write it."""
    return " ".join(text.lower().replace("opskit.", "").split())
