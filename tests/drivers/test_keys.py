# ruff: noqa: ANN401 - keywords are those of a deed on keys
"""Sets of keys on a real server: shown, removed exactly, kept before that, and put back."""

import hashlib
import os
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hiredis
import pytest

from opskit.drivers.redis import archive, names
from opskit.drivers.redis import keys as driver
from opskit.drivers.redis.archive import Kept
from opskit.drivers.redis.batches import Batches
from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.connection import BrokenError, ServerError
from opskit.drivers.redis.counters import counted
from opskit.drivers.redis.fates import Fate, LostError, removed
from opskit.drivers.redis.listing import text_of
from opskit.drivers.redis.ordering import Ordering
from opskit.drivers.redis.session import opened
from opskit.errors import UnreachableError
from opskit.model.inventory import Host
from opskit.model.job import Contact, Job, Output
from opskit.model.keys import Keys as Deed
from opskit.model.keys import Rate, Windows
from opskit.steps import limits
from tests.support import ports
from tests.support import redis as support
from tests.support.proxy import proxy
from tests.support.redis import Keys, Server, server

pytestmark = pytest.mark.acceptance
HOUR = 3_600_000


@pytest.fixture
def db(redis: Server) -> Keys:
    return support.keys(redis)


class Desk:
    """Deeds on keys of one run, whose evidence lies in a folder of the test."""

    def __init__(self, db: Keys, folder: Path) -> None:
        self.db, self.folder = db, folder
        self.out = bytearray()
        self.contact: Contact | None = None

    def job(self, do: str = "remove", *, attempt: int = 1, **how: Any) -> Job:
        deed = Deed(**{
            "do": do, "server": self.db.redis.name, "allow": ("t:",), "evidence": str(self.folder),
            **how,
        })  # fmt: skip
        key = "2/!1" if do == "restore" else "2/"
        return Job(
            run=self.db.run, key=key, attempt=attempt, host=Host(name="redis:main", address="main"),
            work=replace(deed, of="2/" if do == "restore" else ""), timeout=20.0,
            effect="read" if do == "show" else "change", contact=self.contact,
        )  # fmt: skip

    def do(self, do: str, **how: Any) -> Output:
        if self.contact is None and do != "show":
            self.contact = self.db.open()
        self.out.clear()
        return self.db.driver.perform(self.job(do, **how), self._write)

    def remove(self, **how: Any) -> Output:
        return self.do("remove", **how)

    def restore(self, **how: Any) -> Output:
        return self.do("restore", **how)

    def show(self, **how: Any) -> Output:
        return self.do("show", **how)

    def find(self, do: str = "remove", **how: Any) -> Output:
        return self.db.driver.rejoin(self.job(do, **how), self._write, 20.0)

    def _write(self, stream: str, data: bytes) -> None:
        assert stream == "stdout"
        self.out += data

    @property
    def printed(self) -> str:
        return self.out.decode()

    def kept(self) -> archive.Archive:
        return archive.read(archive.folder_of(self.job().work, self.db.run, "2/"))  # type: ignore[arg-type]


@pytest.fixture
def desk(db: Keys, tmp_path: Path) -> Desk:
    return Desk(db, tmp_path / "evidence")


def fill(db: Keys, count: int, head: str = "t:", size: int = 1) -> None:
    with db.server.peer() as peer:
        for number in range(count):
            peer.call("SET", f"{head}{number:04}", "v" * size + str(number), "PX", str(HOUR))


def world(db: Keys) -> Mapping[bytes, tuple[bytes, int]]:
    """Return every key besides opskit's own, as DUMP and PEXPIRETIME have it.

    A large hash or set is dumped in the order in which it happens to lie: of these it is a digest.
    """
    with db.server.peer() as peer:
        names = [n for n in peer.call("KEYS", "*") if not n.startswith(b"opskit:")]
        return {n: (_value(peer, n), peer.call("PEXPIRETIME", n)) for n in names}


def _value(peer: support.Peer, name: bytes) -> bytes:
    if peer.call("TYPE", name) in (b"hash", b"set"):
        found = peer.call("DEBUG", "DIGEST-VALUE", name)[0]
    else:
        found = peer.call("DUMP", name)
    assert isinstance(found, bytes)
    return found


def kinds(db: Keys) -> None:
    """Write a key of each type, with ends and without."""
    db.call("SET", "t:text", b"\x00\xff\r\n", "PX", "900000")
    db.call("RPUSH", "t:list", *map(str, range(300)))
    db.call("HSET", "t:hash", "a", "1", "b", "x" * 100)
    db.call("SADD", "t:set", *map(str, range(0, 9000, 10)), "a")
    db.call("ZADD", "t:zset", "1.5", "a")
    db.call("XADD", "t:stream", "1-1", "a", "b")
    db.call("PEXPIRE", "t:hash", "1800000")
    db.call("SET", b"t:\xff\n odd*?[x]", "x")


def test_what_is_removed_comes_back_as_it_was(desk: Desk) -> None:
    kinds(desk.db)
    fill(desk.db, 100, "u:")
    before = world(desk.db)
    found = desk.remove(pattern="t:*")
    assert (found.outcome, found.reason, found.stdout) == ("succeeded", "removed 7 of 7 keys", b"7")
    assert {name for name in before if name not in world(desk.db)} == {
        name for name in before if name.startswith(b"t:")
    }
    assert (found.evidence["matched"], found.evidence["removed"]) == (7, 7)
    kept = desk.kept()
    assert found.evidence["sha256"] == kept.digest
    assert f"sha256 {kept.digest}" in desk.printed
    assert {key.name: key.end for key in kept.keys} == {
        name: end for name, (_, end) in before.items() if name.startswith(b"t:")
    }
    back = desk.restore()
    assert (back.outcome, back.reason) == ("succeeded", "put back 7 keys")
    assert world(desk.db) == before


