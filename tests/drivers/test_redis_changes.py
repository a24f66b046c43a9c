"""Redis changes on a real server: done once, whatever breaks, and told when nobody saw it."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.drivers.redis import doing
from opskit.drivers.redis.servers import Servers
from opskit.lab import broker
from opskit.model.job import Contact, Output
from tests.support.proxy import Proxy, proxy
from tests.support.queueing import Broker
from tests.support.redis import Keys, Peer, Server, keys, server, until
from tests.support.warming import Stove, rows

ADD = "INCR n\nRPUSH log a"
pytestmark = pytest.mark.acceptance


@pytest.fixture
def db(redis: Server) -> Keys:
    return keys(redis)


def done(db: Keys) -> tuple[object, object]:
    """Return how often ADD has been done, by each of its commands."""
    return int(db.call("GET", "n") or 0), db.call("LLEN", "log")


def test_a_change_leaves_its_effect_and_its_mark_together(db: Keys) -> None:
    found = db.do(ADD)
    assert (found.outcome, found.status, db.printed) == ("succeeded", 0, b"1\n1\n")
    assert (done(db), db.marks()) == ((1, 1), ["1/:1"])
    assert found.evidence["run_id"] == db.open().nonce
    assert (found.evidence["role"], found.evidence["db"]) == ("master", 0)
    assert 6 * 86400 < db.call("TTL", f"opskit:run:{db.run}") <= 7 * 86400
    assert 6 * 86400 < db.call("TTL", f"opskit:mark:{db.run}:1/:1") <= 7 * 86400


def test_nothing_is_sent_but_the_mark_who_it_is_and_the_commands(db: Keys) -> None:
    db.open()
    with db.server.watched() as sent:
        db.do(ADD)
    mark = f'"opskit:mark:{db.run}:1/:1"'
    expected = [
        f'"CLIENT" "SETNAME" "opskit:books:{db.run}"',
        '"INFO" "server" "replication" "persistence" "stats" "cluster" "memory"',
        '"COMMAND" "INFO" "INCR" "RPUSH"',
        '"EVAL" ',
        f'"GET" {mark}',
        f'"SET" {mark} ',
        '"INCR" "n"',
        '"RPUSH" "log" "a"',
        f'"SET" {mark} ',
    ]
    names = [line.partition("] ")[2] for line in sent]
    assert [n[: len(e)] for n, e in zip(names, expected, strict=True)] == expected


def test_a_command_that_fails_ends_it_and_what_was_done_is_said(db: Keys) -> None:
    db.call("SET", "text", "x")
    found = db.do("INCR n\nINCR text\nINCR n")
    assert (found.outcome, found.status, db.printed) == ("failed", 1, b"1\n")
    assert found.reason == (
        "command 2 of 3, INCR: ERR value is not an integer or out of range; what came before it"
        " stays done"
    )
    assert db.call("GET", "n") == b"1"
    after = db.find("INCR n\nINCR text\nINCR n", contact=db.open())
    assert (after.outcome, after.reason, after.again) == ("failed", found.reason, False)


def test_what_is_not_as_expected_fails_and_says_that_it_was_done(db: Keys) -> None:
    db.call("SADD", "s", "a", "b")
    found = db.do("DEL s none", expect="2")
    assert found.reason == "it is '1', expected '2'; it was done all the same"
    assert db.call("EXISTS", "s") == 0


def test_a_script_is_done_as_a_whole(db: Keys) -> None:
    script = """
        -- a comment
        local before = redis.call('GET', KEYS[1])
        redis.call('SET', KEYS[1], ARGV[1])
        return {before, 12, redis.status_reply('FINE'), {'in', {'ner'}}, true, false, 3.9, 'end'}
    """
    how = {"script": script, "keys": ["k"], "args": ["{{ x }}"], "given": {"x": "'\r\n"}}
    found = db.do(**how, kept=True, rows="json")
    assert found.outcome == "succeeded", found
    assert found.stdout == b'[null, 12, "FINE", ["in", ["ner"]], 1, null, 3, "end"]'
    assert db.own() == {b"k": b"'\r\n"}
    assert db.find(**how, kept=True, rows="json", contact=db.open()).stdout == found.stdout


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("return redis.call('INCR', 'text')", "the script failed: ERR value is not an integer"),
        ("return redis.error_reply('MINE no')", "the script failed: MINE no"),
        ("error('oh')", "the script failed: script:1: oh"),
        ("return nosuch()", "the script failed: script:1: Script attempted to access nonexistent"),
        ("return (", "SCRIPT it can not be read: script:1:"),
        ("local a = {} a.a = a return {a}", None),
    ],
)
def test_a_script_that_fails_says_how(db: Keys, script: str, said: str | None) -> None:
    db.call("SET", "text", "x")
    found = db.do(script=script)
    assert (found.outcome == "succeeded") == (said is None), found
    assert (said or "") in found.reason
    if said is not None and said.startswith("SCRIPT"):
        assert ("nothing was done" in found.reason, db.marks()) == (True, [])


def test_a_number_that_no_script_can_tell_exactly_is_not_saved(db: Keys) -> None:
    db.call("SET", "n", str(2**60))
    assert db.do("INCR n").outcome == "succeeded"
    found = db.do("INCR n", key="2/", kept=True)
    assert (found.outcome, "beyond 2^53" in found.reason) == ("failed", True)
    assert db.call("GET", "n") == str(2**60 + 2).encode()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("CONFIG SET maxmemory 1gb", "transaction: none"),
        ("SHUTDOWN", "transaction: none"),
        ("NOSUCH x", "the server knows no command NOSUCH"),
        ("KEYS *", "use SCAN"),
        ("EVAL 'return 1' 0", "transaction: none"),
    ],
)
def test_what_can_not_have_a_mark_is_not_sent(db: Keys, command: str, said: str) -> None:
    found = db.do(f"INCR n\n{command}")
    assert (found.outcome, found.sent, said in found.reason) == ("failed", False, True), found
    assert (db.own(), db.marks()) == ({}, [])


def test_a_command_alone_leaves_no_mark(db: Keys) -> None:
    how = {"transaction": False, "told": True}
    assert db.do("CONFIG SET maxmemory 123456789", **how).outcome == "succeeded"
    assert db.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"123456789"]
    db.call("CONFIG", "SET", "maxmemory", "0")
    assert db.marks() == []
    found = db.find("CONFIG SET maxmemory 1", **how)
    assert (found.outcome, found.lost, found.again) == ("unknown", False, False)


def test_as_many_words_as_a_script_can_take(db: Keys) -> None:
    words = ["RPUSH", "l", *map(str, range(6998))]
    assert db.do([words]).outcome == "succeeded"
    assert db.call("LLEN", "l") == 6998
    found = db.do([[*words, "x"]], key="2/")
    assert (found.sent, "more than 7000 words" in found.reason) == (False, True)


# --- what became of it


def test_what_was_done_is_found_with_what_it_returned(db: Keys) -> None:
    contact = db.open()
    assert db.do("SET k old\nSET k new GET", kept=True).stdout == b"old\n"
    found = db.find("SET k old\nSET k new GET", contact=contact, kept=True)
    assert (found.outcome, found.stdout, db.printed) == ("succeeded", b"old\n", b"OK\nold\n")
    assert found.evidence["settled"] == "its mark is there"


def test_what_had_not_begun_never_does_after_somebody_has_asked(db: Keys) -> None:
    found = db.find(ADD, contact=db.open())
    assert (found.outcome, found.again, found.sent) == ("failed", True, False)
    late = db.do(ADD)  # it was on its way all the time
    assert (late.outcome, late.lost) == ("unknown", True)
    assert (done(db), db.marks()) == ((0, 0), ["1/:1"])
    assert db.find(ADD, contact=db.open()).again
    assert db.do(ADD, attempt=2).outcome == "succeeded"
    assert done(db) == (1, 1)


def test_an_answer_that_was_too_long_to_be_kept_is_not_made_up(db: Keys) -> None:
    big = {"x": "x" * 100_000}
    assert db.do("SET k {{ x }} GET\nGET k", given=big).outcome == "succeeded"
    found = db.find("SET k {{ x }} GET\nGET k", given=big, contact=db.open())
    assert (found.outcome, db.printed) == ("succeeded", b"")
    assert db.do("GETSET k y", key="2/", kept=True, capture=1000).outcome == "succeeded"
    found = db.find("GETSET k y", key="2/", kept=True, capture=1000, contact=db.open())
    assert (found.outcome, "too long to be kept" in found.reason) == ("failed", True)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ({"nonce": "0" * 40}, "another process answers"),
        ({"boot_id": "0" * 40}, "another master has taken over"),
        ({"nonce": ""}, "nobody knows on which server"),
        ({"state_dir": " 0"}, "nobody knows on which server"),
        ({"state_dir": "other 0"}, "keys of this run are gone"),
    ],
)
def test_a_missing_mark_proves_nothing_elsewhere(db: Keys, then: dict[str, str], said: str) -> None:
    found = db.find(ADD, contact=replace(db.open(), **then))
    assert (found.outcome, found.lost, found.again) == ("unknown", False, False)
    assert said in found.reason
    assert db.marks() == []


def test_a_mark_that_is_there_proves_it_anywhere(db: Keys) -> None:
    contact = db.open()
    db.do(ADD)
    elsewhere = Contact(nonce="0" * 40, boot_id="", state_dir="", user="", address="")
    assert db.find(ADD, contact=elsewhere).outcome == "succeeded"
    assert db.find(ADD, contact=contact).outcome == "succeeded"


@pytest.mark.parametrize("how", ["FLUSHALL", "FLUSHDB", "DEL"])
def test_a_mark_that_may_have_been_lost_is_unknown(db: Keys, how: str) -> None:
    contact = db.open()
    db.do(ADD)
    names = db.call("KEYS", "opskit:*")
    db.call(how, *(names if how == "DEL" else ()))
    found = db.find(ADD, contact=contact)
    assert (found.outcome, "keys of this run are gone" in found.reason) == ("unknown", True)


def test_where_keys_are_evicted_a_missing_mark_proves_nothing() -> None:
    with server(maxmemory="3mb", maxmemory_policy="volatile-lru") as one:
        db = keys(one)
        contact = db.open()
        for number in range(60):
            one.call("SET", f"filler{number}", "x" * 50_000, "EX", "1000")
            one.call("GET", f"opskit:run:{db.run}")
        assert int(contact.state_dir.split()[1]) == 0
        found = db.find(ADD, contact=contact)
        assert found.outcome == "unknown", found
        assert ("evicted" in found.reason) or ("are gone" in found.reason)
        again = db.find(ADD, contact=contact)
        assert (again.outcome, again.again) == ("unknown", False)


def test_a_server_that_has_no_room_changes_nothing() -> None:
    with server(maxmemory="2mb", maxmemory_policy="noeviction") as one:
        db = keys(one)
        db.open()
        with pytest.raises(Exception, match="OOM"):
            filled(one)
        found = db.do("DEL filler1\nINCR n")
        assert (found.outcome, found.lost) == ("failed", False)
        assert "OOM" in found.reason
        assert "nothing was done" in found.reason
        assert (one.call("EXISTS", "filler1"), db.marks()) == (1, [])


def filled(one: Server) -> None:
    for number in range(1000):
        one.call("SET", f"filler{number}", "x" * 10_000)


def test_a_replica_and_another_server_are_refused(db: Keys) -> None:
    with server(replicaof=f"127.0.0.1 {db.server.port}") as one:
        other = keys_at(one, db)
        with pytest.raises(Exception, match="a replica answers, and the master is meant"):
            other.open()
        other.changed(role="replica")
        until(lambda: "up" in one.call("INFO", "replication").decode())
        assert other.read("PING").outcome == "succeeded"
        found = other.do(ADD)
        assert (found.sent, "is a replica: nothing is changed there" in found.reason) == (
            False, True
        )  # fmt: skip
    with pytest.raises(Exception, match="another server answers: its run_id is"):
        db.changed(run_id="0" * 40).open()
    assert db.changed(run_id=run_id(db.server)).do(ADD).outcome == "succeeded"


def keys_at(one: Server, db: Keys) -> Keys:
    return Keys(one, db.run, replace(db.redis, url=f"redis://127.0.0.1:{one.port}"))


def run_id(one: Server) -> str:
    said = one.call("INFO", "server").decode().splitlines()
    return str(next(line for line in said if line.startswith("run_id:")).removeprefix("run_id:"))


def test_a_part_of_a_cluster_gets_no_marks(tmp_path: Path) -> None:
    with server(cluster_enabled="yes") as one:
        one.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: b"cluster_state:ok" in one.call("CLUSTER", "INFO"))
        db = keys(one)
        found = db.do(ADD)
        assert (found.sent, "part of a cluster" in found.reason) == (False, True)
        found = db.read("MGET a b")
        assert "give them one {tag}" in found.reason
        assert db.read("MGET {x}a {x}b").outcome == "succeeded"
        alone = {"transaction": False, "told": True}
        assert db.do("SET a 1", **alone).outcome == "succeeded"
        stove, broker = Stove(db, tmp_path), Broker(db, folder=str(tmp_path))
        stove.rows(rows(3))
        for found in (stove.do("show"), stove.do("fill"), broker.do(tasks=("mail.send",))):
            assert (found.outcome, found.sent) == ("failed", False)
            assert "it is part of a cluster" in found.reason
        assert [key for key in one.call("KEYS", "*") if not key.startswith(b"opskit:run:")] == [
            b"a"
        ]


def test_a_server_that_was_started_anew_is_not_changed_unseen() -> None:
    with server() as one:
        db = keys(one)
        contact = db.open()
        one.kill()
        one.start()
        found = db.do(ADD)
        assert (found.sent, "another process answers" in found.reason) == (False, True)
        after = db.find(ADD, contact=contact)
        assert (after.outcome, after.again) == ("unknown", False)
        db.open()
        assert db.do(ADD, attempt=2).outcome == "succeeded"


def test_a_mark_comes_back_with_the_append_only_file() -> None:
    with server(appendonly="yes", appendfsync="always") as one:
        db = keys(one)
        contact = db.open()
        assert db.do(ADD).outcome == "succeeded"
        one.kill()
        one.start()
        assert done(db) == (1, 1)
        assert db.find(ADD, contact=contact).outcome == "succeeded"
        assert db.find(ADD, key="2/", contact=contact).outcome == "unknown"


def test_after_a_promotion_a_mark_is_found_and_a_missing_one_is_unknown() -> None:
    with server() as one, server(replicaof=f"127.0.0.1 {one.port}", repl_diskless_sync_delay="0",
                                 ) as two:  # fmt: skip
        db = keys(one)
        until(lambda: b"master_link_status:up" in two.call("INFO", "replication"))
        contact = db.open()
        db.do(ADD)
        assert one.call("WAIT", "1", "5000") == 1
        one.kill()
        two.call("REPLICAOF", "NO", "ONE")
        moved = keys_at(two, db)
        assert moved.find(ADD, contact=contact).outcome == "succeeded"
        found = moved.find(ADD, key="2/", contact=contact)
        assert (found.outcome, found.again) == ("unknown", False)
        assert done(moved) == (1, 1)


# --- stops and time


def hung(db: Keys, seconds: str) -> Callable[[], None]:
    """Let the server do nothing for a while; return what waits until it does again."""
    peer = Peer(db.server.port)
    peer.send("DEBUG", "SLEEP", seconds)  # before whatever is sent from now on
    time.sleep(0.1)

    def ended() -> None:
        assert peer.next() == b"OK"
        peer.close()

    return ended


def test_what_is_not_sent_in_time_is_not_sent(db: Keys) -> None:
    db.open()
    ended = hung(db, "1.5")
    found = db.do(ADD, timeout=0.2)
    assert (found.outcome, found.sent) == ("failed", False), found
    assert "not over within 0.2 s" in found.reason
    ended()
    assert done(db) == (0, 0)


def test_a_stop_before_it_is_sent_leaves_nothing(db: Keys) -> None:
    db.open()
    ended = hung(db, "1")
    with db.under_way(ADD) as found:
        stop(db)
    ended()
    (output,) = found
    assert (output.outcome, output.sent, output.reason) == (
        "failed", False, "stopped by a person"
    )  # fmt: skip
    assert output.evidence["stopped"] == "confirmed gone"
    assert done(db) == (0, 0)


def stop(db: Keys) -> None:
    time.sleep(0.2)
    (running,) = db.driver.busy()
    running.give_up.set()
    running.settled.wait(20)


SLOW = """
    redis.call('INCR', 'n')
    for turn = 1, 1e8 do end
    return redis.call('RPUSH', 'log', 'a')
