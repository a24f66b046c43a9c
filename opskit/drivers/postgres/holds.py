"""The table in which it is kept what a run has held, and what it had before."""

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.marks import quoted

TABLE = "payout_hold"
_COMMENT = "'opskit: payments that its runs have held, with the status that they had before'"
_INDEX = (
    "CREATE UNIQUE INDEX IF NOT EXISTS payout_hold_open ON {} (ledger, payout)"
    " WHERE ended_at IS NULL"
)
_MAY = """
    SELECT pg_catalog.has_schema_privilege(n.oid, 'usage')
       AND pg_catalog.has_table_privilege(c.oid, 'select')
       AND pg_catalog.has_table_privilege(c.oid, 'insert')
       AND pg_catalog.has_column_privilege(c.oid, 'ended_at', 'update')
       AND pg_catalog.has_column_privilege(c.oid, 'ended_by', 'update')
       AND pg_catalog.has_column_privilege(c.oid, 'ended', 'update')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
"""


def ddl(schema: str, role: str | None = None) -> list[str]:
    """Return the statements that make the table, and let a role use it."""
    table = f"{quoted(schema)}.{TABLE}"
    made = [
        f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}",
        f"""CREATE TABLE IF NOT EXISTS {table} (
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
    PRIMARY KEY (run, action, payout)
)""",
        _INDEX.format(table),
        f"COMMENT ON TABLE {table} IS {_COMMENT}",
    ]
    if role is not None:
        made.append(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)}")
        made.append(f"GRANT SELECT, INSERT, UPDATE (ended_at, ended_by, ended) ON {table}"
                    f" TO {quoted(role)}")  # fmt: skip
    return made


def missing(connection: Connection, schema: str) -> str:
    """Return why nothing can be held; "" where it can."""
    found = connection.one(_MAY, schema, TABLE)
    if not found:
        return f"there is no table {schema}.{TABLE} for what is held"
    return "" if found[0] == "t" else f"its role may not add to {schema}.{TABLE}, or not end there"