def test_evidence_is_for_nobody_else_and_is_there_before_the_first_change(desk: Desk) -> None:
    fill(desk.db, 3)
    with desk.db.server.watched() as sent:
        desk.remove(pattern="t:*", share=100.0)
    names = [line.partition("] ")[2].split('"')[1] for line in sent]
    assert names.index("DUMP") < names.index("UNLINK")
    assert "KEYS" not in names
    assert "FLUSHDB" not in names
    folder = desk.kept().path
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(modes) == {"keys.jsonl", "manifest.json", "begun", "ended"}
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("way", ["/0", "/3 and a password"])
def test_one_identity_takes_three_round_trips(desk: Desk, way: str) -> None:
    """To see who answers and what is there; to note the list; to remove it and look again."""
    db, names = desk.db, ("t:0000", "t:0001", "t:0002")
    user = ""
    if "password" in way:
        db.call("ACL", "SETUSER", "three", "reset", "on", ">trips-in-all", "~*", "+@all")
        user = "three@"
    with proxy(("127.0.0.1", db.server.port)) as line, db.server.peer() as peer:
        url = f"redis://{user}127.0.0.1:{line.port}{way[:2]}"
        db.use(replace(db.redis, url=url, password="w"), w="trips-in-all" if user else "")
        peer.call("SELECT", way[1])
        peer.call("SET", "t:0001", "7", "PX", str(HOUR))
        before = peer.call("DUMP", "t:0001"), peer.call("PEXPIRETIME", "t:0001")
        desk.contact = db.open()
        line.trips = 0
        found = desk.remove(names=names)
        assert (found.outcome, found.reason) == ("succeeded", "removed 1 of 1 keys")
        assert line.trips == 3
        assert peer.call("EXISTS", *names) == 0
        assert [(key.dump, key.end) for key in desk.kept().keys] == [before]
        assert desk.restore().reason == "put back 1 keys"
        assert (peer.call("DUMP", "t:0001"), peer.call("PEXPIRETIME", "t:0001")) == before
    if user:
        db.call("ACL", "DELUSER", "three")


def test_without_values_the_names_are_kept_and_what_is_shown_is_removed(desk: Desk) -> None:
    kinds(desk.db)
    fill(desk.db, 2100)
    desk.db.call("SET", "u:1", "x")
    digest = desk.show(pattern="t:*", override="all").stdout.decode()
    how = {"archive": False, "override": "all", "digest": digest}
    with desk.db.server.watched() as sent:
        found = desk.remove(pattern="t:*", **how)
    assert (found.outcome, found.reason) == ("succeeded", "removed 2107 of 2107 keys")
    assert set(world(desk.db)) == {b"u:1"}
    told = {key: found.evidence[key] for key in ("matched", "gone", "anew", "left", "digest")}
    assert told == {"matched": 2107, "gone": 0, "anew": 0, "left": 0, "digest": digest}
    asked = [line.partition("] ")[2].split('"')[1] for line in sent]
    assert (asked.count("UNLINK"), asked.count("DUMP"), asked.count("PEXPIRETIME")) == (3, 0, 0)
    assert not any('lua] "UNLINK"' in line for line in sent)
    kept = Path(str(found.evidence["manifest"])).parent
    assert {path.name for path in kept.iterdir()} == {"names", "manifest.json", "begun"}
    assert hashlib.sha256((kept / "names").read_bytes()).hexdigest() == digest
    assert b"t:\xff\n odd*?[x]" in names.read(kept).names
    assert len(names.read(kept).names) == 2107


def ordered(names: Sequence[bytes], size: int = 100) -> list[bytes]:
    found = Ordering()
    for first in range(0, len(names), size):
        found.add(names[first : first + size])
        found.add([])
        assert found.names() == sorted(set(names[: first + size]))
    assert found.count == len(names)
    return found.names()


def test_names_stand_once_in_their_order_whatever_is_in_them() -> None:
    plain = [b"t:2", b"t:10", b"\xff", b"", b"t:1"]
    lot = random.Random(1)
    for some in (
        [b"%d" % lot.randrange(400) for _ in range(500)],
        [],
        plain,
        [b"t:2"],
        [*plain, b"t:2", b"\xff"],
        [*plain, b"a\nb"],
        [b"a\n", b"a\n"],
    ):
        found = ordered(some)
        assert found == sorted(set(some))
        for size in (1, 2, 3):  # the same in whatever parts they come
            assert ordered(some, size) == found
        assert names.parsed(text_of(found, 3)) == found
    assert names.parsed(b"0\n3\na\nb\n2\nde\n") == [b"a\nb", b"de"]  # as they all were once
    assert text_of([b"a", b"b\n"], 0) != text_of([b"a", b"b", b""], 0)


