"""Whole runs that put messages aside and back: planned, refused, killed anywhere, undone."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opskit.lab import broker
from tests.acceptance.test_redis import HOLDER, SECRET, Desk
from tests.support.redis import Server, server

pytestmark = pytest.mark.acceptance
PARKED = "opskit:parked:mail"
HALF: dict[str, Any] = {"tasks": "shop.export", "max_share": 60, "max_messages": 500}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with server(user=f"app on >{SECRET} ~* &* +@all") as one:
        yield one


class Queued(Desk):
    """A desk at a broker in which messages wait, some of them of a task that does harm."""

    def hold(self, count: int = 40, every: int = 4) -> list[bytes]:
        self.call("FLUSHDB")
        for words in broker.bound("mail"):
            self.call(*words)  # type: ignore[arg-type]
        for number in range(count):
            task = "shop.export" if number % every == 1 else "shop.mail"
            raw = broker.message(number, task, "mail", pad=HOLDER)
            self.call("LPUSH", "mail", raw)  # type: ignore[arg-type]
        return self.waiting()

    def waiting(self, key: str = "mail") -> list[bytes]:
        found: list[bytes] = self.call("LRANGE", key, "0", "-1")
        return found

    @property
    def settings(self) -> Mapping[str, str]:
        return {**super().settings, "XDG_STATE_HOME": str(self.folder / "state")}

    def go(self, how: str, runbook: str, status: int | None = 0, kill: str = "",
           **params: object) -> str:  # fmt: skip
        given = [w for k, v in {"queue": "mail", **params}.items() for w in ("-p", f"{k}={v}")]
        words = (how, runbook, *given, *(("--yes",) if how == "run" else ()))
        program = ("tests.support.deadly", *kill.split()) if kill else ()
        return self.opskit(*words, status=None if kill else status, program=program)

    def whole(self) -> None:
        """Nothing of what messages carry stands in the record; all of it is in the evidence."""
        self.opskit("audit", "verify")
        for path in self.folder.glob("store.db*"):
            assert HOLDER.encode() not in path.read_bytes()


@pytest.fixture
def desk(guarded: Server, tmp_path: Path) -> Queued:
    found = Queued(guarded, tmp_path)
    found.write("  - {run: 'true', on: controller}\n")
    return found


def test_what_is_planned_is_moved_and_undone(desk: Queued) -> None:
    before = desk.hold()
    plan = desk.go("plan", "queue-park", tasks="shop.export", max_share=30)
    assert "10 messages, 25 % of 40; digest" in plan
    assert desk.waiting() == before
    said = desk.go("run", "queue-park", tasks="shop.export", max_share=30)
    assert "put aside 10 of 10 messages" in said
    assert desk.waiting(PARKED) == [one for one in before if b"shop.export" in one]
    desk.call("LPUSH", "mail", "of a producer")
    desk.opskit("undo", "last", "--yes")
    assert desk.waiting() == [b"of a producer", *before]
    assert desk.call("EXISTS", PARKED) == 0
    desk.whole()


REFUSED: list[tuple[str, int, dict[str, Any], str]] = [
    ("queue-park", 2, {}, "nothing says which messages are meant"),
    ("queue-park", 5, {"tasks": "shop.export"}, "more than 20 % (max_share)"),
    ("queue-restore", 2, {"idempotent": ""}, "no task is named that may be done twice"),
]


@pytest.mark.parametrize(("runbook", "status", "params", "told"), REFUSED)
def test_bad_input_is_refused_and_nothing_is_touched(
    desk: Queued, runbook: str, status: int, params: dict[str, Any], told: str
) -> None:
    before = desk.hold()
    assert told in desk.go("run", runbook, status, **params)
    assert desk.waiting() == before
    assert desk.call("EXISTS", PARKED) == 0


def test_a_broker_that_evicts_is_refused(desk: Queued) -> None:
    before = desk.hold()
    desk.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        said = desk.go("run", "queue-park", 5, tasks="shop.export", max_share=100)
    finally:
        desk.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "set noeviction first" in said
    assert desk.waiting() == before


POINTS = ["keys-kept 0", "keys-sent 1", "keys-after 1"]
OTHERS = ["keys-agreed 0", "keys-before 0", "keys-before 1", "keys-sent 0", "keys-after 0"]


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(one, marks=pytest.mark.soak) for one in OTHERS)]
)
def test_killed_around_a_piece_it_goes_on_with_what_was_found(desk: Queued, point: str) -> None:
    before = desk.hold(240, 2)
    desk.go("run", "queue-park", kill=point, **HALF)
    said = desk.opskit("resume", "last")
    assert "put aside 120 of 120 messages" in said
    assert desk.waiting(PARKED) == [one for one in before if b"shop.export" in one]
    assert desk.waiting() == [one for one in before if b"shop.mail" in one]
    desk.opskit("undo", "last", "--yes")
    assert desk.waiting() == before
    desk.whole()


def test_an_undo_that_is_killed_goes_on(desk: Queued) -> None:
    before = desk.hold(240, 2)
    desk.go("run", "queue-park", **HALF)
    desk.opskit("undo", "last", "--yes", status=None,
                program=("tests.support.deadly", "keys-after", "1"))  # fmt: skip
    assert 0 < len(desk.waiting(PARKED)) < 120
    desk.opskit("resume", "last")
    assert desk.waiting() == before


@pytest.mark.parametrize("turn", range(1))
def test_killed_at_any_time_it_is_done_once(desk: Queued, turn: int) -> None:
    killed_at_any_time(desk, turn)


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(100))
def test_killed_at_any_time_it_is_done_once_often(desk: Queued, turn: int) -> None:
    killed_at_any_time(desk, turn)


def killed_at_any_time(desk: Queued, turn: int) -> None:
    before = desk.hold(240, 2)
    late = random.Random(turn).randrange(0, 400)
    desk.go("run", "queue-park", kill=f"redis-time {late}", **HALF)
    taken = desk.call("RPOP", "mail")  # a worker goes on meanwhile
    said = desk.opskit("resume", "last", status=None)  # unless it had come to its end
    said += desk.opskit("report", "last")
    assert "put aside 1" in said
    whole = Counter([*desk.waiting(), *desk.waiting(PARKED), taken])
    assert whole == Counter(before)
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    desk.opskit("undo", "last", "--yes")
    assert desk.waiting() == [one for one in before if one != taken]
    desk.whole()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(30))
def test_a_restore_that_is_killed_at_any_time_is_done_once(desk: Queued, turn: int) -> None:
    before = desk.hold(240, 2)
    desk.call("DEL", "done")
    desk.go("run", "queue-park", tasks="shop.export", max_share=60, override="all of them")
    how: dict[str, Any] = {
        "idempotent": "shop.export",
        "pause": "0.3s",
        "first": 30,
        "override": "all of them",
    }
    around = ("sent", "after", "before")[turn // 2 % 3]
    late = f"redis-time {random.Random(turn).randrange(0, 400)}"
    with working(desk):
        desk.go("run", "queue-restore", kill=late if turn % 2 else f"keys-{around} {turn // 4 % 3}",
                **how)  # fmt: skip
        said = desk.opskit("resume", "last", status=None)  # unless it had come to its end
        said += desk.opskit("report", "last")
    assert "put back into the queue 36 of 36 messages" in said
    assert "put back into the queue 84 of 84 messages" in said
    assert Counter([*desk.waiting(), *desk.waiting("done")]) == Counter(before)
    assert not desk.waiting(PARKED)
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    done = Counter(desk.waiting("done"))
    desk.opskit("undo", "last", "--yes")
    assert Counter(desk.waiting("done")) == done
    meant = Counter(one for one in before if b"shop.export" in one)
    assert Counter(desk.waiting(PARKED)) == meant - done, "all but what a worker has taken"
    assert Counter([*desk.waiting(), *desk.waiting(PARKED)]) + done == Counter(before)
    desk.whole()


@contextmanager
def working(desk: Queued) -> Iterator[None]:
    """Let a worker take a message every second meanwhile."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(1):
            desk.call("RPOPLPUSH", "mail", "done")

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)
