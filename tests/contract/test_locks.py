"""What every store promises about who may work: one run per lock, one process per run."""

from dataclasses import replace

import pytest

from opskit import audit
from opskit.audit import Store
from opskit.errors import LockedError, RefusedError
from opskit.model.event import Event
from tests.contract.race import one_wins
from tests.contract.samples import begin, ended, finished, python, started, waiting, whole_run

RUN_AND_DIE = """
import os, signal, sys
from opskit import audit
from tests.contract import samples
journal = samples.begin(audit.open(sys.argv[1]))
for event in [samples.started(), samples.ended(), samples.finished()][: int(sys.argv[2])]:
    journal.append(event)
print(journal.run, flush=True)
if sys.argv[3] == "live":
    sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


BEGIN_TOGETHER = """
import sys
from opskit import audit
from opskit.errors import RefusedError
from tests.contract import samples
store = audit.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        journal = samples.begin(store)
    except RefusedError:
        print("refused", flush=True)
        sys.stdin.readline()
        continue
    journal.append(samples.started())
    print("won", flush=True)
    sys.stdin.readline()
    journal.append(samples.ended(), samples.finished())
    journal.close()
    print("done", flush=True)
"""


def dead(location: str, events: int) -> str:
    """Let another process begin a run, record some events, and be killed; return the run."""
    process = python(RUN_AND_DIE, location, str(events), "die")
    output, _ = process.communicate(timeout=30)
    return output.strip()


def test_a_second_run_on_a_lock_is_refused_and_told_who_has_it(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())
        with pytest.raises(RefusedError) as raised:
            begin(store, "rollback")

    message = str(raised.value)
    assert f"'web' is held by run {journal.run} (deploy)" in message
    assert "by ann (process " in message
    assert "it is at 'Look' on web1" in message
    assert f"opskit status {journal.run}" in message
    assert [run.id for run in store.runs()] == [journal.run]
    assert store.verify() == []


def test_other_locks_are_free(store: Store) -> None:
    with begin(store), begin(store, locks=("db",)), begin(store, locks=()):
        assert len(store.runs()) == 3


def test_either_all_locks_are_taken_or_none(store: Store) -> None:
    with begin(store, locks=("web",)), pytest.raises(RefusedError):
        begin(store, locks=("db", "web"))

    begin(store, locks=("db",)).close()


@pytest.mark.parametrize("status", ["succeeded", "failed", "undone", "aborted", "unknown"])
def test_a_run_that_has_ended_gives_its_locks_back(store: Store, status: str) -> None:
    with begin(store) as journal:
        journal.append(started(), ended(), finished(status))

    begin(store).close()


def test_a_run_that_waits_keeps_its_locks(store: Store) -> None:
    with begin(store) as journal:
        journal.append(waiting())
    with pytest.raises(RefusedError) as raised:
        begin(store)

    assert "it waits for a person" in str(raised.value)
    assert f"opskit resume {journal.run}" in str(raised.value)


def test_a_run_that_was_stopped_waits_for_nobodys_answer(store: Store) -> None:
    with begin(store) as journal:
        journal.append(waiting(), replace(waiting(), data={"why": "interrupted"}))

    with pytest.raises(RefusedError, match="; it was stopped and can be resumed"):
        begin(store)


def test_a_run_that_was_left_half_way_keeps_its_locks(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())

    with pytest.raises(RefusedError, match="its process is gone; it was at 'Look' on web1"):
        begin(store)


def test_a_run_that_was_left_before_it_started_anything_gives_its_locks_back(store: Store) -> None:
    begin(store).close()
    begin(store).close()


def test_a_run_that_was_killed_half_way_keeps_its_locks_until_it_has_ended(
    store: Store, location: str
) -> None:
    run = dead(location, 1)
    with pytest.raises(RefusedError) as raised:
        begin(store)

    assert "its process is gone" in str(raised.value)
    for cure in ("resume", "undo", "abort"):
        assert f"opskit {cure} {run}" in str(raised.value)
    with store.reopen(run, who="bob", origin="desk") as journal:
        journal.append(finished("aborted"))
    begin(store).close()
    assert store.verify() == []


@pytest.mark.parametrize("events", [0, 3])
def test_a_run_that_was_killed_before_or_after_its_work_is_in_nobodys_way(
    store: Store, location: str, events: int
) -> None:
    dead(location, events)

    begin(store).close()
    assert store.verify() == []


def test_a_run_that_a_living_process_carries_out_can_not_be_taken_over(
    store: Store, location: str
) -> None:
    process = python(RUN_AND_DIE, location, "1", "live")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    try:
        with pytest.raises(RefusedError, match=f"process {process.pid} on"):
            store.reopen(run, who="bob", origin="desk")
        with pytest.raises(RefusedError, match=f"process {process.pid} on"):
            begin(store)
    finally:
        process.communicate(timeout=30)
    store.reopen(run, who="bob", origin="desk").close()


def test_a_run_says_which_living_process_carries_it_out(store: Store, location: str) -> None:
    process = python(RUN_AND_DIE, location, "1", "live")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    try:
        found = store.load(run)
        assert found.driver.startswith(f"ann (process {process.pid} on ")
        assert found.hosts["web1"] == "begun"
    finally:
        process.kill()
        process.communicate(timeout=30)

    assert store.load(run).driver == ""
    assert store.load(run).hosts["web1"] == "unknown"


def test_a_process_that_carries_a_run_out_is_not_told_that_it_does(store: Store) -> None:
    with begin(store) as journal:
        assert store.load(journal.run).driver == ""


def test_two_journals_of_one_run_are_refused_within_a_process_too(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())
        with pytest.raises(RefusedError, match="is being carried out right now by ann"):
            store.reopen(journal.run, who="bob", origin="desk")


def test_going_on_with_a_run_is_recorded_before_what_is_done_then(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), waiting())
    with store.reopen(journal.run, who="bob", origin="desk") as again:
        assert store.load(journal.run).state == "waiting"
        again.append(Event(kind="note", data={"text": "looking"}))
        again.append(ended(), finished())

    told = [(e.event.kind, e.event.data.get("who")) for e in store.entries(journal.run)]
    assert told[3:] == [
        ("note", None),
        ("run resumed", "bob"),
        ("step ended", None),
        ("run ended", None),
    ]
    assert store.load(journal.run).state == "succeeded"
    begin(store).close()


def test_a_run_that_is_only_looked_at_stays_as_it_was(store: Store) -> None:
    run = whole_run(store)
    before = list(store.entries(run))
    store.reopen(run, who="bob", origin="desk").close()

    assert list(store.entries(run)) == before


def test_a_run_that_has_ended_takes_its_locks_again_before_it_goes_on(store: Store) -> None:
    run = whole_run(store)
    with store.reopen(run, who="bob", origin="desk") as again:
        again.append(Event(kind="undo began", data={"why": "asked"}))
        with pytest.raises(RefusedError, match=run):
            begin(store)
        again.append(finished("undone", "undone"))
    begin(store).close()


def test_a_run_that_has_ended_can_not_go_on_while_another_has_its_lock(store: Store) -> None:
    run = whole_run(store)
    with begin(store) as other:
        other.append(started())
        with store.reopen(run, who="bob", origin="desk") as again:
            again.append(Event(kind="note", data={"text": "a remark is always possible"}))
            for _ in range(2):
                with pytest.raises(RefusedError, match=f"held by run {other.run}"):
                    again.append(started())

    assert store.load(run).state == "succeeded"
    assert store.verify() == []


def test_the_locks_of_a_run_that_waits_can_be_taken_away(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), waiting())

    with begin(store, kind="undo", steal=journal.run) as undo:
        undo.append(started(), ended(), finished("undone", "undone"))

    assert next(iter(store.entries(undo.run))).event.data["stole"] == journal.run
    begin(store).close()


def test_locks_hold_across_stores_that_are_open_twice(store: Store, location: str) -> None:
    other = audit.open(location)
    with begin(store) as journal:
        journal.append(started())
        with pytest.raises(RefusedError):
            begin(other)
    other.close()


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_of_several_that_begin_at_the_same_moment_one_gets_the_lock(
    location: str, times: int
) -> None:
    one_wins([python(BEGIN_TOGETHER, location) for _ in range(4)], times)

    store = audit.open(location)
    assert len(store.runs(limit=1000)) == times
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, 0)])
def test_who_names_another_run_than_the_one_that_has_the_lock_is_told(
    store: Store, cut: slice
) -> None:
    with begin(store) as holder:
        holder.append(started())
        named = holder.run[cut] or "20200101-000000-aaaa"
        with pytest.raises(LockedError, match=f"--steal names '{named}'") as raised:
            begin(store, steal=named)
        assert "not that run" in raised.value.what
        assert f"--steal {holder.run}" in raised.value.hint
    with pytest.raises(LockedError, match=f"--steal names '{named}'"):
        begin(store, steal=named)
    with pytest.raises(LockedError) as unnamed:
        begin(store)
    assert "--steal names" not in str(unnamed.value)
