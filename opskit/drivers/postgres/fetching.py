"""The rows of a query, some thousand at a time, for whoever has a use for them elsewhere.

It is a read like any other: one statement, in a transaction that can't write, as the role that
reads are made as. A cursor at the server has the rest meanwhile.
"""

from collections.abc import Callable, Iterator

from opskit.drivers.postgres.connection import (
    BrokenError,
    Connection,
    EndedError,
    ServerError,
    Taker,
)
from opskit.drivers.postgres.doing import SNAPSHOT, NotSentError, sentences
from opskit.drivers.postgres.session import Access, RoleError, as_reader, limit, opened
from opskit.drivers.postgres.snapshot import lags
from opskit.errors import OpskitError
from opskit.model.text import Text
from opskit.model.warm import Table

AT_ONCE = 5000
BEHIND = 60.0
"""Seconds that a standby may be behind; what it has from before would be taken for what is."""


class FetchError(OpskitError):
    """The rows can't be had."""


def rows(access: Access, query: Text, watch: Callable[[], None], seconds: float) -> Iterator[Table]:
    """Yield the rows, some thousand at a time; what `watch` raises goes on to who asks for them."""
    try:
        (sentence,) = sentences(query, read=True, transaction=True)
        session = opened(access, watch)
    except NotSentError as error:
        raise FetchError(f"the query is not sent: {error}") from None
    try:
        connection = session.connection
        as_reader(session, access)
        limit(connection, seconds, ends_with_us=True)
        connection.own(SNAPSHOT)
        if session.identity.standby:
            _fresh(connection, access)
        cursor = f"DECLARE opskit_rows NO SCROLL CURSOR FOR {sentence.text}"
        connection.run(cursor, sentence.values, Taker())
        yield from _fetched(connection)
    except (BrokenError, ServerError) as error:
        raise FetchError(f"{access.where}: {error.what}") from None
    except RoleError as error:
        raise FetchError(error.line) from None
    except EndedError as error:
        raise FetchError(f"{access.where}: {error.what}") from None
    finally:
        session.close()


def _fresh(connection: Connection, access: Access) -> None:
    _, lag = lags(connection)
    if lag is None or float(lag) > BEHIND:
        far = "nobody knows how far" if lag is None else f"{float(lag):.0f} s"
        raise FetchError(
            f"{access.where} is a standby that is behind ({far}; {BEHIND:g} s are allowed)",
            hint="wait until it has caught up, or ask the primary",
        )


def _fetched(connection: Connection) -> Iterator[Table]:
    """Yield what there is; the server looks for the next ones while somebody works with these."""
    first, text = 1, f"FETCH {AT_ONCE} FROM opskit_rows"
    connection.ask(text)
    while found := connection.fetched():
        columns, rows = found
        connection.ask(text)
        yield Table(first=first, columns=columns, rows=rows)
        first += len(rows)
