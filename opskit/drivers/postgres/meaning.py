"""What expressions mean: the server reads them and writes all of them down in its own words.

`status IN ('a')` is stored as `status = ANY (ARRAY['a'::text])`: texts that differ may be equal.
The planner writes both down alike (EXPLAIN runs nothing), over rows of the table's type that are
none. So it reads no row, needs no right to, and writes nothing: it holds in a
transaction that can't write and on a standby, where no temporary table can be made.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.catalog import Relation, Signature
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.model.frozen import frozen

_NUMBERED = re.compile(r"\bopskit_row(?:_\d+)?\.")
_ROW = re.compile(r"ROW\((\d+), (.*)\)", re.DOTALL)
_ONE = (
    "SELECT ROW({number}, ({text})) FROM "
    "pg_catalog.json_populate_recordset(NULL::{name}, '[]') opskit_row"
)
"""Names are quoted; expressions were looked at when they were read, and are not carried out."""
_MOST = 500
"""Expressions in one question."""
_AMISS = ("42", "22", "0A", "3F")
"""Classes of SQLSTATE that say that an expression can't be, rather than that it can't be asked."""
_DENIED = "42501"

Asked = tuple[Signature, str]
"""The signature of a table's columns, and an expression over them."""


@frozen
class Meanings:
    """Expression → how the server writes it, why it can't read it, or what the role may not see."""

    words: Mapping[Asked, str]
    wrong: Mapping[Asked, str]
    denied: Mapping[Asked, str]

    def of(self, signature: Signature, text: str) -> str:
        return self.words.get((signature, text), text)


NONE = Meanings(words={}, wrong={}, denied={})


def ask(connection: Connection, wanted: Mapping[Asked, Relation]) -> Meanings:
    """Let the server write down expressions; tables with the same columns are asked of once."""
    words: dict[Asked, str] = {}
    wrong: dict[Asked, str] = {}
    denied: dict[Asked, str] = {}

    def unread(asked: Asked, error: ServerError) -> None:
        (denied if error.code == _DENIED else wrong)[asked] = error.what

    todo = list(wanted.items())
    for start in range(0, len(todo), _MOST):
        _ask(connection, todo[start : start + _MOST], words, unread)
    return Meanings(words=words, wrong=wrong, denied=denied)


def _ask(
    connection: Connection,
    todo: Sequence[tuple[Asked, Relation]],
    words: dict[Asked, str],
    unread: Callable[[Asked, ServerError], None],
) -> None:
    """Ask for all at once; where the server can't read one, find it by halves."""
    connection.own("SAVEPOINT opskit_meaning")
    try:
        found = _explained(connection, todo)
    except ServerError as error:
        if error.code[:2] not in _AMISS:
            raise
        connection.own("ROLLBACK TO SAVEPOINT opskit_meaning")
        if len(todo) == 1:
            unread(todo[0][0], error)
            return
        half = len(todo) // 2
        _ask(connection, todo[:half], words, unread)
        _ask(connection, todo[half:], words, unread)
        return
    words.update(found)


def _explained(
    connection: Connection, todo: Sequence[tuple[Asked, Relation]]
) -> Mapping[Asked, str]:
    parts = [
        _ONE.format(number=number, text=text, name=name_of(table.schema, table.name))
        for number, ((_, text), table) in enumerate(todo)
    ]
    query = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) " + " UNION ALL ".join(parts)
    (plan,) = connection.one(query)
    found: dict[Asked, str] = {}
    for output in _outputs(json.loads(plan or "[]")[0]["Plan"]):
        row = _ROW.fullmatch(output)
        if row is not None:
            found[todo[int(row[1])][0]] = _NUMBERED.sub("", row[2])
    return found


def _outputs(plan: Mapping[str, Any]) -> list[str]:
    if "Plans" in plan:
        return [text for inner in plan["Plans"] for text in _outputs(inner)]
    return list(plan.get("Output", ()))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def name_of(schema: str, name: str) -> str:
    """Write a name in full, so that no search path decides what it is."""
    return f"{quoted(schema)}.{quoted(name)}"
