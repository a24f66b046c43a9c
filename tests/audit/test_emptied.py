"""A store whose file is there, but empty: it is missed, and nothing is begun in its place."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from opskit import audit
from opskit.errors import DamagedError
from tests.contract.samples import python, whole_run

pytestmark = pytest.mark.acceptance

COMMANDS = (
    ["runs"],
    ["runs", "--json"],
    ["status"],
    ["status", "last"],
    ["resume", "last"],
    ["audit", "log", "last"],
    ["report", "last"],
    ["store", "check"],
    ["audit", "verify"],
    ["exec", "web1", "--", "true"],
)
STATUS = {"audit verify": 1, "exec web1 -- true": 5}
"""How a command ends, if not with 2: verify has found something; nothing was done."""
DYING = """
import os, sys
from opskit import audit
left = int(sys.argv[2])
def seen(event, words):
    global left
    if event in ("open", "os.link", "os.remove", "sqlite3.connect", "os.mkdir"):
        if left == 0:
            os.kill(os.getpid(), 9)
        left -= 1
sys.addaudithook(seen)
audit.open(sys.argv[1]).close()
"""
"""It dies before the N-th thing that it does with a file."""
STATEMENTS = """
import os, sqlite3, sys
from opskit import audit
left = int(sys.argv[2])
def traced(statement):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
class Dying(sqlite3.Connection):
    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        self.set_trace_callback(traced)
connect = sqlite3.connect
sqlite3.connect = lambda *words, **more: connect(*words, factory=Dying, **more)
audit.open(sys.argv[1]).close()
"""
"""It dies before the N-th statement that it asks of SQLite."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "store.db"
    store = audit.open(path)
    whole_run(store)
    store.close()
    return path


def opskit(path: Path, words: list[str]) -> "subprocess.CompletedProcess[str]":
    inventory = path.parent / "hosts.yaml"
    inventory.write_text(
        "opskit: 1\nhosts:\n  web1:\n    address: 127.0.0.1\n    connection:\n      port: 1\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "opskit", *words],
        env={**os.environ, "OPSKIT_STORE": str(path), "OPSKIT_INVENTORY": str(inventory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(path: Path, words: list[str]) -> None:
    done = opskit(path, words)
    said = done.stdout + done.stderr
    assert done.returncode == STATUS.get(" ".join(words), 2), (words, said)
    assert "the record is damaged: its file is empty" in said, words
    assert "copy from a backup" in said, words
    assert "begins a new record" in said, words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_emptied_store_is_missed_by_every_command(path: Path, words: list[str]) -> None:
    beside = Path(f"{path}-wal")
    beside.write_bytes(b"what is left of it")
    path.write_bytes(b"")

    refused(path, words)

    assert path.read_bytes() == b""
    assert beside.read_bytes() == b"what is left of it"


def test_a_store_without_any_table_is_missed(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
    path.chmod(0o600)
    before = path.read_bytes()
    assert before
    for words in (["runs"], ["audit", "verify"]):
        refused(path, words)
    assert path.read_bytes() == before


def test_what_to_do_with_an_emptied_store_helps(path: Path) -> None:
    path.write_bytes(b"")
    path.rename(path.with_name("aside"))
    done = opskit(path, ["runs"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No runs.")


def test_a_store_whose_file_is_gone_and_whose_log_is_not_is_missed(path: Path) -> None:
    beside = Path(f"{path}-wal")
    beside.write_bytes(b"what is left of it")
    path.unlink()
    with pytest.raises(DamagedError, match="its file is gone") as raised:
        audit.open(path)
    assert str(beside) in raised.value.hint
    assert not path.exists()
    assert beside.read_bytes() == b"what is left of it"
    assert [one.name for one in path.parent.iterdir() if one.name.startswith("store.db.")] == []


@pytest.mark.parametrize("dying", [DYING, STATEMENTS], ids=["files", "statements"])
def test_a_crash_while_the_store_is_made_locks_nobody_out(tmp_path: Path, dying: str) -> None:
    died = 0
    # Every third one: each is a process of its own.
    for number in range(0, 300, 4):
        path = tmp_path / str(number) / "store.db"
        process = python(dying, str(path), str(number))
        process.communicate(timeout=60)
        store = audit.open(path)
        assert store.verify() == []
        whole_run(store)
        store.close()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        died += 1
    assert process.returncode == 0
    assert died >= 3
