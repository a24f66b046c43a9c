"""One session at the server: how it is opened, and what holds in it."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from opskit.audit.postgres.address import Address
from opskit.audit.postgres.rows import Connection, PostgresRows, queries
from opskit.errors import InputError, StoreError

OLDEST = 130000
"""The oldest server that will do, as it names its version itself: 13."""

_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "opskit",
    "client_encoding": "UTF8",
}
"""Every wait for a network ends: within seconds when connecting, within half a minute later."""

_SETTINGS = b"""
set search_path = opskit, pg_temp;
set lock_timeout = '30s';
set idle_in_transaction_session_timeout = '60s';
set tcp_keepalives_idle = 10;
set tcp_keepalives_interval = 5;
set tcp_keepalives_count = 3;
set tcp_user_timeout = 20000;
select set_config('synchronous_commit', 'on', false)
where current_setting('synchronous_commit') in ('off', 'local')
"""
"""What is asked by name is found in our schema first. A process that stands still keeps the store
to itself for a minute at most, one whose machine is gone for half a minute."""

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it has to say it raises, too


def connect(
    address: Address,
    over: Callable[[Connection], AbstractContextManager[object]] = nullcontext,
    more: bytes = b"",
) -> Connection:
    """Open a session; psycopg.Error. `over`: looks after it while it is being set up; `more`: what
    else is to be set in it."""
    try:
        wanted = {**_DEFAULTS, **conninfo_to_dict(address.url)}
    except psycopg.ProgrammingError:
        # Its message quotes the address, and with it a password.
        raise InputError(
            "the address of the store can't be understood",
            where=address.location,
            hint="write postgresql://USER@HOST:PORT/DATABASE; %-encode what is special in it",
        ) from None
    if "PGCONNECT_TIMEOUT" in os.environ and "connect_timeout" not in address.url:
        del wanted["connect_timeout"]
    found = psycopg.Connection[dict[str, Any]].connect(
        "", autocommit=True, row_factory=dict_row, prepare_threshold=2, **wanted
    )
    try:
        _refuse_old(found.info.server_version, address)
        with over(found):
            found.execute(_SETTINGS)
            if more:
                found.execute(more)
    except BaseException:
        found.close()
        raise
    return found


def _refuse_old(version: int, address: Address) -> None:
    if version < OLDEST:
        raise StoreError(
            f"the server is PostgreSQL {version // 10000}",
            where=address.location,
            hint=f"opskit needs PostgreSQL {OLDEST // 10000} or newer",
        )


@contextmanager
def transaction(
    connection: Connection, touch: Callable[[Connection], None] = lambda _: None
) -> Iterator[PostgresRows]:
    """Carry out a transaction that has the store to itself; `touch` is called before each query.

    Queries are sent without waiting for the answers of those that return nothing: a batch of
    entries costs two round trips, whatever is in it.
    """
    ending: psycopg.Cursor[dict[str, Any]] | None = None
    try:
        with connection.pipeline():
            connection.execute(b"begin")
            connection.execute(queries()["alone"])
            yield PostgresRows(connection, touch)
            touch(connection)
            ending = connection.execute(b"commit")
    finally:
        if connection.info.transaction_status not in (
            TransactionStatus.IDLE,
            TransactionStatus.UNKNOWN,
        ):
            with suppress(psycopg.Error):
                connection.execute(b"rollback")
    assert ending is not None
    if ending.statusmessage != "COMMIT":
        raise psycopg.OperationalError("the server did not commit a transaction")


def identity(connection: Connection) -> dict[str, Any]:
    """Return what tells this session from all others."""
    found = connection.execute(queries()["session"]).fetchone()
    assert found is not None
    return found


def let_be(connection: Connection | None) -> None:
    """Close a session, whatever has become of it."""
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()
