"""What wears out: indexes with more air than entries or ordered by old rules, and numbers that end.

Pure: values of the catalog in, findings out. How large an index should be is an estimate from
statistics; `inside.py` reads one, where that is asked for.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from opskit.drivers.postgres.catalog import (
    BIG,
    Actual,
    Collation,
    Facts,
    Numbers,
    Relation,
    Width,
)
from opskit.drivers.postgres.findings import Found

PAGE = 8192
GIB = 1 << 30
TWICE, FOUR_TIMES = 2.0, 4.0
_USABLE = PAGE - 24 - 16
"""Of a page, less its header and the links of a B-tree."""
_HEAD, _POINTER, _ALIGN = 8, 4, 8
"""Of an entry: what stands before the values, what points to it, and to what its size is raised."""
_STALE = 0.2
"""So large a part of a table's rows was changed since they were counted: the count says nothing."""
_NAMED = 5
SHORT, SHORTER = 0.7, 0.9
"""So large a part of the numbers that a column takes is used up."""


def swollen(relation: Relation, widths: Mapping[int, Width]) -> Iterator[Found]:
    """Yield big indexes that are more than twice as large as their entries need."""
    unclear: dict[str, list[str]] = {}
    for one in relation.indexes:
        if one.pages < BIG or not one.big:
            continue
        width = widths.get(one.oid)
        if why := _unclear(one, width):
            unclear.setdefault(why, []).append(one.name)
        elif width is not None:
            times = one.pages / _pages(one.rows, width)
            found = bloated(relation.name, one, times, "by an estimate from statistics")
            if found is not None:
                yield found
    for why, names in unclear.items():
        text = f"how much of {_some(names)} is air can't be told: {why}"
        yield Found(check="bloat", table=relation.name, text=text, weight="INFO")


def _unclear(one: Actual, width: Width | None) -> str:
    """Say why nothing can be estimated; "" where it can."""
    if width is None or one.rows < 0:
        return "its entries were never counted: ANALYZE the table"
    if width.unseen:
        return "the role does not see statistics of its columns (it needs SELECT on the table)"
    if width.stale > _STALE:
        return "many rows were changed since they were counted: ANALYZE the table"
    return ""


def _pages(rows: float, width: Width) -> int:
    """Return how many pages the entries need. Equal keys share one: then it is fewer still."""
    entry = math.ceil((_HEAD + width.bytes) / _ALIGN) * _ALIGN + _POINTER
    return 1 + math.ceil(rows * entry / (_USABLE * width.fill / 100))


def bloated(table: str, one: Actual, times: float, how: str) -> Found | None:
    """Weigh that an index is so many times as large as it should be; None where that is nothing."""
    if times <= TWICE:
        return None
    size = one.pages * PAGE
    grave = times > FOUR_TIMES and size > GIB
    text = f"{size >> 20} MiB, {times:.1f} times what it needs ({how}): REINDEX CONCURRENTLY"
    weight = "CRIT" if grave else "WARN"
    return Found(check="bloat", table=table, name=one.name, text=text, weight=weight)


def running_out(relation: Relation, numbers: Sequence[Numbers]) -> Iterator[Found]:
    """Yield columns whose sequence has come near to the last number that they take."""
    for one in numbers:
        if one.used <= SHORT:
            continue
        text = (
            f"{one.column} ({one.type}) is at {one.last:,} of {one.most:,} ({one.used:.0%}): no row"
            " can be inserted after the last one. Make the column and its sequence bigint before"
        )
        weight = "CRIT" if one.used > SHORTER else "WARN"
        yield Found(check="sequence", table=relation.name, name=one.name, text=text, weight=weight)


def unseen(facts: Facts) -> Iterator[Found]:
    """Say how many sequences the role may not see."""
    names = [one.name for group in facts.numbers.values() for one in group if not one.seen]
    if names:
        cure = "GRANT USAGE or SELECT on them to the role"
        text = f"how far sequences are can't be seen: {_some(names)}; {cure}"
        yield Found(check="sequence", name="sequences", text=text, weight="INFO")


def drifted(facts: Facts) -> Iterator[Found]:
    """Yield collations that order otherwise than when indexes were built by them."""
    for oid, collation in facts.collations.items():
        if collation.noted == collation.now:
            continue
        names = [
            one.name
            for group in facts.relations.values()
            for relation in group
            for one in relation.indexes
            if oid in one.collations.split()
        ]
        if names:
            yield _drift(collation, names)


def _drift(collation: Collation, names: Sequence[str]) -> Found:
    if collation.noted is None:
        text = f"by which version of it {_some(names)} was ordered was not noted"
        return Found(check="collation", name=collation.name, text=text, weight="INFO")
    after = f"ALTER COLLATION {collation.name} REFRESH VERSION"
    if collation.name == "default":
        after = "ALTER DATABASE … REFRESH COLLATION VERSION"
    text = (
        f"{_some(names)} may be ordered by version {collation.noted} of it, and "
        f"{collation.now or 'none'} is here: rows are missed. REINDEX, then {after}"
    )
    return Found(check="collation", name=collation.name, text=text)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more
