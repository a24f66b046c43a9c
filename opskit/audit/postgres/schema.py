"""The tables of a PostgreSQL store: made, brought up to date, or refused."""

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from opskit.audit.postgres.rows import Connection, queries
from opskit.audit.postgres.session import transaction
from opskit.audit.queries import scripts
from opskit.errors import StoreError
from opskit.model.frozen import frozen

_INIT = "as the owner of the database: `opskit store init` makes it"


@frozen
class Migration:
    """One step from a format to the next: its number, its name, its SQL."""

    number: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """Return all that this opskit knows, in order; the last one's number is its format."""
    found = []
    for stem, sql in scripts("postgres/migrations").items():
        number, _, name = stem.partition("_")
        found.append(Migration(number=int(number), name=name.replace("_", " "), sql=sql))
    return tuple(found)


def found_format(connection: Connection) -> int:
    """Return the format of the record here; 0 where there is none."""
    present = _one(connection, "present")
    if not present.get("present"):
        return 0
    return int(_one(connection, "format")["number"])


def refuse_other(connection: Connection, location: str) -> None:
    """Refuse a database that has no record, or one of another format."""
    known = migrations()[-1].number
    number = found_format(connection)
    if number == known:
        return
    if number == 0:
        what, hint = "there is no record in this database", _INIT
    elif number > known:
        what, hint = newer(number, known), "use the newer opskit"
    else:
        what = f"an older opskit has made this record (format {number}; this one needs {known})"
        hint = "as its owner, and with nobody running anything: `opskit store migrate`"
    raise StoreError(what, where=location, hint=hint)


def newer(number: int, known: int) -> str:
    return f"a newer opskit has made this record (format {number}; this one knows {known})"


def init(connection: Connection, location: str) -> bool:
    """Make the record where there is none; return whether there was none."""
    if found_format(connection):
        refuse_other(connection, location)
        return False
    with transaction(connection) as rows:
        connection.execute(b"create schema opskit")
        connection.execute(b"revoke all on schema opskit from public")
        for migration in migrations():
            _carry_out(connection, migration)
        store = secrets.token_hex(8)
        rows.run("found_store", id=store, created=time.time())
        rows.run("add_key", store=store, body=secrets.token_bytes(32))
    return True


def migrate(connection: Connection, location: str) -> tuple[str, ...]:
    """Bring the record to the format of this opskit; return the names of the steps it took."""
    known = migrations()
    number = found_format(connection)
    if number == 0:
        raise StoreError("there is no record in this database", where=location, hint=_INIT)
    if number > known[-1].number:
        what = newer(number, known[-1].number)
        raise StoreError(what, where=location, hint="use the newer opskit")
    taken = []
    with transaction(connection) as rows:
        found = rows.one("format")  # again: another may have been at it
        number = int(found["number"]) if found else 0
        for migration in known:
            if migration.number > number:
                _carry_out(connection, migration)
                taken.append(migration.name)
    return tuple(taken)


def _carry_out(connection: Connection, migration: Migration) -> None:
    for statement in statements(migration.sql):
        connection.execute(statement.encode())
    values = {"number": migration.number, "name": migration.name}
    connection.execute(queries()["migrated"], values)


_PIECE = re.compile(r"--[^\n]*|\$\$.*?\$\$|'(?:[^']|'')*'|[^;$'-]+|.", re.DOTALL)


def statements(script: str) -> list[str]:
    """Split a script at its semicolons; those in a text, a comment or a function don't count."""
    found, statement = [], ""
    for piece in _PIECE.findall(script):
        if piece == ";":
            found.append(statement.strip())
            statement = ""
        elif not piece.startswith("--"):
            statement += piece
    return [text for text in (*found, statement.strip()) if text]


def _one(connection: Connection, query: str) -> Mapping[str, Any]:
    return connection.execute(queries()[query]).fetchone() or {}


# ---- rights

READ_AND_ADD = ("documents", "events", "outputs", "runs", "keys")
"""What the role of those who run may only read and add to."""

GRANTS = (
    "grant usage on schema opskit to {role}",
    "grant select on all tables in schema opskit to {role}",
    f"grant insert on {', '.join(f'opskit.{table}' for table in READ_AND_ADD)} to {{role}}",
    "grant insert, update on opskit.heads to {role}",
    "grant insert, delete on opskit.locks, opskit.holds to {role}",
    "grant update (runs, tokens) on opskit.store to {role}",
    "grant update (beats, beat, heard) on opskit.holds to {role}",
)


def grants(role: str) -> tuple[str, ...]:
    """Return the statements that let a role run things: read all, add, and never change a fact."""
    quoted = '"' + role.replace('"', '""') + '"'
    return tuple(grant.format(role=quoted) for grant in GRANTS)


def grant(connection: Connection, role: str) -> bool:
    """Give a role these rights; make it, where it is not there. Return whether it was made."""
    with transaction(connection) as rows:
        made = rows.one("role_exists", name=role) is None
        if made:
            connection.execute(f'create role "{role.replace(chr(34), chr(34) * 2)}" login'.encode())
        for statement in grants(role):
            connection.execute(statement.encode())
    return made
