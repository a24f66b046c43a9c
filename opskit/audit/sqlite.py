"""The record in one SQLite file: write-ahead log, every commit synced to the disk."""

import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path
from typing import TypeVar

from opskit.audit import making
from opskit.audit.database import Row
from opskit.audit.mounts import network_warning
from opskit.audit.queries import named, script
from opskit.errors import DamagedError, StoreError

SCHEMA = "sqlite/schema.sql"
APPLICATION = 0x6F70736B  # "opsk", in the file's header: `file store.db` shows it
FORMAT = 3
PATIENCE = 30.0
"""Seconds to wait for another process to finish its transaction; none of ours takes one."""

T = TypeVar("T")


class SqliteDatabase:
    """One file, made with its directory when it is not there yet. Any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)
        self.warnings = network_warning(path)
        self._lock = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._beside: sqlite3.Connection | None = None
        self._beside_lock = threading.Lock()
        with _told(self.location):
            _make_file(path)
            self._writer = _connect(path)
            _bring_up(self._writer, self.location)

    def attend(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        pass  # a file is never away

    @contextmanager
    def reading(self) -> "Iterator[SqliteRows]":
        with _told(self.location):
            connection = self._take_idle()
            try:
                connection.execute("begin")
                yield SqliteRows(connection)
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("rollback")
                with self._lock:
                    self._idle.append(connection)

    @contextmanager
    def writing(self) -> "Iterator[SqliteRows]":
        with self._lock, _told(self.location):
            self._writer.execute("begin immediate")
            try:
                yield SqliteRows(self._writer)
                self._writer.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have ended the transaction already
                    self._writer.execute("rollback")
                raise

    def transact(
        self,
        work: "Callable[[SqliteRows], T]",
        landed: "Callable[[SqliteRows], bool]",
    ) -> T:
        with self.writing() as rows:
            return work(rows)

    @contextmanager
    def aside(self) -> "Iterator[SqliteRows]":
        with self._beside_lock, _told(self.location):
            if self._beside is None:
                self._beside = _connect(self.path, patience=1.0)
                self._beside.execute("pragma synchronous = normal")
            yield SqliteRows(self._beside)

    def damage(self) -> list[str]:
        checked: list[str] = []
        with _told(self.location), self._lock:
            try:
                for row in self._writer.execute("pragma integrity_check(20)"):
                    checked.append(str(row[0]))
            except sqlite3.DatabaseError as error:  # so damaged that it can't even say where
                return [f"SQLite: {text}" for text in (*checked, error)]
            guards = {row["name"]: row["sql"] for row in SqliteRows(self._writer).all("guards")}
        fresh = sqlite3.connect(":memory:")
        fresh.row_factory = sqlite3.Row
        fresh.executescript(script(SCHEMA))
        expected = {row["name"]: row["sql"] for row in SqliteRows(fresh).all("guards")}
        fresh.close()
        broken = [f"SQLite: {text}" for text in checked if text != "ok"]
        gone = [name for name, sql in expected.items() if guards.get(name) != sql]
        return broken + [f"the guard {name} was taken away or changed" for name in gone]

    def secret_key(self, store: str = "") -> bytes:
        with _told(self.location):
            return _key(Path(f"{self.path}.key"))

    def close(self) -> None:
        with self._lock:
            for connection in (*self._idle, self._writer, self._beside):
                with suppress(sqlite3.Error):
                    if connection is not None:
                        connection.close()
            self._idle.clear()

    def _take_idle(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _connect(self.path)


class SqliteRows:
    """Named queries on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, query: str, **values: object) -> list[Row]:
        return self._connection.execute(named("sqlite")[query], values).fetchall()

    def each(self, query: str, **values: object) -> Iterator[Row]:
        return iter(self._connection.execute(named("sqlite")[query], values))

    def one(self, query: str, **values: object) -> Row | None:
        row: Row | None = self._connection.execute(named("sqlite")[query], values).fetchone()
        return row

    def run(self, query: str, **values: object) -> None:
        self._connection.execute(named("sqlite")[query], values)

    def many(self, query: str, values: Sequence[Row]) -> None:
        self._connection.executemany(named("sqlite")[query], values)


# ---- the file


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:  # what is said of a file where a directory should be
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR)) from error
    left = Path(f"{path}-wal")
    lone = left.exists()  # asked first: another process may be making the store right now
    if not os.path.lexists(path):
        if lone:
            raise DamagedError(
                "the record is damaged: its file is gone, and what belongs to it is there",
                where=str(path),
                hint=f"put the file back, or a copy from a backup with {left} moved away; moving "
                f"{left} away alone begins a new record",
            )
        making.make(path, _filled)
    _refuse_other_kinds(path)
    found = path.stat()
    if found.st_mode & 0o022:
        raise StoreError(
            "anyone in its group, or anyone at all, may write to the store",
            where=str(path),
            hint=f"chmod 600 {path}, after asking who may have changed it",
        )
    if found.st_nlink > 1:
        making.sweep(path)  # its maker died just when it was whole
    if found.st_size == 0:  # SQLite would throw away the -wal of such a file
        raise _emptied(str(path))


def _filled(aside: Path) -> None:
    with closing(_connect(aside)) as connection:
        _fill(connection)


def _fill(connection: sqlite3.Connection) -> None:
    """Make the tables of a new store in a file that nobody else has."""
    connection.execute("pragma journal_mode = memory")  # no file of its own; none is to be saved
    connection.execute("begin immediate")
    for statement in _statements(script(SCHEMA)):
        connection.execute(statement)
    SqliteRows(connection).run("found_store", id=secrets.token_hex(8), created=time.time())
    connection.execute(f"pragma application_id = {APPLICATION}")
    connection.execute(f"pragma user_version = {FORMAT}")
    connection.execute("commit")
    connection.execute("pragma journal_mode = wal")


