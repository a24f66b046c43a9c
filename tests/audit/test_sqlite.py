"""The file: its rights, its format, its guards, and what happens when it can't be written."""

import contextlib
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from opskit import audit
from opskit.audit import Journal, Store, mounts
from opskit.audit.sink import Sink
from opskit.audit.sqlite import SqliteDatabase
from opskit.errors import Exit, InputError, RefusedError, StoreError, TakenOverError
from opskit.model.event import Event
from opskit.model.value import Secret
from tests.contract.samples import (
    begin,
    ended,
    finished,
    python,
    started,
    tell_everywhere,
    whole_run,
)

OPEN_TOGETHER = """
import sys
from opskit import audit
sys.stdin.readline()
audit.open(sys.argv[1]).close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = audit.open(path)
    yield opened
    opened.close()


def database_of(store: Store) -> SqliteDatabase:
    database = store._database
    assert isinstance(database, SqliteDatabase)
    return database


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_read_a_store_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = audit.open(path)
        with begin(store) as journal:
            journal.append(started())
            modes = {file.name: mode(file) for file in path.parent.iterdir()}
        store.secrets_match(journal.run, [])
    finally:
        os.umask(before)
    store.close()

    assert mode(path.parent) == 0o700
    assert set(modes.values()) == {0o600}
    assert {"store.db", "store.db-wal", "store.db-shm"} <= modes.keys()


def test_a_store_that_others_may_write_is_refused(path: Path) -> None:
    audit.open(path).close()
    path.chmod(0o664)

    with pytest.raises(StoreError, match="may write to the store") as raised:
        audit.open(path)

    assert f"chmod 600 {path}" in str(raised.value)
    assert raised.value.exit == Exit.USAGE  # a run is refused with 5: nothing was changed


def test_every_commit_is_synced_to_the_disk(store: Store) -> None:
    writer = database_of(store)._writer

    assert writer.execute("pragma journal_mode").fetchone()[0] == "wal"
    assert writer.execute("pragma synchronous").fetchone()[0] == 2
    assert writer.execute("pragma foreign_keys").fetchone()[0] == 1


def test_a_store_of_a_newer_opskit_is_refused(path: Path) -> None:
    audit.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")

    with pytest.raises(StoreError, match=r"newer opskit .*format 99; this one knows 3") as raised:
        audit.open(path)

    assert "use the newer opskit" in str(raised.value)


def test_a_store_without_signs_of_life_gets_them(path: Path) -> None:
    store = audit.open(path)
    run = whole_run(store)
    with begin(store) as journal:
        journal.append(started())
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for column in ("beats", "heard"):
                connection.execute(f"alter table holds drop column {column}")
            connection.execute("pragma user_version = 2")
        later = audit.open(path)
        assert later.verify() == []
        assert later.load(run).state == "succeeded"
        with pytest.raises(RefusedError, match="is being carried out right now by ann"):
            later.reopen(journal.run, who="bob", origin="desk")
        with begin(later, locks=()) as other:
            other.append(started(), ended(), finished())
        later.close()
    store.close()


def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table theirs (x)")
    path.chmod(0o600)
    before = path.read_bytes()

    with pytest.raises(StoreError, match="not a record of opskit"):
        audit.open(path)

    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_untouched(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("notes\n" * 200)
    path.chmod(0o600)

    with pytest.raises(StoreError, match="not a record of opskit"):
        audit.open(path)

    assert path.read_text() == "notes\n" * 200


@pytest.mark.parametrize(
    ("place", "kind"), [("/dev/null", "a device"), (".", "a directory"), ("pipe", "a pipe")]
)
def test_what_is_no_file_is_not_given_other_rights(tmp_path: Path, place: str, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(StoreError, match=f"this is {kind}, where the store should be") as raised:
        audit.open(tmp_path / place)

    assert "chmod" not in str(raised.value)
    assert "--store FILE" in raised.value.hint


def test_a_place_where_no_store_can_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="can't be used: Not a directory") as raised:
        audit.open(tmp_path / "file" / "store.db")

    assert str(tmp_path) in str(raised.value)


def test_another_kind_of_store_is_refused() -> None:
    with pytest.raises(InputError, match="mysql://"):
        audit.open("mysql://db/opskit")


def test_several_processes_that_make_the_store_at_once_make_one(path: Path) -> None:
    processes = [python(OPEN_TOGETHER, str(path)) for _ in range(4)]
    for process in processes:
        process.communicate("go\n", timeout=60)

    assert [process.returncode for process in processes] == [0] * 4
    store = audit.open(path)
    assert store.verify() == []
    store.close()


def test_a_network_file_system_is_warned_of() -> None:
    here = mounts.file_system(Path("/proc/self"))

    assert here == "proc"
    assert "nfs4" in mounts.NETWORK


GUARDED = [
    "update runs set kind = 'x'",
    "delete from runs",
    "insert into runs values (9, 'x', 'run', 'x', 0)",
    "insert or replace into runs values (1, 'x', 'run', 'x', 0)",
    "update events set body = 'x'",
    "update events set at = 0 where number = 1",
    "delete from events where number = 3",
    "insert or replace into events select run, 1, 0, kind, key, host, body, hash from events",
    "insert into events select run, 99, 0, kind, key, host, body, hash from events",
    "update outputs set body = 'x'",
    "delete from outputs",
    "insert or replace into outputs select * from outputs limit 1",
    "update documents set body = 'x'",
    "delete from documents",
    "insert or replace into documents select * from documents limit 1",
    "update store set id = 'x'",
    "update store set runs = 0",
    "delete from store",
    "update heads set entries = 1",
    "delete from heads",
]


@pytest.mark.parametrize("statement", GUARDED)
def test_what_is_recorded_can_not_be_changed_by_sql(
    store: Store, path: Path, statement: str
) -> None:
    whole_run(store)
    with (
        contextlib.closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="the record is append-only"),
    ):
        connection.execute(statement)

    assert store.verify() == []


# ---- what can't be written


def fill(journal: Journal, turns: int = 10_000) -> list[int]:
    """Append until the store refuses; return the attempts whose append had returned."""
    done: list[int] = []
    noise = "0123456789abcdef" * 60
    for number in range(turns):
        try:
            journal.append(Event(kind="note", attempt=number, data={"text": noise}))
        except StoreError as error:
            return done if "the disk is full" in error.what and "room" in error.hint else []
        done.append(number)
    pytest.fail("the store was never full")


def write_until_refused(sink: Sink, turns: int = 2_000) -> None:
    for _ in range(turns):
        sink.write("stdout", os.urandom(65_536))


def begin_until_refused(store: Store) -> None:
    for _ in range(50):
        begin(store, locks=()).close()


def limit(store: Store, pages: int) -> None:
    writer = database_of(store)._writer
    size = writer.execute("pragma page_count").fetchone()[0]
    writer.execute(f"pragma max_page_count = {size + pages}")


def test_when_the_store_is_full_nothing_is_called_durable_that_is_not(
    store: Store, path: Path
) -> None:
    journal = begin(store)
    limit(store, 20)
    done = fill(journal)
    with pytest.raises(StoreError, match="full"):
        journal.append(started())
    with pytest.raises(StoreError, match="full"):
        write_until_refused(journal.output("1/web1", "web1", 1), turns=5)
    with pytest.raises(StoreError, match="full"):
        journal.close()
    store.close()

    again = audit.open(path)
    there = [e.event.attempt for e in again.entries(journal.run) if e.event.kind == "note"]
    assert len(done) > 3
    assert there == done
    assert again.verify() == []
    with again.reopen(journal.run, who="bob", origin="desk") as resumed:
        resumed.append(started(), ended(), finished())
    assert again.load(journal.run).state == "succeeded"
    again.close()


def test_everyone_who_waits_is_told_when_the_store_fails(store: Store) -> None:
    journal = begin(store)
    limit(store, 10)
    told: list[list[int]] = []
    threads = [Thread(target=lambda: told.append(fill(journal))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len(told) == 4
    with contextlib.suppress(StoreError):
        journal.close()
    there = sum(1 for e in store.entries(journal.run) if e.event.kind == "note")
    assert there == sum(len(done) for done in told)
    assert store.verify() == []


def test_a_store_that_becomes_full_while_output_comes_stops_the_writer(store: Store) -> None:
    journal = begin(store)
    limit(store, 200)
    sink = journal.output("1/web1", "web1", 1)
    with pytest.raises(StoreError, match="full"):
        write_until_refused(sink)
    with contextlib.suppress(StoreError):
        journal.close()

    assert database_of(store).damage() == []


def test_a_run_is_not_begun_in_a_store_that_is_full(store: Store, path: Path) -> None:
    limit(store, 0)
    with pytest.raises(StoreError, match="full"):
        begin_until_refused(store)
    store.close()

    again = audit.open(path)
    assert again.verify() == []
    again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full_stops_the_run(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk here: {mounted.stderr.decode().strip()}")
    try:
        _fill_disk(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill_disk(disk: Path) -> None:
    store = audit.open(disk / "store.db")
    journal = begin(store)
    done = fill(journal)
    with contextlib.suppress(StoreError):
        journal.close()
    there = [e.event.attempt for e in store.entries(journal.run) if e.event.kind == "note"]
    store.close()

    assert len(done) > 3
    assert there == done


def test_a_store_that_may_only_be_read_stops_the_run(store: Store) -> None:
    journal = begin(store)
    journal.append(started())
    database_of(store)._writer.execute("pragma query_only = on")
    with pytest.raises(StoreError, match="it may only be read"):
        journal.append(ended())
    with contextlib.suppress(StoreError):
        journal.close()

    assert len(list(store.entries(journal.run))) == 2


def test_a_run_that_another_process_has_taken_over_writes_nothing_more(
    store: Store, path: Path
) -> None:
    journal = begin(store)
    journal.append(started())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from holds")  # somebody "cleans up"
    other = store.reopen(journal.run, who="bob", origin="desk")
    with pytest.raises(TakenOverError, match="was taken over by bob "):
        journal.append(ended())
    with contextlib.suppress(StoreError):
        journal.close()
    other.append(ended(), finished())
    other.close()

    assert store.load(journal.run).state == "succeeded"
    assert store.verify() == []


def test_no_secret_is_in_any_file_of_the_store(store: Store, path: Path) -> None:
    run = tell_everywhere(store, Secret("token", "s3cr3t-Pa$$word!&x"))
    with store.reopen(
        run, who="s3cr3t-Pa$$word!&x", origin="", secrets=[Secret("token", "s3cr3t-Pa$$word!&x")]
    ):
        files = [file.read_bytes() for file in path.parent.rglob("*") if file.is_file()]

    assert len(files) >= 4
    assert not [data for data in files if b"s3cr3t" in data]


def test_a_key_that_is_lost_makes_secrets_unknown_and_nothing_else(
    store: Store, path: Path
) -> None:
    secret = Secret("token", "hunter2hunter2")
    with begin(store, secrets=(secret,)) as journal:
        journal.append(started())
    key = Path(f"{path}.key")
    assert mode(key) == 0o600
    assert store.secrets_match(journal.run, [secret])
    key.unlink()

    assert not store.secrets_match(journal.run, [secret])
    assert store.verify() == []
