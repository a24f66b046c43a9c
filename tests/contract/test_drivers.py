"""What every store promises about the process that drives a run: here, elsewhere, gone, frozen."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from opskit import audit
from opskit.audit import Store, Wish, holders, pulse
from opskit.errors import InputError, LockedError, RefusedError, TakenOverError
from tests.contract.race import one_wins
from tests.contract.samples import begin, ended, finished, python, started
from tests.support.elsewhere import NAME, Elsewhere, elsewhere

pytestmark = pytest.mark.acceptance

DRIVE = """
import sys
from opskit import audit
from opskit.audit import pulse
from tests.contract import samples
pulse.BEAT = pulse.LISTEN = 0.2
def say(*words):  # a line at once, whatever other threads say
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()
store = audit.open(sys.argv[1])
journal = samples.begin(store)
journal.listen(
    lambda wish: say("heard", wish.kind, wish.who),
    lambda by: say("lost", by),
)
journal.append(samples.started())
print("run", journal.run, flush=True)
for line in sys.stdin:
    try:
        journal.append(samples.ended())
        say("did", "write")
    except Exception as error:
        say("did", type(error).__name__, str(error).replace(chr(10), " "))
"""
"""Drives a run until its input ends; writes an entry for each line, and says how that went."""

OVERDUE = 2.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let overdue be what is ten times as late as the processes here show that they live."""
    monkeypatch.setattr(holders, "OVERDUE", OVERDUE)


@pytest.fixture
def far(location: str) -> Iterator[Elsewhere]:
    process = elsewhere(DRIVE, location)
    yield process
    process.end()


@pytest.fixture
def near(location: str) -> Iterator[Elsewhere]:
    """The same on this machine."""
    process = python(DRIVE, location)
    yield Elsewhere(process=process, here=True)
    process.kill()
    process.communicate(timeout=30)


def run_of(process: Elsewhere) -> str:
    return process.line("run ").split()[1]


def took(act: Callable[[], object]) -> float:
    before = time.monotonic()
    act()
    return time.monotonic() - before


def reopened(store: Store, run: str, *, steal: str | None = None) -> audit.Journal:
    return store.reopen(run, who="bob", origin="desk", steal=steal)


# ---- elsewhere


def test_one_elsewhere_that_lives_is_seen_named_and_not_disturbed(
    store: Store, far: Elsewhere
) -> None:
    run = run_of(far)
    assert store.load(run).driver.startswith("ann (process ")
    assert store.load(run).driver.endswith(f" on {NAME})")
    for again in range(3):
        before = time.monotonic()
        with pytest.raises(RefusedError) as raised:
            reopened(store, run)
        assert time.monotonic() - before < OVERDUE, again
        said = str(raised.value)
        assert "is being carried out right now by ann (process " in said
        assert f" on {NAME}), since 20" in said
        assert "; it is at 'Look' on web1" in said
        assert f"--steal {run}" in said
    with pytest.raises(LockedError, match=f"on {NAME}"):
        begin(store)
    far.say("go on")
    assert far.line("did ") == "did write"
    assert store.verify() == []


def test_one_elsewhere_that_is_gone_is_known_to_be_once_it_is_overdue(
    store: Store, far: Elsewhere
) -> None:
    run = run_of(far)
    told: list[str] = []
    store.attend(told.append, lambda: False)
    far.send(signal.SIGKILL)
    waited = took(lambda: reopened(store, run).close())
    assert OVERDUE - 1.0 < waited < OVERDUE + 10.0
    assert "seeing whether that process lives" in told[0]
    assert store.load(run).driver == ""


def test_who_waits_for_that_may_leave(store: Store, location: str, far: Elsewhere) -> None:
    run = run_of(far)
    far.freeze(location)
    time.sleep(0.5)  # what it was about to write
    store.attend(lambda _: None, lambda: True)
    with pytest.raises(RefusedError, match="is being carried out right now"):
        reopened(store, run)


def test_one_elsewhere_that_stood_still_too_long_is_cut_off(
    store: Store, location: str, far: Elsewhere
) -> None:
    run = run_of(far)
    far.freeze(location)
    with reopened(store, run) as again:
        far.send(signal.SIGCONT)
        far.say("go on")
        said = far.line("did ")
        assert said.startswith("did TakenOverError ")
        assert f"run {run} was taken over by bob (process " in said
        again.append(ended(), finished())
    assert far.line("lost ").startswith("lost bob")
    resumed = [e.event.data for e in store.entries(run) if e.event.kind == "run resumed"]
    assert [f"on {NAME})" in str(data["took_over"]) for data in resumed] == [True]
    assert store.load(run).state == "succeeded"
    assert store.verify() == []


