"""Ways to a database: through a host, with a password, past a pooler, to a standby and beyond."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from opskit.drivers.targets import Targets
from opskit.model.inventory import MARKERS, Database
from opskit.model.job import Contact, Output
from opskit.model.value import Secret
from tests.support import ports
from tests.support.database import Base, base
from tests.support.postgres import Server, rows
from tests.support.postgres import server as started
from tests.support.proxy import Proxy
from tests.support.sshd import Sshd

pytestmark = pytest.mark.acceptance
ADD = "INSERT INTO item VALUES ('a')"
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def listening() -> Iterator[Server]:
    """A server that listens on the loopback, where the role `app` needs its password."""
    with started(listen_addresses="127.0.0.1", port=str(ports.free())) as found:
        rules = found.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all app 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        one = base(found)
        one.sql("SET password_encryption = 'scram-sha-256'; "  # 13 has another default
                f"ALTER ROLE app PASSWORD '{SECRET}'")  # fmt: skip
        one.sql("SELECT pg_reload_conf()")
        yield found


@pytest.fixture
def db(listening: Server) -> Base:
    return base(listening)


def name_of(db: Base) -> str:
    return str(db.sql("SELECT current_database()")[0][0])


def entry(db: Base, **how: object) -> Database:
    url = f"postgresql://app@127.0.0.1:{db.server.port}/{name_of(db)}"
    known: dict[str, object] = {"name": "main", "url": url, "password": "word", **how}
    return Database(**known)  # type: ignore[arg-type]


def through(db: Base, host: Sshd, password: str = SECRET, **how: object) -> Targets:
    """Reach the database through a host's own connection."""
    return Targets(
        db.run,
        {"web1": host.host()},
        databases={"main": entry(db, via="web1", **how)},
        secrets={"word": Secret("word", password)},
        runbook="books",
    )


def test_a_database_is_reached_through_a_host(db: Base, server: Sshd) -> None:
    targets = through(db, server)
    try:
        contact = targets.open("db:main", writes=True)
        assert contact.state_dir == MARKERS
        assert contact.address.startswith("127.0.0.1:")
        printed = bytearray()
        found = targets.perform(db.job(ADD), lambda _stream, data: printed.extend(data))
        assert found.outcome == "succeeded", found
        large = targets.perform(
            db.job("SELECT repeat('x', 300000)", "read", kept=True), lambda *_: None
        )
        assert len(large.stdout) == 300000
    finally:
        targets.close()
    assert db.items() == ["a"]
    assert db.quiet()


def test_a_host_that_leads_nowhere_is_said(db: Base, server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    targets = through(db, server, url=f"postgresql://app@127.0.0.1:{port}/x")
    try:
        found = targets.perform(db.job(ADD), lambda *_: None)
    finally:
        targets.close()
    assert (found.outcome, found.sent, found.unreachable) == ("failed", False, True)
    assert "the host can't reach it" in found.reason


@pytest.mark.parametrize("given", ["wrong-password", ""])
def test_a_password_that_is_wrong_or_missing_is_said_and_not_shown(db: Base, given: str) -> None:
    db.use(entry(db), {"word": Secret("word", given)} if given else {})
    found = db.do(ADD)
    assert (found.outcome, found.sent) == ("failed", False)
    assert "password" in found.reason
    assert "wrong-password" not in repr(found)
    db.use(entry(db), {"word": Secret("word", SECRET)})
    assert db.do(ADD).outcome == "succeeded"
    assert SECRET not in Path("/proc/self/cmdline").read_text()


class Pooler:
    """Says to be another process than the one that answers, as whoever hands out sessions does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(source, target), daemon=True).start()

    def close(self) -> None:
        self._listener.close()


_KEY = b"K\x00\x00\x00\x0c"


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            at = data.find(_KEY)
            if at >= 0:
                data = data[: at + 5] + b"\x00\x00\x00\x07" + data[at + 9 :]
            target.sendall(data)
    for end in (source, target):
        end.close()


def test_a_pooler_is_refused(postgres: Server) -> None:
    db = base(postgres)
    with closing(Pooler(postgres.socket)) as pooler:
        db.changed(url=f"postgresql://app@127.0.0.1:{pooler.port}/{name_of(db)}?sslmode=disable")
        for found in (db.do(ADD), db.read("SELECT 1")):
            assert (found.outcome, found.sent) == ("failed", False)
            assert "a pooler answers" in found.reason
    assert db.items() == []


def standing_by(one: Server) -> None:
    """Start the server anew as a standby."""
    one.stop()
    (one.folder / "data" / "standby.signal").touch()
    one.start()


def test_a_standby_is_refused_and_a_new_timeline_proves_nothing() -> None:
    with started() as one:
        db = base(one)
        contact = db.driver.open("main")
        assert db.do(ADD, key="1/").outcome == "succeeded"
        standing_by(one)
        found = db.do(ADD, key="2/")
        assert (found.sent, found.unreachable) == (False, True)
        assert "a standby answers, and the primary is meant" in found.reason
        assert db.changed(standby=True).read("SELECT count(*) FROM item", kept=True).stdout == b"1"
        refused = db.do("SELECT 1")
        assert (refused.outcome, refused.sent) == ("failed", False)
        db.changed(standby=False)
        db.sql("SELECT pg_promote()")
        after = db.driver.open("main")
        assert (after.nonce, after.boot_id) != (contact.nonce, contact.boot_id)
        assert concluded(db, "2/", contact).outcome == "unknown"
        assert "another timeline" in concluded(db, "2/", contact).reason
        assert concluded(db, "1/", contact).outcome == "succeeded"


def test_another_cluster_than_at_the_beginning_of_the_run_is_refused(postgres: Server) -> None:
    db = base(postgres)
    with started() as other, closing(Proxy(postgres.socket)) as wire:
        db.changed(url=wire.url(name_of(db), "app"))
        db.driver.open("main")
        assert db.do(ADD).outcome == "succeeded"
        called = name_of(base(other))
        if called != name_of(db):
            rows(other.url("postgres"), f"ALTER DATABASE {called} RENAME TO {name_of(db)}")
        wire.lead_to(other.socket)
        found = db.do(ADD, key="2/")
    assert (found.outcome, found.sent) == ("failed", False)
    assert "another cluster answers than the one that this run has met" in found.reason


def concluded(db: Base, key: str, contact: Contact) -> Output:
    return db.find(ADD, key=key, contact=contact)
