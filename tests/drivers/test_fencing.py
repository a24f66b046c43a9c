"""Locks as hosts see them: whoever came later counts, and who is of another record is refused."""

import hashlib
import threading
import time
from pathlib import Path

import pytest

from opskit.drivers.session import Session
from opskit.drivers.targets import lease_words
from opskit.errors import OpskitError
from tests.drivers.kit import SHELLS, session

shells = pytest.mark.parametrize("shell", list(SHELLS))


def lease(number: int, store: str = "aa", run: str = "", steal: str = "") -> tuple[str, ...]:
    return lease_words(["web"], store, number, f"{run or f'r{number}'} (deploy), by ann", steal)


def joined(shell: str, folder: Path, words: tuple[str, ...], run: str = "run1") -> Session:
    return session(shell, (str(folder / "state"), run, "n", *words))


def tokens(folder: Path) -> list[str]:
    name = hashlib.sha256(b"web").hexdigest()[:16]
    return sorted(path.name for path in (folder / "state/locks" / name).iterdir())


def change(made: Session, name: str, text: str) -> tuple[str, ...]:
    words = ("_o_change", name, "65536", "", "0", "", "sh", text, "0")
    return made.call(*words, timeout=20)


@shells
def test_the_later_one_counts(shell: str, tmp_path: Path) -> None:
    old = joined(shell, tmp_path, lease(3))
    assert change(old, "a", f"echo x >>{tmp_path}/a") == ("done", "0")
    new = joined(shell, tmp_path, lease(4))
    assert (new.nonce, new.fenced_by) == ("n", "")
    assert tokens(tmp_path) == ["aa.4"]
    assert change(old, "b", f"echo x >>{tmp_path}/b") == ("fenced",)
    assert not (tmp_path / "b").exists()
    assert new.call("_o_ask", "b", timeout=5) == ("barred",)
    assert change(new, "c", f"echo x >>{tmp_path}/c") == ("done", "0")
    late = joined(shell, tmp_path, lease(3))
    assert (late.nonce, late.fenced_by) == ("", "r4 (deploy), by ann")
    assert tokens(tmp_path) == ["aa.4"]
    for one in (old, new, late):
        one.close()


@shells
def test_an_old_one_counts_for_nothing_though_the_newer_has_let_go(
    shell: str, tmp_path: Path
) -> None:
    """Who stood still meanwhile may have lost its connection, and comes on a new one."""
    old = joined(shell, tmp_path, lease(3))
    new = joined(shell, tmp_path, lease(4))
    new.call("_o_free", timeout=5)
    late = joined(shell, tmp_path, lease(3))
    assert (late.nonce, late.fenced_by) == ("", "(another one, which has ended since)")
    assert change(old, "a", f"touch {tmp_path}/a") == ("fenced",)
    other = joined(shell, tmp_path, lease(1, "bb", "other"), run="run2")
    assert (other.nonce, other.fenced_by) == ("n", "")
    refused = joined(shell, tmp_path, lease(5))
    assert refused.fenced_by == "other (deploy), by ann"
    other.call("_o_free", timeout=5)
    next_ = joined(shell, tmp_path, lease(6))
    assert (next_.nonce, next_.fenced_by) == ("n", "")
    assert change(next_, "b", f"touch {tmp_path}/b") == ("done", "0")
    assert tokens(tmp_path) == ["aa.6", "bb.1"]
    assert not (tmp_path / "a").exists()
    for one in (old, new, late, other, refused, next_):
        one.close()


@shells
def test_one_of_another_record_is_refused_until_the_lock_is_free(
    shell: str, tmp_path: Path
) -> None:
    mine = joined(shell, tmp_path, lease(9))
    other = joined(shell, tmp_path, lease(1, "bb", "other"), run="run2")
    assert (other.nonce, other.fenced_by) == ("", "r9 (deploy), by ann")
    assert change(mine, "a", "true") == ("done", "0")
    mine.call("_o_free", timeout=5)
    again = joined(shell, tmp_path, lease(2, "bb", "other"), run="run2")
    assert (again.nonce, again.fenced_by) == ("n", "")
    for one in (mine, other, again):
        one.close()


