"""The tables in which it is kept what a run has held or switched off, and what it had before."""

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.marks import quoted

HOLDS, FREEZES = "payout_hold", "payout_freeze"
_COMMENT = "'opskit: payments that its runs have held, with the status that they had before'"
_FREEZES = (
    "'opskit: switches of payouts that its runs have switched off, and what they were before'"
)
_INDEX = (
    "CREATE UNIQUE INDEX IF NOT EXISTS payout_hold_open ON {} (ledger, payout)"
    " WHERE ended_at IS NULL"
)
_WRITTEN = ("ended_at", "ended_by", "ended", "version")
"""Columns that are changed once a row is there."""
_MAY = """
    SELECT pg_catalog.has_schema_privilege(n.oid, 'usage')
       AND pg_catalog.has_table_privilege(c.oid, 'select')
       AND pg_catalog.has_table_privilege(c.oid, 'insert')
       AND (SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, 'update'))
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = ANY ($3::text[])),
       (SELECT count(*) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attname = ANY ($3::text[]) AND NOT a.attisdropped)::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
"""


def ddl(schema: str, role: str | None = None) -> list[str]:
    """Return the statements that make the tables, and let a role use them."""
    holds, freezes = (f"{quoted(schema)}.{table}" for table in (HOLDS, FREEZES))
    made = [
        f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}",
        f"""CREATE TABLE IF NOT EXISTS {holds} (
    run text NOT NULL,
    action text NOT NULL,
    ledger text NOT NULL,
    payout text NOT NULL,
    old_status text NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    report text NOT NULL,
    approved_by text NOT NULL,
    held_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    role name NOT NULL DEFAULT session_user,
    ended_at timestamptz,
    ended_by text,
    ended text,
    version text,
    PRIMARY KEY (run, action, payout)
)""",
        f"ALTER TABLE {holds} ADD COLUMN IF NOT EXISTS version text",
        _INDEX.format(holds),
        f"COMMENT ON TABLE {holds} IS {_COMMENT}",
        f"""CREATE TABLE IF NOT EXISTS {freezes} (
    run text NOT NULL,
    action text NOT NULL,
    switch text NOT NULL,
    was_on boolean NOT NULL,
    frozen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    role name NOT NULL DEFAULT session_user,
    ended_at timestamptz,
    ended_by text,
    ended text,
    version text,
    PRIMARY KEY (run, action)
)""",
        f"COMMENT ON TABLE {freezes} IS {_FREEZES}",
    ]
    if role is not None:
        made.append(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)}")
        made += [
            f"GRANT SELECT, INSERT, UPDATE ({', '.join(_WRITTEN)}) ON {table} TO {quoted(role)}"
            for table in (holds, freezes)
        ]
    return made


def missing(connection: Connection, schema: str, table: str) -> str:
    """Return why nothing can be kept in one of them; "" where it can."""
    found = connection.one(_MAY, schema, table, "{" + ",".join(_WRITTEN) + "}")
    if not found:
        return f"there is no table {schema}.{table}"
    if found[1] != str(len(_WRITTEN)):
        return f"an older opskit has made {schema}.{table}: it has no column version"
    return "" if found[0] == "t" else f"its role may not add to {schema}.{table}, or not end there"