def test_a_pattern_that_the_server_must_match_has_the_same_names(desk: Desk) -> None:
    fill(desk.db, 30)
    shown = {desk.show(pattern=one, share=100.0).stdout for one in ("t:*", "t:?*", "t:00[0-2]*")}
    assert len(shown) == 1
    found = desk.remove(pattern="t:?*", share=100.0, archive=False)
    assert found.evidence["digest"] == shown.pop().decode()
    desk.db.call("SET", "t:0001", "anew")
    desk.db.call("SET", "t:9999", "was not listed")
    again = desk.remove(pattern="t:?*", share=100.0, archive=False, attempt=2)
    assert again.reason == "removed 30 of 30 keys; 1 have been made anew since, and stay"
    assert set(world(desk.db)) == {b"t:0001", b"t:9999"}


@pytest.mark.parametrize("changed", [(b'"end"', b'"End"'), (b'"string"', b'"strinG"')])
def test_evidence_that_was_changed_is_not_restored_from(
    desk: Desk, changed: tuple[bytes, bytes]
) -> None:
    fill(desk.db, 3)
    desk.remove(pattern="t:*", share=100.0)
    path = desk.kept().path / "keys.jsonl"
    path.write_bytes(path.read_bytes().replace(*changed, 1))
    found = desk.restore()
    assert found.outcome == "failed"
    assert not found.sent
    assert "it is not what it was" in found.reason
    assert world(desk.db) == {}


def test_no_evidence_no_removal(desk: Desk) -> None:
    fill(desk.db, 3)
    desk.folder.write_text("a file")
    found = desk.remove(names=("t:0001",))
    assert (found.outcome, found.sent) == ("failed", False)
    assert len(world(desk.db)) == 3


NOTHING = [
    ({"names": ("t:nobody",)}, "no key is there that is meant"),
    ({"pattern": ":1:t:*"}, "no key is there that is meant (:1:t:*)"),
    ({"pattern": "t:*", "most": 9}, "more than 9 keys fit (max_keys)"),
    ({"pattern": "t:*", "share": 19.0}, "10 keys, 20 % of 50;"),
    ({"names": ("t:0001",), "digest": "0" * 64}, "other keys are there than those"),
]


@pytest.mark.parametrize(("how", "told"), NOTHING)
def test_nothing_is_touched_where_it_is_not_what_was_meant(
    desk: Desk, how: Mapping[str, Any], told: str
) -> None:
    fill(desk.db, 10)
    fill(desk.db, 40 - (how.get("share") is not None), "u:")
    before = world(desk.db)
    found = desk.remove(**how)  # the key of the run counts, too
    assert (found.outcome, found.sent, found.status) == ("failed", False, 1)
    assert told in found.reason
    assert world(desk.db) == before
    assert not desk.folder.exists()


def test_with_a_reason_more_may_be_removed(desk: Desk) -> None:
    fill(desk.db, 1234)
    found = desk.remove(pattern="t:*", override="the rates have changed")
    assert found.reason == "removed 1234 of 1234 keys"
    assert len(desk.kept().chunks) == 5
    assert desk.restore().reason == "put back 1234 keys"


def test_more_than_anybody_means_goes_only_where_a_number_says_so(desk: Desk) -> None:
    desk.db.call("DEBUG", "POPULATE", "100001", "t")
    told = "more than 100000 keys fit, which is more than an override alone lets go"
    assert told in desk.show(pattern="t:*", override="all of it").reason
    found = desk.remove(pattern="t:*", override="all of it", most=100_001, archive=False)
    assert found.reason == "removed 100001 of 100001 keys"


def test_the_digest_that_is_shown_is_what_is_removed(desk: Desk) -> None:
    fill(desk.db, 3)
    shown = desk.show(pattern="t:*", share=100.0)
    digest = shown.stdout.decode()
    assert shown.reason == f"3 keys, 100 % of 3; digest {digest}"
    fill(desk.db, 4)
    other = desk.remove(pattern="t:*", share=100.0, digest=digest)
    assert "other keys are there" in other.reason
    desk.db.call("DEL", "t:0003")
    assert desk.remove(pattern="t:*", share=100.0, digest=digest).outcome == "succeeded"


def test_one_identity_takes_nothing_of_another(desk: Desk) -> None:
    names = ["12", "120", "1", "a[b]*?", "ab", "axx", "two words"]
    for name in names:
        desk.db.call("SET", f"t:user_{name}", "1")
    keys = limits.throttles("t:", ("user",), ("12",))
    assert list(keys) == ["t:throttle_user_12"]
    assert desk.remove(names=("t:user_12", "t:user_a[b]*?")).outcome == "succeeded"
    assert set(world(desk.db)) == {f"t:user_{n}".encode() for n in names} - {
        b"t:user_12", b"t:user_a[b]*?",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["celery", "unacked", "_kombu.binding.mail"])
def test_the_database_of_a_queue_is_left_alone(desk: Desk, key: str) -> None:
    fill(desk.db, 3)
    desk.db.call("SADD", key, "x")
    for pattern in ("t:*", "t:?*"):
        found = desk.remove(pattern=pattern, override="we know", archive=False)
        assert "is that of a queue (Celery)" in found.reason
    desk.db.call("SADD", "_kombu.binding.celery.pidbox", "as a worker makes it")
    found = desk.remove(names=("t:0001",), override="we know", archive=False)
    assert "is that of a queue (Celery)" in found.reason, "none of its keys is walked for one key"
    assert len(world(desk.db)) == 5


def test_where_sessions_are_no_pattern_is_removed_without_a_reason(desk: Desk) -> None:
    fill(desk.db, 3)
    desk.db.call("SET", ":1:django.contrib.sessions.cacheabc", "x")
    for pattern in ("t:*", "t:?*"):
        assert "sessions are kept in database 0" in desk.remove(pattern=pattern).reason
    found = desk.remove(names=("t:0001", "t:nobody"), archive=False)
    assert found.reason == "removed 1 of 1 keys"


