"""The rows of a query, some thousand at a time, for whoever has a use for them elsewhere.

It is a read like any other: one statement, in a transaction that can't write, as the role that
reads are made as. A cursor at the server has the rest meanwhile.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from opskit.drivers.postgres.connection import (
    BrokenError,
    Cells,
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

AT_ONCE, AT_FIRST, AT_LEAST = 1500, 500, 10
"""So many rows are asked for together, at first, and where they are large.

More don't stay in the processor's own memory while they are worked with: of 5000 each takes a
quarter longer.
"""
AFAR = 5000
"""So many where the way there and back takes longer than what is done with the rows."""
_LONGER = 4
"""So many times as long: to take rows in takes about as long as what is done with them."""
_BYTES = 16 << 20
"""About so much is held of them at once."""
_EACH = 50
"""Of so many rows one is measured."""
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
    first, most = 1, AT_ONCE
    connection.ask(_asking(AT_FIRST))
    began = time.monotonic()
    while found := connection.fetched():
        came = time.monotonic()
        columns, rows = found
        connection.ask(_asking(_many(rows, most)))
        yield Table(first=first, columns=columns, rows=rows)
        first += len(rows)
        waited, began = came - began, time.monotonic()
        most = AFAR if waited > _LONGER * (began - came) else AT_ONCE


def _asking(count: int) -> str:
    return f"FETCH {count} FROM opskit_rows"


def _many(rows: Sequence[Cells], most: int) -> int:
    """Return how many rows to ask for after these: as many as are held at once, if alike."""
    some = rows[::_EACH]
    size = sum(len(cell) for row in some for cell in row if cell is not None) // len(some) or 1
    return max(AT_LEAST, min(most, _BYTES // size))
