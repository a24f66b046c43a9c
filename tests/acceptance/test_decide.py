"""A run that waits on real hosts: what is shown before a person decides, and what follows."""

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, held, step

pytestmark = pytest.mark.acceptance

BOTH = ("web1", "web2")
ONE = step("one", did("one"), undo=did("undo-one"))
THREE = step("three", did("three"))
PARAMS = """params:
  tag: {type: string}
  want: {type: string, default: bad}
  pass: {type: secret, required: false}
"""


def waiting(fleet: Fleet, two: str, head: str = "", **keys: object) -> Trouble:
    """Come to a run on two hosts that waits because step two failed on web2 alone."""
    trouble = Trouble(fleet=fleet)
    test = "test {{ host }} != web2 || { echo seen; false; }"
    more: dict[str, object] = {"on_failure": "ask", "undo": did("undo-two"), **keys}
    steps = ONE + step("two", f"{did('two')}; {two or test}", **more) + THREE  # type: ignore[arg-type]
    path = trouble.write(steps, head, hosts="web1:web2")
    path.write_text(path.read_text().replace("params: {tag: {type: string}}\n", PARAMS))
    trouble.run(status=4)
    return trouble


def asked(fleet: Fleet) -> dict[str, Any]:
    """Look at what the newest run waits for."""
    found = fleet.opskit("decide", "last", "--json", status=4).stdout.splitlines()
    question: dict[str, Any] = json.loads(found[-1])
    return question


def says(question: dict[str, Any], source: str) -> str:
    return " | ".join(
        one.get("says", "") + " ".join(one.get("lines", ()))
        for one in question["evidence"]
        if one["source"] == source
    )


def decided(fleet: Fleet) -> list[dict[str, Any]]:
    return [event for event in fleet.events() if event["event"] == "decided"]


def everything(trouble: Trouble) -> str:
    """Return all that opskit has on a host: files with their times, and tokens."""
    return trouble.sh("web2", "cd ~/.opskit && find . -printf '%p %s %T@\\n' | sort")


def test_looking_shows_what_the_host_says_and_leaves_all_as_it_is(fleet: Fleet) -> None:
    trouble = waiting(fleet, "", done_when="{run: 'test -e ~/{{ tag }}.done'}")
    before = everything(trouble), fleet.events()
    shown = fleet.opskit("decide", "last", status=4).stdout
    question = asked(fleet)
    assert (everything(trouble), fleet.events()) == before
    for words in ("'two' failed on web2", "| seen", "it has ended, with status 1",
                  "it has not happened (exit status 1)",
                  "it stays as 'two' has left it"):  # fmt: skip
        assert words in shown
    names = ["retry", "done", "skip", "failed", "exclude", "undo", "abort"]
    assert [choice["choice"] for choice in question["choices"]] == names
    assert [c["choice"] for c in question["choices"] if c["reason"]] == names[1:5]
    assert says(question, "host") == "it has ended, with status 1"
    trouble.sh("web2", f"touch ~/{trouble.tag}.done")  # somebody did it by hand meanwhile
    assert says(asked(fleet), "done_when") == "it has happened"
    fleet.opskit("decide", "last", "done", status=2)
    fleet.opskit("decide", "last", "done", "--reason", "by hand", status=0)
    assert trouble.tallies(BOTH) == {"web1": "one two three", "web2": "one two three"}
    (event,) = decided(fleet)
    assert (event["choice"], event["reason"]) == ("done", "by hand")
    found = {one["source"]: one for one in event["evidence"]}
    assert found["done_when"]["data"] == {"outcome": "succeeded"}
    assert found["host"]["data"] == {"state": "ended"}
    assert found["output"]["lines"] == ["seen"]
    again = fleet.opskit("decide", "last", "retry", status=2).stderr
    assert "asks nothing (succeeded)" in again
    assert "answered 'done'" in again
    fleet.proved()


def test_a_host_that_can_not_be_asked_is_left_out(fleet: Fleet) -> None:
    kills = "test {{ host }} != web2 || kill -9 $PPID"
    trouble = waiting(fleet, kills, head="on_failure: stop\n")
    assert "its process was ended before it could say how" in says(asked(fleet), "host")
    trouble.fleet.lab.cut("web2", reset=True)
    try:
        assert "it can't be asked" in says(asked(fleet), "host")
        reason = ("--reason", "its disk is full")
        fleet.opskit("decide", "last", "exclude", *reason, status=6)
    finally:
        trouble.fleet.lab.heal("web2")
    assert trouble.tallies(BOTH) == {"web1": "one two three", "web2": "one two"}
    assert trouble.ended()[2] == {"web1": "done", "web2": "unknown"}
    fleet.proved()


def with_parameters(fleet: Fleet, steps: str, hosts: str) -> Trouble:
    trouble = Trouble(fleet=fleet)
    path = trouble.write(steps, hosts=hosts)
    path.write_text(path.read_text().replace("params: {tag: {type: string}}\n", PARAMS))
    trouble.run(status=4)
    return trouble