def test_what_is_newer_stays_and_what_would_be_over_is_not_made(desk: Desk) -> None:
    began = time.monotonic()
    for name in ("newer", "over", "plain"):
        desk.db.call("SET", f"t:{name}", "old", "PX", "1500" if name == "over" else str(HOUR))
    desk.remove(names=("t:newer", "t:over", "t:plain"))
    desk.db.call("SET", "t:newer", "new")
    time.sleep(max(0.0, began + 1.6 - time.monotonic()))
    back = desk.restore()
    assert back.reason == ("put back 1 keys; 1 stand there anew, and stay; 1 would be over by now")
    assert desk.db.own() == {b"t:newer": b"new", b"t:plain": b"old"}


def broken(desk: Desk, share: float, whole: int = 0, **how: Any) -> Output:
    """Remove 1100 keys through a line that breaks: 1 is where its last answer would have come."""
    db = desk.db
    desk.contact = db.open()
    plain = db.redis
    with proxy(("127.0.0.1", db.server.port)) as line:
        db.use(replace(plain, url=f"redis://127.0.0.1:{line.port}/0"))
        db.open()
        line.cut_after = int((whole or _WHOLE) * share)
        found = desk.remove(**how)
    db.use(plain)
    db.open()
    return found


_WHOLE = 333_000
"""So many bytes pass when 1100 keys are removed, up to their being looked at again."""
_NAMES = 50_000
"""So many where their names alone are kept."""
_EVERY: Mapping[str, Any] = {"pattern": "t:*", "override": "all"}


def test_a_line_that_breaks_anywhere_loses_and_doubles_nothing(desk: Desk) -> None:
    assert anywhere(desk, (0.1, 0.7, 0.8, 0.88, 0.94, 0.99)) >= {"failed", "part", "settled"}


def test_a_line_that_breaks_while_nothing_is_kept_doubles_nothing(desk: Desk) -> None:
    places = (0.3, 0.62, 0.67, 0.9)
    assert anywhere(desk, places, _NAMES, archive=False) >= {"failed", "part", "settled"}


@pytest.mark.soak
@pytest.mark.parametrize("kept", [True, False])
def test_a_line_that_breaks_at_many_places_loses_and_doubles_nothing(
    desk: Desk, *, kept: bool
) -> None:
    places = [*(number / 200 for number in range(1, 205)), 2.0]
    found = anywhere(desk, places, _WHOLE if kept else _NAMES, archive=kept)
    assert found >= {"failed", "part", "settled", "succeeded"}


def anywhere(
    desk: Desk, places: Sequence[float], whole: int = 0, *, archive: bool = True
) -> set[str]:
    """Cut the line; what the application has made anew by then is not taken away once more."""
    every: dict[str, Any] = {**_EVERY, "archive": archive}
    states: set[str] = set()
    for place in places:
        desk.db.call("FLUSHALL")
        desk.db.run = f"{desk.db.run}x"
        desk.db.use(desk.db.redis)
        fill(desk.db, 1100)
        before = world(desk.db)
        first = broken(desk, place, whole, **every)
        if not first.lost:
            assert first.outcome == "succeeded" or not first.sent
            assert first.outcome == "succeeded" or world(desk.db) == before
            states.add(first.outcome)
            continue
        assert first.outcome == "unknown"
        anew = sorted(before.keys() - world(desk.db).keys())[:3]
        for name in anew:
            desk.db.call("SET", name, "anew")
        after = desk.find(**every)
        if after.again:
            states.add("part" if after.part else "anew")
            after = desk.remove(**every, attempt=2)
        assert after.reason.startswith("removed 1100 of 1100 keys"), after.reason
        assert set(world(desk.db)) == set(anew)
        if not archive:
            states.add("settled")
            continue
        back = desk.restore()
        assert back.outcome == "succeeded"
        now = world(desk.db)
        assert {name: was for name, was in now.items() if name not in anew} == {
            name: was for name, was in before.items() if name not in anew
        }
        states.add("settled")
    return states


def test_marks_that_are_gone_end_it(desk: Desk) -> None:
    fill(desk.db, 1100)
    assert broken(desk, 0.88, **_EVERY).lost
    desk.db.call("FLUSHALL")
    fill(desk.db, 10)
    desk.db.use(desk.db.redis)
    after = desk.find(**_EVERY)
    assert (after.outcome, after.again) == ("unknown", False)
    desk.db.open()
    found = desk.remove(**_EVERY, attempt=2)
    assert (found.outcome, found.sent) == ("failed", False)
    assert "its marks are gone" in found.reason
    assert len(world(desk.db)) == 10
    assert "its marks are gone" in desk.restore().reason


@pytest.mark.parametrize("at", ["first", "last"])
def test_a_mark_that_is_gone_is_no_piece_that_was_not_done(desk: Desk, at: str) -> None:
    """As a cache evicts it: what was made anew is not removed, and no undo says it put all back."""
    fill(desk.db, 600)
    assert desk.remove(**_EVERY).reason == "removed 600 of 600 keys"
    number = 0 if at == "first" else len(desk.kept().chunks) - 1
    assert desk.db.call("UNLINK", f"opskit:mark:{desk.db.run}:2/:{number}") == 1
    desk.db.call("SET", "t:0001", "anew")
    if at == "first":
        lost = desk.find(**_EVERY)
        assert (lost.outcome, lost.again) == ("unknown", False), lost
    back = desk.restore(**_EVERY)
    assert (back.outcome, back.sent) == ("failed", False), back
    assert "a mark of what was done has gone" in back.reason
    assert str(desk.kept().path) in back.reason
    assert world(desk.db).keys() == {b"t:0001"}