def test_a_lock_of_one_elsewhere_that_is_overdue_and_began_nothing_is_free(
    store: Store, location: str
) -> None:
    idle = DRIVE.replace("journal.append(samples.started())\n", "", 1)
    far = elsewhere(idle, location)
    try:
        run = run_of(far)
        far.freeze(location)
        with begin(store) as journal:
            journal.append(started())
            far.send(signal.SIGCONT)
            far.say("go on")
            assert far.line("did ").startswith("did TakenOverError ")
            journal.append(ended(), finished())
        assert len(list(store.entries(run))) == 1
        assert store.verify() == []
    finally:
        far.end()


# ---- on this machine


def test_one_that_stands_still_here_lives_and_is_cut_off_by_a_person_only(
    store: Store, location: str, near: Elsewhere
) -> None:
    run = run_of(near)
    near.freeze(location)
    time.sleep(OVERDUE + 0.5)
    with pytest.raises(RefusedError, match="is being carried out right now by ann"):
        reopened(store, run)
    with reopened(store, run, steal=run) as again:
        near.process.send_signal(signal.SIGCONT)
        near.say("go on")
        said = near.line("did ")
        assert said.startswith("did TakenOverError ")
        assert f"run {run} was taken over by bob (process " in said
        assert f"opskit status {run}" in said
        again.append(ended(), finished())
    near.say("and again")
    assert near.line("did ").startswith("did TakenOverError ")
    assert store.load(run).state == "succeeded"
    assert store.verify() == []


def test_one_that_is_dead_and_not_buried_is_gone_at_once(store: Store, near: Elsewhere) -> None:
    run = run_of(near)
    near.process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while store.load(run).driver:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert near.process.returncode is None  # nobody has waited for it
    assert took(lambda: reopened(store, run).close()) < OVERDUE


def test_who_loses_its_lock_to_another_run_is_cut_off_too(
    store: Store, location: str, near: Elsewhere
) -> None:
    run = run_of(near)
    near.freeze(location)
    with begin(store, "rollback", steal=run) as journal:
        journal.append(started())
        near.process.send_signal(signal.SIGCONT)
        near.say("go on")
        assert near.line("did ").startswith("did TakenOverError ")
        with pytest.raises(LockedError, match=journal.run):
            reopened(store, run)
        journal.append(ended(), finished())
    (note,) = [e.event.data for e in store.entries(run) if e.event.kind == "note"]
    assert (note["who"], note["taken_by"]) == ("ann", journal.run)
    assert f"taken away by run {journal.run} (rollback)" in str(note["text"])
    with reopened(store, run) as other:
        other.append(ended(), finished())
    assert store.verify() == []


def test_who_was_cut_off_before_its_first_entry_does_not_make_it(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())
    first = reopened(store, journal.run)
    with reopened(store, journal.run, steal=journal.run) as second:
        with pytest.raises(TakenOverError):
            first.append(ended())
        first.close()
        second.append(ended(), finished())
    resumed = [e for e in store.entries(journal.run) if e.event.kind == "run resumed"]
    assert len(resumed) == 1
    assert store.verify() == []


def test_each_who_goes_on_stands_higher_than_all_before(store: Store) -> None:
    numbers = []
    with begin(store) as journal:
        journal.append(started())
        numbers.append(journal.lease[1])
    for steal in (None, journal.run, None):
        with reopened(store, journal.run, steal=steal) as again:
            numbers.append(again.lease[1])
    assert numbers == sorted(set(numbers))


# ---- wishes


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_wish_is_heard_and_recorded(
    store: Store, where: str, request: pytest.FixtureRequest
) -> None:
    process: Elsewhere = request.getfixturevalue(where)
    run = run_of(process)
    driver, number = store.ask(run, "pause", "bob@desk")
    assert process.line("heard ") == "heard pause bob@desk"
    until = time.monotonic() + 60
    while (found := store.driver(run)) is None or found.heard < number:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert found.token == driver.token
    (wish,) = [e for e in store.entries(run) if e.event.kind == "note"]
    assert (wish.number, wish.event.data["wish"]) == (number, "pause")
    assert str(wish.event.data["text"]).startswith("asks for a pause")
    store.ask(run, "stop", "bob@desk")
    assert process.line("heard ") == "heard stop bob@desk"
    process.say("go on")
    assert process.line("did ") == "did write"
    assert store.verify() == []


