"""Databases that are busy: sessions that run, stand still or wait, until the test is over."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from opskit.model.activity import Activity, Limit, Sessions, Target, target
from opskit.model.job import Output
from opskit.steps.activity import LIMITS
from opskit.steps.health import judge
from tests.support.database import Base, until

WATCHER = """
    DO $$ BEGIN CREATE ROLE watcher LOGIN IN ROLE pg_monitor, pg_signal_backend;
    EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_prepared_transactions": "4",
    "deadlock_timeout": "600s",
}
EVERYBODY = ("app", "reader", "owner", "watcher")


class Client:
    """A client with one session. `run` sends a statement in a thread and waits until it runs."""

    def __init__(self, db: Base, user: str, application: str, database: str) -> None:
        url = db.owner.replace("//owner@", f"//{user}@")
        words = {"application_name": application, "autocommit": True}
        words |= {"dbname": database} if database else {}
        self.db = db
        self.connection = psycopg.connect(url, **words)  # type: ignore[arg-type]
        self.pid = self.connection.info.backend_pid
        self.error = ""
        self._thread: threading.Thread | None = None

    def do(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def run(self, statement: str, *, waits: bool = False) -> None:
        def send() -> None:
            try:
                self.connection.execute(statement.encode())
            except psycopg.Error as error:
                self.error = str(error)

        self.error = ""
        self._thread = threading.Thread(target=send)
        self._thread.start()
        runs = f"SELECT state, wait_event_type FROM pg_stat_activity WHERE pid = {self.pid}"
        if waits:
            until(lambda: self.db.sql(runs)[0][1] == "Lock")
        else:
            until(lambda: self.db.sql(runs)[0][0] == "active")

    def ended(self) -> str:
        """Wait until the statement is over; return what it failed with."""
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.error

    @property
    def alive(self) -> bool:
        return bool(self.db.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", self.pid))

    def close(self) -> None:
        self.db.sql("SELECT pg_terminate_backend(%s)", self.pid)
        if self._thread is not None:
            self._thread.join(20)
        self.connection.close()


@contextlib.contextmanager
def clients(db: Base) -> Iterator[Any]:
    """Give what opens sessions; all of them are closed in the end."""
    made: list[Client] = []

    def client(user: str = "app", application: str = "web", database: str = "") -> Client:
        made.append(Client(db, user, application, database))
        return made[-1]

    try:
        yield client
    finally:
        for one in reversed(made):
            one.close()


def limits(**own: tuple[float, float]) -> dict[str, Limit]:
    """Return limits nothing comes to, but for those that are given."""
    found = {name: Limit(warn=3600.0, crit=7200.0) for name in LIMITS}
    return found | {name: Limit(warn=warn, crit=crit) for name, (warn, crit) in own.items()}


def look(
    db: Base,
    **how: Any,  # noqa: ANN401 - an Activity's
) -> Output:
    """Look, and judge it as a step does."""
    how = {"window": 0.0, "limits": limits(), **how}
    work = Activity(database="main", **how)
    return judge(work, db.do(work, "read"))


def findings(output: Output) -> list[tuple[str, str, str]]:
    found: Any = output.evidence["findings"]
    return [(one["level"], one["check"], one["name"]) for one in found]


def listed(output: Output, *clients: Client) -> tuple[Target, ...]:
    """Return what a look calls the sessions of these clients."""
    sessions: Any = output.evidence["sessions"]
    names = {one["pid"]: one["session"] for one in sessions}
    found = [target(names[client.pid]) for client in clients]
    return tuple(one for one in found if one is not None)


def end(
    db: Base,
    do: str,
    targets: Sequence[Target],
    **how: Any,  # noqa: ANN401 - those of Sessions
) -> Output:
    how = {"users": ("app",), "older": 0.0, **how}
    work = Sessions(do=do, database="main", targets=tuple(targets), **how)  # type: ignore[arg-type]
    return db.do(work, "read" if how.get("probe") else "change")


def shown(output: Output) -> str:
    return json.dumps(dict(output.evidence))