def test_a_stop_leaves_whole_pieces_and_no_other_comes(desk: Desk) -> None:
    desk.db.call("DEBUG", "POPULATE", "20000", "t", "20")
    before = world(desk.db)
    found: list[Output] = []
    worker = threading.Thread(target=lambda: found.append(desk.remove(**_EVERY)))
    worker.start()
    with desk.db.server.peer() as peer:
        support.until(lambda: peer.call("EXISTS", f"opskit:mark:{desk.db.run}:2/:0"))
        peer.call("CLIENT", "PAUSE", "700", "WRITE")
    for running in desk.db.driver.busy():
        running.give_up.set()
    worker.join()
    (stopped,) = found
    assert (stopped.outcome, stopped.evidence["stopped"]) == ("failed", "confirmed gone")
    assert "of 80 pieces are done, and no other will be" in stopped.reason
    left = len(world(desk.db))
    assert 0 < left < 20_000
    again = desk.remove(**_EVERY, attempt=2)
    assert again.reason == (
        f"removed {20_000 - left} of 20000 keys; {left} are LEFT: it was stopped before that"
    )
    back = desk.restore()
    assert back.reason == f"put back {20_000 - left} keys"
    assert world(desk.db) == before
    # A mark of an undo has a letter for each key that had been removed, not for each of the list.
    again = desk.find("restore")
    assert (again.outcome, again.reason) == ("succeeded", back.reason)


def test_an_undo_that_is_given_up_says_how_far_it_is_and_goes_on_when_asked_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(desk.db, 1100)
    before = world(desk.db)
    inner, removing = Pieces.restore, Pieces.removing

    def moved(self: Pieces, number: int, keys: Sequence[Kept]) -> Any:
        desk.db.call("DEL", keys[0].name)  # fewer than are on the list are removed
        return removing(self, number, keys)

    def given_up(self: Pieces, number: int, keys: Sequence[Kept]) -> Any:
        if number == 1:
            for running in desk.db.driver.busy():
                running.give_up.set()
        return inner(self, number, keys)

    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "removing", moved)
        assert desk.remove(**_EVERY).outcome == "succeeded"
        patch.setattr(Pieces, "restore", given_up)
        found = desk.restore()
    assert (found.outcome, found.evidence["stopped"]) == ("failed", "confirmed gone")
    assert "1 of 5 pieces are done, and no other will be" in found.reason
    assert len(world(desk.db)) == 249
    # What was sent before it was given up, and comes late, finds the fence moved.
    session = opened(desk.db.driver._access("main"))
    assert desk.contact is not None
    late = Pieces(session, desk.db.run, "2/!1", desk.contact.state_dir.split()[0])
    late._fences = [(f"opskit:mark:{desk.db.run}:2/!1:fence", b"1")]
    with pytest.raises(LostError, match="another process goes on"):
        late.restore(4, desk.kept().chunks[4])
    session.close()
    assert desk.restore(attempt=2).reason == "put back 1095 keys"
    assert world(desk.db).items() <= before.items()


def test_a_value_too_large_to_be_kept_is_in_nobodys_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for along with the greeting, and must not stand before what is asked then."""
    desk.db.changed(max_output=1024)
    fill(desk.db, 2)
    names = ("t:0000", "t:0001")

    def broken_off(*_: object) -> list[Fate]:
        raise BrokenError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_removed", broken_off)
        assert desk.remove(names=names).lost
    desk.db.call("SET", "t:0001", os.urandom(8 * 1024 * 1024))  # since it was listed
    found = desk.remove(names=names, attempt=2)
    assert (found.outcome, found.evidence["left"]) == ("failed", 1), found
    assert found.reason == "removed 1 of 2 keys; 1 are LEFT"
    desk.db.run += "-another"
    desk.contact = desk.db.changed().open()
    found = desk.remove(names=names)
    assert (found.outcome, found.sent) == ("failed", False)
    assert "a value is too large to be kept (its answer is longer than 1024 bytes)" in found.reason
    assert set(world(desk.db)) == {b"t:0001"}


def test_a_replica_is_refused(desk: Desk) -> None:
    fill(desk.db, 3)
    desk.db.call("REPLICAOF", "127.0.0.1", "1")
    try:
        found = desk.db.driver.perform(desk.job(names=("t:0001",)), desk._write)
        assert (found.outcome, found.sent, found.unreachable) == ("failed", False, True)
        assert "a replica answers, and the master is meant" in found.reason
    finally:
        desk.db.call("REPLICAOF", "NO", "ONE")
    assert len(world(desk.db)) == 3


def test_a_value_that_changes_after_it_was_kept_comes_back_as_it_was_removed(desk: Desk) -> None:
    """A writer is at it all the time; what undo brings is what the script took away."""
    fill(desk.db, 400)
    over = threading.Event()
    seen: dict[bytes, list[bytes]] = {}

    def write() -> None:
        with desk.db.server.peer() as peer:
            number = 0
            while not over.is_set():
                name = b"t:%04d" % (number % 400)
                if peer.call("SET", name, b"w%d" % number, "XX", "PX", str(HOUR)):
                    seen.setdefault(name, []).append(b"w%d" % number)
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        support.until(lambda: seen)
        found = desk.remove(pattern="t:*", share=100.0)
    finally:
        over.set()
        writer.join()
    assert found.evidence["removed"] == 400
    changed = found.evidence["changed"]
    assert isinstance(changed, int)
    assert changed > 0, "the writer was too slow to show anything"
    assert f"{changed} had changed since they were kept" in found.reason
    assert desk.restore().reason == "put back 400 keys"
    own = desk.db.own()
    assert len(own) == 400
    assert all(own[name] == values[-1] for name, values in seen.items())


def test_what_stands_there_again_as_it_was_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was made the master meanwhile, a restore of others: the key is not gone."""
    fill(desk.db, 251)  # two pieces: it is looked at them when both are done
    before = world(desk.db)
    inner = driver._removed

    def restored(*how: Any) -> list[Fate]:
        found = inner(*how)
        value, end = before[b"t:0001"]
        desk.db.call("RESTORE", "t:0001", str(end), value, "ABSTTL")
        desk.db.call("SET", "t:0002", "anew")
        return found

    monkeypatch.setattr(driver, "_removed", restored)
    found = desk.remove(pattern="t:*", share=100.0)
    assert (found.outcome, found.evidence["left"], found.evidence["anew"]) == ("failed", 1, 1)
    assert "1 are LEFT" in found.reason


