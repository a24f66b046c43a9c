"""How long functions, views and queries take, by the server's own clock: the way is not in it.

They are called in a transaction that can't write and is rolled back. One that writes is not called
unless a step says so: that nothing is kept does not mean that nothing was done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from opskit.drivers.postgres.catalog import Facts, Relation
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.meaning import name_of, quoted
from opskit.model.expected import Expected, Function, Lookup
from opskit.model.frozen import frozen
from opskit.model.value import Json

RUNS = 20
"""Calls that are measured, after one that is not: the first has to read what the others find."""
_SHARE, _SHOWN = 0.95, 80
_PATIENCE, _LEAST = 50, 2000
"""A call may take so many times its limit before it is given up, and at least so many ms."""
_READ_ONLY, _DENIED, _CANCELLED = "25006", "42501", "57014"
_MEASURED = """
    SELECT 1000
        * extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())
    FROM (SELECT pg_catalog.count(r) FROM {source} r OFFSET 0) done
"""

_WHOLE = "(SELECT {columns} FROM {name} OFFSET 0)"


@frozen
class Timed:
    """What was measured: 95 of 100 calls took no longer than `took` ms, and may take `within`."""

    name: str
    took: float
    within: float

    def as_json(self) -> Json:
        return {"name": self.name[:_SHOWN], "p95_ms": round(self.took, 3), "limit_ms": self.within}


class _Todo(NamedTuple):
    """What is to be called. `table` is empty for a function, `name` for a view."""

    table: str
    name: str
    within: float
    source: str
    values: Sequence[str] = ()
    writes: bool = False


def measured(
    connection: Connection,
    expected: Expected,
    facts: Facts,
    relations: Mapping[str, Relation],
    *,
    writers: bool,
) -> Iterator[Found | Timed]:
    """Call and read what has a limit, and is there; all of it in transactions of its own."""
    for wanted in expected.traits:
        if wanted.within is None or not facts.functions[wanted.signature].there:
            continue
        if wanted.writes and not writers:
            text = "it was not timed: it writes, and a look writes nothing"
            yield Found(check="slow", name=wanted.signature, text=text, weight="INFO")
        else:
            yield _one(connection, _function(wanted, wanted.within, facts))
    for one in expected.relations:
        relation = relations.get(one.name)
        if one.within is not None and relation is not None and relation.populated:
            yield _one(connection, _view(one.name, one.within, one.columns, relation))
        for lookup in (found for index in one.indexes for found in index.used_by):
            if lookup.within is not None and relation is not None:
                yield _one(connection, _query(one.name, lookup, lookup.within))


def _function(wanted: Function, within: float, facts: Facts) -> _Todo:
    there = facts.functions[wanted.signature]
    given = (f"${n}::{type_}" for n, type_ in enumerate(there.arguments, 1))
    source = f"{name_of(there.schema, there.name)}({', '.join(given)})"
    return _Todo("", wanted.signature, within, source, wanted.call, wanted.writes)


def _view(name: str, within: float, columns: Sequence[str], relation: Relation) -> _Todo:
    """Read the whole of a view: the columns that are expected, or all."""
    has = {column for column, *_ in relation.columns}
    picked = ", ".join(quoted(column) for column in columns if column in has) or "*"
    where = name_of(relation.schema, relation.name)
    return _Todo(name, "", within, _WHOLE.format(columns=picked, name=where))


def _query(table: str, lookup: Lookup, within: float) -> _Todo:
    """Ask a query that an index is for."""
    source = f"({lookup.query.rstrip().rstrip(';')}\n)"
    return _Todo(table, " ".join(lookup.query.split()), within, source, lookup.values)


def _one(connection: Connection, todo: _Todo) -> Found | Timed:
    limit = todo.within * 1000
    longest = max(_LEAST, math.ceil(_PATIENCE * limit))
    try:
        took = list(_calls(connection, todo, longest))
    except ServerError as error:
        connection.own("ROLLBACK")
        return _refused(todo, longest, error)
    found = sorted(took[1:])[math.ceil(_SHARE * RUNS) - 1]
    if found <= limit:
        return Timed(name=todo.name or todo.table, took=found, within=limit)
    text = f"95 of 100 times it takes up to {found:.1f} ms, and {limit:g} ms are expected"
    return Found(check="slow", table=todo.table, name=todo.name[:_SHOWN], text=text)


def _calls(connection: Connection, todo: _Todo, longest: int) -> Iterator[float]:
    """Call it again and again, each time as if it had not been called: it is rolled back."""
    query = _MEASURED.replace("{source}", todo.source)
    begin = "BEGIN; SET LOCAL ROLE NONE" if todo.writes else "BEGIN READ ONLY"
    for _ in range(1 + RUNS):
        connection.own(f"{begin}; SET LOCAL statement_timeout = {longest}")
        (took,) = connection.one(query, *todo.values)
        connection.own("ROLLBACK")
        yield float(took or 0)


def _refused(todo: _Todo, longest: int, error: ServerError) -> Found:
    """Say why nothing was measured. What is too slow to be waited for was measured well enough."""
    if error.code == _CANCELLED:
        text = f"it takes more than {longest} ms, and {todo.within * 1000:g} ms are expected"
        return Found(check="slow", table=todo.table, name=todo.name[:_SHOWN], text=text)
    text = f"it could not be called: {error.what}"
    if error.code == _READ_ONLY:
        text = f"it writes ({error.what}): say so by writes: true, then it is not called"
    elif error.code == _DENIED:
        text = f"it could not be called: {error.what}; the role needs the right to"
    return Found(check="slow", table=todo.table, name=todo.name[:_SHOWN], text=text, unknown=True)
