"""The mark that a change leaves in the same transaction as its effect: both are there, or neither.

A mark is one row for each attempt at an action of a run; its key lets it be there once. Whoever
wants to know what became of an attempt writes the same key himself, as barred: that waits for a
transaction which is still open, finds the mark of one that was committed, and keeps one that has
not begun from ever being committed.
"""

from opskit.drivers.postgres.connection import Connection, Row, ServerError, Taker
from opskit.model.frozen import frozen
from opskit.model.job import Job

_TABLE, LEASES, ARCHIVE = "marker", "lease", "removed_row"
_UNIQUE, _LOCKED = "23505", "55P03"


_COMMENT = (
    "'opskit: what its runs have changed here, and what they have given up; rows of runs that "
    "are settled, and are not to be undone, may be deleted'"
)
_LEASES = (
    "'opskit: for each lock and record the newest run that has it; an older one commits nothing'"
)
_KEPT = (
    "'opskit: rows that its runs have removed, as they were; those of runs that are not to be "
    "undone may be deleted'"
)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def ddl(schema: str, role: str | None = None) -> list[str]:
    """Return the statements that make the table, and let a role leave marks in it."""
    name, leases, kept = (f"{quoted(schema)}.{one}" for one in (_TABLE, LEASES, ARCHIVE))
    made = [
        f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}",
        f"""CREATE TABLE IF NOT EXISTS {name} (
    run text NOT NULL,
    action text NOT NULL,
    attempt integer NOT NULL,
    part smallint NOT NULL DEFAULT 0,
    barred boolean NOT NULL DEFAULT false,
    value bytea,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    role name NOT NULL DEFAULT session_user,
    PRIMARY KEY (run, action, attempt, part)
)""",
        f"COMMENT ON TABLE {name} IS {_COMMENT}",
        f"""CREATE TABLE IF NOT EXISTS {leases} (
    lock text NOT NULL,
    store text NOT NULL,
    number bigint NOT NULL,
    run text NOT NULL,
    about text NOT NULL,
    free boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (lock, store)
)""",
        f"COMMENT ON TABLE {leases} IS {_LEASES}",
        f"""CREATE TABLE IF NOT EXISTS {kept} (
    run text NOT NULL,
    action text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    attempt integer NOT NULL,
    line text NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (run, action, id)
)""",
        f"COMMENT ON TABLE {kept} IS {_KEPT}",
    ]
    if role is not None:
        made.append(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)}")
        made.append(f"GRANT SELECT, INSERT ON {name} TO {quoted(role)}")
        made.append(f"GRANT SELECT, INSERT, UPDATE ON {leases} TO {quoted(role)}")
        made.append(f"GRANT SELECT, INSERT ON {kept} TO {quoted(role)}")
    return made


@frozen
class Mark:
    """A mark that was found. `value`: what the change returned, where that was to be saved;
    `printed`: what it printed, packed."""

    barred: bool
    value: bytes
    printed: bytes


class StillOpenError(Exception):
    """The transaction of an attempt has not come to its end."""


