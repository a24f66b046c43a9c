"""A ledger → the unique index that keeps a payment from being made again under one key."""

import re

from opskit.model.expected import Index
from opskit.model.ledger import Ledger
from opskit.render.ledgers import expression, name

_BLANKS = r"E' \t\n\r\f\x0b'"
_LONGEST = 63


def guard(ledger: Ledger, since: str) -> Index:
    """Return the index over payments with a key that are made from a constant time on.

    Older rows stay out of it, whatever they repeat. A row with no key is in none.
    """
    key = expression(ledger.key)
    conditions = [f"pg_catalog.btrim({key}::text, {_BLANKS}) <> ''"]
    conditions += [f"{expression(one.field)} IN ({_literals(one.values)})" for one in ledger.where]
    if ledger.status is not None:
        conditions.append(f"{name(ledger.status.column)} IN ({_literals(ledger.status.live)})")
    if ledger.reversal is not None:
        conditions.append(f"{name(ledger.reversal.reverses)} IS NULL")
    conditions.append(f"{name(ledger.created_at)} >= '{since}'")
    return Index(
        keys=(*(expression(field) for field in ledger.scope), key),
        where=" AND ".join(conditions),
        unique=True,
        name=_named(ledger, since),
    )


def _named(ledger: Ledger, since: str) -> str:
    tail = "_once_" + re.sub(r"\D", "", since)[:8]
    table = ledger.table
    while len((table + tail).encode()) > _LONGEST:
        table = table[:-1]
    return table + tail


def _literals(words: tuple[str, ...]) -> str:
    """Write texts as they stand in a statement: what a definition has can't be bound."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words)


def repeated(ledger: Ledger, since: str) -> str:
    """Return a query for what such an index could not hold: how many keys, and some of them."""
    made = guard(ledger, since)
    names = [f"k{number}" for number in range(len(made.keys))]
    keys = ", ".join(f"{key}::text AS {k}" for key, k in zip(made.keys, names, strict=True))
    table = f"{name(ledger.schema)}.{name(ledger.table)}"
    return (
        "SELECT count(*)::text, pg_catalog.array_to_string((pg_catalog.array_agg(key))[1:5], ', ')"  # noqa: S608
        f" FROM (SELECT pg_catalog.concat_ws(' ', {', '.join(names)}) AS key"
        f" FROM (SELECT {keys} FROM {table} WHERE {made.where}) AS payment"
        f" GROUP BY {', '.join(names)} HAVING count(*) > 1 ORDER BY 1) AS twice"
    )
