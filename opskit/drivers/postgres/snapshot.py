"""One snapshot of a server for many questions: which it is, and how old what it shows."""

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.session import limit

_MEMORY = "64MB"
_SETTINGS = f"""
    SET row_security = off; SET idle_in_transaction_session_timeout = '5min';
    SELECT pg_catalog.set_config('work_mem', '{_MEMORY}', false)
    WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))
        < pg_catalog.pg_size_bytes('{_MEMORY}');
    SELECT pg_catalog.set_config('random_page_cost', '1.1', false)
    WHERE pg_catalog.current_setting('random_page_cost')::float8 > 1.1
"""
# Rows that a policy hides would be missing in every count: with this off, the server refuses. An
# index that has the keys in their order is read several times as quickly as all rows are hashed;
# by the default costs, which are those of a turning disk, the planner sees that seldom.
_MOMENT = """
    SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.now()::text,
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END::text,
           pg_catalog.current_setting('server_version')
"""
_LAG = """
    SELECT pg_catalog.pg_last_xact_replay_timestamp()::text,
           CASE WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()
                     AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) THEN 0
                ELSE extract(epoch FROM pg_catalog.now()
                     - pg_catalog.pg_last_xact_replay_timestamp()) END::text
"""
_WHEN = """
    SELECT m::text, (m > pg_catalog.now())::text FROM (SELECT CASE WHEN $1::text ~ '^[0-9]+$'
        THEN pg_catalog.now() - $1::text::float8 * interval '1 second'
        ELSE $1::text::timestamptz END) AS one (m)
"""


def taken(connection: Connection, patience: float) -> tuple[str, str, str, str]:
    """Take a snapshot; return its name, its time, where in the log it is, the server's version.

    One statement may take so many seconds.
    """
    connection.own(_SETTINGS)
    limit(connection, patience, ends_with_us=True)
    connection.own(SNAPSHOT)
    snapshot, now, lsn, version = (one or "" for one in connection.one(_MOMENT))
    return snapshot, now, lsn, version


def when(connection: Connection, at: str) -> tuple[str, bool]:
    """Return a time as the server writes it, and whether it has yet to come; "" for none.

    A number is one of seconds before the snapshot.
    """
    if not at:
        return "", False
    text, ahead = connection.one(_WHEN, at)
    return text or "", ahead == "true"


def lags(connection: Connection) -> tuple[str | None, str | None]:
    """Return up to when a standby has what the primary did, and how many seconds it is behind."""
    replayed, lag = connection.one(_LAG)
    return replayed, lag
