"""Messages are put aside exactly once, byte by byte, after they were kept; and go back in order."""

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opskit.drivers.redis import archive, parking
from opskit.lab import broker
from opskit.model.queues import Layout
from tests.support import redis as support
from tests.support.proxy import proxy
from tests.support.queueing import Broker, beside
from tests.support.redis import Peer, Server

pytestmark = pytest.mark.acceptance
PARKED = "opskit:parked:celery"


@pytest.fixture
def at(redis: Server, tmp_path: Path) -> Broker:
    found = support.keys(redis)
    redis.call("CONFIG", "SET", "maxmemory", "0")
    redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    return Broker(found, folder=str(tmp_path / "evidence"))


def poisoned(at: Broker, good: int = 20, every: int = 5, size: int = 0) -> None:
    """Let messages wait of which every so many is of a task that does harm."""
    at.send(*broker.bound("celery"))
    for number in range(good):
        task = "shop.export" if number % every == every - 1 else "mail.send"
        at.send(("LPUSH", "celery", broker.message(number, task, "celery", pad="x" * size)))


def kept(at: Broker) -> parking.Kept:
    return parking.read(archive.place_of(at.folder, parking.KIND, at.db.run, "2/"))


def test_poison_is_put_aside_and_comes_back_to_where_it_was(at: Broker) -> None:
    poisoned(at)
    before, value = at.waiting(), at.db.call("DEBUG", "DIGEST-VALUE", "celery")
    found = at.do(tasks=("shop.export",))
    assert (found.outcome, found.stdout) == ("succeeded", b"4")
    assert found.reason == "put aside 4 of 4 messages"
    assert at.waiting() == [one for one in before if b"mail.send" in one]
    assert at.waiting(PARKED) == [one for one in before if b"shop.export" in one]
    assert [one.raw for one in kept(at).messages] == at.waiting(PARKED)
    assert found.evidence["sha256"] == kept(at).digest
    back = at.do("unpark", tasks=("shop.export",))
    assert back.reason == "put 4 messages back where they were"
    assert (at.waiting(), at.db.call("DEBUG", "DIGEST-VALUE", "celery")) == (before, value)
    assert at.db.call("EXISTS", PARKED) == 0


def test_a_look_before_it_names_what_it_would_move_and_moves_nothing(at: Broker) -> None:
    poisoned(at)
    at.taken(99, 3, "shop.export")
    before = at.db.call("DUMP", "celery")
    found = at.do(tasks=("shop.export",), probe=True)
    assert found.outcome == "succeeded"
    assert "4 messages, 20 % of 20; digest " in found.reason
    assert found.evidence["tasks"] == {"shop.export": 4}
    assert "shop.export  00000004-0000-4000-8000-000000000000" in at.printed
    assert "1 more are taken by a worker at this moment" in at.printed
    assert at.db.call("DUMP", "celery") == before
    assert not Path(at.folder).exists()
    again = at.do(tasks=("shop.export",))
    assert again.evidence["digest"] == found.evidence["digest"]
    for one in (at.printed, str(found), str(again)):
        assert "4111-of" not in one
        assert "MTEx" not in one


def test_evidence_is_there_before_anything_is_moved_and_is_for_nobody_else(at: Broker) -> None:
    poisoned(at)
    folder = Path(at.folder)
    folder.write_text("a file")
    found = at.do(tasks=("shop.export",))
    assert (found.outcome, found.sent) == ("failed", False)
    assert len(at.waiting()) == 20
    folder.unlink()
    at.do(tasks=("shop.export",))
    path = kept(at).path
    assert {one.name: one.stat().st_mode & 0o777 for one in path.iterdir()} == {
        "messages.jsonl": 0o600, "manifest.json": 0o600, "begun": 0o600,
    }  # fmt: skip
    file = path / "messages.jsonl"
    file.write_bytes(file.read_bytes().replace(b"shop", b"Shop", 1))
    found = at.do("unpark", tasks=("shop.export",))
    assert "it is not what it was" in found.reason
    assert len(at.waiting(PARKED)) == 4


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tasks": ("shop.exp",)}, "none of 20 messages that wait there is meant"),
    ({"tasks": ("shop.export",), "most": 3}, "4 messages are meant, and 3 are allowed"),
    ({"tasks": ("shop.export",), "share": 19.0}, "more than 19 % (max_share)"),
    ({"tasks": ("shop.export",), "queue": "mial"}, "knows no queue mial; it knows celery"),
    ({"tasks": ("shop.export",), "ids": ("nobody",)}, "none of 20 messages"),
    ({"do": "replay", "idempotent": ("mail.send",)}, "none of 0 messages of what was put aside"),
]