def test_what_a_server_does_not_remove_is_seen_right_behind_it(tmp_path: Path) -> None:
    """Also where one piece is all there is: what a server says it has done is not believed."""
    with server(rename_command="UNLINK void\nrename-command TOUCH UNLINK") as one:
        desk = Desk(support.keys(one), tmp_path)
        fill(desk.db, 3)
        before = world(desk.db)
        found = desk.remove(names=("t:0000", "t:0002"))
        assert (found.outcome, found.evidence["left"]) == ("failed", 2)
        assert found.reason == "removed 2 of 2 keys; 2 are LEFT"
        assert "still there: t:0002" in desk.printed
        assert world(desk.db) == before


def test_a_piece_that_is_sent_twice_is_done_once_and_says_the_same(desk: Desk) -> None:
    db = desk.db
    word = db.open().state_dir.split()[0]
    for name in ("small", "large", "same", "gone"):
        db.call("SET", f"t:{name}", "x", "PX", str(HOUR))
    was = world(db)
    keys = [Kept(name=name, dump=was[name][0], end=was[name][1]) for name in sorted(was)]
    db.call("SET", "t:small", "y" * 1000)
    db.call("SET", "t:large", random.Random(1).randbytes(1_000_000))
    db.call("DEL", "t:gone")
    session = opened(db.driver._access("main"))
    pieces = Pieces(session, db.run, "2/", word)
    data = pieces.removing(0, keys)
    first = pieces.became(data, len(keys))
    assert first.letters == "gkrc"  # gone, large, same, small
    for key in keys:
        db.call("SET", key.name, "anew")
    assert pieces.became(data, len(keys)) == first
    assert set(db.own().values()) == {b"anew"}
    db.call("DEL", "t:small")
    back = pieces.restore(1, removed(keys, first))
    assert back.letters == "br"
    assert db.call("GET", "t:small") == b"y" * 1000
    assert db.call("TTL", "t:small") == -1
    db.call("DEL", "t:small")
    assert pieces.restore(1, removed(keys, first)) == back
    assert db.call("EXISTS", "t:small") == 0
    assert pieces.bar(2, 1) is None
    assert pieces.became(pieces.removing(2, keys[:1]), 1).letters == "-"
    session.close()


def test_a_piece_of_names_that_is_sent_twice_is_done_once(desk: Desk) -> None:
    db = desk.db
    word = db.open().state_dir.split()[0]
    fill(db, 3)
    keys = [b"t:0000", b"t:0001", b"t:gone", b"t:0002"]
    session = opened(db.driver._access("main"))
    pieces = Pieces(session, db.run, "2/", word)
    data = pieces.clearing(0, keys)
    pieces.send(data)
    assert pieces.bar(1, 1) is None  # whoever asks something else meanwhile has the right answer
    first = pieces.became(data, 4)
    assert sorted(first.letters) == ["g", "r", "r", "r"]
    db.call("SET", "t:0001", "anew")
    assert pieces.became(data, 4) == first
    assert db.own() == {b"t:0001": b"anew"}
    assert pieces.became(pieces.clearing(1, keys[1:2]), 1).letters == "-"
    with pytest.raises(LostError):
        pieces.became(Pieces(session, db.run, "3/", "another").clearing(0, keys), 4)
    assert db.own() == {b"t:0001": b"anew"}
    session.close()


