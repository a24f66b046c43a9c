"""Sets of keys of a cluster: found at every primary, removed once, put back; slots that move."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.cluster import Wide
from opskit.drivers.redis.connection import Connection
from opskit.drivers.redis.marks import Marks
from opskit.drivers.redis.slots import slot_of
from opskit.model.inventory import Redis
from opskit.model.job import Output
from tests.drivers.test_keys import Desk
from tests.support.cluster import Cluster, cluster
from tests.support.redis import Keys, Server

pytestmark = pytest.mark.acceptance
EVERY = {"pattern": "t:*", "override": "all"}
KEPT = pytest.mark.parametrize("archive", [True, False])


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture
def desk(three: Cluster, tmp_path: Path) -> Desk:
    three.clear()
    first = three.servers[0]
    server = Redis(name="main", url=f"redis://127.0.0.1:{first.port}")
    return Desk(Keys(first, f"run{random.random()}", server), tmp_path)


def fill(three: Cluster, count: int) -> dict[bytes, bytes]:
    three.fill({f"t:{number:04}": f"v{number}" for number in range(count)})
    three.call("SET", "other", "stays")
    return three.own()


def spared(three: Cluster) -> bool:
    return three.own() == {b"other": b"stays"}


def test_slots_are_reckoned_as_servers_reckon_them(three: Cluster) -> None:
    for name in ("t:1", "{t}:1", "t{}x", "a{b}c{d}", "{", "}{x", "", "ä"):
        told = three.servers[0].call("CLUSTER", "KEYSLOT", name)
        assert slot_of(name.encode()) == told, name


@KEPT
def test_keys_of_every_primary_are_shown_removed_and_put_back(
    three: Cluster, desk: Desk, *, archive: bool
) -> None:
    before = fill(three, 300)
    shown = desk.show(**EVERY)
    assert (shown.outcome, shown.evidence["keys"], shown.evidence["of"]) == ("succeeded", 300, 301)
    digest = str(shown.evidence["digest"])
    found = desk.remove(**EVERY, digest=digest, archive=archive)
    assert found.reason == "removed 300 of 300 keys", found
    assert found.evidence["primaries"] == 3
    assert spared(three)
    again = desk.remove(**EVERY, attempt=2, archive=archive)  # sent twice, it is done once
    assert again.reason == "removed 300 of 300 keys", again
    if archive:
        back = desk.restore(**EVERY)
        assert back.reason == "put back 300 keys", back
        assert three.own() == before


def test_exact_keys_are_removed_wherever_they_are(three: Cluster, desk: Desk) -> None:
    fill(three, 9)
    names = tuple(f"t:{number:04}" for number in range(9))
    large = ("t:0009", "t:0010", "t:0011")  # one of each primary
    for name in large:
        three.call("SET", name, os.urandom(8 * 1024 * 1024))
    desk.db.changed(max_output=1024)
    assert "a value is too large to be kept" in desk.remove(names=(*names, *large)).reason
    for name in large:
        three.call("DEL", name)
    assert desk.remove(names=names).reason == "removed 9 of 9 keys"
    assert spared(three)


@contextmanager
def before(owner: type, method: str, number: int, do: Callable[[], object]) -> Iterator[None]:
    """Do something before the so-many-th call of a method."""
    inner, calls = getattr(owner, method), iter(range(1000))

    def outer(*words: object, **more: object) -> object:
        if next(calls) == number:
            do()
        return inner(*words, **more)

    setattr(owner, method, outer)
    try:
        yield
    finally:
        setattr(owner, method, inner)


def last_primary(three: Cluster) -> Server:
    """Return the primary with the last id, which has the last pieces."""
    return max(three.servers, key=lambda one: str(one.call("CLUSTER", "MYID")))


def last(three: Cluster) -> int:
    """Return the slot of a key that is in the last piece."""
    server = last_primary(three)
    names = (f"t:{number:04}" for number in range(300))
    return slot_of(next(name for name in names if three.of(name) is server).encode())


def left(three: Cluster) -> int:
    return len(three.own()) - 1


@KEPT
def test_slots_that_move_while_it_is_done_end_it_as_failed(
    three: Cluster, desk: Desk, *, archive: bool
) -> None:
    fill(three, 300)
    slot = last(three)
    with before(Pieces, "remove" if archive else "sweep", 1, lambda: three.move(slot)):
        found = desk.remove(**EVERY, archive=archive)
    assert found.outcome == "failed", found
    assert "the cluster has moved slots meanwhile" in found.reason
    removed = int(str(found.evidence["removed"]))
    assert removed + left(three) == 300
    assert 0 < removed < 300
    later = desk.find(archive=archive, **EVERY)
    assert (later.outcome, left(three)) != ("succeeded", 0)
    assert "moved" in desk.restore(**EVERY).reason if archive else True
    three.clear()


@KEPT
def test_a_slot_on_its_way_is_found_out_before_and_in_the_middle(
    three: Cluster, desk: Desk, *, archive: bool
) -> None:
    """What is asked of a key that has gone before its slot is no "it is not there"."""
    before_it = fill(three, 300)
    slot = slot_of(b"t:0150")
    ways: list[tuple[object, ...]] = []

    def begin() -> None:
        source, to = three.begin_to_move(slot)
        names = source.call("CLUSTER", "GETKEYSINSLOT", str(slot), "100")
        source.call("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *names)
        ways.append((source, to))

    with before(Pieces, "remove" if archive else "sweep", 0, begin):
        found = desk.remove(**EVERY, archive=archive)
    assert found.outcome == "failed", found
    assert "the cluster has moved slots meanwhile" in found.reason
    refused = Desk(Keys(three.servers[0], "other", desk.db.redis), desk.folder)
    looked = refused.show(**EVERY)
    assert (looked.outcome, looked.sent) == ("failed", False)
    assert "on their way" in looked.reason
    (way,) = ways
    three.carry(slot, *way)  # type: ignore[arg-type]
    assert before_it.keys() >= three.own().keys()
    three.clear()


def test_what_is_moved_while_keys_are_listed_is_no_list(three: Cluster, desk: Desk) -> None:
    fill(three, 300)
    slot = last(three)
    with before(Connection, "answered", 2, lambda: three.move(slot)):
        found = desk.remove(**EVERY)
    assert (found.outcome, found.sent) == ("failed", False), found
    assert left(three) == 300
    assert "moved" in found.reason


def test_a_primary_that_has_no_slot_any_more_is_no_crash(three: Cluster, desk: Desk) -> None:
    fill(three, 30)
    with ExitStack() as meanwhile:
        bare = three.bare(last_primary(three))
        with before(Wide, "again", 0, lambda: meanwhile.enter_context(bare)):
            found = desk.remove(**EVERY)
    assert (found.outcome, found.sent) == ("failed", False), found
    assert found.reason.startswith("slots have moved")
    assert left(three) == 30


@pytest.mark.soak
@KEPT
@pytest.mark.parametrize("when", ["listed", "removed"])
def test_a_replica_that_takes_over_ends_it(tmp_path: Path, when: str, *, archive: bool) -> None:
    with cluster() as own, own.replica(last_primary(own)) as replica:
        fill(own, 300)
        old = last_primary(own)
        first = next(one for one in own.servers if one is not old)
        server = Redis(name="main", url=f"redis://127.0.0.1:{first.port}")
        desk = Desk(Keys(first, "run", server), tmp_path)
        owner: type = Wide if when == "listed" else Pieces
        method = "again" if when == "listed" else "remove" if archive else "sweep"
        with before(owner, method, int(when == "removed"), lambda: own.hand_over(old, replica)):
            found = desk.remove(**EVERY, archive=archive)
        own.servers[own.servers.index(old)] = replica
        gone = 300 - left(own)
    assert (found.outcome, found.sent) == ("failed", when == "removed"), found
    told = "another one has taken over" if when == "listed" else f"removed {gone} of 300 keys"
    assert told in found.reason
    assert "RESHARDED" not in found.reason


@KEPT
@pytest.mark.parametrize("at", ["mark", "list", "piece"])
def test_who_goes_on_does_the_rest_and_nothing_twice(
    three: Cluster, desk: Desk, at: str, *, archive: bool
) -> None:
    """Ended between the primaries: while it is agreed by which list, or between two pieces."""
    fill(three, 300)

    class Gone(Exception):  # noqa: N818 - the end of the process
        pass

    def gone() -> None:
        raise Gone

    owner, method, number = {
        "mark": (Marks, "once", 1), "list": (Marks, "once", 0),
        "piece": (Marks, "scripted", 2),
    }[at]  # fmt: skip
    with pytest.raises(Gone), before(owner, method, number, gone):
        desk.remove(**EVERY, archive=archive)
    there = three.own()
    anew = [name for name in (b"t:%04d" % number for number in range(300)) if name not in there][:2]
    for name in anew:
        three.call("SET", name, "anew")
    found = desk.find(**EVERY, archive=archive)
    assert found.again, found
    done: Output = desk.remove(**EVERY, attempt=2, archive=archive)
    assert (done.outcome, done.reason[:23]) == ("succeeded", "removed 300 of 300 keys"), done
    assert left(three) == len(anew)


def test_a_primary_whose_data_is_gone_leaves_it_unknown(three: Cluster, desk: Desk) -> None:
    fill(three, 300)
    with before(Pieces, "remove", 2, lambda: last_primary(three).call("FLUSHALL")):
        found = desk.remove(**EVERY)
    assert found.outcome == "unknown", found
    assert "key of this run is gone" in found.reason
    later = desk.find(**EVERY)
    assert (later.outcome, later.again) == ("unknown", False)
