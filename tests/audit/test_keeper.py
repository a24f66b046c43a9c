"""Processes that are killed while a store is made, or stand still while they write to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit import audit
from opskit.audit.sqlite import SqliteDatabase
from opskit.errors import StoreError

pytestmark = pytest.mark.acceptance

MAKES = """
import os, signal, sys
from pathlib import Path
from opskit.audit import making, sqlite
link = os.link
def dies(*words):
    if sys.argv[2] == "linked":
        link(*words)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = dies
if sys.argv[2] == "filling":
    sqlite._fill = dies
sqlite.SqliteDatabase(Path(sys.argv[1]))
"""
HOLDS = """
import sys
from opskit import audit
from tests.contract import samples
store = audit.open(sys.argv[1])
journal = store.create(samples.plan(), kind="run", who="ann", origin="desk", documents={})
journal.append(samples.started())
with store._database.writing():
    print(journal.run, flush=True)
    sys.stdin.read()
"""


def python(code: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


@contextmanager
def holding(path: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    process = python(HOLDS, str(path))
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("at", ["filling", "whole", "linked"])
def test_who_is_killed_while_the_store_is_made_leaves_nothing_for_long(
    tmp_path: Path, at: str
) -> None:
    path = tmp_path / "store.db"
    process = python(MAKES, str(path), at)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("store.db.new-*"))
    assert path.exists() == (at == "linked")
    audit.open(str(path)).close()
    assert [found.name for found in tmp_path.iterdir()] == ["store.db"]


def refused(path: Path) -> str:
    database = SqliteDatabase(path)
    database._writer.execute("pragma busy_timeout = 100")
    try:
        with pytest.raises(StoreError) as caught, database.writing():
            pass
        return f"{caught.value.what} → {caught.value.hint}"
    finally:
        database.close()


def test_who_keeps_the_record_to_itself_is_named_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with holding(path) as (process, run):
        said = refused(path)
        named = f"process {process.pid}, which carries out run {run}"
        assert f"{named}, has kept the record to itself" in said
        assert f"ps -fp {process.pid}" in said
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        said = refused(path)
        assert f"{named} and stands still, has kept" in said
        assert f"`kill -CONT {process.pid}` lets it go on" in said
