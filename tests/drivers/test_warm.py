"""A cache being filled from a list: written exactly, nothing twice, and taken back."""

import gzip
import random
import resource
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opskit.drivers.redis import filling, shelf
from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.connection import EndedError
from opskit.drivers.redis.guards import Guard
from opskit.drivers.redis.pace import Polite
from opskit.drivers.redis.rejoin import within
from opskit.drivers.redis.session import opened
from opskit.drivers.redis.stocking import Batch, Writer
from opskit.model.job import Output
from opskit.model.warm import Source, Warm
from tests.drivers.test_keys import world
from tests.support import redis as support
from tests.support.redis import Keys, Peer, Server, server
from tests.support.warming import HOUR, Stove, rows

pytestmark = pytest.mark.acceptance


@pytest.fixture
def db(redis: Server) -> Keys:
    return support.keys(redis)


@pytest.fixture
def stove(db: Keys, tmp_path: Path) -> Stove:
    return Stove(db, tmp_path)


def test_what_is_shown_is_what_is_written_and_what_is_taken_back(stove: Stove) -> None:
    stove.rows(rows(450))
    shown = stove.do("show")
    assert world(stove.db) == {}
    found = stove.do("fill", digest=shown.stdout.decode())
    assert shown.reason.startswith("450 keys, 14290 bytes, for 3600 s; digest ")
    assert (found.outcome, found.stdout) == ("succeeded", b"450")
    assert "wrote 450 of 450 keys; 100 of 100 looked at are as they were written" in found.reason
    there = stove.db.own()
    assert there == {str(r["key"]).encode(): str(r["value"]).encode() for r in rows(450)}
    now = time.time() * 1000
    ends = [end - now for _, end in world(stove.db).values()]
    assert 0.89 * HOUR < min(ends) < 0.94 * HOUR
    assert 1.06 * HOUR < max(ends) < 1.1 * HOUR + 1
    assert found.evidence["digest"] == shown.evidence["digest"]
    first, then = (found.evidence[name] for name in ("before", "after"))
    assert isinstance(first, dict)
    assert isinstance(then, dict)
    assert 450 <= then["keys"] - first["keys"] < 460  # and marks
    assert 0 < first["p50_ms"] <= first["p99_ms"] < 10_000
    assert then["avg_ttl_ms"] >= 0  # the server reckons it now and then
    assert first["used_memory"] < then["used_memory"]
    assert then["evicted_keys"] == first["evicted_keys"]
    back = stove.do("restore")
    assert (back.outcome, back.reason) == ("succeeded", "removed 450 of 450 keys")
    assert world(stove.db) == {}


def test_with_a_reason_keys_stay_long_and_a_large_value_is_told_of(stove: Stove) -> None:
    stove.rows([{"key": "t:1", "value": "v" * 100_001, "ttl": "60d"}], ttl="{ttl}")
    for do in ("show", "fill"):
        assert stove.do(do, override="they hardly change").outcome == "succeeded"
        assert "WARN: the largest value has 100001 bytes" in stove.printed
    assert stove.db.call("TTL", "t:1") > 50 * 86400


@pytest.mark.parametrize(
    ("gone", "changed", "why"),
    [(9, 0, ""), (15, 0, "15 of them are gone, 0 are something else"), (0, 40, ""),
     (0, 60, "0 of them are gone, 60 are something else")],
)  # fmt: skip
def test_a_sample_that_is_not_as_it_was_written_fails(
    stove: Stove, monkeypatch: pytest.MonkeyPatch, gone: int, changed: int, why: str
) -> None:
    """Somebody who evicts, flushes, or writes something else over it all."""
    inner = filling.said

    def told(*how: Any) -> Output:  # noqa: ANN401 - it passes on what it is given
        for n in range(gone):
            stove.db.call("DEL", f"t:{n:06}")
        for n in range(changed):
            stove.db.call("APPEND", f"t:{n:06}", "x")
        return inner(*how)

    monkeypatch.setattr(filling, "said", told)
    stove.rows(rows(100))
    found = stove.do("fill")
    assert found.outcome == ("failed" if why else "succeeded")
    assert (found.evidence["gone"], found.evidence["changed"]) == (gone, changed)
    assert why in found.reason


def test_no_batch_is_larger_than_a_mebibyte(stove: Stove) -> None:
    sizes: list[int] = []

    def sized(batch: Batch) -> None:
        sizes.append(len(batch.data))

    stove.rows(rows(7, size=400_000))
    with batches(stove, -1, sized=sized):
        assert stove.do("fill").outcome == "succeeded"
    assert len(sizes) == 4
    assert max(sizes) < 1 << 20
    assert stove.do("restore").outcome == "succeeded"


def test_fill_overwrites_nothing_and_its_undo_leaves_that(stove: Stove) -> None:
    stove.fill(300)
    before = world(stove.db)
    stove.rows(rows(450))
    found = stove.do("fill")
    assert (found.evidence["written"], found.evidence["stood"]) == (150, 300)
    now = world(stove.db)
    assert {name: now[name] for name in before} == before
    assert stove.do("restore").reason == "removed 150 of 150 keys"
    assert world(stove.db) == before