@shells
def test_a_lock_can_be_taken_from_a_run_that_is_named(shell: str, tmp_path: Path) -> None:
    mine = joined(shell, tmp_path, lease(9))
    wrong = joined(shell, tmp_path, lease(1, "bb", "other", steal="r8"), run="run2")
    assert wrong.fenced_by == "r9 (deploy), by ann"
    taken = joined(shell, tmp_path, lease(1, "bb", "other", steal="r9"), run="run2")
    assert (taken.nonce, taken.fenced_by) == ("n", "")
    assert change(taken, "a", "true") == ("done", "0")
    assert change(mine, "b", f"touch {tmp_path}/b") == ("fenced",)
    assert not (tmp_path / "b").exists()
    for one in (mine, wrong, taken):
        one.close()


def whose(folder: Path, token: str) -> str:
    """Return the first line of a token: all of it that is read."""
    name = hashlib.sha256(b"web").hexdigest()[:16]
    return (folder / "state/locks" / name / token).read_text().partition("\n")[0]


@shells
def test_a_token_is_whole_though_its_disk_is_full(shell: str, tmp_path: Path) -> None:
    mine = joined(shell, tmp_path, lease(9))
    full = "trap '' XFSZ; ulimit -S -f 0; _o_free"
    assert mine.call("eval", full, timeout=5) == ("free",)
    assert whose(tmp_path, "aa.9") == "r9 (deploy), by ann"
    other = joined(shell, tmp_path, lease(1, "bb", "other"), run="run2")
    assert other.fenced_by == "r9 (deploy), by ann"
    again = joined(shell, tmp_path, lease(9))  # it has room again
    again.call("_o_free", timeout=5)
    assert whose(tmp_path, "aa.9") == "free"
    back = joined(shell, tmp_path, lease(9))
    assert whose(tmp_path, "aa.9") == "r9 (deploy), by ann"
    for one in (mine, other, again, back):
        one.close()


@shells
def test_a_token_is_whole_though_who_frees_it_is_killed(shell: str, tmp_path: Path) -> None:
    """The limit kills the shell at the write itself, after the file has been opened."""
    mine = joined(shell, tmp_path, lease(9))
    with pytest.raises(OpskitError):
        mine.call("eval", "trap - XFSZ; ulimit -c 0; ulimit -S -f 0; _o_free", timeout=5)
    assert whose(tmp_path, "aa.9") == "r9 (deploy), by ann"
    mine.close()


@shells
def test_a_token_that_says_nothing_holds_nothing_of_another_record(
    shell: str, tmp_path: Path
) -> None:
    """Who made it was killed, or found no room, before the host was shown what it is about."""
    first = joined(shell, tmp_path, lease(9))
    first.call("_o_free", timeout=5)
    name = hashlib.sha256(b"web").hexdigest()[:16]
    empty = tmp_path / "state/locks" / name / "aa.10"
    empty.touch()
    other = joined(shell, tmp_path, lease(1, "bb", "other"), run="run2")
    assert (other.nonce, other.fenced_by) == ("n", "")
    late = joined(shell, tmp_path, lease(9))  # of its own record, somebody was later
    assert late.fenced_by
    for one in (first, other, late):
        one.close()


@shells
def test_a_run_without_locks_is_in_nobodys_way(shell: str, tmp_path: Path) -> None:
    held = joined(shell, tmp_path, lease(9))
    free = joined(shell, tmp_path, lease_words([], "bb", 1, "x"), run="run2")
    assert change(free, "a", "true") == ("done", "0")
    for one in (held, free):
        one.close()


@shells
@pytest.mark.parametrize("turns", [25, pytest.param(1000, marks=pytest.mark.soak)])
def test_of_the_one_that_begins_and_the_one_that_comes_later_one_wins(
    shell: str, tmp_path: Path, turns: int
) -> None:
    """Whoever begins claims, then looks; whoever comes shows its token, then looks."""
    for turn in range(turns):
        folder = tmp_path / str(turn)
        folder.mkdir()
        old = joined(shell, folder, lease(1))
        answers: list[tuple[str, ...]] = []
        starter = threading.Thread(
            target=lambda o=old, f=folder, got=answers: got.append(
                change(o, "a", f"echo x >>{f}/a")
            )
        )
        newcomer = session(shell)
        starter.start()
        newcomer.call("_o_open", str(folder / "state"), "run1", "m", *lease(2), timeout=20)
        while (state := newcomer.call("_o_bar", "a", timeout=20))[0] == "claimed":
            time.sleep(0.01)  # it was claimed between two looks
        starter.join()
        if state[0] == "barred":
            assert answers[0][0] in ("fenced", "exists", "barred", "claimed"), answers
            assert not (folder / "a").exists()
        else:
            assert answers[0] == ("done", "0")
            assert (folder / "a").read_text() == "x\n"
        old.close()
        newcomer.close()
