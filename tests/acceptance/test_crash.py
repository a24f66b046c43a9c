"""opskit killed, its record unwritable, two at once: nothing is done twice, nothing goes unsaid."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opskit.app.answers import REASONED
from opskit.lab import Lab
from tests.support.fleet import Fleet
from tests.support.terminal import terminal
from tests.support.trouble import Trouble, did, forget, held, step, until

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """opskit is killed once `word` stands in the tally of web1.

    `exit`, `state` of web1 and `tally` are what a resume must come to where nobody can be asked;
    `answers` are a person's after that, and `end` and `after` what they lead to.
    """

    name: str
    steps: str
    word: str
    exit: int
    state: str
    tally: str
    head: str = ""
    always: str = ""
    answers: Sequence[str] = ()
    end: int = 0
    after: str = ""
    single: bool = False
    """Whether it happens on web1 alone."""
    forgets: bool = False
    """Whether what the run left on its hosts is removed, so that they can tell nothing."""
    late: bool = False
    """Whether the command still runs when the run is resumed."""


ONE, THREE = step("one", did("one"), undo=did("undo-one")), step("three", did("three"))
TWO = step("two", held("two"), undo=did("undo-two"))
UNDO = "on_failure: undo\n"
LOOKING = f"test -e ~/{{{{ tag }}}}.go || {{ {did('begin-two')}; sleep 20; }}"
LOOK = '{name: look, run: "test -e ~/{{ tag }}.go", effect: read}'


def change(name: str, answers: Sequence[str], end: int, after: str, head: str = UNDO) -> Kill:
    """A change was under way of which the host tells nothing; a resume does what a person says."""
    return Kill(
        name=name, steps=ONE + TWO + THREE, word="begin-two", exit=4, state="unknown",
        tally="one begin-two two", answers=answers, end=end, after=after, head=head, forgets=True,
    )  # fmt: skip


def found(name: str, steps: str, status: int, state: str, tally: str, **more: object) -> Kill:
    """A change was under way, and the host tells a resume how it went: nobody is asked."""
    known: dict[str, Any] = {"word": "begin-two", "head": UNDO, **more}
    return Kill(name=name, steps=steps, exit=status, state=state, tally=tally, **known)


FAILS = step("two", held("two") + "; false", undo=did("undo-two"))
PAY = step("pay", held("pay"), on="once")
BACK = step("one", did("one"), undo=held("undo-one")) + step("two", "false")
CASES = [
    found("found-ended", ONE + TWO + THREE, 0, "done", "one begin-two two three"),
    found("found-running", ONE + TWO + THREE, 0, "done", "one begin-two two three", late=True),
    found("found-failed", ONE + FAILS, 3, "undone", "one begin-two two undo-two undo-one"),
    found("found-once", PAY + THREE, 0, "done", "begin-pay pay three", word="begin-pay",
          single=True),
    found("found-undo", BACK, 1, "undone", "one begin-undo-one undo-one", word="begin-undo-one"),
    found("found-undo-running", BACK, 1, "undone", "one begin-undo-one undo-one", late=True,
          word="begin-undo-one"),
    found("found-always", ONE, 0, "done", "one begin-say say", word="begin-say", single=True,
          always=step("say", held("say"), on="batch")),
    change("change-done", ["done"], 0, "one begin-two two three"),
    change("change-failed", ["failed"], 3, "one begin-two two undo-two undo-one"),
    change("change-retry", ["retry"], 0, "one begin-two two begin-two two three"),
    change("change-abort", ["abort"], 6, "one begin-two two"),
    Kill(
        name="change-that-counts-as-failed",
        steps=ONE + step("two", held("two"), undo=did("undo-two"), on_unknown="fail") + THREE,
        word="begin-two", exit=6, state="unknown", tally="one begin-two two", head=UNDO,
        forgets=True,
        answers=["done"], end=0, after="one begin-two two three",
    ),
    Kill(
        name="change-that-tells",
        steps=ONE + step("two", held("two"), undo=did("undo-two"), done_when=LOOK) + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two two three", forgets=True,
    ),
    Kill(
        name="change-that-may-be-repeated",
        steps=ONE + step("two", held("two"), repeatable="true", on_unknown="retry") + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two two begin-two two three",
        forgets=True,
    ),
    Kill(
        name="read",
        steps=ONE + step("two", LOOKING, effect="read") + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two three",
    ),
    Kill(
        name="wait", steps=ONE + "  - {name: two, wait: 2s}\n" + THREE,
        word="one", exit=0, state="done", tally="one three",
    ),
    Kill(
        name="once", steps=PAY + THREE, forgets=True,
        word="begin-pay", exit=4, state="unknown", tally="begin-pay pay",
        answers=["done"], end=0, after="begin-pay pay three", single=True,
    ),
    Kill(
        name="undo", steps=BACK, head=UNDO, forgets=True,
        word="begin-undo-one", exit=4, state="unknown", tally="one begin-undo-one undo-one",
        answers=["done", "done"], end=1, after="one begin-undo-one undo-one",
    ),
    Kill(
        name="always", forgets=True,
        steps=ONE, always=step("say", held("say"), on="batch"),
        word="begin-say", exit=4, state="unknown", tally="one begin-say say",
        answers=["done"], end=0, after="one begin-say say", single=True,
    ),
]  # fmt: skip
HOSTS = ("web1", "web2")


def check(trouble: Trouble, case: Kill) -> None:
    trouble.write(case.steps, case.head, case.always, hosts="web1:web2")
    killed(trouble, case)
    if case.forgets:
        forget(trouble, *HOSTS)
    done = resumed(trouble, case)
    code, _, hosts = trouble.ended()
    assert (code, hosts["web1"]) == (case.exit, case.state), done
    assert " ".join(trouble.tally("web1")) == case.tally, done
    if case.answers:
        answered(trouble, case)
    trouble.proved()


def killed(trouble: Trouble, case: Kill) -> None:
    """Start the run, kill opskit, let what it began come to its end on the hosts."""
    begun = trouble.start()
    try:
        for host in HOSTS[:1] if case.single else HOSTS:
            trouble.until(host, case.word)
    finally:
        begun.process.kill()
        begun.end()
    assert trouble.ended()[:2] in ((130, "running"), (130, "undoing"))
    if case.late:
        return
    trouble.let_go(*HOSTS)
    last = case.word.removeprefix("begin-")
    if case.name != "read":
        trouble.until("web1", last)


def resumed(trouble: Trouble, case: Kill) -> str:
    """Resume where nobody can be asked; return what is said."""
    begun = trouble.start("resume", "last")
    try:
        if case.late:
            until(lambda: "following" in begun.said() or "connected" in begun.said(), "a resume")
            time.sleep(0.5)
            trouble.let_go(*HOSTS)
    finally:
        status = begun.end()
    assert status == case.exit, begun.said()
    return begun.said()


def answered(trouble: Trouble, case: Kill) -> None:
    """A second resume asks the same again; then a person answers."""
    trouble.fleet.opskit("resume", "last", status=4)
    assert " ".join(trouble.tally("web1")) == case.tally
    environ, folder = trouble.fleet.environ, trouble.fleet.folder
    with terminal(["resume", "last", "--no-live"], environ=environ, folder=folder) as person:
        for number, answer in enumerate([*case.answers, *case.answers]):
            end = time.monotonic() + 60
            while person.text().count("abort] ") <= number and person.process.poll() is None:
                assert time.monotonic() < end, person.text()
                time.sleep(0.05)
            if person.process.poll() is not None:
                break
            person.type(f"{answer}\nas it was seen\n" if answer in REASONED else f"{answer}\n")
        assert person.end() == case.end, person.text()
    assert trouble.ended()[0] == case.end
    assert " ".join(trouble.tally("web1")) == case.after, person.text()


@pytest.fixture(scope="module")
def outcomes(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[None]"]]:
    """Carry out all cases at once."""
    with ThreadPoolExecutor(5) as pool:
        found = {}
        for case in CASES:
            fleet = Fleet(lab=lab, folder=tmp_path_factory.mktemp(case.name))
            found[case.name] = pool.submit(check, Trouble(fleet=fleet, name=case.name), case)
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_killed_run_repeats_nothing_by_itself(
    case: Kill, outcomes: Mapping[str, "Future[None]"]
) -> None:
    outcomes[case.name].result()


# ---- a record that can't be written


@contextmanager
def out_of_room(pid: int, disk: Path, how: str) -> Iterator[None]:
    """Let the record of a process take nothing more, for as long as this lasts."""
    if how == "limit":
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        yield
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        return
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("how", ["limit", "full"])
def test_nothing_is_sent_once_the_record_takes_no_more(fleet: Fleet, disk: Path, how: str) -> None:
    trouble = Trouble(fleet=fleet, name=how)
    trouble.write(ONE + TWO + THREE, UNDO, hosts="web1:web2")
    store = {"OPSKIT_STORE": str(disk / "store.db")}
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", *trouble.words()],
        env={**fleet.environ, **store}, cwd=fleet.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for host in HOSTS:
            trouble.until(host, "begin-two")
        with out_of_room(process.pid, disk, how):
            trouble.let_go(*HOSTS)
            said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    # Interrupted: it can be resumed, and so says `status`; 1 would have said that it is over.
    assert process.returncode == 130, said
    assert "outcomes that were shown after the last recorded one are not in the record" in said
    assert "error: " in said, said
    assert "store.db: " in said, said
    assert "  → " in said, said
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two"), said
    status = fleet.opskit("status", "last", status=130, environ=store)
    assert "unknown (2)" in status.stdout
    fleet.opskit("resume", "last", status=0, environ=store)
    assert trouble.tallies(HOSTS) == dict.fromkeys(HOSTS, "one begin-two two three")
    fleet.opskit("audit", "verify", environ=store)


# ---- two at once


def test_of_two_runs_with_the_same_lock_one_is_refused(fleet: Fleet) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(TWO, "lock: web\n", hosts="web1")
    second.write(ONE, "lock: web\n", hosts="web1")
    begun = first.start()
    try:
        first.until("web1", "begin-two")
        run = fleet.opskit("runs", "--json").stdout.split('"run": "')[1].split('"')[0]
        refused = second.run(status=5)
        assert f"the lock 'web' is held by run {run} (first)" in refused.stderr
        assert "at 'two' on web1" in refused.stderr
        again = fleet.opskit("resume", run, status=5)
        assert "is being carried out right now" in again.stderr
    finally:
        first.let_go("web1")
        assert begun.end() == 0, begun.said()
    assert second.tally("web1") == []
    second.run(status=0)
    assert second.tally("web1") == ["one"]


def test_of_two_runs_that_begin_together_one_is_refused(fleet: Fleet) -> None:
    runs = [Trouble(fleet=fleet, name=f"run{number}") for number in range(3)]
    for run in runs:
        run.write(TWO, "lock: web\n", hosts="web1")
    begun = [run.start() for run in runs]
    try:
        until(lambda: sum(one.process.poll() is not None for one in begun) == 2, "two refusals")
    finally:
        for run in runs:
            run.let_go("web1")
        ends = [one.end() for one in begun]
    assert sorted(ends) == [0, 5, 5]
    done = ["begin-two two" if end == 0 else "" for end in ends]
    assert [" ".join(run.tally("web1")) for run in runs] == done


def test_the_lock_of_a_killed_run_is_kept_until_it_has_been_settled(fleet: Fleet) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(TWO, "lock: web\n", hosts="web1")
    second.write(ONE, "lock: web\n", hosts="web1")
    begun = first.start()
    try:
        first.until("web1", "begin-two")
    finally:
        begun.process.kill()
        begun.end()
    first.let_go("web1")
    assert "its process is gone" in second.run(status=5).stderr
    forget(first, "web1")
    fleet.opskit("resume", "last", status=4)
    assert "it waits for a person" in second.run(status=5).stderr
    fleet.opskit("abort", "last")
    assert first.ended()[:2] == (6, "aborted")
    second.run(status=0)
    assert second.tally("web1") == ["one"]


def test_a_run_of_another_record_is_refused_and_told_by_whom(fleet: Fleet, tmp_path: Path) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(TWO, "lock: web\n", hosts="web1")
    second.write(ONE, "lock: web\n", hosts="web1")
    elsewhere = {"OPSKIT_STORE": str(tmp_path / "elsewhere.db")}
    begun = first.start()
    try:
        first.until("web1", "begin-two")
        run = fleet.opskit("runs", "--json").stdout.split('"run": "')[1].split('"')[0]
        refused = fleet.opskit(*second.words(), status=5, environ=elsewhere)
        assert f"its lock is held there by run {run} (first), by" in refused.stdout
        assert second.tally("web1") == []
    finally:
        first.let_go("web1")
        assert begun.end() == 0, begun.said()
    fleet.opskit(*second.words(), status=0, environ=elsewhere)
    assert second.tally("web1") == ["one"]


def test_a_process_that_was_overtaken_begins_nothing_more(fleet: Fleet, tmp_path: Path) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    gate = tmp_path / "gate"
    wait = f"touch {gate}.come; while ! test -e {gate}.go; do sleep 0.05; done"
    first.write(ONE + step("gate", wait, on="controller") + THREE, "lock: web\n", hosts="web1")
    second.write(ONE, "lock: web\n", hosts="web1")
    elsewhere = {"OPSKIT_STORE": str(tmp_path / "elsewhere.db")}
    begun = first.start()
    try:
        until(Path(f"{gate}.come").exists, "the gate")
        run = fleet.opskit("runs", "--json").stdout.split('"run": "')[1].split('"')[0]
        begun.process.send_signal(signal.SIGSTOP)
        fleet.opskit(*second.words("--steal", run), status=0, environ=elsewhere)
        begun.process.send_signal(signal.SIGCONT)
        Path(f"{gate}.go").touch()
        assert begun.end() == 1, begun.said()
    finally:
        begun.process.send_signal(signal.SIGCONT)
        begun.end()
    assert second.tally("web1") == ["one"]
    assert first.tally("web1") == ["one"]
    assert "not started: its lock is held there by run" in begun.said()


def test_a_run_can_wait_for_a_lock(fleet: Fleet) -> None:
    first, second = Trouble(fleet=fleet, name="first"), Trouble(fleet=fleet, name="second")
    first.write(TWO, "lock: web\n", hosts="web1")
    second.write(ONE, "lock: web\n", hosts="web1")
    begun = first.start()
    first.until("web1", "begin-two")
    waits = second.start(*second.words("--wait", "1m"))
    time.sleep(1.5)
    assert waits.process.poll() is None
    first.let_go("web1")
    assert begun.end() == 0
    assert waits.end() == 0, waits.said()
    assert second.tally("web1") == ["one"]