def test_refresh_overwrites_and_puts_back_what_was_there(stove: Stove) -> None:
    stove.fill(300)
    stove.db.call("HSET", "t:000007x", "a", "1")
    stove.db.call("DEL", "t:000003")
    stove.db.call("RPUSH", "t:000003", "a", "b")
    before = world(stove.db)
    stove.rows(rows(450))
    found = stove.do("refresh", format="raw")
    assert (found.outcome, found.evidence["written"]) == ("succeeded", 450)
    assert stove.db.call("GET", "t:000003") == b"3-" + b"v" * 20
    back = stove.do("restore")
    assert back.reason == "removed 150 of 450 keys; 300 are what they were before"
    assert world(stove.db) == before


def test_refresh_may_keep_nothing(stove: Stove) -> None:
    stove.fill(10)
    stove.rows(rows(20))
    stove.do("refresh", keep=False)
    assert stove.do("restore").reason == "removed 20 of 20 keys"
    assert world(stove.db) == {}


def test_what_others_have_written_since_stays(stove: Stove) -> None:
    stove.fill(5)
    stove.rows(rows(10))
    stove.do("refresh")
    stove.db.call("SET", "t:000001", "newer", "KEEPTTL")
    stove.db.call("PEXPIRE", "t:000002", str(HOUR * 3))
    stove.db.call("DEL", "t:000003")
    stove.db.call("DEL", "t:000008")
    stove.db.call("HSET", "t:000008", "a", "1")
    back = stove.do("restore")
    assert back.reason == (
        "removed 4 of 10 keys; 2 are what they were before; 3 are something else by now, and stay;"
        " 1 had gone"
    )
    assert stove.db.call("GET", "t:000001") == b"newer"
    assert stove.db.call("EXISTS", "t:000003") == 0


def test_what_our_end_has_ended_is_put_back_unless_it_is_over_too(stove: Stove) -> None:
    stove.fill(3)
    began = time.monotonic()
    stove.db.call("PEXPIRE", "t:000001", "1500")
    stove.rows(rows(3), ttl="0.4")
    stove.do("refresh")
    time.sleep(max(0.5, began + 1.6 - time.monotonic()))
    assert stove.db.own() == {}
    back = stove.do("restore")
    assert back.reason == "removed 0 of 3 keys; 2 are what they were before; 1 had gone"


class Writing(threading.Thread):
    """An application that writes keys all the time, each with what no list has."""

    def __init__(self, found: Server, count: int) -> None:
        super().__init__()
        self.found, self.count, self.over = found, count, threading.Event()
        self.last: dict[bytes, bytes] = {}

    def run(self) -> None:
        lot = random.Random(1)
        with self.found.peer() as peer:
            number = 0
            while not self.over.is_set():
                number += 1
                key = b"t:%06d" % lot.randrange(self.count)
                value = b"app-%d" % number
                peer.call("SET", key, value, "PX", str(2 * HOUR))
                self.last[key] = value


def test_undo_beside_a_writer_brings_back_what_stood_when_it_was_overwritten(stove: Stove) -> None:
    stove.fill(2000, value="was")
    before = world(stove.db)
    stove.rows(rows(2000))
    app = Writing(stove.db.server, 1000)
    app.start()
    try:
        found = stove.do("refresh")
        while len(app.last) < 100:
            time.sleep(0.01)
        back = stove.do("restore")
    finally:
        app.over.set()
        app.join(20)
    assert (found.outcome, back.outcome) == ("succeeded", "succeeded"), (found, back)
    now = world(stove.db)
    untouched = before.keys() - app.last.keys()
    assert len(untouched) > 50
    assert {name: now[name] for name in untouched} == {name: before[name] for name in untouched}
    values = stove.db.own()
    assert {name: values[name] for name in app.last} == app.last, "what the application wrote last"


REFUSED: list[tuple[list[Mapping[str, object]], Mapping[str, str], str]] = [
    ([{"key": "x:1", "value": ""}], {}, "begins with none of what is allowed: t:"),
    ([{"key": "", "value": ""}], {}, "rows.jsonl:1: the key can't be used: it is empty"),
    ([{"key": "t:" + "é" * 520, "value": ""}], {}, "has 1042 bytes, more than 1024"),
    ([{"key": "t:\n", "value": ""}], {}, "control character"),
    ([{"key": "t:1", "value": "v" * 1_000_001}], {}, "its value has 1000001 bytes"),
    ([{"key": "t:1", "value": None}], {}, "its column value has no value"),
    ([{"key": "t:1"}], {}, "it has no column value"),
    ([{"key": "t:1", "value": ""}], {"ttl": "{ttl}"}, "it has no column ttl"),
    ([{"key": "t:1", "value": "", "ttl": 0}], {"ttl": "{ttl}"}, "it would stay for '0'"),
    ([{"key": "t:1", "value": "", "ttl": "31d"}], {"ttl": "{ttl}"}, "for more than 30 days"),
    ([{"key": "t:1", "value": ""}] * 2, {}, "rows.jsonl:2: the key 't:1' stands before it, too"),
    ([], {}, "the source has no row"),
    ([*rows(6)], {}, "there are more than 5 keys (max_keys)"),
]


