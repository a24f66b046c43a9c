"""Runs on a terminal that a person interrupts, closes or types into."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.fleet import Fleet
from tests.support.terminal import Terminal, terminal
from tests.support.trouble import Trouble, did, held, step

pytestmark = pytest.mark.acceptance

CTRL_C, CTRL_D = "\x03", "\x04"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ONE, THREE = step("one", did("one"), undo=did("undo-one")), step("three", did("three"))
TWO = step("two", held("two"), undo=did("undo-two"))
HOSTS = ("web1", "web2")


@contextmanager
def running(fleet: Fleet, steps: str, *words: str) -> Iterator[tuple[Trouble, Terminal]]:
    """Start a run on a terminal, with the live picture."""
    trouble = Trouble(fleet=fleet)
    trouble.write(steps, "on_failure: undo\n", hosts="web1:web2")
    line = [word for word in trouble.words(*words) if words or word != ""]
    with terminal(line, environ=fleet.environ, folder=fleet.folder) as person:
        yield trouble, person


def sane(person: Terminal) -> None:
    """The terminal is as it was: echo, line mode, a visible cursor, on a line of its own."""
    assert person.settings() == person.before
    assert person.text().rfind(SHOW) >= person.text().rfind(HIDE)
    assert person.text().endswith("\n")


def test_ctrl_c_twice_ends_what_runs_and_leaves_the_terminal_sane(fleet: Fleet) -> None:
    with running(fleet, ONE + TWO + THREE) as (trouble, person):
        for host in HOSTS:
            trouble.until(host, "begin-two")
        person.type(CTRL_C)
        person.until("or press Ctrl-C again")
        person.type(CTRL_C)
        assert person.end() == 130, person.text()
        assert "\x1b[" in person.text()
        sane(person)
        assert "stopped by a person, confirmed gone" in person.text()
    assert trouble.ended() == (130, "waiting", dict.fromkeys(HOSTS, "failed"))
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two")


def test_to_stop_what_runs_too_is_asked_and_can_be_answered(fleet: Fleet) -> None:
    with running(fleet, ONE + TWO + THREE) as (trouble, person):
        for host in HOSTS:
            trouble.until(host, "begin-two")
        person.type(CTRL_C)
        person.until("Stop that too? Type y and Enter")
        person.type("y\r")
        assert person.end() == 130, person.text()
        sane(person)
        assert "stopped by a person, confirmed gone" in person.text()
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two")


def test_another_answer_lets_what_runs_go_on(fleet: Fleet) -> None:
    with running(fleet, ONE + TWO + THREE) as (trouble, person):
        for host in HOSTS:
            trouble.until(host, "begin-two")
        person.type(CTRL_C)
        person.until("Stop that too? Type y and Enter")
        person.type("n\r")
        trouble.let_go(*HOSTS)
        assert person.end() == 130, person.text()
        sane(person)
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two")


def test_ctrl_c_once_lets_what_runs_come_to_its_end(fleet: Fleet) -> None:
    with running(fleet, ONE + TWO + THREE) as (trouble, person):
        for host in HOSTS:
            trouble.until(host, "begin-two")
        person.type(CTRL_C)
        person.until("or press Ctrl-C again")
        trouble.let_go(*HOSTS)
        assert person.end() == 130, person.text()
        sane(person)
        assert "opskit resume" in person.text()
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two")
    words = ["resume", "last"]
    with terminal(words, environ=fleet.environ, folder=fleet.folder) as person:
        assert person.end() == 0, person.text()
        sane(person)
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two three")


def test_a_closed_terminal_loses_nothing(fleet: Fleet) -> None:
    with running(fleet, ONE + TWO + THREE) as (trouble, person):
        for host in HOSTS:
            trouble.until(host, "begin-two")
        person.hang_up()
        trouble.let_go(*HOSTS)
        assert person.end() == 130
    assert trouble.ended() == (130, "waiting", dict.fromkeys(HOSTS, "begun"))
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two")
    fleet.opskit("resume", "last")
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two three")
    fleet.proved()


@pytest.mark.parametrize(("key", "status"), [(CTRL_C, 130), (CTRL_D, 5), ("n\n", 5)])
def test_who_does_not_agree_has_nothing_done(fleet: Fleet, key: str, status: int) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE, hosts="web1:web2")
    words = [word for word in trouble.words() if word != "--yes"]
    with terminal(words, environ=fleet.environ, folder=fleet.folder) as person:
        person.until("[y/N]")
        person.type(key)
        assert person.end() == status, person.text()
        sane(person)
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "")
    assert fleet.opskit("runs", "--json").stdout.strip() == ""


@pytest.mark.parametrize(("key", "status"), [(CTRL_C, 4), (CTRL_D, 4), ("no\n", 3), ("yes\n", 0)])
def test_a_question_in_the_middle_can_be_left_open(fleet: Fleet, key: str, status: int) -> None:
    ask = "  - {name: sure, confirm: Go on?}\n"
    with running(fleet, ONE + ask + THREE) as (trouble, person):
        person.until("abort] ")
        person.type(key)
        if key == "no\n":
            person.until("reason (why? for the record)")
            person.type("not tonight\n")
        assert person.end() == status, person.text()
        sane(person)
    assert trouble.ended()[0] == status
    done = {0: "one three", 3: "one undo-one"}.get(status, "one")
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, done)
    if status == 4:
        fleet.opskit("resume", "last", status=4)


def test_who_decides_on_a_terminal_sees_what_is_known_and_gives_a_reason(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    bad = step("two", f"{did('two')}; echo seen; false", on_failure="ask")
    trouble.write(ONE + bad + THREE, hosts="web1:web2", head="max_failures: 1\n")
    trouble.run(status=4)
    words = ["decide", "last"]
    with terminal(words, environ=fleet.environ, folder=fleet.folder) as person:
        for number, host in enumerate(HOSTS):
            person.until(f"'two' failed on {host}: exit status 1")
            assert person.text().count("| seen") == number + 1
            assert person.text().count("it has ended, with status 1") == number + 1
            person.type("skip\n")
            person.until("reason (why? for the record)")
            person.type("\n")  # none is not enough
            person.type(f"known on {host}\n")
        assert person.end() == 0, person.text()
        sane(person)
    chosen = [event for event in fleet.events() if event["event"] == "decided"]
    assert [event["reason"] for event in chosen] == [f"known on {host}" for host in HOSTS]
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one two three")
