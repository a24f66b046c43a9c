# ruff: noqa: ANN401 - what a server answers
"""Whole runs on a real Redis: the command line, the record, and opskit killed in the middle."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.redis import Server, server

pytestmark = pytest.mark.acceptance

SECRET = "correct-horse-battery"
HOLDER = "token-of-a-customer-1234"


@dataclass
class Desk:
    """A folder with a runbook and an inventory that names a Redis; its record is its own."""

    redis: Server
    folder: Path

    def write(self, steps: str, head: str = "", entry: str = "") -> None:
        top = "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\n"
        (self.folder / "t.yaml").write_text(f"{top}{head}steps:\n{steps}")
        url = f"redis://app@127.0.0.1:{self.redis.port}/1"
        (self.folder / "i.yaml").write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\nsecrets: {word: env:REDIS_WORD}\n"
            f"redis:\n  main: {{url: '{url}', password: word{entry}}}\n"
        )

    @property
    def settings(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")}
        return {
            **kept, "OPSKIT_STORE": str(self.folder / "store.db"), "REDIS_WORD": SECRET,
            "OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "HOME": str(self.folder),
            "NO_COLOR": "1",
        }  # fmt: skip

    def opskit(self, *words: str, status: int | None = 0, program: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *(program or ("opskit",)), *words],
            env=self.settings, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        said = f"$ opskit {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        assert status in (None, done.returncode), f"exit {done.returncode}\n{said}"
        assert SECRET not in said
        assert HOLDER not in said
        return done.stdout + done.stderr

    def run(self, *words: str, status: int = 0) -> str:
        return self.opskit("run", "t.yaml", "--yes", *words, status=status)

    def killed(self, point: str, number: int = 0, *words: str) -> None:
        self.opskit(
            "run", "t.yaml", "--yes", *words,
            program=("tests.support.deadly", f"redis-{point}", str(number)), status=None,
        )  # fmt: skip

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self.opskit("audit", "log", "last", "--json").splitlines()
        return [e for e in map(json.loads, lines) if e["event"] == kind]

    def call(self, *words: str) -> Any:
        with self.redis.peer() as peer:
            peer.call("AUTH", "app", SECRET)
            peer.call("SELECT", "1")
            return peer.call(*words)

    def own(self) -> set[bytes]:
        return {name for name in self.call("KEYS", "*") if not name.startswith(b"opskit:")}

    def proved(self) -> None:
        """Nothing secret stands in any file, and the record is whole."""
        self.opskit("audit", "verify")
        kept = [path for path in self.folder.rglob("*") if path.is_file()]
        held = [path.read_bytes() for path in kept]
        assert not any(one in data for one in (SECRET.encode(), HOLDER.encode()) for data in held)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server that lets nobody in without a password."""
    with server(user=f"app on >{SECRET} ~* &* +@all") as one:
        yield one


@pytest.fixture
def desk(guarded: Server, tmp_path: Path) -> Desk:
    found = Desk(guarded, tmp_path)
    found.call("FLUSHALL")
    return found


COUNT = "  - {name: look, redis: EXISTS item, effect: read, save: before}\n"
ADD = (
    "  - name: add\n    redis: |\n      SET item {{ word }} NX\n      RPUSH log {{ before }}\n"
    "      INCR n\n    save: got\n    undo:\n      redis: |\n        DEL item\n        RPOP log\n"
)
TELL = "  - {name: tell, notify: 'got {{ got }}', on: controller}\n"
WORD = "params: {word: {type: string}}\n"
HOSTILE = '\'; FLUSHALL\r\n*1\r\n$8\r\nFLUSHALL\r\n $(id) 100% \\ "ü" -x'


def test_a_run_reads_changes_and_takes_back(desk: Desk) -> None:
    desk.write(COUNT + ADD + TELL, WORD)
    shown = desk.opskit("plan", "t.yaml", "-p", f"word={HOSTILE}")
    assert r"""redis> SET item "'; FLUSHALL\r\n*1\r\n""" in shown
    assert "see that redis main is the one that is meant" in shown
    assert desk.call("DBSIZE") == 0
    said = desk.run("-p", f"word={HOSTILE}")
    assert "got 1" in said
    assert desk.call("GET", "item") == HOSTILE.encode()
    assert desk.opskit("output", "last", "look", "redis:main") == "0\n"
    assert desk.opskit("output", "last", "add", "redis:main") == "OK\n1\n1\n"
    assert "redis:main: this output" in desk.opskit("output", "last", "look")
    (look,) = [e for e in desk.events("step ended") if e["key"] == "0:redis:main/"]
    assert (look["evidence"]["role"], look["evidence"]["db"]) == ("master", 1)
    desk.opskit("undo", "last", "--yes")
    assert desk.own() == {b"n"}
    desk.proved()


def test_a_dry_run_reads_and_never_changes(desk: Desk) -> None:
    desk.write(COUNT + ADD, WORD)
    said = desk.opskit("run", "t.yaml", "--dry-run", "-p", "word=x")
    assert "now: 0" in said
    assert "undetermined: after step 1 (before)" in said
    assert desk.call("DBSIZE") == 0


@pytest.mark.parametrize(("how", "status"), [("--dry-run", 5), ("--yes", 1)])
def test_a_change_that_is_called_a_read_is_refused(desk: Desk, how: str, status: int) -> None:
    desk.call("SET", "kept", "x")
    for command in ("DEL kept", "FLUSHALL", "CONFIG SET maxmemory 1", "GETDEL kept"):
        desk.write(f"  - {{name: look, redis: {command}, effect: read, phase: preflight}}\n")
        said = desk.opskit("run", "t.yaml", how, status=status)
        assert "is no read: the server says" in said
    assert desk.own() == {b"kept"}


