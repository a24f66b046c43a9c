"""Rows of a query that are made keys many at once: what must be true of each is asked of all.

Nothing is refused here. Where a whole is not plainly right each of its rows is looked at by itself
(`supply`), which says which one can't be, and why.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter

from opskit.drivers.redis.connection import encoded
from opskit.drivers.redis.supply import (
    LONGEST_KEY,
    LONGEST_VALUE,
    Heap,
    fixed_time,
    too_long,
)
from opskit.model.warm import Source, Table
from opskit.steps import globs
from opskit.steps.warm import FIELD

_PRINTABLE = bytes(range(0x20, 0x7F))


class Columns:
    """Makes keys of rows, where all is plainly right."""

    def __init__(self, source: Source, allow: tuple[str, ...], *, long: bool) -> None:
        self._keys, self._values = _column(source.key), _column(source.value)
        time = fixed_time(source.ttl)
        self._time = 0 if time is None or too_long(time, long=long) else time
        self._starts = _starts(allow)

    def made(self, rows: Table) -> Heap | None:
        """Return what the rows become; None where that has to be asked row by row."""
        if not self._time or not self._starts:
            return None
        try:
            keys, values = self._keys(rows), self._values(rows)
            if keys is None or values is None:
                return None
            if not self._sound(keys) or max(map(len, values)) > LONGEST_VALUE:
                return None
        except TypeError:  # a cell without a value has no length
            return None
        return Heap(keys=keys, values=values, times=[self._time] * len(keys))

    def _sound(self, keys: Sequence[bytes]) -> bool:
        """Tell whether each of them may be written."""
        if not keys or max(map(len, keys)) > LONGEST_KEY:
            return False
        joined = b"\n" + b"\n".join(keys)
        if joined.translate(None, _PRINTABLE) != b"\n" * len(keys):
            return False
        whole = joined.decode("ascii")
        if not globs.plain(whole):
            return False
        return sum(whole.count("\n" + start) for start in self._starts) == len(keys)


def _starts(allow: Sequence[str]) -> list[str]:
    """Return the allowed beginnings, none of which begins another; none where one of them may be
    that of a key which is never written.
    """
    if not all(one.strip() and globs.harmless(one) for one in allow):
        return []
    found = sorted(set(allow))
    return [one for one in found if not any(one != two and one.startswith(two) for two in found)]


def _column(template: str) -> Callable[[Table], Sequence[bytes] | None]:
    """Return what makes texts of rows; None where a column is missing.

    A cell without a value makes a None, or a TypeError where it is part of a text.
    """
    pieces = FIELD.split(template)
    names = pieces[1::2]
    form = b"%b".join(encoded(one.replace("%", "%%")) for one in pieces[::2])

    def made(rows: Table) -> Sequence[bytes] | None:
        if not names or any(rows.columns.count(name) != 1 for name in names):
            return None
        found = [list(map(itemgetter(rows.columns.index(name)), rows.rows)) for name in names]
        return found[0] if form == b"%b" else [form % cells for cells in zip(*found, strict=True)]

    return made