@pytest.mark.parametrize(("found", "how", "told"), REFUSED)
def test_a_list_with_one_bad_row_is_refused_and_nothing_is_touched(
    stove: Stove, found: list[Mapping[str, object]], how: Mapping[str, str], told: str
) -> None:
    good = rows(3, head="t:good") if found and len(found) < 3 else []
    stove.rows([*found, *good], **how)
    for do in ("show", "fill"):
        refused = stove.do(do, most=5)
        assert (refused.outcome, refused.sent) == ("failed", False)
        assert told in refused.reason
        assert world(stove.db) == {}
    assert not stove.place.exists()


FILES = [
    (b'{"key": "t:1", "value": "a"}\n{"key": ', "rows.jsonl", "rows.jsonl:2: it is no JSON"),
    (b'{"key": "t:1", "value": NaN}\n', "rows.jsonl", "NaN is no JSON"),
    (b'{"key": "t:1", "value": [1e999]}\n', "rows.jsonl", "value can't be written as JSON"),
    (b"key,value\nt:1," + b"x" * 1_000_001, "rows.csv", "2: its value has 1000001 bytes"),
    (b"t:1,x\nt:2,y\n", "rows.csv", "rows.csv:2: it has no column key"),
    (b"", "rows.csv", "the source has no row"),
    (b'["t:1"]\n', "rows.jsonl", "it is no JSON object"),
    (b'{"key": "t:\xff"}\n', "rows.jsonl", "it is not UTF-8"),
    (b"key,value\nt:1\n", "rows.csv", "rows.csv:2: it has 1 columns, and the heading 2"),
    (b"key,key\nt:1,2\n", "rows.csv", "two columns have one name"),
]


@pytest.mark.parametrize(("data", "name", "told"), FILES)
def test_a_file_that_is_not_what_it_says_is_refused(
    stove: Stove, data: bytes, name: str, told: str
) -> None:
    stove.lines(data, name)
    assert told in stove.do("fill").reason
    assert world(stove.db) == {}


def test_a_file_that_is_not_what_was_planned_is_refused(stove: Stove) -> None:
    stove.rows(rows(3))
    Path(stove.source.path).write_bytes(b'{"key": "t:1", "value": "other"}\n')
    assert "is not what it was when this was planned" in stove.do("fill").reason
    stove.rows(rows(3))
    told = stove.do("fill", digest="abc").reason
    assert told.startswith("the rows are others than those that were agreed on: 3 keys")
    assert world(stove.db) == {}


def test_csv_and_columns_become_keys_as_they_are_written(stove: Stove) -> None:
    stove.lines(
        "\ufeffslug,body,ttl\r\na{b}*,\"two\r\nlines, 'quoted'\",5m\r\nÉ x,,60\r\n".encode(),
        "rows.csv", key="t:{slug}:1", value='{"b": "{body}"}', ttl="{ttl}",
    )  # fmt: skip
    assert stove.do("fill", jitter=0.0).outcome == "succeeded"
    assert stove.db.own() == {
        b"t:a{b}*:1": b"{\"b\": \"two\r\nlines, 'quoted'\"}", "t:É x:1".encode(): b'{"b": ""}',
    }  # fmt: skip
    assert 299_000 < stove.db.call("PTTL", "t:a{b}*:1") <= 300_000
    stove.rows([{"id": 7, "body": {"a": [1, "é"]}}], key="t:{id}", value="{body}")
    stove.key = "3/"
    assert stove.do("fill").stdout == b"1"
    assert stove.db.call("GET", "t:7") == '{"a":[1,"é"]}'.encode()


def test_where_a_queue_lives_nothing_is_written(stove: Stove) -> None:
    stove.rows(rows(3))
    for name in ("celery", "unacked", "_kombu.binding.mail"):
        stove.db.call("FLUSHALL")
        stove.contact = None
        stove.db.call("RPUSH", name, "x")
        assert "is that of a queue (Celery)" in stove.do("show").reason
        assert "is that of a queue (Celery)" in stove.do("fill").reason
        assert set(world(stove.db)) == {name.encode()}


FOREIGN: list[tuple[list[bytes], str, Mapping[str, str]]] = [
    ([b"SET", b"t:000003", b"\x80\x05K\x01."], "'t:000003' is pickled there",
     {"seen": "", "json": "", "raw": "ok"}),
    ([b"SET", b"t:000499", zlib.compress(b"x" * 99)], "'t:000499', which begins alike, is no text",
     {"seen": "", "json": "ok"}),  # the first twenty are looked at, one of each batch, and others
    ([b"SET", b"t:000500", zlib.compress(b"x" * 99)], "'t:000500' is no text there, but compressed",
     {"seen": "", "json": "", "raw": "ok"}),
    ([b"HSET", b"t:000000", b"a", b"1"], "'t:000000' is no string there",
     {"seen": "", "json": "", "raw": "ok"}),
    ([b"SET", b"t:other", gzip.compress(b"{}")], "'t:other', which begins alike, is no text",
     {"seen": "", "json": "ok", "raw": "ok"}),
    ([b"HSET", b"t:other", b"a", b"1"], "", {"seen": "ok"}),
    ([b"SET", b"t:000001", "{\"a\": \"é\"}\r\n\t".encode() + "é".encode() * 99], "",
     {"seen": "ok", "json": "ok"}),
]  # fmt: skip


