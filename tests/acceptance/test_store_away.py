"""The database goes away in the middle of a run on real hosts: nothing is done unrecorded."""

import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.fleet import Fleet
from tests.support.postgres import Server, server
from tests.support.proxy import Proxy, proxy
from tests.support.trouble import Trouble, did, held, step, until

pytestmark = pytest.mark.acceptance

HOSTS = ("web1", "web2")
STEPS = step("one", did("one")) + step("two", held("two")) + step("three", did("three"))
DONE = dict.fromkeys(HOSTS, "one begin-two two three")


@pytest.fixture
def mine() -> Iterator[Server]:
    """A server of the test's own, to be killed."""
    with server() as found:
        yield found


@pytest.fixture
def line(mine: Server) -> Iterator[Proxy]:
    with proxy(mine.socket) as found:
        yield found


def tallies(trouble: Trouble) -> dict[str, str]:
    return {host: " ".join(trouble.tally(host)) for host in HOSTS}


def begun(fleet: Fleet) -> Trouble:
    trouble = Trouble(fleet=fleet, name="t")
    trouble.write(STEPS, hosts="web1:web2")
    return trouble


def test_a_run_waits_for_a_server_that_was_killed_and_goes_on_by_itself(
    fleet: Fleet, mine: Server
) -> None:
    store = {"OPSKIT_STORE": mine.database() + "&patience=60"}
    trouble = begun(fleet)
    run = trouble.start(environ=store)
    try:
        for host in HOSTS:
            trouble.until(host, "begin-two")
        mine.kill()
        trouble.let_go(*HOSTS)
        until(lambda: "nothing new is sent" in run.said(), "that it waits")
        time.sleep(1)
        assert tallies(trouble) == dict.fromkeys(HOSTS, "one begin-two two")
        mine.start()
    finally:
        status = run.end()
    assert status == 0, run.said()
    assert tallies(trouble) == DONE
    assert "the record can't be reached" in run.said()
    assert "nothing new is sent; waiting for it" in run.said()
    assert "the record is back after" in run.said()
    fleet.opskit("audit", "verify", environ=store)


def test_a_run_that_has_waited_enough_stops_and_can_be_resumed(fleet: Fleet, mine: Server) -> None:
    store = {"OPSKIT_STORE": mine.database() + "&patience=2"}
    trouble = begun(fleet)
    run = trouble.start(environ=store)
    try:
        for host in HOSTS:
            trouble.until(host, "begin-two")
        mine.kill()
        trouble.let_go(*HOSTS)
    finally:
        status = run.end()
    assert status == 130, run.said()
    assert "opskit resume" in run.said()
    assert tallies(trouble) == dict.fromkeys(HOSTS, "one begin-two two")
    mine.start()
    fleet.opskit("resume", "last", status=0, environ=store)
    assert tallies(trouble) == DONE
    fleet.opskit("audit", "verify", environ=store)


def test_cuts_at_random_bytes_change_nothing_that_is_done(
    fleet: Fleet, mine: Server, line: Proxy
) -> None:
    name = urlsplit(mine.database()).path[1:]
    store = {"OPSKIT_STORE": line.url(name, more="&patience=60")}
    trouble = Trouble(fleet=fleet, name="t")
    words = [f"w{number}" for number in range(8)]
    trouble.write("".join(step(word, did(word)) for word in words), hosts="web1:web2")
    run = trouble.start(environ=store)
    try:
        trouble.until("web1", "w0")
        line.again, line.span = random.Random(7), (4_000, 24_000)  # a plan must come through
        line.cut()
    finally:
        status = run.end()
    line.again = line.cut_after = None
    assert status == 0, run.said()
    assert line.cuts > 1
    assert tallies(trouble) == dict.fromkeys(HOSTS, " ".join(words))
    fleet.opskit("audit", "verify", environ=store)


def test_with_the_database_down_work_goes_on_here_and_is_brought_in_later(
    fleet: Fleet, mine: Server
) -> None:
    store = {"OPSKIT_STORE": mine.database()}
    trouble = Trouble(fleet=fleet, name="t")
    trouble.write(step("one", did("one")), hosts="web1:web2")
    mine.kill()
    refused = fleet.opskit(*trouble.words(), status=5, environ=store)
    assert "--store local" in refused.stderr
    fleet.opskit(*trouble.words("--store", "local"), environ=store)
    mine.start()
    assert tallies(trouble) == dict.fromkeys(HOSTS, "one")
    local = fleet.folder / "state" / "opskit" / "store.db"
    said = fleet.opskit("store", "import", local, environ=store).stdout
    assert said.endswith("imported\n")
    fleet.opskit("audit", "verify", environ=store)
    assert "instead of" in fleet.opskit("audit", "log", "last", environ=store).stdout