@pytest.mark.parametrize(("how", "told"), REFUSED)
def test_nothing_is_moved_that_was_not_meant(at: Broker, how: dict[str, Any], told: str) -> None:
    poisoned(at)
    before = at.db.call("DUMP", "celery")
    for probe in (True, False):
        found = at.do(**how, probe=probe)
        assert (found.outcome, found.sent, told in found.reason) == ("failed", False, True), found
    assert at.db.call("DUMP", "celery") == before
    assert at.db.call("EXISTS", PARKED) == 0


def test_strange_messages_are_moved_as_they_are_and_named_harmlessly(at: Broker) -> None:
    at.send(*broker.bound("glob*[a]?"))
    names = ("\x1b[2Ja", "b\r\nmoved", "c\ud800", "mail.send")
    raws = [broker.message(number, name, "celery") for number, name in enumerate(names)]
    raws += [b"[" * 100_000, b"\xff\x00", b"", b'{"headers": {"task": "mail.send", "id": 7}}']
    at.send(*(("LPUSH", "glob*[a]?", raw) for raw in raws))
    at.send(("LPUSH", "globXaY", "other"))
    found = at.do(
        queue="glob*[a]?", ids=tuple(f"{n:08x}-0000-4000-8000-000000000000" for n in range(3))
    )
    assert found.reason == "put aside 3 of 3 messages"
    json.dumps(found.evidence)
    assert not [letter for letter in at.printed if ord(letter) < 32 and letter != "\n"]
    assert at.waiting("opskit:parked:glob*[a]?") == raws[2::-1]
    told = at.do("replay", queue="glob*[a]?", idempotent=("x",), key="3/")
    assert told.outcome == "failed"
    assert "not among the tasks" in told.reason
    assert at.do("unpark", queue="glob*[a]?").outcome == "succeeded"
    assert at.waiting("glob*[a]?") == raws[::-1]
    assert at.waiting("globXaY") == [b"other"]


def test_a_reason_allows_more(at: Broker) -> None:
    poisoned(at)
    found = at.do(tasks=("mail.send",), share=10.0, most=1, override="the shop is closed")
    assert found.evidence["moved"] == 16


def test_a_broker_that_evicts_is_not_trusted_with_what_is_put_aside(at: Broker) -> None:
    poisoned(at)
    at.db.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    found = at.do(tasks=("shop.export",))
    assert (found.sent, "set noeviction first" in found.reason) == (False, True)
    assert len(at.waiting()) == 20


def test_replay_is_for_tasks_that_may_be_done_twice_and_begins_with_a_part(at: Broker) -> None:
    poisoned(at, 100, 2)
    at.do(tasks=("shop.export", "mail.send"), most=1000)
    assert len(at.waiting(PARKED)) == 100
    found = at.do("replay", key="3/", idempotent=("shop.export",))
    assert "messages of mail.send are meant, too" in found.reason
    assert at.waiting() == []
    oldest = [one for one in at.waiting(PARKED) if b"shop.export" in one][-2:]
    how: dict[str, Any] = {"idempotent": ("shop.export",), "tasks": ("shop.export",)}
    part = at.do("replay", key="4/", part=4.0, **how)
    assert part.evidence["moved"] == 2
    assert at.waiting() == oldest
    rest = at.do("replay", key="5/", **how)
    assert rest.evidence["moved"] == 48
    assert at.do("replay", key="6/", **how).outcome == "failed"
    assert at.do("replay", key="7/", **how, none="ok").reason == "there is no message"
    assert len(at.waiting(PARKED)) == 50


