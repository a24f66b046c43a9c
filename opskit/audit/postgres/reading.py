"""A view of one moment of the record, which outlives the session that it was begun on."""

from collections.abc import Callable, Iterator, Mapping

import psycopg

from opskit.audit.database import Row
from opskit.audit.postgres.address import Address
from opskit.audit.postgres.patience import Patience
from opskit.audit.postgres.rows import Connection, PostgresRows
from opskit.audit.postgres.session import let_be
from opskit.audit.postgres.watchdog import Watchdog
from opskit.audit.postgres.words import AwayError, explained, is_away

_BEGIN = b"begin isolation level repeatable read read only"


class Reading:
    """Named queries in one read-only transaction.

    Where the connection breaks, what was asked is asked again on another. If the answers are the
    same, the view of that moment serves as well as the first; if not, the reading fails.
    """

    def __init__(
        self,
        take: Callable[[], Connection],
        give: Callable[[Connection], None],
        address: Address,
        patience: Patience,
        watchdog: Watchdog,
    ) -> None:
        self._take = take
        self._give = give
        self._address = address
        self._watchdog = watchdog
        self._waiting = patience.begin()
        self._connection: Connection | None = None
        self._asked: list[tuple[str, dict[str, object], int]] = []

    def all(self, query: str, **values: object) -> list[Row]:
        while True:
            try:
                found = self._rows(self._begun(), query, values)
            except psycopg.Error as error:
                self._away(error)
            else:
                self._waiting.over()
                self._asked.append((query, values, _fingerprint(found)))
                return found

    def one(self, query: str, **values: object) -> Row | None:
        return next(iter(self.all(query, **values)), None)

    def each(self, query: str, **values: object) -> Iterator[Row]:
        connection = self._begun()
        with self._watchdog.over(connection):
            yield from PostgresRows(connection, self._watchdog.touch).each(query, **values)

    def run(self, query: str, **values: object) -> None:
        self.all(query, **values)

    def many(self, query: str, values: object) -> None:
        raise NotImplementedError(f"{query}: nothing is written while reading {values!r}")

    def end(self) -> None:
        """Give the session back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                with self._watchdog.over(connection):
                    connection.execute(b"rollback")
            except psycopg.Error:
                let_be(connection)
            else:
                self._give(connection)

    def _begun(self) -> Connection:
        if self._connection is None:
            connection = self._take()
            try:
                with self._watchdog.over(connection):
                    connection.execute(_BEGIN)
                self._ask_again(connection)
            except BaseException:
                let_be(connection)
                raise
            self._connection = connection
        return self._connection

    def _rows(self, connection: Connection, query: str, values: Mapping[str, object]) -> list[Row]:
        with self._watchdog.over(connection):
            return PostgresRows(connection).all(query, **values)

    def _ask_again(self, connection: Connection) -> None:
        for query, values, before in self._asked:
            if _fingerprint(self._rows(connection, query, values)) != before:
                raise AwayError(
                    "the connection broke while the record was read, and it has changed since",
                    where=self._address.location,
                    hint="do the same again",
                )

    def _away(self, error: psycopg.Error) -> None:
        """Wait for the server where it is away; raise what it says where it is not."""
        if not is_away(error):
            raise error
        let_be(self._connection)
        self._connection = None
        told = explained(error, self._address)
        assert isinstance(told, AwayError)
        self._waiting.pause(told)


def _fingerprint(rows: list[Row]) -> int:
    return hash(tuple(tuple(row.values()) for row in rows))