class Marks:
    """The marks of one database; used within the session that changes it."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self.schema = schema
        self._name = f"{quoted(schema)}.{_TABLE}"

    def missing(self, *, leases: bool = False, archive: bool = False) -> str:
        """Return why no mark can be left, nor, where asked, a lease be shown or a row be kept.

        "" where it can.
        """
        found = dict(self._tables())
        if _TABLE not in found:
            return f"it has no table {self.schema}.{_TABLE}"
        if found[_TABLE] != "t":
            return f"its role may not add to {self.schema}.{_TABLE}"
        if leases and LEASES not in found:
            return f"an older opskit has made its tables: it has no {self.schema}.{LEASES}"
        if leases and found[LEASES] != "t":
            return f"its role may not change {self.schema}.{LEASES}"
        if archive and ARCHIVE not in found:
            return f"an older opskit has made its tables: it has no {self.schema}.{ARCHIVE}"
        if archive and found[ARCHIVE] != "t":
            return f"its role may not add to {self.schema}.{ARCHIVE}"
        return ""

    def _tables(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []

        def take(row: Row) -> None:
            rows.append(((row[0] or b"").decode(), (row[1] or b"").decode()))

        self._connection.run(
            _TABLES,
            (self.schema, LEASES, f"{{{_TABLE},{LEASES},{ARCHIVE}}}"),
            Taker(row=take),
        )
        return rows

    def leave(self, job: Job) -> bool:
        """Leave the mark, in the transaction that is open; False: somebody else does, or did."""
        try:
            self._connection.run(self._worded(_LEAVE), _key(job), Taker())
        except ServerError as error:
            if error.code in (_UNIQUE, _LOCKED):  # there, or on its way
                return False
            raise
        return True

    def keep(self, job: Job, value: bytes | None, printed: bytes) -> None:
        """Keep beside its mark what the change returned, where that is saved, and what it printed.

        One statement: every one is a way to the server and back.
        """
        words = [*_key(job), "\\x" + printed.hex()]
        words += ["\\x" + value.hex()] if value is not None else []
        both = _KEEP + (_AND_VALUE if value is not None else "")
        self._connection.run(self._worded(both), words, Taker())

    def note(self, job: Job, part: int, value: bytes) -> None:
        """Write something down beside the mark of an attempt."""
        values = (*_key(job), str(part), "\\x" + value.hex())
        self._connection.run(self._worded(_NOTE), values, Taker())

    def notes(self, run: str, action: str, part: int, taker: Taker) -> None:
        """Read what all attempts at an action have written down from this part on, as hex."""
        self._connection.run(self._worded(_NOTES), (run, action, str(part)), taker)

    def claim(self, job: Job, part: int, value: bytes) -> bool:
        """Take a place beside the mark of an attempt; False: somebody else has.

        Raises StillOpenError while somebody is about to.
        """
        values = (*_key(job), str(part), "\\x" + value.hex())
        try:
            words = self._worded(_NOTE) + " ON CONFLICT DO NOTHING"
            return self._connection.run(words, values, Taker()).tag.endswith(" 1")
        except ServerError as error:
            if error.code == _LOCKED:
                raise StillOpenError from None
            raise

    def find(self, job: Job) -> Mark | None:
        """Return the mark of an attempt."""
        found = self._connection.one(self._worded(_FIND), *_key(job))
        if not found:
            return None
        value, printed = (bytes.fromhex(text or "") for text in found[1:])
        return Mark(barred=found[0] == "t", value=value, printed=printed)

    def bar(self, job: Job) -> Mark:
        """Keep an attempt from ever being committed, or return the mark of one that was.

        Raises StillOpenError while its transaction is under way.
        """
        try:
            self._connection.run(self._worded(_BAR), _key(job), Taker())
        except ServerError as error:
            if error.code == _LOCKED:
                raise StillOpenError from None
            raise
        found = self.find(job)
        if found is None:
            raise ServerError("the mark that was just written is not there")
        return found

    def _worded(self, statement: str) -> str:
        return statement.replace("MARKER", self._name)


_TABLES = """
    SELECT c.relname, pg_catalog.has_schema_privilege(n.oid, 'usage')
        AND pg_catalog.has_table_privilege(c.oid, 'select')
        AND pg_catalog.has_table_privilege(c.oid, 'insert')
        AND (c.relname <> $2 OR pg_catalog.has_table_privilege(c.oid, 'update'))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($3::text[]) AND c.relkind IN ('r', 'p')
"""
_LEAVE = "INSERT INTO MARKER (run, action, attempt) VALUES ($1, $2, $3::integer)"
_KEEP = """
    INSERT INTO MARKER (run, action, attempt, part, value)
    VALUES ($1, $2, $3::integer, 2, $4::bytea)
"""
_AND_VALUE = ", ($1, $2, $3::integer, 1, $5::bytea)"
_NOTE = """
    INSERT INTO MARKER (run, action, attempt, part, value)
    VALUES ($1, $2, $3::integer, $4::smallint, $5::bytea)
"""
_NOTES = """
    SELECT pg_catalog.encode(value, 'hex') FROM MARKER
    WHERE run = $1 AND action = $2 AND part >= $3::smallint ORDER BY attempt, part
"""
_FIND = """
    SELECT m.barred, pg_catalog.encode(v.value, 'hex'), pg_catalog.encode(p.value, 'hex')
    FROM MARKER m
    LEFT JOIN MARKER v ON (v.run, v.action, v.attempt, v.part) = (m.run, m.action, m.attempt, 1)
    LEFT JOIN MARKER p ON (p.run, p.action, p.attempt, p.part) = (m.run, m.action, m.attempt, 2)
    WHERE m.run = $1 AND m.action = $2 AND m.attempt = $3::integer AND m.part = 0
"""
_BAR = """
    INSERT INTO MARKER (run, action, attempt, barred) VALUES ($1, $2, $3::integer, true)
    ON CONFLICT DO NOTHING
"""


def _key(job: Job) -> tuple[str, str, str]:
    return job.run, job.key, str(job.attempt)