def _emptied(location: str) -> DamagedError:
    return DamagedError(
        "the record is damaged: its file is empty",
        where=location,
        hint=f"{_ASIDE}. Where nothing was ever recorded in it, move it and its -wal away: that"
        " begins a new record",
    )


def _refuse_other_kinds(path: Path) -> None:
    """Refuse what is no file: its rights, which we would complain of next, are none of ours."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((what for judge, what in _KINDS.items() if judge(mode)), "no file")
        raise StoreError(
            f"this is {kind}, where the store should be a file",
            where=str(path),
            hint=f"name a file: {_OTHER}",
        )


_OTHER = "--store FILE, or OPSKIT_STORE"
_ASIDE = "Copy it and its -wal aside, then put a copy from a backup in its place"
_KINDS: Mapping[Callable[[int], bool], str] = {
    stat.S_ISDIR: "a directory",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}


def _connect(path: Path, *, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open the store: the one place where that is done."""
    connection = sqlite3.connect(
        path, timeout=patience, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    connection.execute("pragma synchronous = full")
    return connection


def _bring_up(connection: sqlite3.Connection, location: str) -> None:
    """Bring an old store up; refuse what is none, or too new."""
    if _format(connection, location) == FORMAT:
        return
    connection.execute("begin immediate")
    try:
        for number in range(_format(connection, location) + 1, FORMAT + 1):
            for statement in _statements(script(f"sqlite/format-{number}.sql")):
                connection.execute(statement)
        connection.execute(f"pragma user_version = {FORMAT}")
        connection.execute("commit")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("rollback")
        raise


def _format(connection: sqlite3.Connection, location: str) -> int:
    version = int(connection.execute("pragma user_version").fetchone()[0])
    application = int(connection.execute("pragma application_id").fetchone()[0])
    tables = int(connection.execute("pragma schema_version").fetchone()[0])
    if version == 0 and tables == 0:
        raise _emptied(location)
    if application != APPLICATION:
        raise StoreError(
            "this SQLite file is not a record of opskit",
            where=location,
            hint=f"name another file: {_OTHER}",
        )
    if version > FORMAT:
        raise StoreError(
            f"a newer opskit has written this record (format {version}; this one knows {FORMAT})",
            where=location,
            hint=f"use the newer opskit, or name another file: {_OTHER}",
        )
    return version


def _statements(script: str) -> Iterator[str]:
    """Split a script at the semicolons that end a statement (a trigger has some inside)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _key(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    making.make(path, _random)
    return path.read_bytes()


def _random(aside: Path) -> None:
    with aside.open("wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())


# ---- errors


@contextmanager
def _told(location: str) -> Iterator[None]:
    """Say what SQLite or the file system said in words that help."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        what, hint = _words(error)
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            what, hint = _kept(location, what, hint)
        damaged = what == _MEANINGS[_CORRUPT][0]
        raise (DamagedError if damaged else StoreError)(what, where=location, hint=hint) from error
    except OSError as error:
        what = f"the store can't be used: {error.strerror or error}"
        hint = "see that its directory exists, has room, and that you may write there; or name "
        hint += f"another file: {_OTHER}"
        raise StoreError(what, where=location, hint=hint) from error


def _kept(location: str, what: str, hint: str) -> tuple[str, str]:
    """Name the process that keeps the record to itself, and what to do about it."""
    from opskit.audit.keeper import keeper  # is of use here alone

    found = keeper(Path(location))
    if found is None:
        return what, hint
    what = what.replace("another process", found.words)
    if found.stopped:
        hint = f"`kill -CONT {found.pid}` lets it go on, `kill -9 {found.pid}` ends it: what it had"
        return what, f"{hint} recorded stays, and its run can be resumed"
    return what, f"see what it does (`ps -fp {found.pid}`), then try again"


def _words(error: sqlite3.Error | UnicodeDecodeError) -> tuple[str, str]:
    name = getattr(error, "sqlite_errorname", "") or ""
    if isinstance(error, UnicodeDecodeError) or str(error).startswith(_UNREADABLE):
        name = _CORRUPT
    for prefix, words in _MEANINGS.items():
        if name.startswith(prefix):
            return words
    return f"the record can't be used: {error}", "`opskit audit verify` says what is wrong with it"


_CORRUPT = "SQLITE_CORRUPT"
_UNREADABLE = ("Could not decode to UTF-8", "malformed database schema")
"""What is said, with no name to it, of text that is none."""
_MEANINGS = {
    "SQLITE_FULL": (
        "the record can't be written: the disk is full",
        "make room there",
    ),
    "SQLITE_READONLY": (
        "the record can't be written: it may only be read",
        "see who owns the file and its directory, and whether the disk is mounted read-only",
    ),
    "SQLITE_IOERR": (
        "the record can't be read or written: the disk reports an error",
        "look at the kernel's log and at the free space; then `opskit audit verify`",
    ),
    "SQLITE_BUSY": (
        f"another process has kept the record to itself for {PATIENCE:.0f} s",
        "find it (`fuser` on the file names it), then try again",
    ),
    "SQLITE_NOTADB": (
        "this file is not a record of opskit",
        f"{_ASIDE}; if it never was one, name another file: {_OTHER}",
    ),
    _CORRUPT: (
        "the record is damaged",
        f"`opskit audit verify` names what can't be read. {_ASIDE}; until then: {_OTHER}",
    ),
    "SQLITE_CANTOPEN": (
        "the record can't be opened",
        "see that its directory exists and that you may write there",
    ),
}
