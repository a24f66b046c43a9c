"""What is asked of a run that another process carries out, and what is said when it is not."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit import app, audit
from opskit.app import steer
from opskit.cli.person import Terminal
from opskit.errors import InputError, RefusedError
from opskit.settings import Settings
from tests.contract.samples import begin, finished, python, started
from tests.support.elsewhere import Elsewhere

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
        app.pause(settings, run, ME)
    assert f"(process {deaf.process.pid} on " in str(raised.value)
    assert f"opskit abort {run} --steal {run}" in str(raised.value)


def test_one_that_has_heard_and_goes_on_is_said_not_to_be_done(
    settings: Settings, deaf: Elsewhere
) -> None:
    run = deaf.line("run ").split()[1]
    with pytest.raises(RefusedError, match="has been asked for a stop; after 1 s") as raised:
        app.stop(settings, run, ME)
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
    assert app.pause(settings, run, ME) == run
    assert time.monotonic() - before < 10
    dying.join()
    with pytest.raises(InputError, match="no process is carrying out"):
        app.pause(settings, run, ME)


def test_who_watches_a_run_that_nobody_carries_out_sees_what_there_is(settings: Settings) -> None:
    store = audit.open(settings.store)
    with begin(store) as journal:
        journal.append(started(), finished())
    kinds = [entry.event.kind for entry in app.follow(settings, journal.run)]
    store.close()
    assert kinds == ["run created", "step started", "run ended"]


def test_who_would_answer_a_run_that_is_carried_out_is_told_who_does_that(
    settings: Settings, deaf: Elsewhere
) -> None:
    run = deaf.line("run ").split()[1]
    for look in (app.question, app.refuse_unasked):
        with pytest.raises(RefusedError, match="is being carried out right now by ann") as raised:
            look(settings, run)
        assert f"--steal {run}" in str(raised.value)
    with pytest.raises(InputError, match=r"asks nothing \(running\)"):
        app.refuse_unasked(settings, run, steal=run)


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
        for look in (app.question, app.refuse_unasked):
            with pytest.raises(RefusedError, match="is being carried out right now by ann"):
                look(settings, run)
    finally:
        process.kill()
        process.communicate(timeout=30)
