# ruff: noqa: S608 (names are quoted, values are bound)
"""What the last statement of a deed says: what is wrong, and in words what it came to."""

from collections.abc import Sequence


def verdict(reasons: Sequence[str], more: str = "") -> str:
    """Put what is wrong into one value; empty, all is well."""
    return f"SELECT concat_ws('; ',\n  {(',' + chr(10) + '  ').join(reasons)}) AS wrong{more}"


def counted(source: str, what: str, condition: str = "true") -> str:
    """Say how many rows came to what; NULL for none."""
    return (
        f"(SELECT count(*) || CASE count(*) WHEN 1 THEN ' row ' ELSE ' rows ' END || '{what}'"
        f" FROM {source} WHERE {condition} HAVING count(*) > 0)"
    )


def said(*texts: str) -> str:
    """Put what was done into one value; NULL where that is nothing."""
    return f"nullif(concat_ws('; ', {', '.join(texts)}), '') AS told"
