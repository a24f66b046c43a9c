"""The SQL of the stores, by name; it all stands in `sql/`."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FOLDER = Path(__file__).parent / "sql"


@cache
def named(dialect: Literal["sqlite", "postgres"]) -> Mapping[str, str]:
    """Return every query by its name: those that all stores share, and those of this one."""
    found: dict[str, str] = {}
    for file in ("queries.sql", f"{dialect}/queries.sql"):
        parts = _NAME.split(script(file))
        found |= dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    return found


def script(file: str) -> str:
    """Return the text of one file of `sql/`."""
    return (_FOLDER / file).read_text(encoding="utf-8")


def scripts(folder: str) -> Mapping[str, str]:
    """Return the scripts in a folder of `sql/` by their names without the ending, in order."""
    files = sorted((_FOLDER / folder).glob("*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}