def test_nobody_to_ask_is_said(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())
    with pytest.raises(InputError, match="no process is carrying out run"):
        store.ask(journal.run, "pause", "bob")
    assert len(list(store.entries(journal.run))) == 2


def test_what_was_wished_of_an_earlier_process_is_none_of_ours(
    store: Store, location: str, near: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LISTEN", 0.1)
    run = run_of(near)
    near.freeze(location)
    store.ask(run, "pause", "bob")
    near.process.kill()
    near.process.wait()
    heard: list[Wish] = []
    with reopened(store, run) as again:
        again.listen(heard.append, lambda _: None)
        again.append(ended())
        time.sleep(0.5)
        again.append(finished())
    assert heard == []


def test_what_is_wished_before_the_run_can_hear_is_heard_once_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LISTEN", 0.05)
    heard: list[Wish] = []
    with begin(store) as journal:
        wish = Wish(kind="pause", who="bob")
        store.append(journal.run, pulse.wished(wish))
        time.sleep(0.5)
        journal.listen(heard.append, lambda _: None)
        until = time.monotonic() + 60
        while not heard:
            assert time.monotonic() < until
            time.sleep(0.02)
        journal.append(finished())
    assert heard == [wish]


def test_who_was_overtaken_before_it_can_hear_is_told_once_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LISTEN", 0.05)
    lost = threading.Event()
    journal = begin(store)
    journal.append(started())
    with store.reopen(journal.run, who="bob", origin="desk", steal=journal.run):
        time.sleep(0.5)
        journal.listen(lambda _: None, lambda _: lost.set())
        assert lost.wait(60)
    journal.close()


# ---- signs of life


def test_signs_of_life_hold_nothing_up_and_stop_with_the_run(
    store: Store, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT", 0.1)
    monkeypatch.setattr(pulse, "LISTEN", 0.05)
    other = audit.open(location)
    with begin(store) as journal:
        journal.append(started())
        first = _beats(other, journal.run)
        until = time.monotonic() + 60
        while _beats(other, journal.run) <= first:
            assert time.monotonic() < until
            journal.append(started("web2"))
            time.sleep(0.01)
        journal.append(finished())
    assert not [t for t in threading.enumerate() if t.name == f"pulse of {journal.run}"]
    other.close()


def test_a_run_whose_signs_of_life_can_not_be_given_goes_on_and_gives_them_later(
    store: Store, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT", 0.1)
    monkeypatch.setattr(pulse, "LISTEN", 0.05)
    other = audit.open(location)
    with begin(store) as journal:
        journal.append(started())
        with other._database.writing() as rows:  # it has the store to itself, and stands still
            rows.run("take_lock", name="x", run=1, since=0.0)
            if "postgresql" in location:
                rows.run("release", run=99)
            before = _beats(store, journal.run)
            time.sleep(1.5)
        journal.append(ended())
        until = time.monotonic() + 60
        while _beats(store, journal.run) <= before:
            assert time.monotonic() < until
            time.sleep(0.05)
        journal.append(finished())
    assert store.verify() == []
    other.close()


def _beats(store: Store, run: str) -> int:
    with store._database.reading() as rows:
        found = rows.one("run", id=run)
        assert found is not None
        holder = rows.one("holder", run=found["number"])
        assert holder is not None
        return int(holder["beats"])


# ---- several at once

RESUME_TOGETHER = """
import sys
from opskit import audit
from opskit.errors import RefusedError
store = audit.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        journal = store.reopen(sys.argv[2], who="ann", origin="desk")
    except RefusedError:
        print("refused", flush=True)
        sys.stdin.readline()
        continue
    print("won", flush=True)
    sys.stdin.readline()
    journal.close()
    print("done", flush=True)
"""


@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_of_several_that_go_on_with_a_run_at_the_same_moment_one_does(
    store: Store, location: str, times: int
) -> None:
    with begin(store) as journal:
        journal.append(started())
    one_wins([python(RESUME_TOGETHER, location, journal.run) for _ in range(4)], times)
    assert store.verify() == []