def test_what_was_done_with_a_parameter_forbids_another_value(fleet: Fleet) -> None:
    two = step("two", did("two-{{ want }}"))
    three = step("three", f"{did('three')}; test {{{{ host }}}} = web1", on_failure="ask")
    trouble = with_parameters(fleet, ONE + two + three, "web1:web2")

    def refused(word: str) -> str:
        return fleet.opskit("decide", "last", "retry", "-p", word, status=2).stderr

    said = refused("want=good")
    assert "other texts for what was begun already: 'two' on web2 (succeeded)" in said
    assert "begin a new run: opskit run t -p want=good" in said
    assert "is a secret" in refused("pass=correct-horse")
    assert "no parameter" in refused("wont=x")
    assert "-p is for the retry" in fleet.opskit(
        "decide", "last", "skip", "--reason", "r", "-p", "want=good", status=2
    ).stderr  # fmt: skip
    assert not decided(fleet)
    assert trouble.tallies(BOTH) == dict.fromkeys(BOTH, "one two-bad three")


def test_a_host_that_was_done_with_a_value_keeps_it_and_its_undo(fleet: Fleet) -> None:
    two = step("two", did("two-{{ want }}") + "; test {{ want }}.{{ host }} != bad.web2",
               undo=did("undo-two-{{ want }}"), on_failure="ask")  # fmt: skip
    trouble = with_parameters(
        fleet, ONE + two + step("three", did("three-{{ want }}")), "web1:web2"
    )
    killed(fleet, "decide", "last", "retry", "-p", "want=good")
    fleet.opskit("resume", "last")
    assert trouble.tallies(BOTH) == {
        "web1": "one two-bad three-bad", "web2": "one two-bad two-good three-good",
    }  # fmt: skip
    (amended,) = [event for event in fleet.events() if event["event"] == "plan amended"]
    assert (amended["hosts"], amended["kept"]) == (["web2"], ["web1"])
    assert amended["steps"] == {"2": ["web2"], "3": ["web2"]}
    said = fleet.opskit("report", "last").stdout
    assert "want=good from here on, on web2 (as before on web1)" in said
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tally("web1")[3:] == ["undo-two-bad", "undo-one"]
    assert trouble.tally("web2")[4:] == ["undo-two-good", "undo-two-bad", "undo-one"]
    fleet.proved()


def test_a_retry_with_another_parameter_goes_on_with_the_amended_plan(fleet: Fleet) -> None:
    two = step("two", did("two-{{ want }}") + "; test {{ want }} = good",
               undo=did("undo-two-{{ want }}"), on_failure="ask")  # fmt: skip
    trouble = with_parameters(fleet, ONE + two + THREE, "web1")
    (fleet.folder / "t.yaml").unlink()  # the record has it
    fleet.opskit("decide", "last", "retry", "-p", "want=good", status=0)
    assert trouble.tally("web1") == ["one", "two-bad", "two-good", "three"]
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tally("web1")[4:] == ["undo-two-good", "undo-two-bad", "undo-one"]
    (amended,) = [event for event in fleet.events() if event["event"] == "plan amended"]
    assert amended["parameters"] == {"want": "good"}
    (created,) = [event for event in fleet.events() if event["event"] == "run created"]
    status = json.loads(fleet.opskit("status", "last", "--json", status=None).stdout)
    assert status["plan"] == amended["plan"] != created["plan"]
    (listed,) = fleet.opskit("runs", "--json").stdout.splitlines()
    assert json.loads(listed)["plan"] == amended["plan"]
    assert "want=good from here on" in fleet.opskit("report", "last").stdout
    fleet.proved()


def test_a_run_whose_amended_plan_needs_a_secret_no_more_can_be_gone_on_with(fleet: Fleet) -> None:
    two = step("two", did("two") + "; test {{ want }} = good", on_failure="ask")
    items = "'{{ [1] if want == \"bad\" else [] }}'"
    three = step("three", did("three"), for_each=items, secrets="{TOKEN: token}")
    four = step("four", did("four") + "; test -e ~/{{ tag }}.ok", on_failure="ask")
    trouble = Trouble(fleet=fleet)
    path = trouble.write(two + three + four, hosts="web1")
    path.write_text(path.read_text().replace("params: {tag: {type: string}}\n", PARAMS))
    (fleet.folder / "token").write_text("correct-horse")
    inventory = fleet.folder / "with-secret.yaml"
    secrets = f"secrets:\n  token: 'file:{fleet.folder}/token'\n"
    inventory.write_text(fleet.lab.inventory.read_text() + secrets)
    trouble.run("--inventory", str(inventory), status=4)
    fleet.opskit("decide", "last", "retry", "-p", "want=good", status=4)
    trouble.sh("web1", f"touch ~/{trouble.tag}.ok")
    fleet.opskit("decide", "last", "retry", status=0)
    assert trouble.tally("web1") == ["two", "two", "four", "four"]
    fleet.proved()


