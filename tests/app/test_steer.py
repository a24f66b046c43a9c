"""What is asked of a run that another process carries out, and what is said when it is not."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit import audit
from opskit.app import decide, record, runs, steer
from opskit.cli.person import Terminal
from opskit.errors import InputError, RefusedError
from opskit.settings import Settings
from tests.contract.samples import begin, finished, python, started
from tests.support.elsewhere import Elsewhere

pytestmark = pytest.mark.acceptance

DRIVE = """
import sys
from opskit import audit
from tests.contract import samples
journal = samples.begin(audit.open(sys.argv[1]))
journal.listen(lambda wish: None, lambda by: None)
journal.append(samples.started())
print("run", journal.run, flush=True)
sys.stdin.read()
"""
"""It hears what is asked, and does nothing about it."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store.db"),
        inventory=None,
        runbooks=(),
        folder=tmp_path,
        environ={},
    )


@pytest.fixture
def deaf(settings: Settings) -> Iterator[Elsewhere]:
    process = python(DRIVE, settings.store)
    yield Elsewhere(process=process, here=True)
    process.kill()
    process.communicate(timeout=30)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steer, "_HEARS", 4.0)
    monkeypatch.setattr(steer, "_ENDS", 1.0)


ME = Terminal(allowed=False)


def test_one_that_stands_still_is_said_not_to_react(settings: Settings, deaf: Elsewhere) -> None:
    run = deaf.line("run ").split()[1]
    deaf.freeze(settings.store)
    with pytest.raises(RefusedError, match="does not react: asked for a pause") as raised:
        steer.pause(settings, run, ME)
    assert f"(process {deaf.process.pid} on " in str(raised.value)
    assert f"opskit abort {run} --steal {run}" in str(raised.value)


def test_one_that_has_heard_and_goes_on_is_said_not_to_be_done(
    settings: Settings, deaf: Elsewhere
) -> None:
    run = deaf.line("run ").split()[1]
    with pytest.raises(RefusedError, match="has been asked for a stop; after 1 s") as raised:
        steer.stop(settings, run, ME)
    assert f"opskit attach {run}" in str(raised.value)


def test_one_that_dies_meanwhile_is_waited_for_no_longer(
    settings: Settings, deaf: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer, "_ENDS", 30.0)
    monkeypatch.setattr(steer, "_HEARS", 30.0)
    run = deaf.line("run ").split()[1]
    deaf.freeze(settings.store)
    dying = threading.Timer(1.0, deaf.process.kill)
    dying.start()
    before = time.monotonic()
    assert steer.pause(settings, run, ME) == run
    assert time.monotonic() - before < 25
    dying.join()
    with pytest.raises(InputError, match="no process is carrying out"):
        steer.pause(settings, run, ME)


def test_who_watches_a_run_that_nobody_carries_out_sees_what_there_is(settings: Settings) -> None:
    store = audit.open(settings.store)
    with begin(store) as journal:
        journal.append(started(), finished())
    kinds = [entry.event.kind for entry in steer.follow(settings, journal.run)]
    store.close()
    assert kinds == ["run created", "step started", "run ended"]


def test_who_would_answer_a_run_that_is_carried_out_is_told_who_does_that(
    settings: Settings, deaf: Elsewhere
) -> None:
    run = deaf.line("run ").split()[1]
    for look in (decide.question, decide.refuse_unasked):
        with pytest.raises(RefusedError, match="is being carried out right now by ann") as raised:
            look(settings, run)
        assert f"--steal {run}" in str(raised.value)
    with pytest.raises(InputError, match=r"asks nothing \(running\)"):
        decide.refuse_unasked(settings, run, steal=run)


TAKEN = DRIVE.replace("begin(audit.open(sys.argv[1]))", "begin(store := audit.open(sys.argv[1]))")
TAKEN = TAKEN.replace(
    "journal.listen",
    "journal.append(samples.finished('aborted', 'begun')); journal.close()\n"
    "journal = store.reopen(journal.run, who='ann', origin='desk')\njournal.listen",
).replace("journal.append(samples.started())\n", "")


def test_the_same_where_nothing_is_recorded_yet_of_its_going_on(settings: Settings) -> None:
    process = python(TAKEN, settings.store)
    try:
        run = Elsewhere(process=process, here=True).line("run ").split()[1]
        for look in (decide.question, decide.refuse_unasked):
            with pytest.raises(RefusedError, match="is being carried out right now by ann"):
                look(settings, run)
    finally:
        process.kill()
        process.communicate(timeout=30)


TAKES = """
import sys
from opskit import audit
journal = audit.open(sys.argv[1]).reopen(sys.argv[2], who="bob", origin="desk", steal=sys.argv[2])
journal.append()
print("took", flush=True)
sys.stdin.read()
"""
ANSWERS = """
import sys
import time
from opskit import audit
from tests.contract import samples
journal = samples.begin(audit.open(sys.argv[1]))
heard = []
journal.listen(heard.append, lambda by: None)
journal.append(samples.started())
print("run", journal.run, flush=True)
while not heard:
    time.sleep(0.05)
if sys.argv[2] == "ends":
    journal.append(samples.ended(), samples.finished())
journal.close()
"""
"""It does as it is asked, or comes to its end meanwhile."""


@contextlib.contextmanager
def wanted(settings: Settings, code: str, *words: str) -> Iterator[Elsewhere]:
    process = python(code, settings.store, *words)
    try:
        yield Elsewhere(process=process, here=True)
    finally:
        process.kill()
        process.communicate(timeout=30)


@contextlib.contextmanager
def paused(run: str, settings: Settings) -> Iterator[list[str]]:
    """Ask for a pause meanwhile; what was said of it is there afterwards."""
    said: list[str] = []

    def ask() -> None:
        try:
            said.append(steer.pause(settings, run, ME))
        except RefusedError as error:
            said.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    yield said
    asking.join(60)
    assert len(said) == 1


def wished(settings: Settings, run: str) -> None:
    """Wait until the pause is asked for."""
    for _ in range(1000):
        if any(entry.event.kind == "note" for entry in record.entries(settings, run)):
            return
        time.sleep(0.05)
    pytest.fail("nothing was asked for")


def test_a_run_that_is_aborted_by_another_meanwhile_is_not_called_paused(
    settings: Settings, deaf: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer, "_ENDS", 30.0)
    run = deaf.line("run ").split()[1]
    with paused(run, settings) as said:
        wished(settings, run)
        runs.abort(settings, run, ME, steal=run)
    assert f"run {run} was not paused: it has ended meanwhile (aborted)" in said[0]
    assert f"opskit status {run}" in said[0]


def test_a_run_that_another_takes_meanwhile_is_not_called_paused(
    settings: Settings, deaf: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer, "_ENDS", 30.0)
    run = deaf.line("run ").split()[1]
    with paused(run, settings) as said:
        wished(settings, run)
        with wanted(settings, TAKES, run) as other:
            assert other.line("took")
            for _ in range(300):
                if said:
                    break
                time.sleep(0.1)
    assert f"run {run} was not paused: it is carried out by " in said[0]
    assert f"(process {other.process.pid} on " in said[0]
    assert f"opskit pause {run}" in said[0]


@pytest.mark.parametrize("how", ["ends", "lets go"])
def test_a_run_that_came_to_its_end_first_is_not_called_paused(
    settings: Settings, how: str
) -> None:
    with wanted(settings, ANSWERS, how) as other:
        run = other.line("run ").split()[1]
        with paused(run, settings) as said:
            pass
    if how == "ends":
        assert f"run {run} was not paused: it has ended meanwhile (succeeded)" in said[0]
    else:
        assert said == [run]
