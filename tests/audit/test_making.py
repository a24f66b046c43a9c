"""What is made aside gets its name whole, and what the dead have left aside is removed."""

import fcntl
import os
from pathlib import Path

import pytest

from opskit import audit
from opskit.audit import making


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path, name: str = "store.db.new-0123abcd") -> Path:
    """Leave what a process leaves that is killed while it makes a store."""
    for companion in ("", "-wal", "-shm", "-journal"):
        (folder / f"{name}{companion}").write_bytes(b"half")
    return folder / name


def wrote(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_what_the_dead_have_left_is_removed_when_the_store_is_made(tmp_path: Path) -> None:
    left(tmp_path)
    audit.open(str(tmp_path / "store.db")).close()
    assert names(tmp_path) == ["store.db"]


def test_what_the_living_make_stays_and_so_does_all_that_is_not_ours(tmp_path: Path) -> None:
    aside = left(tmp_path)
    others = ["store.db.20261122", "store.db.new-backup", "store.db.new-0123abcd.gz", "xstore.db"]
    for name in others:
        (tmp_path / name).touch()
    descriptor = os.open(aside, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    making.make(tmp_path / "store.db", lambda path: None)
    os.close(descriptor)
    assert aside.exists()
    assert set(others) < set(names(tmp_path))
    making.sweep(tmp_path / "store.db")
    assert names(tmp_path) == sorted([*others, "store.db"])


def test_a_second_name_of_the_store_is_taken_away_and_the_store_stays(tmp_path: Path) -> None:
    """Its maker died between giving the file its name and taking the other one away."""
    path = tmp_path / "store.db"
    audit.open(str(path)).close()
    os.link(path, tmp_path / "store.db.new-0123abcd")
    audit.open(str(path)).close()
    assert names(tmp_path) == ["store.db"]
    assert path.stat().st_nlink == 1


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "key", fcntl.flock
    swept: list[int] = []

    def late(descriptor: int, how: int) -> None:
        if not swept:
            swept.append(how)
            making.sweep(path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    making.make(path, lambda aside: wrote(aside, b"whole"))
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["key"]


def test_what_was_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    making.make(path, lambda _: wrote(path, b"theirs"))
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["key"]
