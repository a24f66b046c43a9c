"""Who carries a run out, on real hosts: frozen, cut off, elsewhere, several at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.support import elsewhere
from tests.support.elsewhere import NAME, Elsewhere
from tests.support.fleet import Fleet
from tests.support.postgres import Server
from tests.support.trouble import Begun, Trouble, did, held, step, until

pytestmark = pytest.mark.acceptance

ONE, MORE, THREE = (step(name, did(name)) for name in ("one", "more", "three"))
TWO = step("two", held("two"))
LOCK = "lock: web\n"
ALL = ("web1", "web2", "web3", "web4")


@pytest.fixture(params=["a file", "PostgreSQL"])
def anywhere(
    request: pytest.FixtureRequest, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    """The fleet, with its record in either store."""
    if request.param == "PostgreSQL":
        server: Server = request.getfixturevalue("postgres")
        monkeypatch.setattr("tests.support.fleet.STORE", [cache(lambda _: server.database())])
    return fleet


def newest(fleet: Fleet) -> str:
    told = json.loads(fleet.opskit("status", "last", "--json", status=None).stdout.splitlines()[-1])
    return str(told["run"])


@contextmanager
def started(
    trouble: Trouble, command: list[str], environ: Mapping[str, str] | None = None
) -> Iterator[Begun]:
    """Start a command in the background, with nothing left of it afterwards."""
    path = trouble.fleet.folder / f"{trouble.name}.{time.monotonic_ns()}.out"
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with path.open("w") as out:
        process = subprocess.Popen(
            command,
            env={**trouble.fleet.environ, **root, **(environ or {})},
            cwd=trouble.fleet.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Begun(process=process, output=path)
    finally:
        if process.poll() is None:
            process.kill()
            process.send_signal(signal.SIGCONT)
            process.wait()


def stands_still(process: "subprocess.Popen[str]") -> bool:
    text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0] == "T"


# ---- frozen, cut off, awake again


CASES = [
    (at, number, how)
    for number in range(1, 6)
    for at in ("synced", "sent")
    for how in ("resume", "another", "abort")
]
SAMPLE = [("synced", 2, "resume"), ("synced", 2, "abort"), ("sent", 2, "another")]


@pytest.mark.parametrize(
    ("at", "number", "how"),
    [pytest.param(*case, marks=[] if case in SAMPLE else pytest.mark.soak) for case in CASES],
)
def test_who_was_cut_off_between_recording_and_sending_starts_nothing_when_it_wakes(
    fleet: Fleet, at: str, number: int, how: str
) -> None:
    """It stands still before or after the N-th request to a host, and is overtaken meanwhile."""
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(ONE + MORE + THREE, LOCK, hosts="web1:web2")
    second.write(step("other", did("other")), LOCK, hosts="web1:web2")
    words = [sys.executable, "-m", "tests.support.deadly", at, str(number), *first.words()]
    with started(first, words, {"DEADLY": "SIGSTOP"}) as begun:
        until(lambda: begun.process.poll() is not None or stands_still(begun.process), "a halt")
        if begun.process.poll() is not None:
            pytest.skip("a run makes fewer requests")
        run = newest(fleet)
        if first.ended(run)[1] != "running":
            pytest.skip("the run has ended by then")
        assert "is being carried out right now by" in fleet.opskit("resume", run, status=5).stderr
        if how == "resume":
            fleet.opskit("resume", run, "--steal", run, status=0)
        elif how == "abort":
            fleet.opskit("abort", run, "--steal", run, status=0)
        else:
            fleet.opskit(*second.words("--steal", run), status=0)
        time.sleep(0.5)  # what was sent before that comes to its end
        before = first.tallies(("web1", "web2"))
        begun.process.send_signal(signal.SIGCONT)
        assert begun.end() == 130, begun.said()
        assert f"run {run} was taken over by " in begun.said()
        assert first.tallies(("web1", "web2")) == before
    if how == "resume":
        assert before == dict.fromkeys(("web1", "web2"), "one more three")
        assert first.ended(run)[:2] == (0, "succeeded")
    if how == "another":
        assert second.tallies(("web1", "web2")) == dict.fromkeys(("web1", "web2"), "other")
        fleet.opskit("resume", run, status=0)
        assert first.tallies(("web1", "web2")) == dict.fromkeys(("web1", "web2"), "one more three")
    first.proved()


def test_who_stood_still_in_the_middle_of_a_step_says_who_took_over(anywhere: Fleet) -> None:
    trouble = Trouble(fleet=anywhere)
    trouble.write(ONE + TWO + THREE, LOCK, hosts="web1:web2")
    begun = trouble.start()
    try:
        for host in ("web1", "web2"):
            trouble.until(host, "begin-two")
        run = newest(anywhere)
        begun.process.send_signal(signal.SIGSTOP)
        for words in (
            ("resume", run),
            ("undo", run, "--yes"),
            ("retry", run, "--hosts", "web1", "--yes"),
        ):
            refused = anywhere.opskit(*words, status=5).stderr
            assert f"(process {begun.process.pid} on {os.uname().nodename})" in refused
            assert f"--steal {run}" in refused
        wrong = anywhere.opskit("resume", run, "--steal", run[:-1], status=2).stderr
        assert f"--steal {run}" in wrong
        again = trouble.start("resume", run, "--steal", run)
        until(lambda: "connected" in again.said(), "the other one")
        begun.process.send_signal(signal.SIGCONT)
        until(lambda: "was taken over by" in begun.said(), "a word about it")
        trouble.let_go("web1", "web2")
        assert again.end() == 0, again.said()
        assert begun.end() == 130, begun.said()
    finally:
        begun.process.send_signal(signal.SIGCONT)
        begun.end()
    assert trouble.tallies(("web1", "web2")) == dict.fromkeys(
        ("web1", "web2"), "one begin-two two three"
    )
    trouble.proved()


def test_who_was_cut_off_leaves_what_hosts_know_to_whoever_asks_for_it(fleet: Fleet) -> None:
    """The step comes to its end before the eyes of the one who may not record it any more."""
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + TWO + THREE, hosts="web1:web2")
    begun = trouble.start()
    for host in ("web1", "web2"):
        trouble.until(host, "begin-two")
    run = newest(fleet)
    fleet.opskit("abort", run, "--steal", run, status=0)
    trouble.let_go("web1", "web2")
    assert begun.end() == 130, begun.said()
    shown = [line.split()[1] for line in begun.said().splitlines() if " ok       2 two" in line]
    named = [line for line in begun.said().splitlines() if "not in the record" in line]
    assert len(named) == bool(shown), begun.said()
    assert trouble.ended(run) == (6, "aborted", dict.fromkeys(("web1", "web2"), "unknown"))
    fleet.opskit("retry", run, "--hosts", "unknown", "--yes", status=0)
    assert trouble.tallies(("web1", "web2")) == dict.fromkeys(
        ("web1", "web2"), "one begin-two two three"
    )
    trouble.proved()


def test_each_who_goes_on_shows_hosts_a_higher_token(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    bad = f"{did('two')}; test -e ~/{{{{ tag }}}}.go"
    trouble.write(
        step("one", did("one"), undo=did("undo")) + step("two", bad, on_failure="ask"),
        LOCK,
        hosts="web1",
    )
    numbers = []

    def shown() -> None:
        tokens = trouble.sh("web1", "ls ~/.opskit/locks/*/ | sed 's/.*[.]//'").split()
        numbers.append(max(map(int, tokens)))

    trouble.run(status=4)
    shown()
    fleet.opskit("decide", "last", "retry", status=4)
    shown()
    fleet.opskit("decide", "last", "failed", "--reason", "a test", status=None)
    shown()
    trouble.let_go("web1")
    fleet.opskit("retry", "last", "--hosts", "web1", "--yes", status=0)
    shown()
    fleet.opskit("undo", "last", "--yes", status=0)
    shown()
    assert trouble.tally("web1") == ["one", "two", "two", "two", "undo"]
    assert numbers == sorted(set(numbers))


# ---- on another machine


def test_a_run_of_another_machine_is_watched_paused_and_gone_on_with(anywhere: Fleet) -> None:
    trouble = Trouble(fleet=anywhere)
    trouble.write(ONE + TWO + THREE, LOCK, hosts="web1")
    with started(trouble, elsewhere.opskit(*trouble.words())) as begun:
        trouble.until("web1", "begin-two")
        run = newest(anywhere)
        watcher = trouble.start("attach", run)
        until(lambda: "2 two" in watcher.said(), "the step on another screen")
        refused = anywhere.opskit("resume", run, status=5).stderr
        assert f" on {NAME})" in refused
        assert "it is at 'two' on web1" in refused
        pausing = trouble.start("pause", run)
        until(lambda: "asks for a pause" in begun.said(), "the wish")
        until(lambda: "asks for a pause" in watcher.said(), "the wish on another screen")
        trouble.let_go("web1")
        assert (begun.end(), pausing.end()) == (130, 0), begun.said()
        assert watcher.end() == 130, watcher.said()
    anywhere.opskit("resume", run, status=0)
    assert trouble.tally("web1") == ["one", "begin-two", "two", "three"]
    trouble.proved()


def test_a_run_of_another_machine_is_aborted(fleet: Fleet) -> None:
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + step("two", f"{did('begin-two')}; sleep 301; {did('two')}"), hosts="web1")
    with started(trouble, elsewhere.opskit(*trouble.words())) as begun:
        trouble.until("web1", "begin-two")
        aborted = fleet.opskit("abort", "last", status=0)
        assert begun.end() == 130, begun.said()
    assert "stopped by a person, confirmed gone" in aborted.stdout
    assert trouble.ended()[1] == "aborted"
    assert trouble.sh("web1", "pgrep -f 'slee[p] 301' || true") == ""
    trouble.proved()


@pytest.mark.soak
def test_one_of_another_machine_that_is_cut_off_is_overtaken_after_15_seconds(
    fleet: Fleet, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.fleet.STORE", [cache(lambda _: postgres.database())])
    trouble = Trouble(fleet=fleet)
    trouble.write(ONE + TWO + THREE, LOCK, hosts="web1")
    with started(trouble, elsewhere.opskit(*trouble.words())) as begun:
        trouble.until("web1", "begin-two")
        far = Elsewhere(process=begun.process)
        far.send(signal.SIGSTOP)
        trouble.let_go("web1")
        before = time.monotonic()
        done = fleet.opskit("resume", "last", status=0)
        assert 11 < time.monotonic() - before < 20
        assert "seeing whether that process lives" in done.stdout
        far.send(signal.SIGCONT)
        assert begun.end() == 130, begun.said()
    assert "was taken over by" in begun.said()
    assert trouble.tally("web1") == ["one", "begin-two", "two", "three"]
    trouble.proved()


# ---- several at once


@pytest.mark.parametrize("times", [1, pytest.param(200, marks=pytest.mark.soak)])
def test_of_two_that_start_at_the_same_instant_exactly_one_runs(
    anywhere: Fleet, times: int
) -> None:
    for number in range(times):
        trouble = Trouble(fleet=anywhere, name=f"twice{number}")
        trouble.write(step("one", held("one")), LOCK, hosts="web1")
        both = [trouble.start(), trouble.start()]
        until(lambda both=both: any(one.process.poll() is not None for one in both), "a refusal")  # type: ignore[misc]
        trouble.let_go("web1")
        codes = sorted(one.end() for one in both)
        assert codes == [0, 5], [one.said() for one in both]
        assert trouble.tally("web1") == ["begin-one", "one"]
        (refused,) = [one for one in both if one.process.returncode == 5]
        assert "the lock 'web' is held by run" in refused.said()
    anywhere.proved()


def test_with_two_records_the_second_run_is_refused_and_told_by_whom(
    fleet: Fleet, postgres: Server
) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(ONE + TWO, LOCK, hosts="web1")
    second.write(ONE, LOCK, hosts="web1")
    team = {"OPSKIT_STORE": postgres.database()}
    begun = first.start()
    try:
        first.until("web1", "begin-two")
        run = newest(fleet)
        refused = fleet.opskit(*second.words(), status=5, environ=team)
        assert f"its lock is held there by run {run} (first), by" in refused.stdout
        assert second.tally("web1") == []
    finally:
        first.let_go("web1")
        assert begun.end() == 0, begun.said()
    fleet.opskit(*second.words(), status=0, environ=team)
    assert second.tally("web1") == ["one"]
