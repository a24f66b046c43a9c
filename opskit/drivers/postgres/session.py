"""A session at a database: what holds in it, and who it turns out to be with."""

import math
from collections.abc import Callable, Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict

from opskit.drivers.postgres.connection import (
    BrokenError,
    Connection,
    ServerError,
    Watch,
    connect,
)
from opskit.drivers.postgres.lease import Lease
from opskit.drivers.relay import Open, Relay
from opskit.errors import OpskitError, UnreachableError
from opskit.model.frozen import frozen
from opskit.model.inventory import Database

OLDEST = 130000
"""The oldest server that will do: 13."""
_OPTIONS: Mapping[str, str | int] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "client_encoding": "UTF8",
    "options": "",
    "gssencmode": "disable",
}
"""Every wait for a network ends; what the environment says for libpq (PGOPTIONS) is not heard."""
_FOURTEEN = 140000
_DENIED = "42501"
_LONGEST_NAME = 63
_FOR_GOOD = 2**31 - 1


@frozen
class Identity:
    """Who answers. `system` and `timeline` are empty where the server does not tell them."""

    system: str
    timeline: str
    standby: bool
    user: str
    address: str
    process: str
    began: str


@frozen
class Access:
    """How a database is reached. `through` opens a way to its host, where it has one."""

    database: Database
    run: str
    runbook: str
    password: str = ""
    system: str = ""
    """The system_identifier of the cluster that this run has met there before."""
    through: Callable[[], Open] | None = None
    lease: Lease | None = None
    """The locks that the run has, where it may change something."""
    hidden: tuple[str, ...] = ()
    """Values that the run keeps secret."""
    beside: "Callable[[str], Access] | None" = None
    """How another database of the run is reached."""

    @property
    def where(self) -> str:
        return f"database {self.database.name}"

    @property
    def application(self) -> str:
        """What the session is called in pg_stat_activity."""
        room = _LONGEST_NAME - len(f"opskit::{self.run}")
        return f"opskit:{self.runbook[: max(0, room)]}:{self.run}"

    def __repr__(self) -> str:
        return f"Access({self.database.name})"


class Session:
    """A connection that is set up, with whom it is with."""

    def __init__(self, connection: Connection, identity: Identity) -> None:
        self.connection = connection
        self.identity = identity

    def close(self) -> None:
        self.connection.close()


def opened(access: Access, watch: Watch = lambda: None) -> Session:
    """Open a session and make sure that it is with whom the inventory means.

    Raises UnreachableError, which says why not; nothing has been done then.
    """
    connection = None
    try:
        connection = _connected(access, watch)
        connection.watch = watch
        _refuse_old(connection, access)
        connection.own(_setup(connection.version))
        identity = _identity(connection)
        _assert(connection, identity, access)
        return Session(connection, identity)
    except (BrokenError, ServerError) as error:
        _close(connection)
        raise UnreachableError(
            f"no session can be had: {error.what}", where=access.where, hint=_hint(error.what)
        ) from None
    except BaseException:
        _close(connection)
        raise


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.close()


def _connected(access: Access, watch: Watch) -> Connection:
    database = access.database
    options: dict[str, str | int] = {**_OPTIONS, "application_name": access.application}
    if access.password:
        options["password"] = access.password
    relay = None
    if access.through is not None:
        words = _parts(database.url)
        host, port = str(words.get("host")), int(str(words.get("port") or 5432))
        relay = Relay(access.through(), host, port, database.connect_timeout)
    return connect(
        database.url, timeout=database.connect_timeout, watch=watch, relay=relay, **options
    )


def _parts(url: str) -> Mapping[str, object]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise BrokenError(" ".join(str(error).split())) from None


def _hint(what: str) -> str:
    if "no password supplied" in what or "password authentication failed" in what:
        return "name the secret under `password` in the inventory, or use ~/.pgpass"
    if "53300" in what or "too many clients" in what or "remaining connection slots" in what:
        return "all its connections are taken: find who has them in pg_stat_activity"
    if "does not exist" in what:
        return "it answers, and does not have that: see `url` of the database in the inventory"
    return "see that it runs and can be reached from here, or through the host in `via`"


def _refuse_old(connection: Connection, access: Access) -> None:
    if connection.version < OLDEST:
        raise UnreachableError(
            f"the server is PostgreSQL {connection.version // 10000}",
            where=access.where,
            hint=f"opskit needs {OLDEST // 10000} or newer",
        )


