"""What the keeper of a PostgreSQL store asks for: make it, check it, bring it up to date."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import psycopg

from opskit.audit.database import Row
from opskit.audit.postgres import guards, schema
from opskit.audit.postgres.address import Address
from opskit.audit.postgres.rows import Connection, PostgresRows, queries
from opskit.audit.postgres.session import connect
from opskit.audit.postgres.words import told
from opskit.model.frozen import frozen


@frozen
class Check:
    """One thing that was looked at. `warn`: it works, and could be safer."""

    name: str
    state: Literal["ok", "warn", "bad"]
    what: str
    hint: str = ""


@frozen
class Made:
    """`new`: there was no record before. `role_made`: nor was the role."""

    new: bool
    role_made: bool
    grants: Sequence[str]


@contextmanager
def _connected(address: Address) -> Iterator[Connection]:
    with told(address):
        connection = connect(address)
        try:
            yield connection
        finally:
            connection.close()


def init(address: Address, role: str | None) -> Made:
    """Make the record, and let a role add to it; as the owner of the database."""
    with _connected(address) as connection:
        new = schema.init(connection, address.location)
        made = schema.grant(connection, role) if role else False
        return Made(new=new, role_made=made, grants=schema.grants(role or "ROLE"))


def migrate(address: Address) -> Sequence[str]:
    """Bring the record to the format of this opskit; return the steps that were taken."""
    with _connected(address) as connection:
        return schema.migrate(connection, address.location)


def check(address: Address) -> list[Check]:
    """Look at everything that a run relies on. StoreError where the server can't be reached."""
    with _connected(address) as connection:
        server = PostgresRows(connection).one("server") or {}
        found = [_server(server), *_durable(server)]
        record = _format(connection)
        if record.state == "ok":
            return [*found, record, _guards(connection), *_rights(connection), _write(connection)]
        return [*found, record]


def _server(server: Row) -> Check:
    what = f"PostgreSQL {server['version']}, database {server['database']}, as {server['role']}"
    if server["standby"]:
        hint = "name the primary: target_session_attrs=read-write picks it among several hosts"
        return Check(name="server", state="bad", what=f"{what}: a standby", hint=hint)
    return Check(name="server", state="ok", what=what)


def _durable(server: Row) -> Iterator[Check]:
    off = [name for name in ("fsync", "full_page_writes") if server[_SETTINGS[name]] == "off"]
    if off:
        what = f"{' and '.join(off)} off: a crash of the machine may lose or damage entries"
        yield Check(name="durable", state="bad", what=what, hint="switch it on in postgresql.conf")
    else:
        yield Check(name="durable", state="ok", what=f"commits: {server['commits']}")


_SETTINGS = {"fsync": "fsync", "full_page_writes": "pages"}


def _format(connection: Connection) -> Check:
    try:
        number, known = schema.found_format(connection), schema.migrations()[-1].number
    except psycopg.errors.InsufficientPrivilege:
        hint = "as the owner of the record: `opskit store init --role ROLE`"
        return Check(name="record", state="bad", what="this role has no rights to it", hint=hint)
    if number == 0:
        hint = "as the owner of the database: `opskit store init`"
        return Check(name="record", state="bad", what="there is none yet", hint=hint)
    if number > known:
        what, hint = schema.newer(number, known), "use the newer opskit"
        return Check(name="record", state="bad", what=what, hint=hint)
    if number < known:
        what = f"format {number}; this opskit needs {known}"
        hint = "as the owner of the record: `opskit store migrate`"
        return Check(name="record", state="bad", what=what, hint=hint)
    return Check(name="record", state="ok", what=f"format {number}")


def _guards(connection: Connection) -> Check:
    gone = guards.missing(PostgresRows(connection))
    if gone:
        hint = "find out who did it; `opskit audit verify` says what was changed"
        return Check(name="guards", state="bad", what="; ".join(gone), hint=hint)
    return Check(name="guards", state="ok", what="all there, all on")


def _rights(connection: Connection) -> Iterator[Check]:
    rows = PostgresRows(connection)
    tables, server = rows.all("rights"), rows.one("server") or {}
    if server["super"] or any(table["owns"] for table in tables):
        what = "this role could take the guards away: it owns the record, or is a superuser"
        hint = "run things as another one: `opskit store init --role ROLE` makes it fit"
        yield Check(name="rights", state="warn", what=what, hint=hint)
        return
    many = [
        table["table"]
        for table in tables
        if not table["moving"] and (table["changes"] or table["deletes"] or table["empties"])
    ]
    few = [t["table"] for t in tables if not t["reads"]]
    few += [t["table"] for t in tables if t["table"] in schema.READ_AND_ADD and not t["adds"]]
    if many:
        what = f"this role may change or delete what is recorded: {', '.join(many)}"
        yield Check(name="rights", state="bad", what=what, hint="revoke that from it")
    if few:
        what = f"this role may not read or add to: {', '.join(sorted(set(few)))}"
        hint = "as the owner of the record: `opskit store init --role ROLE`"
        yield Check(name="rights", state="bad", what=what, hint=hint)
    silent = not (rows.one("may_beat") or {}).get("allowed")
    if silent:
        what = "this role may give no sign of life: its runs would be taken for left"
        hint = "as the owner of the record: `opskit store init --role ROLE`"
        yield Check(name="rights", state="bad", what=what, hint=hint)
    if not many and not few and not silent:
        yield Check(name="rights", state="ok", what="reads and adds; can't change or delete")


def _write(connection: Connection) -> Check:
    """Write something, and take it back."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(queries()["alone"])
            connection.execute(queries()["count_run"])
    except psycopg.Error as error:
        return Check(name="writing", state="bad", what=" ".join(str(error).split()))
    return Check(name="writing", state="ok", what="works")