"""


@pytest.mark.parametrize("ended", ["stop", "timeout"])
def test_what_the_server_does_already_is_told_at_its_end(db: Keys, ended: str) -> None:
    db.open()
    how = {"script": SLOW, "timeout": 20.0 if ended == "stop" else 0.2}
    with db.under_way(**how) as found:
        if ended == "stop":
            stop(db)
    (output,) = found
    assert output.outcome == "succeeded", output
    assert output.evidence["settled"] == "its mark is there"
    assert done(db) == (1, 1)


def test_a_stop_that_can_not_be_proved_says_so(db: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doing, "SETTLING", 0.1)
    db.open()
    with db.under_way(script=SLOW) as found:
        stop(db)
    (output,) = found
    assert (output.outcome, output.lost, output.evidence["stopped"]) == (
        "unknown", False, "can't tell"
    )  # fmt: skip
    assert output.reason == "stopped by a person, can't tell whether it was done"
    until(lambda: done(db) == (1, 1))


# --- lines that break


def once(db: Keys, wire: Proxy, broken: Servers, cut: int) -> str:
    """Make a change over a line that breaks after so many bytes; do what the executor does then."""
    db.call("FLUSHALL")
    contact, direct = db.open(), db.driver
    broken._met.update(direct._met)
    wire.cut_after = cut
    db.driver = broken
    output: Output = db.do(ADD, kept=True)
    wire.cut_after, db.driver = None, direct
    if output.outcome == "succeeded":
        return "done"
    if output.sent:
        assert (output.outcome, output.lost) == ("unknown", True), output
        output = db.find(ADD, contact=contact, kept=True)
        if output.outcome == "succeeded":
            assert output.stdout == b"1\n"
            return "found"
    assert done(db) == (0, 0)
    assert db.do(ADD, attempt=2, kept=True).outcome == "succeeded"
    return "again" if output.again else "not sent"


def cuts(db: Keys, points: Callable[[int], Iterable[int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    with line(db) as (wire, broken):
        broken._met["main"] = db.open()
        broken.perform(db.job(ADD, kept=True), lambda *_: None)
        whole = wire.passed
    for cut in points(whole):
        with line(db) as (wire, broken):
            found[once(db, wire, broken, cut)] += 1
        assert done(db) == (1, 1), f"cut after {cut} bytes"
    return found


@contextmanager
def line(db: Keys) -> Iterator[tuple[Proxy, Servers]]:
    """Give a line to the server that can be cut, and a driver that goes by it."""
    with proxy(("127.0.0.1", db.server.port)) as wire:
        url = f"redis://127.0.0.1:{wire.port}/0"
        yield wire, Keys(db.server, db.run, replace(db.redis, url=url)).driver


def test_a_line_that_breaks_leaves_the_change_done_once(db: Keys) -> None:
    found = cuts(db, lambda whole: [*range(0, whole, whole // 12), whole - 400, whole - 20])
    assert {"not sent", "again", "found"} <= found.keys(), found


@pytest.mark.soak
def test_a_line_cut_at_every_byte_leaves_the_change_done_once(db: Keys) -> None:
    found = cuts(db, lambda whole: [*range(whole), 2 * whole])
    assert {"not sent", "again", "found", "done"} <= found.keys(), found


LOSES = [
    ("FLUSHDB", "database 0 is that of a queue (Celery): queue-park puts messages aside"),
    ("DEL n celery", "DEL celery: messages of a queue (Celery) lie there"),
    ("UNLINK other:mail", "UNLINK other:mail: messages of a queue"),
    ("LTRIM celery 0 0", "nothing would keep them"),
    ("DEL unacked", "DEL unacked: messages"),
    ("HDEL unacked tag", "HDEL unacked: messages"),
    ("SET celery 1", "SET celery: messages"),
    ("EXPIRE celery 1", "EXPIRE celery: messages"),
]


def test_what_waits_in_a_queue_is_not_thrown_away(db: Keys) -> None:
    at = Broker(db)
    at.queue("celery", 2)
    at.taken(9, 5)
    raw = broker.message(3, "mail.send", "mail")
    db.call("LPUSH", "other:mail", raw)
    db.call("LPUSH", "opskit:parked:celery", raw)
    before = db.call("DEBUG", "DIGEST-VALUE", "celery", "unacked", "other:mail")
    for command, told in LOSES:
        for alone in (False, True):
            found = db.do(command, transaction=not alone, told=alone)
            assert (found.outcome, found.sent) == ("failed", False), command
            assert told in found.reason
    assert db.call("DEBUG", "DIGEST-VALUE", "celery", "unacked", "other:mail") == before
    assert db.do("DEL opskit:parked:celery nothing").outcome == "succeeded"  # it was kept before


def test_where_no_queue_lives_a_database_may_be_emptied_and_only_this_one(db: Keys) -> None:
    db.call("RPUSH", "log", "a", "b")
    db.call("SET", "n", "1")
    assert db.do("LPOP log\nDEL n", key="2/").outcome == "succeeded"
    with db.server.peer() as peer:
        peer.call("SELECT", "3")
        peer.call("SET", "elsewhere", "1")
    found = db.do("FLUSHALL", key="3/")
    assert "it empties all databases, and nobody has looked at db3" in found.reason
    assert db.do("FLUSHDB", key="4/").outcome == "succeeded"
    assert db.call("EXISTS", "log") == 0
    db.call("FLUSHALL")
