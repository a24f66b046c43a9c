"""Named queries on one connection to PostgreSQL."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def __init__(
        self, connection: Connection, touch: Callable[[Connection], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._touch = touch
        """Called before each query."""

    def all(self, query: str, **values: object) -> list[Row]:
        self._touch(self._connection)
        rows: list[Row] = [*self._connection.execute(queries()[query], values).fetchall()]
        return rows

    def each(self, query: str, **values: object) -> Iterator[Row]:
        self._touch(self._connection)
        with self._connection.cursor(name="each") as cursor:
            cursor.itersize = 50
            for row in cursor.execute(queries()[query], values):
                self._touch(self._connection)
                yield row

    def one(self, query: str, **values: object) -> Row | None:
        self._touch(self._connection)
        return self._connection.execute(queries()[query], values).fetchone()

    def run(self, query: str, **values: object) -> None:
        self._touch(self._connection)
        self._connection.execute(queries()[query], values)

    def many(self, query: str, values: Sequence[Row]) -> None:
        self._touch(self._connection)
        with self._connection.cursor() as cursor:
            cursor.executemany(queries()[query], values)