def test_undo_of_a_replay_takes_back_what_nobody_has_taken(at: Broker) -> None:
    poisoned(at)
    at.do(tasks=("shop.export",))
    parked = at.waiting(PARKED)
    at.do("replay", key="3/", idempotent=("shop.export",))
    at.db.call("RPOP", "celery")
    back = at.do("unreplay", key="3/", idempotent=("shop.export",))
    told = "put 3 messages back where they were; 1 are not there any more: a worker has taken them"
    assert told in back.reason
    assert f"what they were is at {at.folder}" in back.reason
    assert at.waiting(PARKED) == parked[:-1]


def test_priorities_keep_their_own_lists(at: Broker) -> None:
    layout = Layout(prefix="p:", separator="#", steps=(0, 3, 6))
    for n in range(12):
        key = ("p:celery", "p:celery#3", "p:celery#6")[n % 3]
        at.send(
            ("LPUSH", key, broker.message(n, "shop.export" if n > 5 else "mail.send", "celery"))
        )
    keys = ("p:celery", "p:celery#3", "p:celery#6")
    before = [at.waiting(key) for key in keys]
    found = at.do(tasks=("shop.export",), layout=layout)
    assert found.evidence["moved"] == 6
    assert [len(at.waiting(f"opskit:parked:{key}")) for key in keys] == [2, 2, 2]
    at.do("unpark", tasks=("shop.export",), layout=layout)
    assert [at.waiting(key) for key in keys] == before


def test_with_others_at_work_nothing_is_lost_or_doubled(at: Broker) -> None:
    poisoned(at, 600, 3)
    every = Counter(at.waiting())

    def act(peer: Peer, n: int) -> None:
        raw = broker.message(10_000 + n, "shop.export" if n % 2 else "mail.send", "celery")
        made[raw] += 1
        peer.call("LPUSH", "celery", raw)
        if (got := peer.call("RPOP", "celery")) is not None:
            done[got] += 1

    made: Counter[bytes] = Counter()
    done: Counter[bytes] = Counter()
    with beside(at.db, act) as count:
        support.until(lambda: count[0] > 5)
        found = at.do(tasks=("shop.export",), most=1000)
        assert found.outcome == "succeeded", found
        back = at.do("unpark", tasks=("shop.export",), most=1000)
        assert back.outcome == "succeeded", back
    assert count[0] > 6
    assert Counter(at.waiting()) + done == every + made
    assert at.waiting(PARKED) == []
    olds = [one for one in at.waiting() if one in every]
    assert olds == [one for one in [*every] if one in set(olds)], "they are in another order"


def test_the_same_message_several_times_is_moved_as_often(at: Broker) -> None:
    poisoned(at, 6, 3)
    raw = broker.message(77, "shop.export", "celery")
    at.send(*(("RPUSH", "celery", raw) for _ in range(3)), ("LPUSH", "celery", raw))
    before = at.waiting()
    found = at.do(ids=("0000004d-0000-4000-8000-000000000000",))
    assert found.evidence["moved"] == 4
    assert raw not in at.waiting()
    at.do("unpark", ids=("0000004d-0000-4000-8000-000000000000",))
    assert Counter(at.waiting()) == Counter(before)


def test_what_was_cut_off_in_the_middle_goes_on_and_moves_nothing_twice(at: Broker) -> None:
    """The line breaks after ever more bytes; whoever goes on finds what was done."""
    chance = random.Random(4)
    ended: Counter[str] = Counter()
    for number in range(12):
        at.db.call("FLUSHALL")
        fresh = Broker(support.keys(at.db.server), folder=f"{at.folder}{number}")
        poisoned(fresh, 300, 2, size=300)
        before = Counter(fresh.waiting())
        fresh.contact = fresh.db.open()
        with proxy(("127.0.0.1", fresh.db.server.port)) as way:
            url = fresh.db.redis.url
            fresh.db.changed(url=url.replace(str(fresh.db.server.port), str(way.port)))
            fresh.db.driver._met["main"] = fresh.contact
            way.cut_after = chance.randrange(350_000, 800_000)
            found = fresh.do(tasks=("shop.export",), most=500)
        fresh.db.changed(url=url)
        fresh.db.driver._met["main"] = fresh.contact
        attempt = 1
        while found.outcome != "succeeded":
            if found.lost or found.outcome == "unknown":
                found = fresh.find(tasks=("shop.export",), most=500, attempt=attempt)
                ended[found.reason.partition(" ")[0]] += 1
            if found.outcome != "succeeded":
                assert found.again or not found.sent, found
                attempt += 1
                found = fresh.do(tasks=("shop.export",), most=500, attempt=attempt)
        assert Counter(fresh.waiting()) + Counter(fresh.waiting(PARKED)) == before
        assert not any(b"shop.export" in one for one in fresh.waiting())
    assert ended


