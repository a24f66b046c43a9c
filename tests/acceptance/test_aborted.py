"""A run that a person has ended while nobody knew of a change: it can be settled, and no more."""

import signal
import subprocess
import sys

import pytest

from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, forget, held, step

pytestmark = pytest.mark.acceptance

ONE, THREE = (step(name, did(name), undo=did(f"undo-{name}")) for name in ("one", "three"))
BACK = "undo-two undo-one"
HEAD = "on_failure: stop\nmax_failures: 9\nlock: web\n"


def lost(fleet: Fleet, *hosts: str, **keys: object) -> Trouble:
    """Come to a run whose process was killed within step two, which came to its end after that."""
    trouble = Trouble(fleet=fleet)
    two = step("two", held("two"), undo=did("undo-two"), **keys)
    always = step("last", did("last"))
    trouble.write(ONE + two + THREE, HEAD, always, hosts=":".join(hosts))
    begun = trouble.start()
    try:
        for host in hosts:
            trouble.until(host, "begin-two")
    finally:
        begun.process.send_signal(signal.SIGKILL)
        begun.end()
    trouble.let_go(*hosts)
    for host in hosts:
        trouble.until(host, "two")
    return trouble


def aborted(fleet: Fleet, *hosts: str) -> Trouble:
    trouble = lost(fleet, *hosts)
    said = fleet.opskit("abort", "last").stdout
    assert f"opskit resume {fleet.events()[0]['run']}" in said
    assert trouble.ended() == (6, "aborted", dict.fromkeys(hosts, "unknown"))
    return trouble


def killed(fleet: Fleet, at: str, number: int, *words: str) -> None:
    """Be killed before or after events are added to the record for the `number`-th time."""
    line = [sys.executable, "-m", "tests.support.deadly", at, str(number), *words]
    done = subprocess.run(line, env={**fleet.environ, "PYTHONPATH": sys.path[0]}, check=False,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def test_the_hosts_tell_what_became_of_it_and_then_it_is_taken_back(fleet: Fleet) -> None:
    trouble = aborted(fleet, "web1", "web2")
    assert "`opskit resume" in fleet.opskit("decide", "last", "done", "--reason", "r",
                                            status=2).stderr  # fmt: skip
    killed(fleet, "after", 0, "resume", "last")  # of one host it is recorded, perhaps
    fleet.opskit("resume", "last", status=1)
    assert trouble.ended() == (1, "aborted", {"web1": "begun", "web2": "begun"})
    assert trouble.tallies(("web1", "web2")) == dict.fromkeys(("web1", "web2"),
                                                              "one begin-two two")  # fmt: skip
    assert "nothing to resume" in fleet.opskit("resume", "last", status=2).stderr
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tally("web1")[3:] == trouble.tally("web2")[3:] == BACK.split()
    fleet.proved()


def test_where_no_host_can_tell_a_person_is_asked_and_nothing_follows(fleet: Fleet) -> None:
    trouble = aborted(fleet, "web1", "web2")
    forget(trouble, "web1", "web2")
    refused = fleet.opskit("undo", "last", "--yes", status=5).stderr
    assert "settle that first: `opskit resume" in refused
    fleet.opskit("resume", "last", status=4)
    shown = fleet.opskit("decide", "last", status=4).stdout
    assert "Nobody knows whether 'two' happened on web1" in shown
    assert "it has happened; nothing follows" in shown
    assert "retry" not in shown
    fleet.opskit("decide", "last", "retry", status=2)
    killed(fleet, "after", 0, "decide", "last", "done", "--reason", "seen")
    fleet.opskit("resume", "last", status=4)  # it asks of the other one
    fleet.opskit("decide", "last", "abort", status=6)
    assert trouble.ended()[1:] == ("aborted", {"web1": "begun", "web2": "unknown"})
    fleet.opskit("resume", "last", status=4)
    killed(fleet, "after", 0, "decide", "last", "failed", "--reason", "half of it")
    fleet.opskit("resume", "last", status=1)
    assert trouble.ended()[1:] == ("aborted", {"web1": "begun", "web2": "failed"})
    once = "one begin-two two"
    assert trouble.tallies(("web1", "web2")) == {"web1": once, "web2": once}
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tallies(("web1", "web2")) == dict.fromkeys(("web1", "web2"), f"{once} {BACK}")
    fleet.proved()


def test_an_undo_asks_the_hosts_itself(fleet: Fleet) -> None:
    trouble = aborted(fleet, "web1")
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tally("web1")[:3] == ["one", "begin-two", "two"]
    assert trouble.tally("web1")[3:] == BACK.split()
    fleet.proved()


def test_an_abort_by_decision_leaves_what_the_host_knows(fleet: Fleet) -> None:
    trouble = lost(fleet, "web1", timeout="4s")
    fleet.lab.cut("web1", reset=True)
    try:
        fleet.opskit("resume", "last", status=4)
    finally:
        fleet.lab.heal("web1")
    fleet.opskit("decide", "last", "abort", status=6)
    fleet.opskit("resume", "last", status=1)
    assert trouble.ended()[1:] == ("aborted", {"web1": "begun"})
    fleet.opskit("retry", "last", "--hosts", "not-started", "--yes")
    assert trouble.tally("web1") == ["one", "begin-two", "two", "three", "last"]
    fleet.proved()