def test_a_piece_in_a_transaction_is_done_once_and_not_once_it_is_barred(desk: Desk) -> None:
    db = desk.db
    word = db.open().state_dir.split()[0]
    fill(db, 3)
    keys = [b"t:0000", b"t:0001", b"t:gone", b"t:0002"]
    sessions = [opened(db.driver._access("main")) for _ in range(2)]
    pieces = Pieces(sessions[0], db.run, "2/", word)
    ours, theirs = [Batches(one, Pieces(one, db.run, "2/", word)) for one in sessions]
    assert ours.able()
    run, _ = pieces.guard
    data = ours.spelt(0, keys)
    for one in (ours, theirs):
        one.look(0)
    theirs.send(data)
    first = theirs.became(0, data, 4)
    assert (first.letters, first) == ("rrrg", pieces.fate(0, 4))
    db.call("SET", "t:0001", "anew")
    ours.send(data)  # it comes late, and finds that a mark was left since it was looked for
    assert ours.became(0, data, 4) == first
    ours.look(1)
    assert pieces.bar(1, 1) is None
    data = ours.spelt(1, [b"t:0001"])
    ours.send(data)
    assert ours.became(1, data, 1).letters == "-"
    data = ours.spelt(2, [b"t:gone"])  # none is removed: that is known by the answer alone
    ours.send(data)
    assert ours.became(2, data, 1).letters == "g"
    assert pieces.fate(2, 1) == Fate(letters="g")
    data = ours.spelt(3, [b"t:0001"])
    db.call("CONFIG", "SET", "maxmemory", "1")
    ours.send(data)
    with pytest.raises(ServerError, match="OOM"):  # no mark can be left: then nothing is removed
        ours.became(3, data, 1)
    db.call("CONFIG", "SET", "maxmemory", "0")
    assert pieces.fate(3, 1) is None
    ours.look(3)
    db.call("SET", run, "another")
    ours.send(data)
    with pytest.raises(LostError):
        ours.became(3, data, 1)
    assert db.own() == {b"t:0001": b"anew"}
    db.call("SET", run, word)
    ours.look(3)
    db.call("ACL", "SETUSER", "default", "-multi")
    try:
        ours.send(data)  # what was to be one is done one by one: the mark tells, no answer does
        with pytest.raises(LostError, match="takes no transaction any more"):
            ours.became(3, data, 1)
    finally:
        db.call("ACL", "SETUSER", "default", "+multi")
    assert (db.own(), pieces.fate(3, 1)) == ({}, Fate(letters="r"))
    for session in sessions:
        session.close()


def limited(desk: Desk, *rights: str) -> None:
    """Let opskit come as a user who may do all, less something."""
    db = desk.db
    db.call("ACL", "SETUSER", "part", "reset", "on", ">part-of-it", "~opskit:*", "%R~*", "+@all",
            *rights)  # fmt: skip
    url = f"redis://part@127.0.0.1:{db.server.port}/0"
    db.use(replace(db.redis, url=url, password="w"), w="part-of-it")
    desk.contact = db.open()


@pytest.fixture
def parted(desk: Desk) -> Iterator[Desk]:
    fill(desk.db, 5)
    fill(desk.db, 5, "t:other:")
    yield desk
    desk.db.call("ACL", "DELUSER", "part")


def test_f18_removed_is_what_fitted_or_it_failed(parted: Desk) -> None:
    """F18: what fits and stays is no success."""
    before = world(parted.db)
    limited(parted, "~t:0*")
    found = parted.remove(pattern="t:*", share=100.0)
    assert (found.outcome, found.status, found.sent) == ("failed", 1, True)
    assert found.reason.startswith("removed 0 of 10 keys; 10 are LEFT: NOPERM")
    assert parted.restore().reason == "put back 0 keys"
    assert world(parted.db) == before


def test_without_values_a_right_that_lacks_is_no_success(parted: Desk) -> None:
    before = world(parted.db)
    limited(parted, "~t:*", "-exists")
    found = parted.remove(pattern="t:*", share=100.0, archive=False)
    assert (found.outcome, found.reason.partition(":")[0]) == (
        "failed", "removed 0 of 10 keys; 10 are LEFT",
    )  # fmt: skip
    limited(parted, "~t:0*")
    found = parted.remove(pattern="t:*", share=100.0, archive=False, attempt=2)
    assert found.reason.startswith("removed 0 of 10 keys; 10 are LEFT: NOPERM")
    assert world(parted.db) == before
    limited(parted, "~t:*", "-dump", "-restore", "-dbsize", "-multi")
    with parted.db.server.watched() as sent:  # by the list as it was made, and by scripts
        found = parted.remove(names=("t:0000",), archive=False, attempt=3)
    assert found.reason == "removed 10 of 10 keys"
    assert any('lua] "UNLINK"' in line for line in sent)


@pytest.mark.parametrize("right", ["-unlink", "-restore", "-dump"])
def test_what_could_not_be_put_back_is_not_removed(parted: Desk, right: str) -> None:
    before = world(parted.db)
    limited(parted, "~t:*", right)
    found = parted.remove(pattern="t:*", share=100.0)
    assert (found.outcome, found.status, found.sent) == ("failed", 1, False)
    assert "nothing is removed, as it could not be put back: " in found.reason
    assert f"has no permissions to run the '{right[1:]}' command: give" in found.reason
    assert world(parted.db) == before


def test_an_undo_that_was_refused_can_be_done_again(parted: Desk) -> None:
    before = world(parted.db)
    limited(parted, "~t:*")
    assert parted.remove(pattern="t:*", share=100.0).outcome == "succeeded"
    limited(parted, "~t:*", "-restore")
    found = parted.restore()
    assert found.outcome == "failed"
    assert "put back 0 keys; 10 are NOT put back" in found.reason
    limited(parted, "~t:*")
    assert parted.restore(attempt=2).reason == "put back 10 keys"
    assert world(parted.db) == before