def test_a_stop_bars_what_has_not_begun(at: Broker) -> None:
    poisoned(at, 300, 2)
    before = Counter(at.waiting())
    pieces = parking.Moves.move
    begun = threading.Event()

    def slow(*given: Any) -> Any:  # noqa: ANN401 - as what it stands before
        found = pieces(*given)
        begun.set()
        time.sleep(0.3)
        return found

    at.contact = at.db.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parking.Moves, "move", slow)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(
            at.do(tasks=("shop.export",), most=500)))  # fmt: skip
        thread.start()
        assert begun.wait(60)
        for one in at.db.driver.busy():
            one.give_up.set()
        thread.join(20)
    (output,) = found
    assert output.outcome == "failed"
    assert "pieces are done, and no other will be" in output.reason
    parked = at.waiting(PARKED)
    assert 0 < len(parked) < 150
    at.do("unpark", tasks=("shop.export",), most=500)
    assert Counter(at.waiting()) == before
    assert at.waiting(PARKED) == []


def test_an_undo_that_is_given_up_goes_on_when_asked_again(
    at: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(at, 300, 2)
    before = at.waiting()
    inner, move = parking.Moves.put_back, parking.Moves.move

    def taken(self: parking.Moves, *words: Any) -> Any:  # noqa: ANN401 - as it has them
        at.db.call("LREM", "celery", "-1", words[2][0].raw)  # a worker takes one meanwhile
        return move(self, *words)

    def given_up(self: parking.Moves, *words: Any) -> Any:  # noqa: ANN401 - as it has them
        if words[1] == 1:
            for one in at.db.driver.busy():
                one.give_up.set()
        return inner(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(parking.Moves, "move", taken)
        assert at.do(tasks=("shop.export",), most=500, share=60.0).evidence["gone"] == 3
        patch.setattr(parking.Moves, "put_back", given_up)
        found = at.do("unpark", tasks=("shop.export",))
    assert found.outcome == "failed"
    assert "1 of 3 pieces are done, and no other will be" in found.reason
    assert len(at.waiting(PARKED)) == 2 * 49
    back = at.do("unpark", tasks=("shop.export",), attempt=2)
    assert back.reason == "put 147 messages back where they were"
    assert at.waiting(PARKED) == []
    assert [one for one in before if one in set(at.waiting())] == at.waiting()


RIGHTS = (
    "on >s3cret-word ~celery* ~opskit:* ~unacked* -@all +lrange +llen +rpush +lrem +lpos +linsert"
    " +get +set +eval +time +info +ping +select +hlen +zrange +hmget +client|setname"
    " +client|no-touch"
)


@pytest.mark.parametrize("right", ["-rpush", "-lrem", "-lpos"])
def test_without_a_right_nothing_is_lost(at: Broker, right: str) -> None:
    poisoned(at)
    before = Counter(at.waiting())
    url = at.db.redis.url.replace("//", "//mover@")
    for rights in (f"{RIGHTS} {right}", RIGHTS):
        at.db.call("ACL", "SETUSER", "mover", "reset", *rights.split())
        at.db.use(at.db.redis.__class__(name="main", url=url, password="word"), word="s3cret-word")
        at.contact = at.db.open()
        found = at.do(tasks=("shop.export",), attempt=1 if right in rights else 2)
        if right in rights:
            assert found.outcome == "failed"
            assert f"no permissions to run the '{right[1:]}' command" in found.reason
            assert Counter(at.waiting()) == before
            assert at.waiting(PARKED) == []
    assert found.outcome == "succeeded", found
    at.db.call("ACL", "DELUSER", "mover")