@pytest.mark.parametrize(("there", "told", "formats"), FOREIGN)
def test_nothing_is_written_for_readers_who_expect_something_else(
    stove: Stove, there: list[bytes], told: str, formats: Mapping[str, str]
) -> None:
    """A cache that an application pickles or compresses breaks on bytes of others."""
    stove.rows([{"key": f"t:{n:06}", "value": {"n": n}} for n in range(501)])
    stove.db.call(*there)
    before = world(stove.db)
    for number, (form, fine) in enumerate(formats.items()):
        stove.key = f"{number + 2}/"
        for do in ("show", "refresh"):
            found = stove.do(do, format=form)
            if fine:
                assert found.outcome == "succeeded", found.reason
                continue
            assert (found.outcome, told in found.reason) == ("failed", True), found.reason
            assert not found.sent or do == "show"
            assert world(stove.db) == before
        if fine:
            assert stove.do("restore").outcome == "succeeded"
            assert world(stove.db) == before


def test_names_of_djangos_cache_are_written_only_where_that_is_said(stove: Stove) -> None:
    stove.rows(rows(3, head=":1:t:"))
    found = stove.do("fill", allow=(":1:t:",))
    assert "':1:t:000000' is a key of Django's cache, which reads what it has" in found.reason
    assert "format: json or raw" in found.reason
    assert world(stove.db) == {}
    told = stove.do("fill", allow=(":1:t:",), format="json").reason
    assert "the value of ':1:t:000000' is no JSON (format: json): Extra data: line 1" in told
    assert "vvvv" not in told, "whatever a cache holds is no text for a record"
    assert stove.do("fill", allow=(":1:t:",), format="raw").stdout == b"3"


@pytest.mark.parametrize(
    ("head", "allow", "told"),
    [
        ("shop:1:t:", ("shop:",), "with KEY_PREFIX 'shop'"),
        ("shop:eu:1:t:", ("shop:eu:1:",), "with KEY_PREFIX 'shop:eu'"),
        ("shop:12:t:", ("shop:12:",), "with KEY_PREFIX 'shop'"),
        ("team:12:", ("team:",), ""),  # a number that is of the key, as far as anybody can tell
        ("shop:1", ("shop:",), ""),
    ],
)
def test_an_empty_cache_of_django_with_a_prefix_is_known_by_its_names(
    stove: Stove, head: str, allow: tuple[str, ...], told: str
) -> None:
    stove.rows(rows(3, head=head))
    found = stove.do("fill", allow=allow)
    if not told:
        assert found.stdout == b"3", found.reason
        return
    assert f"'{head}000000' looks like a key of Django's cache {told}" in found.reason
    assert "format: json or raw" in found.reason
    assert world(stove.db) == {}
    with stove.db.server.peer() as peer:  # what is there says that its readers take text
        peer.call("SET", f"{head}other", "plain")
    assert stove.do("fill", allow=allow, attempt=2).stdout == b"3"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stove]:
    with server(maxmemory="4mb", maxmemory_policy="noeviction") as one:
        yield Stove(support.keys(one), tmp_path)


def test_memory_bounds_what_is_written_and_oom_in_a_batch_leaves_none_of_it(small: Stove) -> None:
    stove = small
    used = int(support_info(stove.db, "memory")["used_memory"])
    stove.rows(rows(200, size=30_000))
    assert "nothing is evicted there (noeviction)" in stove.do("show").reason
    stove.db.call("CONFIG", "SET", "maxmemory", str(used + 3_000_000))
    stove.rows(rows(2500, size=200))
    shown = stove.do("show", memory=100.0)
    assert shown.outcome == "succeeded", shown.reason
    assert "of the server's memory (max_memory) would be used" in stove.do("fill", memory=1).reason

    def full() -> None:
        stove.db.call("CONFIG", "SET", "maxmemory", "1mb")

    with batches(stove, 2, full):
        found = stove.do("fill", memory=100.0)
    assert (found.outcome, found.evidence["written"], found.evidence["left"]) == (
        "failed", 1000, 1500,
    )  # fmt: skip
    assert "OOM command not allowed" in found.reason
    assert len(world(stove.db)) == 1000
    stove.db.call("CONFIG", "SET", "maxmemory", "100mb")
    with batches(stove, 0, full):
        again = stove.do("fill", attempt=2, memory=100.0)
    assert "(501 times)" in again.reason, "each answer is counted"
    assert len(world(stove.db)) == 1000
    stove.db.call("CONFIG", "SET", "maxmemory", "100mb")
    assert stove.do("restore").reason == "removed 1000 of 1000 keys"
    assert world(stove.db) == {}


