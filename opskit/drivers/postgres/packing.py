"""How many pages rows need: by how PostgreSQL lays them out, and what it knows of their columns.

Pure. A page has a header and a pointer for each row. A row has a header, one bit for each column
where any is NULL, and its values, each at an offset that its type asks for. All of a row is raised
to 8 bytes. It is the same for the entries of a B-tree, but for the sizes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

_PAGE_HEAD, _LINKS, _POINTER = 24, 16, 4
_ROW_HEAD, _RAISED = 23, 8
_ENTRY, _ENTRY_NULLS = 8, 16
"""The header of an entry, and of one that has a NULL."""
_LEVELS = 1.01
"""What the pages above the leaves of a B-tree add."""
_ALIGNED = {"c": 1, "s": 2, "i": 4, "d": 8}
_SHORT = 127
"""A value of no fixed length that takes no more has a head of one byte, and stands anywhere."""
_CHUNKS = 4
"""So many whole pieces of a long value (TOAST) are on a page."""


class Column(NamedTuple):
    """A column: its length (less than 0: not fixed), how its type is aligned, and of its values
    the part that is NULL and the average width; None where nobody has counted."""

    length: int
    aligned: str
    dropped: bool
    null: float | None
    width: float | None

    @property
    def known(self) -> bool:
        return self.width is not None or self.length > 0 or self.dropped


class Packed(NamedTuple):
    """How rows lie on pages that are as full as can be. `slack`: the part of one that stays free,
    which the fill factor asks for or a row does not fit into."""

    pages: int
    slack: float


def row(columns: Sequence[Column]) -> float:
    """Return how many bytes a row takes on average."""
    bits = _ROW_HEAD + math.ceil(len(columns) / 8)
    return _average(columns, _raised(_ROW_HEAD), _raised(bits))


def entry(columns: Sequence[Column]) -> float:
    """Return how many bytes an entry of an index takes on average."""
    return _average(columns, _ENTRY, _ENTRY_NULLS)


def _raised(size: int) -> int:
    return math.ceil(size / _RAISED) * _RAISED


def _average(columns: Sequence[Column], bare: int, bits: int) -> float:
    """Return the average size; `bare`, `bits`: of a header without and with a NULL.

    Where a value ends is known as far as chances: of each remainder by 8 how likely it is.
    """
    whole = 1.0
    values = 0.0
    chances = [1.0, *[0.0] * (_RAISED - 1)]
    for column in columns:
        null = 1.0 if column.dropped else column.null or 0.0
        whole *= 1 - null
        if null < 1:
            added, after = _placed(column, chances)
            values += (1 - null) * added
            chances = [null * a + (1 - null) * b for a, b in zip(chances, after, strict=True)]
    head = bare * whole + bits * (1 - whole)
    return head + values + sum(chance * (-at % _RAISED) for at, chance in enumerate(chances))


def _placed(column: Column, chances: Sequence[float]) -> tuple[float, list[float]]:
    """Return what a value adds, and where it ends."""
    width = column.length if column.length > 0 else column.width or 0.0
    short = column.length < 0 and width <= _SHORT
    step = 1 if short else _ALIGNED[column.aligned]
    raised = sum(chance * (-at % step) for at, chance in enumerate(chances))
    if column.length < 0:  # some are longer, some shorter: it ends anywhere
        return raised + width, [1 / _RAISED] * _RAISED
    after = [0.0] * _RAISED
    for at, chance in enumerate(chances):
        after[(at + -at % step + column.length) % _RAISED] += chance
    return raised + width, after


def packed(rows: float, size: float, fill: int, page: int) -> Packed:
    """Return how so many rows of so many bytes lie on pages that are made so full (hundredths)."""
    room = page - _PAGE_HEAD
    there = max(1, math.floor((room - page * (100 - fill) / 100) / (size + _POINTER)))
    slack = max(0.0, room - there * (size + _POINTER)) / page
    return Packed(pages=math.ceil(rows / there), slack=slack)


def tree(entries: float, size: float, fill: int, page: int) -> Packed:
    """Return the same for the entries of a B-tree. Equal ones share one: then it is still less."""
    room = (page - _PAGE_HEAD - _LINKS) * fill / 100
    pages = 2 + _LEVELS * entries * (size + _POINTER) / room
    return Packed(pages=math.ceil(pages), slack=0.0)


def pieces(rows: float) -> Packed:
    """Return the same for pieces of long values: no more pages than that, as the last is short."""
    return Packed(pages=math.ceil(rows / _CHUNKS), slack=0.0)
