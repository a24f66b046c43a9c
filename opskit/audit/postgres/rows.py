"""Named queries on one connection to PostgreSQL."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import psycopg

from opskit.audit.database import Row
from opskit.audit.queries import named

Connection = psycopg.Connection[dict[str, Any]]

_PARAMETER = re.compile(r"(?<!:):(\w+)")


@cache
def queries() -> Mapping[str, bytes]:
    """Return the named queries as psycopg takes them."""
    return {
        name: _PARAMETER.sub(r"%(\1)s", text.replace("%", "%%")).encode()
        for name, text in named("postgres").items()
    }


class PostgresRows:
    """Named queries on one connection; in a pipeline, those that return nothing are not awaited."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, query: str, **values: object) -> list[Row]:
        rows: list[Row] = [*self._connection.execute(queries()[query], values).fetchall()]
        return rows

    def each(self, query: str, **values: object) -> Iterator[Row]:
        with self._connection.cursor(name="each") as cursor:
            cursor.itersize = 50
            yield from cursor.execute(queries()[query], values)

    def one(self, query: str, **values: object) -> Row | None:
        return self._connection.execute(queries()[query], values).fetchone()

    def run(self, query: str, **values: object) -> None:
        self._connection.execute(queries()[query], values)

    def many(self, query: str, values: Sequence[Row]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(queries()[query], values)
