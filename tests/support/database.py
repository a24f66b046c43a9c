# ruff: noqa: ANN401 - keywords are those of a Query, a Job, a Database
"""A database of a test's own, and attempts at SQL on it through the real driver."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from opskit.drivers.postgres.databases import About, Databases
from opskit.drivers.postgres.lease import Lease
from opskit.drivers.postgres.marks import ddl
from opskit.model.inventory import MARKERS, Database, Host
from opskit.model.job import Contact, Job, Output
from opskit.model.runbook import Effect
from opskit.model.text import Text
from opskit.model.value import Secret
from opskit.model.work import Query, Work
from opskit.render import text
from tests.support.postgres import Server

_runs = itertools.count(1)


@dataclass
class Base:
    """A database with a role `app` that may change the table `item`, and `reader` that may not."""

    server: Server
    owner: str
    run: str
    database: Database
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    lease: tuple[str, ...] = ()
    out: dict[str, bytearray] = field(default_factory=dict)
    driver: Databases = field(init=False)

    def __post_init__(self) -> None:
        self.use(self.database)

    def use(self, database: Database, secrets: Mapping[str, Secret] | None = None) -> "Base":
        """Reach it as another entry of the inventory says."""
        self.database = database
        about = About(
            run=self.run, runbook="books", secrets=secrets or self.secrets,
            lease=Lease.of(self.lease),
        )  # fmt: skip
        self.driver = Databases(about, {database.name: database}, no_host)
        return self

    def as_run(self, run: str, *lease: str) -> "Base":
        """Return the same database for another run, with what it shows of its locks."""
        return replace(self, run=run, lease=lease, out={})

    def changed(self, **how: Any) -> "Base":
        return self.use(replace(self.database, **how))

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Carry out a statement behind opskit's back, as the owner."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def job(
        self, query: str | Text | Work, effect: Effect = "change", *,
        key: str = "1/", attempt: int = 1, timeout: float = 20.0, contact: Contact | None = None,
        given: Mapping[str, object] | None = None,
        **how: Any,
    ) -> Job:  # fmt: skip
        if isinstance(query, (str, Text)):
            made = query if isinstance(query, Text) else text(query, given or {}, context="sql")
            work: Work = Query(text=made, database=self.database.name, **how)
        else:
            work = query
        return Job(
            run=self.run, key=key, attempt=attempt, host=Host(name="db:main", address="main"),
            work=work, effect=effect, timeout=timeout, contact=contact,
        )  # fmt: skip

    def do(self, query: str | Text | Work, effect: Effect = "change", **how: Any) -> Output:
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        return self.driver.perform(self.job(query, effect, **how), self._write)

    def read(self, query: str | Text, **how: Any) -> Output:
        return self.do(query, "read", **how)

    def find(self, query: str | Text | Work, *, left: float = 20.0, **how: Any) -> Output:
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        return self.driver.rejoin(self.job(query, **how), self._write, left)

    def _write(self, stream: str, data: bytes) -> None:
        self.out[stream] += data

    @property
    def printed(self) -> str:
        return self.out["stdout"].decode()

    def items(self) -> list[str]:
        return [str(row[0]) for row in self.sql("SELECT name FROM item ORDER BY name")]

    def sessions(self) -> list[tuple[Any, ...]]:
        """Return what opskit does at the server at this moment."""
        return self.sql(
            "SELECT pid, state, query FROM pg_stat_activity WHERE application_name LIKE 'opskit:%'"
            " AND datname = current_database()"
        )

    def others(self) -> int:
        """Count whoever is in the database, from elsewhere; who has left it takes a moment."""
        name = self.sql("SELECT current_database()")[0][0]
        query = "SELECT FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL"
        with psycopg.connect(self.server.url("postgres")) as connection:
            return connection.execute(query, [name]).rowcount

    def quiet(self) -> bool:
        """Tell whether nothing of opskit is left at the server; to leave takes a moment."""
        until(lambda: self.sessions() == [])
        return True

    @contextlib.contextmanager
    def beside(self, query: str | Work, **how: Any) -> Iterator[list[Output]]:
        """Do something in another thread; it has come to its end afterwards."""
        found: list[Output] = []
        thread = threading.Thread(target=lambda: found.append(self.do(query, **how)))
        thread.start()
        try:
            yield found
        finally:
            thread.join(60)

    @contextlib.contextmanager
    def under_way(self, query: str, **how: Any) -> Iterator[list[Output]]:
        """Do something that sleeps in another thread; it does when this returns."""
        with self.beside(query, **how) as found:
            until(lambda: any("pg_sleep" in query for _, _, query in self.sessions()))
            yield found


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be so"
        time.sleep(0.05)


def no_host(name: str) -> Any:
    raise AssertionError(f"{name} was asked for a way")


ROLES = """
    DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
TABLES = """
    CREATE TABLE item (name text PRIMARY KEY, n integer DEFAULT 0);
    GRANT SELECT, INSERT, UPDATE, DELETE ON item TO app;
    GRANT SELECT ON item TO reader;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO app
"""


def base(server: Server, *, owner: str = "") -> Base:
    """Make a database with its roles; `owner`: the URL of one to be used once more, emptied."""
    again, owner = owner, owner or server.database(empty=True)
    found = Base(server, owner, f"run{next(_runs)}", Database(name="main", url=owner))
    empty = f"DROP SCHEMA IF EXISTS public, {MARKERS} CASCADE; CREATE SCHEMA public"
    statements = [ROLES, empty] if again else [ROLES]
    statements += [TABLES, *ddl(MARKERS, "app")]
    found.sql(";".join(statements))
    return found.use(Database(name="main", url=owner.replace("//owner@", "//app@")))
