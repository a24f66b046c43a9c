"""The SQL of the store, by name; it all stands in `sql/`."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def named() -> Mapping[str, str]:
    """Return every query by its name."""
    parts = _NAME.split(_read("queries.sql"))
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def schema() -> str:
    """Return the script that makes an empty store."""
    return _read("schema.sql")


def upgrade(to: int) -> str:
    """Return the script that brings a store to a format from the one before it."""
    return _read(f"format-{to}.sql")


def _read(file: str) -> str:
    return (Path(__file__).parent / "sql" / file).read_text(encoding="utf-8")
