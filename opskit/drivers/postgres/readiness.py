"""What must be so before an index is built: nobody in the way for long, and room on the disk."""

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.standing import StandError, Table
from opskit.model.value import Json
from opskit.model.work import Repair

OLD = 300
"""Seconds: a build waits for every transaction that is older than itself."""
LAG = 1 << 30
"""Bytes that a replication slot may be behind before much more is written for it to keep."""
ROOM = 2
"""How many times what is built must be free: it and what is sorted for it, or its old self."""

_OLD = """
    SELECT
        (SELECT pg_catalog.string_agg(pg_catalog.format('process %s (%s, %s s)', pid,
            coalesce(nullif(application_name, ''), usename), seconds::integer), ', ')
         FROM (SELECT pid, application_name, usename, extract(epoch FROM now() - xact_start)
               FROM pg_catalog.pg_stat_activity
               WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
                 AND usesysid IS NOT NULL
               ORDER BY xact_start LIMIT 5) a (pid, application_name, usename, seconds)
         WHERE seconds > $1::integer),
        (SELECT pg_catalog.string_agg(pg_catalog.format('prepared transaction %s', gid), ', ')
         FROM pg_catalog.pg_prepared_xacts
         WHERE database = pg_catalog.current_database()
           AND prepared < now() - pg_catalog.make_interval(secs => $1::integer)),
        (SELECT count(*)::text FROM pg_catalog.pg_stat_activity
         WHERE datname = pg_catalog.current_database() AND backend_type IS NULL
           AND usesysid IS NOT NULL)
"""
# An autovacuum worker has no user, which is seen without the right to see its kind; a build makes
# it give way, and does not wait for it.
_SLOTS = """
    SELECT pg_catalog.string_agg(pg_catalog.format('%s (%s behind%s)', slot_name,
        pg_catalog.pg_size_pretty(behind), CASE WHEN active THEN '' ELSE ', not active' END), ', ')
    FROM (SELECT slot_name, active, pg_catalog.pg_wal_lsn_diff(
              pg_catalog.pg_current_wal_lsn(), restart_lsn) AS behind
          FROM pg_catalog.pg_replication_slots) s
    WHERE behind > $1::numeric
"""


def ready(connection: Connection, work: Repair, table: Table) -> dict[str, Json]:
    """Make sure that a build won't wait for ever or fill the disk: StandError.

    Returns what could not be looked at, for the record.
    """
    found: dict[str, Json] = {}
    old, prepared, hidden = connection.one(_OLD, str(OLD))
    waits = ", ".join(text for text in (old, prepared) if text)
    if waits:
        raise StandError(
            f"a build would wait for transactions that are older than {OLD // 60} minutes: {waits};"
            " let them end first"
        )
    if int(hidden or 0):
        found["not seen"] = f"transactions of {hidden} others: the role needs pg_read_all_stats"
    (slots,) = connection.one(_SLOTS, str(LAG))
    if slots:
        raise StandError(f"replication slots lag, and a build writes much more: {slots}")
    return {**found, **_room(connection, work, table)}


def _room(connection: Connection, work: Repair, table: Table) -> dict[str, Json]:
    if work.do == "rebuild" and table.match is not None:
        most = table.match.size
    else:
        (size,) = connection.one("SELECT pg_catalog.pg_table_size($1::oid)::text", str(table.oid))
        most = int(size or 0)
    if work.free is None or not (said := work.free.fixed().strip()):
        return {"disk": f"what is free was not known; up to {most} bytes are built"}
    if not said.isdecimal():
        raise StandError(f"`free` came to {said[:40]!r}, and is to be a number of bytes")
    if int(said) < ROOM * most:
        raise StandError(
            f"{said} bytes are free on its disk, and up to {most} are built: {ROOM} times that must"
            " be free"
        )
    return {"disk": f"{said} bytes free, up to {most} are built"}
