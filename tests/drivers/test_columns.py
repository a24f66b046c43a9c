"""Rows of a query made keys together: the same ones as row by row, and none that must not be."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from opskit.drivers.redis.columns import Columns
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.supply import Heap, items
from opskit.drivers.redis.warm import _of_columns, _row
from opskit.model.warm import Source, Table

KEYS = [
    "t:1", "t:", "t:a b", "t:é", "t:a\nb", "t:a\n", "\nt:1", "t:\x7f", "t:\t", "t:" + "x" * 1022,
    "t:" + "x" * 1023, "u:1", "", " ", "opskit:1", "t:django.contrib.sessions.x", "celery", "%s",
    "t:%s", "t:\u2028", "T:1",
]  # fmt: skip
VALUES = ["x", "", "é\n", "y" * 1_000_000, "y" * 1_000_001, None]
ALLOW = [("t:",), ("t:", "u:"), ("t", "t:"), ("c",), ("",), (" ",), ("op", "t:"), ("t:django.",)]


def by_rows(source: Source, table: Table, allow: tuple[str, ...], *, long: bool) -> Heap | None:
    """Return what is made of the rows one by one; None where one of them is refused."""
    rows = map(partial(_row, table.columns), table.rows)
    try:
        found = list(items(source, enumerate(rows, 1), allow, set(), long=long))
    except ListingError:
        return None
    return Heap.of(found)


def same(source: Source, table: Table, allow: tuple[str, ...], *, long: bool = False) -> bool:
    """See that rows together are never more than one by one; tell whether they were made so."""
    found = Columns(source, allow, long=long).made(table)
    if found is not None and len(set(found.keys)) == len(found.keys):
        single = by_rows(source, table, allow, long=long)
        assert single is not None, (table.rows, allow)
        assert found.items == single.items
    return found is not None


def table(rows: Sequence[tuple[str | None, ...]], *columns: str) -> Table:
    cells = [tuple(None if one is None else one.encode() for one in row) for row in rows]
    return Table(first=1, columns=columns or ("key", "value"), rows=cells)


@pytest.mark.parametrize("allow", ALLOW)
def test_what_is_refused_by_itself_is_not_made_with_others(allow: tuple[str, ...]) -> None:
    source = Source(ttl="60")
    for one, two in itertools.product(KEYS, KEYS):
        same(source, table([(one, "x"), (two, "x")]), allow)
    for value in VALUES:
        same(source, table([("t:1", "x"), ("t:2", value)]), allow)
    for made in (source, Source(ttl="60", key="t:{key}"), Source(ttl="60", value="{key}")):
        assert not same(made, table([("t:1", "x"), (None, "x")]), allow)


def test_plain_rows_are_made_together() -> None:
    rows = [(f"t:{n}", "é\n" * n) for n in range(100)]
    for allow in (("t:",), ("t", "t:"), ("t:", "u:"), ("t:1", "t")):
        assert same(Source(ttl="60"), table(rows), allow)
    assert same(Source(ttl="60", key="t:%s:{key}", value="{value}/{key}"), table(rows), ("t:",))
    assert same(Source(ttl="4000000"), table(rows), ("t:",), long=True)
    assert same(Source(ttl="60"), table(rows[:1]), ("t:",))


def test_what_is_not_plain_is_left_to_who_looks_at_each_row() -> None:
    rows = [("t:1", "60"), ("t:2", "60")]
    for source in (Source(ttl="{value}"), Source(ttl="4000000"), Source(ttl="60", key="t:1"),
                   Source(ttl="60", value="{other}")):  # fmt: skip
        assert not same(source, table(rows), ("t:",))
    assert not same(Source(ttl="60"), table(rows, "key", "key"), ("t:",))
    assert not same(Source(ttl="60"), table(rows), ())


def test_a_key_that_stands_before_is_told_of_with_its_row() -> None:
    source, second = Source(ttl="60"), Table(first=3, columns=("key", "value"), rows=[])
    tables = [
        table([("t:1", "x"), ("t:2", "x")]),
        replace(second, rows=[(b"t:3", b"x"), (b"t:2", b"x"), (b"t:3", b"x")]),
    ]
    made = _of_columns(source, iter(tables), ("t:",), long=False)
    assert [item[0] for item in next(made).items] == [b"t:1", b"t:2"]
    with pytest.raises(ListingError, match=r"row 4 of the query: the key 't:2' stands before it"):
        next(made)
    alone = [table([("t:1", "x")]), replace(second, rows=[(b"t:2", b"x"), (b"t:2", b"x")])]
    with pytest.raises(ListingError, match=r"row 4 of the query: the key 't:2' stands before it"):
        list(_of_columns(source, iter(alone), ("t:",), long=False))
