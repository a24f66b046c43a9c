"""A process whose run was taken: of what it has shown, it says what is in no record."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opskit import audit
from opskit.app.session import Session, session
from opskit.cli.person import Terminal
from opskit.errors import TakenOverError
from opskit.model.event import Chunk, Event
from tests.contract.samples import begin, ended, plan, started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def show(current: Session, event: Event) -> None:
    """Post an outcome as the executor does: it is shown before it is durable."""
    current.outside.journal.append(event, wait=False)
    current.outside.watch(event)


def cut_off(path: Path, act: Callable[[Session], None]) -> list[Event]:
    """Carry out a run until it is found that it was taken; return what was seen of that."""
    seen: list[Event] = []

    def watch(item: Event | Chunk) -> None:
        if isinstance(item, Event):
            seen.append(item)

    store = audit.open(path)
    me = Terminal(allowed=False)
    with (
        pytest.raises(TakenOverError),
        session(store, begin(store), plan(), known={}, person=me, watch=watch, stop=None) as mine,
    ):
        act(mine)
    return seen


def take(current: Session, path: Path) -> None:
    """Let another process have the run."""
    store = audit.open(path)
    store.reopen(current.run, who="bob", origin="desk", steal=current.run)
    store.close()


def unrecorded(seen: list[Event]) -> list[str]:
    texts = [str(event.data["text"]) for event in seen if event.kind == "message"]
    return [text for text in texts if "not in the record" in text]


def test_what_was_shown_and_not_recorded_is_named(path: Path) -> None:
    def act(current: Session) -> None:
        current.journal.append(started("web1"), started("web2"))
        show(current, ended("web1"))
        current.journal.append(Event(kind="note", data={"text": "x", "who": "ann"}))
        take(current, path)
        show(current, ended("web2"))
        # What is waited for is not shown when it can't be recorded, so it isn't named either.
        current.journal.append(ended("web1"))

    (said,) = unrecorded(cut_off(path, act))
    assert "`Look`: succeeded on web2;" in said
    assert "web1" not in said
    store = audit.open(path)
    run = store.find("last")
    assert f"opskit status {run}" in said
    recorded = [e.event for e in store.entries(run) if e.event.kind == "step ended"]
    assert [event.host for event in recorded] == ["web1"]
    store.close()


def test_where_all_that_was_shown_is_recorded_nothing_is_said_of_it(path: Path) -> None:
    def act(current: Session) -> None:
        current.journal.append(started("web1"))
        show(current, ended("web1"))
        current.journal.append(started("web2"))
        take(current, path)
        current.journal.append(ended("web2"))

    assert unrecorded(cut_off(path, act)) == []


def test_many_of_them_are_counted(path: Path) -> None:
    def act(current: Session) -> None:
        current.journal.append(started("web1"))
        take(current, path)
        current.journal.append(*(ended(f"web{n}") for n in range(100)), wait=False)
        current.journal.append(ended("web1"))

    (said,) = unrecorded(cut_off(path, act))
    assert "(100 hosts)" in said
    assert len(said) < 250
