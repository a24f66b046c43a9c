"""Retry, undo and resume after a failure, on real hosts: what was named, and nothing else."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.support.fleet import Fleet
from tests.support.trouble import HOSTS, Trouble, did, forget, held, step, until

pytestmark = pytest.mark.acceptance

ONE, THREE = (step(name, did(name), undo=did(f"undo-{name}")) for name in ("one", "three"))


def moody(word: str, *hosts: str) -> str:
    """Return shell text that fails on some hosts until the test lets them go."""
    bad = " && ".join(f"test {{{{ host }}}} != {host}" for host in hosts)
    return f"{did(word)}; test -e ~/{{{{ tag }}}}.go || {{ {bad}; }}"


TWO = step("two", moody("two", "web2"), undo=did("undo-two"))
DONE = "one two three"


def failed(fleet: Fleet, head: str = "batches: [1]\n", steps: str = ONE + TWO + THREE) -> Trouble:
    """Come to a run of which web1 is done, web2 has failed and the others never began."""
    trouble = Trouble(fleet=fleet)
    trouble.write(steps, head)
    trouble.run(status=1)
    trouble.let_go(*HOSTS)
    return trouble


def test_a_retry_of_all_that_is_left_comes_to_the_end(fleet: Fleet) -> None:
    trouble = failed(fleet)
    fleet.opskit("retry", "last", "--hosts", "failed,unknown,not-started", "--yes")
    assert trouble.tallies() == {
        "web1": DONE, "web2": "one two two three", "web3": DONE, "web4": DONE,
    }  # fmt: skip
    assert trouble.ended() == (0, "succeeded", dict.fromkeys(HOSTS, "done"))
    fleet.proved()


def test_a_retry_touches_no_host_that_was_not_named(fleet: Fleet) -> None:
    trouble = failed(fleet)
    fleet.opskit("retry", "last", "--hosts", "web2", "--yes", status=1)
    assert trouble.tallies() == {"web1": DONE, "web2": "one two two three", "web3": "", "web4": ""}
    fleet.opskit("retry", "last", "--hosts", "web4", "--yes", status=1)
    assert trouble.tallies() == {
        "web1": DONE, "web2": "one two two three", "web3": "", "web4": DONE,
    }  # fmt: skip
    hosts = {"web1": "done", "web2": "done", "web3": "not started", "web4": "done"}
    assert trouble.ended() == (1, "failed", hosts)
    refused = fleet.opskit("retry", "last", "--hosts", "failed", "--yes", status=2)
    assert "no host of run" in refused.stderr
    assert "web3: not started" in refused.stderr


def test_an_unknown_change_is_repeated_only_by_name(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + step("two", held("two")) + THREE, hosts="web1:web2")
    begun = trouble.start()
    try:
        for host in ("web1", "web2"):
            trouble.until(host, "begin-two")
    finally:
        begun.process.send_signal(signal.SIGKILL)
        begun.end()
    trouble.let_go("web1", "web2")
    for host in ("web1", "web2"):
        trouble.until(host, "two")
    forget(trouble, "web1", "web2")
    fleet.opskit("resume", "last", status=4)
    fleet.opskit("retry", "last", "--hosts", "web2", "--yes", status=6)
    once, twice = "one begin-two two", "one begin-two two begin-two two three"
    assert trouble.tallies(("web1", "web2")) == {"web1": once, "web2": twice}
    assert trouble.ended()[2] == {"web1": "unknown", "web2": "done"}


def test_a_retry_after_an_undo_can_be_taken_back_too(fleet: Fleet) -> None:
    last = step("last", did("last") + "; test -e ~/{{ tag }}.well", effect="read")
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + last, "on_failure: undo\n", hosts="web1")
    trouble.run(status=3)
    fleet.opskit("retry", "last", "--hosts", "undone", "--yes", status=3)
    assert trouble.tally("web1") == ["one", "last", "undo-one"] * 2
    trouble.sh("web1", f"touch ~/{trouble.tag}.well")
    fleet.opskit("retry", "last", "--hosts", "undone", "--yes")
    fleet.opskit("undo", "last", "--yes", status=None)
    assert trouble.tally("web1") == ["one", "last", "undo-one"] * 3
    fleet.proved()


def test_an_undo_takes_back_what_was_done_and_no_more(fleet: Fleet) -> None:
    trouble = failed(fleet)
    fleet.opskit("undo", "last", "--hosts", "web1", "--yes")
    back = "undo-three undo-two undo-one"
    assert trouble.tallies() == {
        "web1": f"{DONE} {back}",
        "web2": "one two",
        "web3": "",
        "web4": "",
    }
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tallies()["web2"] == "one two undo-two undo-one"
    again = fleet.opskit("undo", "last", "--yes", status=2)
    assert "was taken back already" in again.stderr
    assert trouble.tallies() == {
        "web1": f"{DONE} {back}", "web2": "one two undo-two undo-one", "web3": "", "web4": "",
    }  # fmt: skip
    assert trouble.ended()[2] == {
        "web1": "undone", "web2": "undone", "web3": "not started", "web4": "not started",
    }  # fmt: skip
    fleet.proved()


def test_an_undo_that_failed_goes_on_when_it_is_asked_for_again(fleet: Fleet) -> None:
    steps = ONE + step("two", did("two"), undo=moody("undo-two", "web1")) + step("three", "false")
    trouble = Trouble(fleet=fleet)
    trouble.write(steps, "on_failure: undo\n", hosts="web1")
    trouble.run(status=1)
    assert trouble.tally("web1") == ["one", "two", "undo-two"]
    trouble.let_go("web1")
    fleet.opskit("undo", "last", "--yes")
    assert trouble.tally("web1") == ["one", "two", "undo-two", "undo-two", "undo-one"]
    assert trouble.ended()[2] == {"web1": "undone"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_undo_that_is_cut_short_goes_on_as_an_undo(fleet: Fleet, number: signal.Signals) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(step("one", did("one"), undo=held("undo-one")) + TWO, hosts="web1")
    trouble.run(status=0)
    begun = trouble.start("undo", "last", "--yes")
    trouble.until("web1", "begin-undo-one")
    begun.process.send_signal(number)
    if number == signal.SIGKILL:
        assert begun.end() == -signal.SIGKILL
        assert trouble.ended()[:2] == (130, "undoing")
    trouble.let_go("web1")
    trouble.until("web1", "undo-one")
    if number == signal.SIGINT:
        assert begun.end() == 130, begun.said()
    fleet.opskit("resume", "last", status=0)
    assert trouble.tally("web1") == ["one", "two", "undo-two", "begin-undo-one", "undo-one"]
    assert trouble.ended()[2] == {"web1": "undone"}


@pytest.mark.parametrize("how", ["retry"])
def test_what_still_runs_comes_to_its_end_before_it_is_repeated_or_taken_back(
    fleet: Fleet, how: str
) -> None:
    trouble = Trouble(fleet=fleet)
    two = step("two", held("two") + "; false", undo=did("undo-two"), on_failure="stop")
    trouble.write(step("one", did("one"), undo=did("undo-one")) + two, hosts="web1")
    begun = trouble.start()
    try:
        trouble.until("web1", "begin-two")
    finally:
        begun.process.send_signal(signal.SIGKILL)
        begun.end()
    more = ("--hosts", "unknown,failed", "--yes") if how == "retry" else ("--yes",)
    again = trouble.start(how, "last", *more)
    until(lambda: "connected" in again.said(), "a connection")
    time.sleep(0.5)
    trouble.let_go("web1")
    again.end()
    after = ["begin-two", "two"] if how == "retry" else ["undo-two", "undo-one"]
    assert trouble.tally("web1") == ["one", "begin-two", "two", *after], again.said()
    trouble.proved()


def waiting(fleet: Fleet) -> Trouble:
    """Come to a run that waits for a person after a step that failed."""
    trouble = Trouble(fleet=fleet)
    bad = step("two", f"{did('two')}; echo seen; false", on_failure="ask")
    trouble.write(ONE + bad + THREE, hosts="web1")
    trouble.run(status=4)
    return trouble


def test_a_decision_is_recorded_with_its_reason_and_evidence(fleet: Fleet) -> None:
    trouble = waiting(fleet)
    assert "needs a reason" in fleet.opskit("decide", "last", "skip", status=2).stderr
    wrong = fleet.opskit("decide", "last", "yes", status=2).stderr
    assert "one of: retry, done, skip, failed, undo, abort" in wrong
    fleet.opskit("decide", "last", "skip", "--reason", "known to be harmless", status=0)
    assert trouble.tally("web1") == ["one", "two", "three"]
    (decided,) = [e for e in fleet.events() if e["event"] == "decided"]
    assert (decided["choice"], decided["reason"]) == ("skip", "known to be harmless")
    assert ["seen"] in [one.get("lines") for one in decided["evidence"]]
    assert "asks nothing" in fleet.opskit("decide", "last", "retry", status=2).stderr
    trouble.proved()


def test_of_two_who_decide_one_does(fleet: Fleet) -> None:
    trouble = waiting(fleet)
    both = [trouble.start("decide", "last", "retry") for _ in range(2)]
    assert sorted(one.end() for one in both)[0] in (2, 4)
    chosen = [e for e in fleet.events() if e["event"] == "decided"]
    assert trouble.tally("web1").count("two") == 1 + len(chosen)
    trouble.proved()


def test_others_watch_pause_and_stop_a_run_from_elsewhere(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + step("two", held("two")) + THREE, hosts="web1")
    begun = trouble.start()
    trouble.until("web1", "begin-two")
    watcher = trouble.start("attach", "last")
    until(lambda: "2 two" in watcher.said(), "the step on another screen")
    pausing = trouble.start("pause", "last")
    until(lambda: "asks for a pause" in begun.said(), "the wish")
    trouble.let_go("web1")
    assert (begun.end(), pausing.end()) == (130, 0)
    assert watcher.end() == 130, watcher.said()
    assert trouble.tally("web1") == ["one", "begin-two", "two"]
    trouble.run(status=0)  # with what it waits for there already


def test_a_silent_step_is_pointed_out_to_all_who_watch_and_goes_on(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    text = held("two").replace("done;", "done; echo at last; sleep 2;")
    trouble.write(ONE + step("two", text, silent="1s") + THREE, hosts="web1")
    begun = trouble.start()
    trouble.until("web1", "begin-two")
    begun.process.send_signal(signal.SIGKILL)
    begun.end()
    resumed = trouble.start("resume", "last", "--json")
    until(lambda: "step silent" in resumed.said(), "it, here")
    watcher = trouble.start("attach", "last")
    try:
        until(lambda: "2 two has printed nothing for 1.0s" in watcher.said(), "it, elsewhere")
        status = fleet.opskit("status", "last", status=130).stdout
        assert "has printed nothing since" in status
    finally:
        trouble.let_go("web1")
        ends = resumed.end(), watcher.end()
    assert ends == (0, 0)
    assert "2 two prints again, after" in watcher.said()
    lines = [json.loads(line) for line in resumed.said().splitlines()]
    assert {e["host"] for e in lines if e.get("event") == "step silent"} == {"web1"}
    assert trouble.tally("web1") == ["one", "begin-two", "two", "three"]
    fleet.proved()


def test_an_until_that_is_gone_on_with_has_what_is_left_of_its_time(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    never = step("two", f"{did('try')}; false", effect="read", until="{every: 200ms, for: 6s}")
    trouble.write(ONE + never + THREE, hosts="web1")
    begun = trouble.start()
    trouble.until("web1", "try")
    begun.process.send_signal(signal.SIGKILL)
    begun.end()
    time.sleep(4)
    fleet.opskit("resume", "last", status=1)
    events = [e for e in fleet.events() if e.get("step") == "two"]
    assert [e["event"] for e in events] == ["step started", "step started", "step ended"]
    assert events[-1]["at"] - events[0]["at"] > 4
    assert events[-1]["seconds"] < 5.5, "it has begun anew"
    assert "not so within 6 s" in events[-1]["reason"]


def test_an_abort_stops_what_runs(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + step("two", f"{did('begin-two')}; sleep 300; {did('two')}"), hosts="web1")
    begun = trouble.start()
    trouble.until("web1", "begin-two")
    aborted = fleet.opskit("abort", "last", status=0)
    assert begun.end() == 130
    assert "stopped by a person, confirmed gone" in aborted.stdout
    assert trouble.ended()[1] == "aborted"
    assert trouble.sh("web1", "pgrep -f 'slee[p] 300' || true") == ""
    assert trouble.tally("web1") == ["one", "begin-two"]


def test_what_was_left_behind_is_found_by_its_age_and_removed(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + step("two", held("two")), hosts="web1")
    begun = trouble.start()
    trouble.until("web1", "begin-two")
    old = "~/.opskit/runs/20200101-000000-aaaa"
    trouble.sh("web1", f"mkdir -p {old} && touch -d 2020-01-01 {old}/nonce {old}")
    runs = "cd ~/.opskit/runs && touch -d 2020-01-02 ./*/* ./* && ls"
    mine = [run for run in trouble.sh("web1", runs).split() if not run.startswith("2020")]
    try:
        done = fleet.opskit("hosts", "clean", "web1", "--yes", status=0).stdout
        assert "20200101-000000-aaaa" in done
        assert "stays: it still runs" in done
        left = trouble.sh("web1", "ls ~/.opskit/runs").split()
        assert "20200101-000000-aaaa" not in left
        assert set(left) & set(mine)
    finally:
        trouble.let_go("web1")
        assert begun.end() == 0, begun.said()
    assert trouble.tally("web1") == ["one", "begin-two", "two"]


def test_what_comes_at_the_end_comes_once_after_a_retry_too(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    last = step("open", did("open-{{ run.status }}"))
    trouble.write(ONE + TWO, "max_failures: 1\n", last, hosts="web1:web2")
    trouble.run(status=1)
    trouble.let_go("web1", "web2")
    both = ("web1", "web2")
    assert trouble.tallies(both) == dict.fromkeys(both, "one two open-failed")
    killed(fleet, "after", 0, "retry", "last", "--hosts", "failed", "--yes")
    fleet.opskit("resume", "last")
    assert trouble.tallies(both) == {
        "web1": "one two open-failed", "web2": "one two open-failed two open-succeeded",
    }  # fmt: skip
    assert "nothing to resume" in fleet.opskit("resume", "last", status=2).stderr
    (why,) = [e for e in fleet.events() if e["event"] == "decided" and e.get("why") == "always"]
    assert (why["host"], why["step"]) == ("web2", "open")
    fleet.proved()


def killed(fleet: Fleet, at: str, number: int, *words: str) -> None:
    line = [sys.executable, "-m", "tests.support.deadly", at, str(number), *words]
    done = subprocess.run(line, env={**fleet.environ, "PYTHONPATH": sys.path[0]}, check=False,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