def test_runs_that_only_read_leave_nothing_and_need_no_right_to_write(desk: Desk) -> None:
    desk.call("SET", "item", "x")
    desk.call("ACL", "SETUSER", "app", "resetkeys", "%R~*")
    try:
        desk.write(COUNT + "  - {run: touch touched, on: controller}\n")
        desk.run()
        desk.write(COUNT + ADD, WORD)
        said = desk.run("-p", "word=x", status=5)
        assert "no mark can be left there: NOPERM" in said
    finally:
        desk.call("ACL", "SETUSER", "app", "~*")
    assert desk.call("KEYS", "*") == [b"item"]


def test_another_server_than_the_one_meant_is_refused(desk: Desk) -> None:
    add = ADD.replace("{{ before }}", "1")
    desk.write(add, WORD, f", run_id: {'0' * 40}")
    assert "another server answers" in desk.run("-p", "word=x", status=5)
    desk.write(add, WORD, ", role: replica")
    assert "the Redis server main is a replica" in desk.run("-p", "word=x", status=2)
    assert desk.own() == set()


def test_a_secret_that_is_read_is_found_nowhere(desk: Desk) -> None:
    desk.call("SET", "token", HOLDER)
    desk.write(
        "  - {name: fetch, redis: GET token, effect: read, save: {name: token, secret: true}}\n"
        "  - {name: all, redis: MGET token token, effect: read}\n"
        '  - {name: use, run: \'test "$TOKEN" = "$(cat held)"; echo "$TOKEN"\', on: controller,'
        " secrets: {TOKEN: token}}\n"
        "  - {name: write, redis: APPEND token x}\n"
        "  - {name: fail, redis: {command: GET token, expect: other}, effect: read}\n"
    )
    (desk.folder / "held").write_text(HOLDER)
    desk.opskit("run", "t.yaml", "--yes", status=1)
    (desk.folder / "held").unlink()
    assert HOLDER not in desk.opskit("output", "last", "all", "redis:main")
    desk.opskit("report", "last")
    desk.proved()


@pytest.mark.parametrize("point", ["before", "sent", "after"])
def test_opskit_killed_around_a_change_does_it_once(desk: Desk, point: str) -> None:
    desk.write(COUNT + ADD + TELL, WORD)
    desk.killed(point, 0, "-p", "word=x")
    said = desk.opskit("resume", "last")
    assert "got 1" in said
    assert (desk.call("GET", "n"), desk.call("LLEN", "log")) == (b"1", 1)
    desk.proved()


@pytest.mark.parametrize("turn", range(4))
def test_opskit_killed_at_any_time_does_it_once(desk: Desk, turn: int) -> None:
    killed_at_any_time(desk, turn)


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(200))
def test_opskit_killed_at_any_time_does_it_once_often(desk: Desk, turn: int) -> None:
    killed_at_any_time(desk, turn)


def killed_at_any_time(desk: Desk, turn: int) -> None:
    desk.write(COUNT + ADD + TELL, WORD)
    desk.killed("time", random.Random(turn).randrange(0, 40), "-p", "word=x")
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    assert (desk.call("GET", "n"), desk.call("LLEN", "log")) == (b"1", 1)
    assert "got 1" in desk.opskit("report", "last")
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    desk.proved()


TOLD = "    done_when: {redis: {command: GET n, expect: '1'}}\n"


@pytest.mark.parametrize(("told", "status"), [("", 4), (TOLD, 0)])
def test_a_server_that_is_lost_leaves_an_unknown_that_done_when_settles(
    tmp_path: Path, told: str, status: int
) -> None:
    with server(user=f"app on >{SECRET} ~* &* +@all", appendonly="yes") as one:
        desk = Desk(one, tmp_path)
        desk.write("  - name: add\n    redis: INCR n\n    undo: []\n" + told)
        desk.killed("before")
        if told:
            desk.call("SET", "n", "1")
        one.kill()
        one.start()
        said = desk.opskit("resume", "last", status=status)
        assert "another process answers than the one it was sent to" in said
        assert desk.call("GET", "n") == (b"1" if told else None)
        desk.proved()


def test_decide_shows_what_done_when_says_of_a_server(tmp_path: Path) -> None:
    with server(user=f"app on >{SECRET} ~* &* +@all") as one:
        desk = Desk(one, tmp_path)
        desk.write("  - name: add\n    redis: INCR n\n    undo: []\n    timeout: 1\n" + TOLD)
        desk.killed("before")
        one.kill()
        desk.opskit("resume", "last", status=4)
        one.start()
        said = desk.opskit("decide", "last", status=4)
        assert "it has not happened (it is nothing, expected '1')" in said
        assert desk.own() == set()
        desk.proved()


def test_what_is_done_alone_is_settled_by_done_when(desk: Desk) -> None:
    desk.write(
        "  - name: set\n    redis: {command: CONFIG SET maxmemory 77mb, transaction: none}\n"
        "    undo: []\n    done_when: {redis: {command: CONFIG GET maxmemory, rows: json,"
        ' expect: \'["maxmemory", "80740352"]\'}}\n'
    )
    desk.run()
    assert desk.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"80740352"]
    assert desk.own() == set()


def test_nothing_of_redis_is_loaded_without_a_redis_step(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom opskit.cli.root import call\ncall(sys.argv[1:])\n"
        "sys.exit(any('redis' in name for name in sys.modules))\n"
    )
    (tmp_path / "t.yaml").write_text(
        "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\n"
        "steps:\n  - {run: 'true', on: controller}\n"
    )
    (tmp_path / "i.yaml").write_text("opskit: 1\nhosts: {nowhere: 127.0.0.1}\n")
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "t.yaml", "--yes", "-i", "i.yaml"],
        env={**os.environ, "OPSKIT_STORE": str(tmp_path / "store.db"), "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
