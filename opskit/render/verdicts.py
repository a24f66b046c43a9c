# ruff: noqa: S608 (names are quoted, values are bound)
"""What the last statement of a deed says: what is wrong, and in words what it came to."""

from collections.abc import Sequence

EQUAL = "OPERATOR(pg_catalog.=)"
"""What stands between values whose type is the table's: another in the path may fit it better.

Whoever may CREATE in a schema of the search path could have a function or operator of their own
carried out by whoever names one without its schema; so no name stands here that theirs could fit
better. The path itself has to stay, for the triggers of the table.
"""


def verdict(reasons: Sequence[str], more: str = "") -> str:
    """Put what is wrong into one value; empty, all is well."""
    lines = (",\n  ").join(reasons)
    return f"SELECT pg_catalog.concat_ws('; ',\n  {lines}) AS wrong{more}"


def counted(source: str, what: str, condition: str = "true") -> str:
    """Say how many rows came to what; NULL for none."""
    return (
        f"(SELECT count(*)::text || CASE count(*) WHEN 1 THEN ' row ' ELSE ' rows ' END || '{what}'"
        f" FROM {source} WHERE {condition} HAVING count(*) > 0)"
    )


def said(*texts: str) -> str:
    """Put what was done into one value; NULL where that is nothing."""
    return f"nullif(pg_catalog.concat_ws('; ', {', '.join(texts)}), '') AS told"
