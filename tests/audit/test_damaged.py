"""Pages of the file that are damaged: what is told is true, or that it can't be told."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from opskit import audit
from opskit.audit import Store
from opskit.errors import DamagedError, Exit, StoreError
from tests.contract.samples import whole_run

PAGE = 4096
LEAVES = (b"\x0d", b"\x0a")
"""How a page begins that holds rows of a table, or of an index."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the record of a few runs, all of it in the one file."""
    path = tmp_path_factory.mktemp("sound") / "store.db"
    store = audit.open(path)
    for _ in range(4):
        whole_run(store)
    store.close()
    return path


def damages(pages: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield what a bad disk can make of a page."""
    page = pages[number * PAGE : (number + 1) * PAGE]
    yield "zeros", bytes(PAGE)
    yield "noise", chance.randbytes(PAGE)
    yield "torn", page[: PAGE // 2] + bytes(PAGE // 2)
    yield "torn late", page[: PAGE - 512] + bytes(512)
    if page[:1] in LEAVES:
        yield "empty", page[:1] + b"\0\0\0\0\x10\0\0" + bytes(PAGE - 8)
    for _ in range(2):
        other = chance.randrange(len(pages) // PAGE)
        yield f"page {other + 1}", pages[other * PAGE : (other + 1) * PAGE]
    flipped = bytearray(page)
    for _ in range(8):
        flipped[chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
    yield "flipped", bytes(flipped)


def asked(store: Store, run: str) -> Mapping[str, Callable[[], Any]]:
    return {
        "runs": lambda: [found.id for found in store.runs()],
        "last": lambda: store.find("last"),
        "named": lambda: store.find(run),
        "load": lambda: store.load(run).state,
        "state": lambda: store.state(run),
        "entries": lambda: [entry.hash for entry in store.entries(run)],
    }


def answers(path: Path, run: str) -> dict[str, Any]:
    """Ask everything of a store; None where it says that it can't tell."""
    found: dict[str, Any] = {}
    try:
        store = audit.open(path)
    except StoreError:
        return found
    for name, ask in asked(store, run).items():
        try:
            found[name] = ask()
        except StoreError:
            found[name] = None
    found["verify"] = _verified(store)
    store.close()
    return found


def _verified(store: Store) -> bool:
    """Tell whether the record proves itself."""
    try:
        return store.verify() == []
    except StoreError:
        return False


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_no_damaged_page_makes_the_record_say_what_is_not_so(
    sound: Path, tmp_path: Path, seed: int
) -> None:
    pages, chance = sound.read_bytes(), random.Random(seed)
    run = audit.open(sound).find("last")
    right = answers(sound, run)
    assert right["verify"]
    told = 0
    for number in range(len(pages) // PAGE):
        for kind, page in damages(pages, number, chance):
            path = tmp_path / "store.db"
            shutil.copytree(sound.parent, tmp_path, dirs_exist_ok=True)
            for more in ("-wal", "-shm"):
                Path(f"{path}{more}").unlink(missing_ok=True)
            path.write_bytes(pages[: number * PAGE] + page + pages[(number + 1) * PAGE :])
            found = answers(path, run)
            wrong = {n: v for n, v in found.items() if v is not None and v != right[n]}
            # What a flipped bit makes of a word only the chain can tell, and it does.
            assert not wrong or not found["verify"], (number + 1, kind, wrong)
            assert len(found.get("runs") or right["runs"]) == 4, (number + 1, kind)
            told += not found or None in found.values()
    assert told > 50


@pytest.mark.acceptance
def test_a_list_that_has_lost_runs_is_not_called_empty(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(sound, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "select rootpage from sqlite_master where name in ('runs', 'heads')"
        roots = [int(row[0]) for row in connection.execute(query)]
    for root in roots:
        pages = bytearray(sound.read_bytes())
        assert pages[(root - 1) * PAGE : (root - 1) * PAGE + 1] == LEAVES[0]
        pages[(root - 1) * PAGE : root * PAGE] = b"\x0d\0\0\0\0\x10\0\0" + bytes(PAGE - 8)
        path.write_bytes(pages)
        for words in (["runs"], ["status"], ["runs", "--json"]):
            done = subprocess.run(
                [sys.executable, "-m", "opskit", *words],
                env={**os.environ, "OPSKIT_STORE": str(path)},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == Exit.USAGE, done.stdout
            assert "the record is damaged" in done.stderr
            assert "opskit audit verify" in done.stderr


def test_a_run_that_has_lost_entries_is_not_gone_on_with(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(sound, path)
    store = audit.open(path)
    run = store.find("last")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("drop trigger events_stay")
        connection.execute("delete from events where number = 3")
        connection.commit()
    with pytest.raises(DamagedError, match="missing after entry 2"):
        store.load(run)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from events where number > 3")
        connection.commit()
    with pytest.raises(DamagedError, match="the last entries of run"):
        list(store.entries(run))
    store.close()