def test_all_is_taken_back_by_a_decision(fleet: Fleet) -> None:
    trouble = waiting(fleet, "")
    fleet.opskit("decide", "last", "undo", status=3)
    back = "one two undo-two undo-one"
    assert trouble.tallies(BOTH) == {"web1": back, "web2": back}
    assert trouble.ended() == (3, "undone", dict.fromkeys(BOTH, "undone"))
    fleet.proved()


def killed(fleet: Fleet, *words: str) -> None:
    """Decide, and be killed once that is recorded."""
    line = [sys.executable, "-m", "tests.support.deadly", "after", "0", *words]
    done = subprocess.run(line, env={**fleet.environ, "PYTHONPATH": sys.path[0]}, check=False,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "choice", ["retry", "undo", pytest.param("exclude", marks=pytest.mark.soak)]
)
def test_a_decision_whose_process_was_killed_is_carried_out_once(fleet: Fleet, choice: str) -> None:
    once = "test {{ host }} != web2 || test -e ~/{{ tag }}.bad || { touch ~/{{ tag }}.bad; false; }"
    trouble = waiting(fleet, once)
    killed(fleet, "decide", "last", choice, "--reason", "r")
    assert [event["choice"] for event in decided(fleet)] == [choice]
    fleet.opskit("resume", "last", status={"retry": 0, "exclude": 1, "undo": 3}[choice])
    assert (
        trouble.tallies(BOTH)
        == {
            "retry": {"web1": "one two three", "web2": "one two two three"},
            "exclude": {"web1": "one two three", "web2": "one two"},
            "undo": dict.fromkeys(BOTH, "one two undo-two undo-one"),
        }[choice]
    )
    assert len(decided(fleet)) == 1
    fleet.proved()


def test_of_several_who_decide_one_does_and_the_others_are_told_who(fleet: Fleet) -> None:
    first = "test {{ host }} = web1 || test -e ~/{{ tag }}.bad || { touch ~/{{ tag }}.bad; false; }"
    twice = f"{first}; test {{{{ host }}}} = web1 || {{ {held('again')}; }}"
    trouble = waiting(fleet, twice)
    both = [trouble.start("decide", "last", "retry", "--no-live") for _ in range(3)]
    trouble.until("web2", "begin-again")
    seen = fleet.opskit("decide", "last", status=5).stderr
    assert "is being carried out right now by" in seen
    trouble.let_go(*BOTH)
    ends = sorted(one.end() for one in both)
    assert ends == [0, 5, 5]
    losers = [one.said() for one in both if one.process.returncode == 5]
    assert all("is being carried out right now by" in said for said in losers), losers
    assert len(decided(fleet)) == 1
    assert trouble.tally("web2").count("again") == 1
    fleet.proved()


@pytest.mark.soak
def test_a_host_that_does_not_answer_is_not_waited_for_long(fleet: Fleet) -> None:
    waiting(fleet, "", done_when="{run: 'test -e ~/{{ tag }}.done'}")
    fleet.lab.freeze("web2")
    try:
        began = time.monotonic()
        question = asked(fleet)
        assert time.monotonic() - began < 15
    finally:
        fleet.lab.heal("web2")
    assert "it can't be asked" in says(question, "host") or "no answer" in says(question, "host")
    assert question["choices"]


def test_where_too_many_fell_out_the_run_goes_on_without_them_or_tries_again(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + THREE, "on_failure: ask\n", hosts="web1:web2")
    fleet.lab.cut("web2", reset=True)
    try:
        trouble.run(status=4)
        question = asked(fleet)
        assert [one.get("data") for one in question["evidence"]] == [None, {"reached": False}]
        fleet.opskit("decide", "last", "exclude", status=2)
        fleet.opskit("decide", "last", "retry", status=4)  # it asks the same again
        fleet.opskit("decide", "last", "exclude", "--reason", "its cable", status=1)
    finally:
        fleet.lab.heal("web2")
    assert trouble.ended() == (1, "failed", {"web1": "done", "web2": "excluded"})
    assert [event["choice"] for event in decided(fleet)] == ["retry", "exclude"]
    fleet.opskit("retry", "last", "--hosts", "excluded", "--yes")
    assert trouble.ended() == (0, "succeeded", dict.fromkeys(BOTH, "done"))
    assert trouble.tallies(BOTH) == dict.fromkeys(BOTH, "one three")
    fleet.proved()


@pytest.mark.soak
def test_an_amended_retry_whose_process_was_killed_is_carried_out_once(fleet: Fleet) -> None:
    two = step("two", did("two-{{ want }}") + "; test {{ want }} = good", on_failure="ask")
    trouble = with_parameters(fleet, ONE + two + THREE, "web1")
    killed(fleet, "decide", "last", "retry", "-p", "want=good")
    fleet.opskit("resume", "last")
    assert trouble.tally("web1") == ["one", "two-bad", "two-good", "three"]
    fleet.proved()
