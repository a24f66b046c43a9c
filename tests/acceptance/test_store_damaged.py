"""The disk under the record fails, full or damaged, while a run is under way.

Nothing is done that is not recorded, nobody is told that all is well, the message says what to do,
and after the repair work goes on from where the record stands.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.postgres import Server, server
from tests.support.trouble import Begun, Trouble, did, held, step

pytestmark = pytest.mark.acceptance

HOSTS = ("web1", "web2")
LOUD = f"{did('loud')}; head -c 3000000 /dev/urandom | base64"
"""More than the record's process keeps in memory of its file."""
STEPS = (
    step("one", did("one"))
    + step("two", held("two"))
    + step("loud", LOUD)
    + step("last", did("last"))
)
DONE = dict.fromkeys(HOSTS, "one begin-two two loud last")
PAGE = 4096
BAD = b"\xa5" * PAGE


def write(fleet: Fleet) -> Trouble:
    trouble = Trouble(fleet=fleet, name="t")
    trouble.write(STEPS, hosts="web1:web2")
    return trouble


def stopped(trouble: Trouble, run: Begun, why: str, cure: str) -> None:
    """The run must have stopped, and have said why, what to do, and how it is gone on with."""
    status = run.end()
    assert status == 130, run.said()
    assert why in run.said()
    assert cure in run.said()
    assert "then `opskit resume" in run.said()
    assert trouble.tallies(HOSTS) != DONE, run.said()


def goes_on(trouble: Trouble, store: dict[str, str]) -> None:
    """All that was done must stand in the record; a resume does the rest, and nothing twice."""
    log = trouble.fleet.opskit("audit", "log", "last", "--json", environ=store).stdout
    events = [json.loads(line) for line in log.splitlines()]
    started = {(e["host"], e["step"]) for e in events if e["event"] == "step started"}
    for host, words in trouble.tallies(HOSTS).items():
        assert {(host, word.removeprefix("begin-")) for word in words.split()} <= started
    trouble.fleet.opskit("resume", "last", environ=store)
    assert trouble.tallies(HOSTS) == DONE
    trouble.fleet.opskit("audit", "verify", environ=store)


def test_pages_that_are_damaged_while_a_run_is_under_way(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    store = {"OPSKIT_STORE": str(path)}
    trouble = write(fleet)
    fleet.opskit("exec", "web1", "--", "true", environ=store)  # so that its pages are in the file
    run = trouble.start(environ=store)
    try:
        for host in HOSTS:
            trouble.until(host, "begin-two")
        whole = path.read_bytes()
        assert len(whole) > 10 * PAGE
        with path.open("r+b") as file:
            file.write(BAD * (len(whole) // PAGE))
        trouble.let_go(*HOSTS)
        stopped(trouble, run, "damaged.db: ", "put a copy from a backup in its place")
    finally:
        run.end()
    for words in (["runs"], ["status", "last"], ["report", "last"]):
        refused = fleet.opskit(*words, status=2, environ=store)
        assert "damaged.db: " in refused.stderr
        assert "put a copy from a backup in its place" in refused.stderr
    assert "The file is damaged" in fleet.opskit("audit", "verify", status=1, environ=store).stdout
    with path.open("r+b") as file:  # what was written since then is kept
        for at in range(0, len(whole), PAGE):
            file.seek(at)
            if file.read(PAGE) == BAD:
                file.seek(at)
                file.write(whole[at : at + PAGE])
    goes_on(trouble, store)


@pytest.fixture
def small() -> Iterator[Server]:
    """A database server with a small disk of its own."""
    with server(disk="120m", max_wal_size="32MB", min_wal_size="32MB") as found:
        yield found


def test_a_full_disk_under_the_database_stops_the_run(fleet: Fleet, small: Server) -> None:
    store = {"OPSKIT_STORE": small.database()}
    trouble = write(fleet)
    run = trouble.start(environ=store)
    ballast = small.folder / "ballast"
    try:
        for host in HOSTS:
            trouble.until(host, "begin-two")
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(PAGE))
        trouble.let_go(*HOSTS)
        stopped(trouble, run, "the server's disk is full", "make room there")
    finally:
        run.end()
    ballast.unlink()
    goes_on(trouble, store)