def support_info(db: Keys, section: str) -> Mapping[str, str]:
    lines = db.call("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


class batches:  # noqa: N801 - used as a statement
    """Do something before the N-th batch is sent."""

    def __init__(
        self, stove: Stove, number: int, do: Callable[[], None] = lambda: None,
        sized: Callable[[Batch], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.left, self.do, self.inner, self.sized = number, do, Writer.send, sized

    def __enter__(self) -> None:
        outer = self

        def send(self: Writer, batch: Batch, following: Batch | None = None) -> None:
            outer.sized(batch)
            if outer.left == 0:
                outer.do()
            outer.left -= 1
            outer.inner(self, batch, following)

        Writer.send = send  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Writer.send = self.inner  # type: ignore[method-assign]


def test_a_server_that_evicts_is_left_in_peace(stove: Stove) -> None:
    session = opened(stove.db.driver._access("main"), within(10))
    guard = Guard(session.connection, Warm(do="fill", server="main"))
    grown = {"evicted_keys": str(guard._evicted + 3), "used_memory": "1", "maxmemory": "0"}
    assert "has evicted 3 keys meanwhile" in guard.judged(grown)
    full = {**grown, "evicted_keys": str(guard._evicted), "used_memory": "81", "maxmemory": "100"}
    assert "more than 80 % of the server's memory is used" in guard.judged(full)
    assert guard.judged({**full, "used_memory": "79"}) == ""
    session.close()


def test_a_replica_is_refused(stove: Stove, tmp_path: Path) -> None:
    stove.rows(rows(3))
    with server(replicaof=f"127.0.0.1 {stove.db.server.port}") as other:
        support.until(lambda: b"master_link_status:up" in other.call("INFO", "replication"))
        copy = replace(stove.db.redis, url=f"redis://127.0.0.1:{other.port}/0", role="replica")
        there = Stove(Keys(other, "run-r", copy), tmp_path)
        there.source = stove.source
        assert "is a replica" in there.do("show").reason
        assert "is a replica: nothing is changed there" in there.do("fill").reason
        meant = Stove(there.db.changed(role="master"), tmp_path)
        meant.source = stove.source
        assert "a replica answers, and the master is meant" in meant.do("show").reason
    assert world(stove.db) == {}


def test_another_process_that_goes_on_bars_the_first(stove: Stove) -> None:
    stove.rows(rows(2500))

    def overtaken() -> None:
        found = stove.find("fill")
        assert (found.again, found.part, found.outcome) == (True, True, "failed")
        assert found.reason == "1000 of 2500 keys are written; it goes on with the rest"

    with batches(stove, 2, overtaken):
        late = stove.do("fill")
    assert (late.outcome, len(world(stove.db))) == ("unknown", 1000)
    stove.db.call("DEL", "t:000000")
    found = stove.do("fill", attempt=2)
    assert (found.outcome, found.evidence["written"]) == ("succeeded", 2500)
    assert stove.db.call("EXISTS", "t:000000") == 0, "what was written once is not written again"
    assert stove.do("restore").reason == "removed 2499 of 2500 keys; 1 had gone"


def test_answers_that_were_lost_are_looked_up_and_nothing_of_others_is_taken_back(
    stove: Stove,
) -> None:
    stove.fill(100, value="was")
    stove.rows(rows(500))
    stove.do("fill")
    (stove.place / shelf.SAID).unlink()
    found = stove.find("fill")
    assert (found.outcome, found.evidence["written"]) == ("succeeded", 400)
    (stove.place / shelf.SAID).write_text("0 200 5")  # as a machine that fails leaves it
    assert stove.do("restore").reason == "removed 400 of 400 keys"
    assert len(world(stove.db)) == 100


def test_when_marks_are_gone_nobody_writes_or_takes_back(stove: Stove) -> None:
    stove.rows(rows(1200))
    with batches(stove, 1, lambda: stove.db.call("FLUSHALL")):
        found = stove.do("fill")
    assert found.outcome == "unknown"
    assert world(stove.db) == {}
    assert stove.find("fill").outcome == "unknown"
    stove.contact = stove.db.open()
    assert "its marks are gone from the server" in stove.do("restore").reason


def test_when_only_the_mark_of_how_far_it_is_goes_nobody_guesses(stove: Stove) -> None:
    stove.rows(rows(2500))

    def evicted() -> None:
        (name,) = stove.db.call("KEYS", "opskit:mark:*:done")
        stove.db.call("DEL", name)

    with batches(stove, 2, evicted):
        found = stove.do("fill")
    assert (found.outcome, len(world(stove.db))) == ("unknown", 1500)
    assert "the mark that says how far it is has gone" in found.reason
    assert stove.find("fill").outcome == "unknown"
    assert stove.do("fill", attempt=2).outcome == "unknown"
    assert len(world(stove.db)) == 1500


RIGHTS = (
    "on nopass ~t:* ~opskit:* -@all +set +get +mget +append +incr +pexpire +pexpiretime +dump"
    " +restore +unlink +multi +exec +watch +eval +time +info +ping +select +exists +scan"
)  # no +getrange: who has no more than that reads whole values


def as_warmer(db: Keys) -> None:
    db.call("ACL", "SETUSER", "warmer", *RIGHTS.split())
    db.use(replace(db.redis, url=db.redis.url.replace("//", "//warmer@"), password="w"), w="x")


def test_what_waits_for_its_turn_is_dropped_when_nothing_more_is_to_be_written(
    small: Stove,
) -> None:
    as_warmer(small.db)  # who may not DISCARD it
    small.rows(rows(2500))

    def full() -> None:
        assert len(world(small.db)) == 500
        small.db.call("CONFIG", "SET", "maxmemory", "1mb")

    with batches(small, 1, full):
        found = small.do("fill", memory=100.0)
    assert (found.outcome, found.evidence["written"]) == ("failed", 500)
    assert "100 of 100 looked at are as they were written: EXECABORT" in found.reason
    small.db.call("CONFIG", "SET", "maxmemory", "100mb")
    assert len(world(small.db)) == 500
    assert small.do("fill", attempt=2, memory=100.0).evidence["written"] == 2500
    small.db.call("ACL", "DELUSER", "warmer")


def test_a_user_who_may_do_nothing_else_is_enough(db: Keys, tmp_path: Path) -> None:
    stove = Stove(db, tmp_path)
    as_warmer(db)
    stove.fill(5)
    stove.rows(rows(10))
    before = dict(world(db))
    assert stove.do("refresh").outcome == "succeeded"
    db.call("ACL", "SETUSER", "warmer", "-unlink")
    back = stove.do("restore")
    assert back.outcome == "failed"
    assert "5 are what they were before; 5 are NOT taken back" in back.reason
    db.call("ACL", "SETUSER", "warmer", "+unlink")
    db.call("DEL", "t:000002")  # it was put back, and somebody has removed it: it stays away
    done = "removed 5 of 10 keys; 5 are what they were before"
    assert [stove.do("restore", attempt=2).reason, stove.do("restore", attempt=3).reason] == [
        done, done
    ]  # fmt: skip
    lost = stove.find("restore")
    assert (lost.outcome, lost.reason) == ("succeeded", done)
    del before[b"t:000002"]
    assert world(db) == before
    stove.rows(rows(10, head="u:"))
    stove.key = "3/"
    told = stove.do("fill", allow=("u:",))
    assert (told.outcome, told.sent) == ("failed", False)
    assert "No permissions to access a key" in told.reason
    db.call("ACL", "DELUSER", "warmer")


def test_keys_that_could_not_come_with_their_mark_are_not_written(stove: Stove) -> None:
    db = stove.db
    as_warmer(db)
    stove.rows(rows(1200))
    db.call("ACL", "SETUSER", "warmer", "-multi")  # without it each word would be done at once
    told = stove.do("fill")
    assert (told.outcome, told.sent, world(db)) == ("failed", False, {})
    assert "no permissions to run the 'multi' command" in told.reason
    db.call("ACL", "SETUSER", "warmer", "+multi")
    with batches(stove, 1, lambda: db.call("ACL", "SETUSER", "warmer", "-multi")):
        lost = stove.do("fill", attempt=2)
    assert lost.outcome == "unknown", "nobody may say that nothing was written of the last batch"
    assert "the server takes no MULTI any more (NOPERM" in lost.reason
    db.call("ACL", "DELUSER", "warmer")


def test_an_undo_that_is_given_up_says_how_far_it_is_and_goes_on_when_asked_again(
    stove: Stove, monkeypatch: pytest.MonkeyPatch
) -> None:
    stove.rows(rows(1200))
    stove.do("fill")
    inner = Pieces.take_back

    def given_up(self: Pieces, number: int, *words: Any) -> Any:  # noqa: ANN401 - as it has them
        if number == 1:
            for running in stove.db.driver.busy():
                running.give_up.set()
        return inner(self, number, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "take_back", given_up)
        found = stove.do("restore")
    assert found.outcome == "failed"
    assert "1 of 5 pieces are taken back, and no other will be" in found.reason
    assert len(world(stove.db)) == 950
    assert stove.do("restore", attempt=2).reason == "removed 1200 of 1200 keys"
    assert world(stove.db) == {}


def test_a_disk_that_is_full_ends_a_refresh_before_anything_is_overwritten_unkept(
    stove: Stove,
) -> None:
    chance = random.Random(1)
    with stove.db.server.peer() as peer:
        for n in range(600):
            peer.call("SET", f"t:{n:06}", b"old" + chance.randbytes(1200), "PX", str(HOUR))
    before = world(stove.db)
    stove.rows(rows(600))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        found = stove.do("refresh", format="raw")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.outcome == "failed", found
    assert "File too large" in found.reason
    assert "200 of 600 keys are written, and no other will be" in found.reason
    assert sum(one.startswith(b"old") for one in stove.db.own().values()) == 400
    (stove.place / "list").rename(stove.place / "elsewhere")
    lost = stove.do("restore")
    assert (lost.outcome, lost.sent) == ("failed", False)
    assert "No such file" in lost.reason
    assert stove.find("restore").outcome == "unknown"
    (stove.place / "elsewhere").rename(stove.place / "list")
    assert stove.do("restore", attempt=2).outcome == "succeeded"
    assert world(stove.db) == before


# --- hit rate


def test_hits_are_counted_without_our_own_reads(stove: Stove) -> None:
    stove.rows(rows(50))
    stove.do("fill")
    stop = threading.Event()

    def look() -> None:
        with stove.db.server.peer() as peer:
            for _ in range(9):
                peer.call("GET", "t:000001")
            peer.call("GET", "t:nothing")
        stop.set()

    thread = threading.Timer(0.2, look)
    thread.start()
    found = stove.do("hits", window=0.6, warn=80.0, crit=70.0)
    thread.join(10)
    assert stop.is_set()
    assert (found.outcome, found.stdout) == ("succeeded", b"90.0")
    assert (found.evidence["keyspace_hits"], found.evidence["keyspace_misses"]) == (9, 1)
    assert found.reason == "90.0 % of 10 lookups were hits"


@pytest.mark.parametrize(
    ("misses", "reset", "outcome", "told"),
    [(3, False, "succeeded", "WARN: 75.0 %"), (5, False, "failed", "CRIT: 64.3 %"),
     (0, True, "failed", "UNKNOWN: the server was started anew, or its counters were set back"),
     (-1, False, "failed", "UNKNOWN: nobody has looked anything up in 0.5 s")],
)  # fmt: skip
def test_a_rate_that_is_too_low_or_that_nobody_knows_fails(
    stove: Stove, misses: int, reset: bool, outcome: str, told: str
) -> None:
    stove.db.call("SET", "t:1", "x")
    stove.db.call("GET", "t:1")

    def look() -> None:
        with stove.db.server.peer() as peer:
            if reset:
                peer.call("CONFIG", "RESETSTAT")
            for name in ["t:1"] * 9 + ["t:2"] * misses if misses >= 0 else []:
                peer.call("GET", name)

    if reset:
        for _ in range(30):
            stove.db.call("GET", "t:1")
    thread = support.in_the_window(stove.db.server, look)
    found = stove.do("hits", window=0.5, warn=80.0, crit=70.0)
    thread.join(60)
    assert found.outcome == outcome, found.reason
    assert found.reason.startswith(told)


@pytest.mark.parametrize("anew", [True, False])
def test_a_server_that_is_restarted_or_gone_meanwhile_leaves_no_rate(
    stove: Stove, *, anew: bool
) -> None:
    server = stove.db.server

    def restart() -> None:
        server.kill()
        if anew:
            server.start()

    thread = support.in_the_window(server, restart)
    try:
        found = stove.do("hits", window=1.2 if anew else 0.6, warn=80.0, crit=70.0)
    finally:
        thread.join(60)
        if not anew:
            server.start()
    assert (found.outcome, found.lost, found.evidence["level"]) == ("failed", False, "UNKNOWN")
    assert ("the server was started anew" if anew else "the server answers no more") in found.reason


# --- politely


def test_where_others_wait_already_nothing_is_begun(stove: Stove) -> None:
    stove.rows(rows(3))
    for do in ("show", "fill"):
        found = stove.do(do, wait=1e-9)
        assert (found.outcome, found.sent) == ("failed", False)
        assert "the server is busy: an answer takes" in found.reason
    assert world(stove.db) == {}
    assert not stove.place.exists()
    assert stove.do("fill", wait=0.0).outcome == "succeeded"


@contextmanager
def busy(db: Keys) -> Iterator[None]:
    """Let the server reckon all the time."""
    stop, reckons = threading.Event(), "local n = 0 for i = 1, 300000 do n = n + i end return n"

    def go() -> None:
        with closing(Peer(db.server.port)) as peer:
            while not stop.is_set():
                peer.call("EVAL", reckons, "0")

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def test_where_the_processor_is_busy_already_nothing_is_begun(stove: Stove) -> None:
    """How busy it gets depends on this machine: the limit is one that a server alone never has."""
    stove.rows(rows(3))
    work = Warm(do="fill", server="main", source=Source(), cpu=3.0)
    session = opened(stove.db.driver._access("main"), within(20.0))
    rated = Guard(session.connection, replace(work, rate=1000.0))
    unhurried = Guard(session.connection, work)
    with busy(stove.db):
        for do in ("show", "fill"):
            found = stove.do(do, cpu=3.0, wait=0.0)
            assert (found.outcome, found.sent) == ("failed", False)
            assert "% busy, more than 3 % (max_cpu)" in found.reason
        assert not stove.place.exists()
        told = []
        for _ in range(4):
            time.sleep(0.2)
            rated._next = unhurried._next = 0.0
            told.append(rated.look())
            assert unhurried.look() == "", "its own writes keep the server busy"
    assert told[:2] == ["", ""]
    assert "% busy, more than 3 % (max_cpu)" in told[3]
    time.sleep(0.2)
    rated._next = 0.0
    rated.look()  # for the time that was busy
    time.sleep(0.3)
    rated._next = 0.0
    assert rated.look() == "", "it is quiet again"
    session.close()
    assert stove.do("fill", cpu=80.0).outcome == "succeeded"


def test_a_stop_before_the_bystander_knows_how_long_he_waits_is_heeded(stove: Stove) -> None:
    work = Warm(do="fill", server="main", rate=1000.0, source=Source())

    def stopped() -> None:
        raise EndedError("stopped by a person")

    with pytest.raises(EndedError, match="stopped by a person"):
        Polite(stove.db.driver._access("main"), work, stopped)


def test_a_rate_is_held(stove: Stove) -> None:
    stove.rows(rows(3000))
    began = time.monotonic()
    found = stove.do("fill", rate=3000.0, breaches=10**6)
    took = time.monotonic() - began
    assert found.outcome == "succeeded"
    assert found.evidence["breaches"] or took > 0.95, found.evidence
    assert float(str(found.evidence["keys_per_second"])) < 3000 * 1.1


def test_a_bystander_that_waits_halves_the_rate_and_ends_it_at_last(stove: Stove) -> None:
    work = Warm(do="fill", server="main", rate=1000.0, breaches=3, source=Source())
    pace = Polite(stove.db.driver._access("main"), work, lambda: None)
    pace.close()
    pace.idle, pace.limit, pace._tally.count, pace.rate = 0.0005, 0.002, 0, 1000.0
    for slow, rate in ((0.0, 1000.0), (0.1, 500.0), (0.0001, 550.0), (0.0001, 600.0)):
        pace._times.append(slow)
        pace.judge()
        assert pace.rate == rate
    assert pace.wait(1) == ""
    for _ in range(2):
        pace._times.append(0.1)
        pace.judge()
    assert pace.wait(1) == "a bystander waits 100.0 ms, and 0.5 before: 3 times by now (breaches)"


def test_who_goes_on_counts_on_and_who_tries_again_counts_anew(
    stove: Stove, tmp_path: Path
) -> None:
    work = Warm(do="fill", server="main", rate=1000.0, breaches=3, source=Source())

    def slowed(times: int) -> Polite:
        pace = Polite(stove.db.driver._access("main"), work, lambda: None, tmp_path)
        pace.close()
        pace.idle, pace.limit = 0.0005, 0.002
        for _ in range(times):
            pace._times.append(0.1)
            pace.judge()
        return pace

    before = slowed(0).breaches  # a machine that is busy may have stalled it
    assert slowed(2 - before).wait(1) == "", "it is killed now"
    assert slowed(0).evidence()["breaches"] == 2
    assert "3 times by now (breaches)" in slowed(1).wait(1)
    assert slowed(0).evidence()["breaches"] == 0, "a person has let it be tried again"


def test_a_server_that_stalls_is_noticed_within_half_a_second(stove: Stove) -> None:
    work = Warm(do="fill", server="main", rate=1000.0, source=Source())
    pace = Polite(stove.db.driver._access("main"), work, lambda: None)
    try:
        assert pace.breaches == 0 or pace.idle > 0
        took = []
        for _ in range(8):  # what else the machine does only adds
            before, began = pace.breaches, time.monotonic()
            with stove.db.server.peer() as peer:
                peer.call("DEBUG", "SLEEP", "0.25")
                support.until(lambda before=before: pace.breaches > before)  # type: ignore[misc]
            took.append(time.monotonic() - began)
            if took[-1] < 0.25 + 0.5:
                break
        assert min(took) < 0.25 + 0.5
        assert pace.slowest <= 500.0
    finally:
        pace.close()


def test_a_bystander_is_asked_for_as_long_as_it_takes_and_blindly_nothing_is_written(
    stove: Stove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opskit.drivers.redis.pace.PATIENCE", 1.2)
    work = Warm(do="fill", server="main", rate=1000.0, breaches=10**6, source=Source())
    pace = Polite(stove.db.driver._access("main"), work, lambda: None)
    try:
        time.sleep(1.6)
        assert (pace.wait(1), len(pace._times) > 0 or pace.breaches > 0) == ("", True)
        stove.db.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        support.until(lambda: pace.wait(1))
        assert "a bystander's line has failed" in pace.wait(1)
    finally:
        pace.close()


def test_given_up_it_says_how_far_it_is_and_nothing_comes_later(stove: Stove) -> None:
    stove.rows(rows(2000))
    found = stove.do("fill", rate=500.0, breaches=10**6, timeout=1.6)
    assert found.outcome == "failed"
    assert "not over within 1.6 s, confirmed gone" in found.reason
    count = len(world(stove.db))
    assert 0 < count < 2000
    assert f"{count} of 2000 keys are written, and no other will be" in found.reason
    time.sleep(0.3)
    assert len(world(stove.db)) == count
    assert stove.do("restore").reason == f"removed {count} of {count} keys"