def test_an_undo_that_was_refused_in_the_middle_goes_on_with_what_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value that the server does not take keeps those after it from nothing for good."""
    fill(desk.db, 10)
    before = world(desk.db)
    desk.remove(pattern="t:*", share=100.0)

    def spoilt(keys: Sequence[Kept], what: Fate) -> list[Kept]:
        found = removed(keys, what)
        return [*found[:4], replace(found[4], dump=b"of another version"), *found[5:]]

    with monkeypatch.context() as patch:
        patch.setattr("opskit.drivers.redis.keys.removed", spoilt)
        found = desk.restore()
        assert "put back 4 keys; 6 are NOT put back: " in found.reason
        desk.db.call("DEL", "t:0001")
        again = desk.restore(attempt=2)
        assert "put back 4 keys; 6 are NOT put back: " in again.reason
        assert desk.find("restore", attempt=2).again, "another attempt may put back what is left"
    assert desk.restore(attempt=3).reason == "put back 10 keys"
    lost = desk.find("restore", attempt=3)
    assert (lost.outcome, lost.reason) == ("succeeded", "put back 10 keys")
    assert desk.restore(attempt=4).reason == "put back 10 keys"
    assert world(desk.db) == {name: was for name, was in before.items() if name != b"t:0001"}


ACL = (
    "on >s3cret-word ~t:* ~opskit:* -@all +scan +unlink +type +pexpiretime +dump +restore +dbsize"
    " +exists +get +getrange +lrange +set +eval +time +info +ping +select +client|setname"
    " +client|no-touch"
)


def test_the_user_of_the_page_can_do_it_and_nothing_else(desk: Desk) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "rate-limits.md"
    rights = ACL.partition("~opskit:* ")[2]
    assert rights in page.read_text()
    db = desk.db
    db.call("ACL", "SETUSER", "opskit", *ACL.split())
    fill(db, 600)
    fill(db, 600, "u:")
    before = world(db)
    try:
        url = f"redis://opskit@127.0.0.1:{db.server.port}/0"
        db.use(replace(db.redis, url=url, password="w"), w="s3cret-word")
        assert desk.show(pattern="t:*", share=100.0).outcome == "succeeded"
        assert desk.remove(pattern="t:*", share=100.0).reason == "removed 600 of 600 keys"
        assert desk.restore().reason == "put back 600 keys"
        assert world(db) == before
        with db.server.peer() as peer:
            peer.call("AUTH", "opskit", "s3cret-word")
            for words in (("UNLINK", "u:0001"), ("FLUSHDB",), ("KEYS", "*"), ("GET", "u:0001")):
                with pytest.raises(hiredis.ReplyError, match="NOPERM"):
                    peer.call(*words)
    finally:
        db.call("ACL", "DELUSER", "opskit")


def test_a_cluster_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with server(cluster_enabled="yes", cluster_port=str(ports.free())) as one:
        assert one.call("CLUSTER", "ADDSLOTSRANGE", "0", "16382") == b"OK"
        desk = Desk(support.keys(one), tmp_path)
        with pytest.raises(UnreachableError, match="nobody has slot 16383"):
            desk.remove(names=("t:1",))
        shown = desk.show(names=("t:1",))
        assert (shown.outcome, shown.unreachable) == ("failed", True)
        one.call("CLUSTER", "ADDSLOTS", "16383")
        port = ports.free()
        one.call("CONFIG", "SET", "cluster-announce-port", str(port))  # where nobody is
        lost = desk.show(names=("t:1",)).reason
        assert f"its primary 127.0.0.1:{port}: it can't be reached" in lost


def test_what_counters_say_is_shown(desk: Desk) -> None:
    now = time.time()
    rate = Rate(head="t:user_", count=3, seconds=3600)
    desk.db.call("SET", "t:user_1", pickle.dumps([now - 10, now - 20, now - 30]), "EX", "3600")
    desk.db.call("SET", "t:user_2", pickle.dumps([now - 10, now - 4000, now - 5000]), "EX", "3600")
    desk.db.call("SET", "t:user_3", "3", "EX", "60")
    desk.db.call("RPUSH", "t:user_4", str(now - 1), str(now - 2))
    desk.db.call("SET", "t:else", "7")
    desk.show(pattern="t:*", share=100.0, rates=(rate,))
    lines = dict(line.split("  ", 1) for line in desk.printed.splitlines()[1:])
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 30 + 3600))
    assert f"3 of 3 in 1h  blocked until {until}" in lines["t:user_1"]
    assert "1 of 3 in 1h  not blocked" in lines["t:user_2"]
    assert "3 of 3 in 1h  blocked until" in lines["t:user_3"]
    assert "list  without an end  2 of 3 in 1h  not blocked" in lines["t:user_4"]
    assert lines["t:else"] == "string  without an end  count 7"


class Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch /tmp/opskit-was-here",)


def test_a_value_is_never_unpickled() -> None:
    assert counted(pickle.dumps([Trap()])) is None
    assert counted(pickle.dumps(Trap())) is None
    assert counted(b"\x80\x05garbage") is None
    assert not Path("/tmp/opskit-was-here").exists()


def test_the_counter_of_django_ratelimit_is_found_by_the_servers_clock(desk: Desk) -> None:
    one = Windows(head="t:rl:", parts=("login", "5/60s", "17"), value="17", seconds=60)
    for name in limits.names(one, time.time()):
        desk.db.call("SET", name, "5")
    desk.db.call("SET", "t:rl:other", "5")
    assert desk.remove(windows=(one,)).outcome == "succeeded"
    assert set(world(desk.db)) == {b"t:rl:other"}