def _setup(version: int) -> str:
    """Return what holds in every session; it is safe also while a statement's time is not known.

    Who waits for something else than a statement is not idle, whatever the server's limit is.
    """
    waits = "SET idle_session_timeout = 0;" if version >= _FOURTEEN else ""
    return f"""{waits}
        SET TimeZone = 'UTC'; SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD';
        SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1;
        SET lock_timeout = '2s'; SET statement_timeout = '10s';
        SET idle_in_transaction_session_timeout = '60s';
        SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
        WHERE pg_catalog.current_setting('synchronous_commit') = 'off';
    """


def limit(connection: Connection, seconds: float, *, ends_with_us: bool) -> None:
    """Let the server end what takes longer; and what nobody waits for any more, where asked."""
    longest = min(_FOR_GOOD, max(1, math.ceil(seconds * 1000)))
    words = f"SET statement_timeout = {longest};"
    if ends_with_us and connection.version >= _FOURTEEN:
        words += " SET client_connection_check_interval = '2s';"
    connection.own(words)


_WHO = """
    SELECT pg_catalog.pg_backend_pid()::text, pg_catalog.pg_is_in_recovery(), session_user::text,
           pg_catalog.concat_ws(':', pg_catalog.host(pg_catalog.inet_server_addr()),
                                pg_catalog.inet_server_port()),
           (SELECT backend_start::text FROM pg_catalog.pg_stat_activity
            WHERE pid = pg_catalog.pg_backend_pid())
"""
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
_TIMELINE = (
    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)"
)


def _identity(connection: Connection) -> Identity:
    process, standby, user, address, began = connection.one(_WHO)
    in_recovery = standby == "t"
    return Identity(
        system=_told(connection, _SYSTEM),
        timeline="" if in_recovery else _told(connection, _TIMELINE),
        standby=in_recovery,
        user=user or "",
        address=address or "socket",
        process=process or "",
        began=began or "",
    )


def _told(connection: Connection, question: str) -> str:
    """Ask what some servers do not tell to everybody."""
    try:
        found = connection.one(question)
    except ServerError:
        return ""
    return (found[0] or "") if found else ""


def _assert(connection: Connection, found: Identity, access: Access) -> None:
    """Refuse a pooler, another cluster than the one meant, a standby for a primary and back."""
    database, wrong, hint = access.database, "", ""
    if str(connection.claimed_pid) != found.process:
        wrong = "a pooler answers: the session would not be one's own"
        hint = "name the server itself in `url`: marks, locks and settings need a session"
    elif database.system_identifier not in (None, found.system):
        wrong = f"another cluster answers: its system_identifier is {found.system or 'not told'}"
        hint = f"the inventory says {database.system_identifier}; see where `url` leads"
    elif access.system not in ("", found.system):
        wrong = "another cluster answers than the one that this run has met here before"
        hint = "see where `url` leads; begin a new run if that is meant"
    elif found.standby and not database.standby:
        wrong = "a standby answers, and the primary is meant"
        hint = "see where `url` leads; for a standby write standby: true"
    elif database.standby and not found.standby:
        wrong = "a primary answers, and a standby is meant"
        hint = "see where `url` leads; it may have been promoted"
    if wrong:
        raise UnreachableError(wrong, where=access.where, hint=hint)


def refused(error: ServerError) -> str:
    """Say why the server did not do something, and what helps where a right is lacking."""
    cure = " → GRANT it to the role that does this" if error.code == _DENIED else ""
    return error.what + cure


class RoleError(OpskitError):
    """The role may do more than a read may."""


_MAY = """
    SELECT rolsuper, current_user::text, (SELECT pg_catalog.string_agg(name, ', ')
        FROM (VALUES ('pg_execute_server_program'), ('pg_write_server_files'),
                     ('pg_read_server_files')) AS powers (name)
        WHERE NOT rolsuper AND pg_catalog.pg_has_role(current_user, name, 'usage'))
    FROM pg_catalog.pg_roles WHERE rolname = current_user
"""


def as_reader(session: Session, access: Access) -> str:
    """Take on the role that reads are made as; refuse one that a read-only transaction can't hold.

    Returns the role. What it may write in tables the transaction holds back; what a superuser may
    do beyond tables, nothing does.
    """
    role = access.database.read_role
    if role is not None:
        quoted = '"' + role.replace('"', '""') + '"'
        try:
            session.connection.own(f"SET ROLE {quoted}")
        except ServerError as error:
            hint = (
                f"see `read_role` of the database: CREATE ROLE, GRANT it TO {session.identity.user}"
            )
            raise RoleError(error.what, where=access.where, hint=hint) from None
    superuser, name, powers = session.connection.one(_MAY)
    if superuser == "t" or powers:
        what = "is a superuser" if superuser == "t" else f"is a member of {powers}"
        raise RoleError(
            f"a read is not made as {name}, which {what}: no transaction holds it back",
            where=access.where,
            hint="add read_role: NAME to the database, a role that may only read",
        )
    return name or ""
