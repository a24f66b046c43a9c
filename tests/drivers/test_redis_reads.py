"""Reads on a real Redis: looked up at the server first, answered whole, nothing else is sent."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit.model.inventory import Redis
from tests.support.redis import Keys, Server, keys, server

pytestmark = pytest.mark.acceptance


@pytest.fixture
def db(redis: Server) -> Keys:
    return keys(redis)


ACTS = [
    "SET k v", "DEL k", "GETDEL k", "GETEX k EX 1", "INCR k", "LPOP k", "SORT k STORE j",
    "FLUSHALL", "FLUSHDB", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "CONFIG REWRITE",
    "CLIENT KILL ID 1", "CLIENT PAUSE 10", "CLIENT UNBLOCK 1", "CLIENT REPLY OFF",
    "CLIENT NO-EVICT ON", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "MONITOR", "SUBSCRIBE c",
    "PUBLISH c m", "WAIT 1 1", "WAITAOF 0 0 0", "SAVE", "BGSAVE", "BGREWRITEAOF", "SCRIPT FLUSH",
    "SCRIPT KILL", "SCRIPT LOAD x", "FUNCTION FLUSH", "FUNCTION LOAD x", "FUNCTION DELETE x",
    "REPLICAOF NO ONE", "SLAVEOF NO ONE", "FAILOVER", "SWAPDB 0 1", "ACL SETUSER x",
    "ACL LOG RESET", "ACL SAVE", "MODULE LOAD x", "LATENCY RESET", "SLOWLOG RESET",
    "MEMORY PURGE", "BLPOP k 1", "XREAD BLOCK 1 STREAMS k 0", "XREADGROUP GROUP a b STREAMS k 0",
    "MIGRATE h 1 k 0 1", "RESTORE k 0 x", "EVAL 'return 1' 0", "EVALSHA x 0", "FCALL f 0",
    "TOUCH k", "MULTI", "EXEC", "WATCH k", "SELECT 1", "AUTH x", "HELLO 3", "RESET", "QUIT",
    "KEYS *", "PFCOUNT k", "CLUSTER RESET", "OBJECT", "OBJECT HELPS k", "CONFIG", "NOSUCH k",
    "'config|get' x", "GEORADIUS k 1 1 1 m STORE j", "EXPIRE k 1", "PERSIST k",
    "LATENCY HISTORYX", "CLIENT SETNAME x",
]  # fmt: skip


@pytest.mark.parametrize("command", ACTS)
def test_what_acts_is_no_read_and_is_not_sent(db: Keys, command: str) -> None:
    db.call("SET", "k", "v")
    with db.server.watched() as sent:
        found = db.read(f"GET k\n{command}")
    assert (found.outcome, found.sent) == ("failed", False), found
    assert found.reason.startswith("not sent: ")
    names = [line.partition("] ")[2].split()[0] for line in sent]
    assert set(names) <= {'"CLIENT"', '"INFO"', '"COMMAND"'}, sent
    assert db.call("DBSIZE") == 1


READS = [
    "GET k", "PING", "ECHO x", "TIME", "INFO", "INFO memory", "DBSIZE", "ROLE", "LASTSAVE",
    "TTL k", "CONFIG GET maxmemory", "CONFIG GET maxmemory*", "MEMORY USAGE k",
    "OBJECT ENCODING k", "CLIENT LIST", "CLIENT INFO", "SCAN 0 MATCH a* COUNT 10", "TYPE k",
    "EXISTS k", "DUMP k", "SLOWLOG GET", "HGETALL h", "LATENCY LATEST", "COMMAND COUNT",
    "COMMAND DOCS GET", "MEMORY STATS", "PUBSUB CHANNELS", "LRANGE l 0 -1", "ZUNION 2 z z",
    "SINTERCARD 1 s", "SORT_RO l", "EVAL_RO 'return 1' 0", "XINFO STREAM st", "RANDOMKEY",
    "PUBSUB NUMSUB a", "MODULE LIST", "FUNCTION STATS", "SCRIPT EXISTS x", "get k",
    "Config Get port",
]  # fmt: skip


@pytest.mark.parametrize("command", READS)
def test_what_only_reads_is_sent(db: Keys, command: str) -> None:
    db.call("SET", "k", "v")
    db.call("XADD", "st", "1-1", "a", "b")
    db.call("RPUSH", "l", "1")
    found = db.read(command)
    assert (found.outcome, found.reason) == ("succeeded", ""), found
    assert db.call("DBSIZE") == 3


@pytest.mark.parametrize("pattern", ["*", "re*", "requirepass", "REQUIREPASS", "m*", "master?uth",
                                     "[r]equirepass", "\\\\requirepass"])  # fmt: skip
def test_a_password_is_not_read_into_the_record(db: Keys, pattern: str) -> None:
    found = db.read([["CONFIG", "GET", "port", pattern]])
    assert (found.sent, "would put a password into the record" in found.reason) == (False, True)


def test_a_renamed_command_is_what_it_is() -> None:
    with server(rename_command="FLUSHALL ping2") as one:
        db = keys_of(one)
        found = db.read("ping2")
        assert (found.sent, "write" in found.reason) == (False, True)


def keys_of(one: Server) -> Keys:
    return Keys(one, "renamed", Redis(name="main", url=f"redis://127.0.0.1:{one.port}"))


def test_a_script_that_reads_can_not_write(db: Keys) -> None:
    db.call("SET", "k", "v")
    script = "return {redis.call('GET', KEYS[1]), ARGV[1]}"
    found = db.read(script=script, keys=["k"], args=["{{ x }}"], given={"x": "a b"}, kept=True)
    assert (found.outcome, found.stdout, db.printed) == ("succeeded", b"v\n", b"v\na b\n")
    for command in ("'SET', KEYS[1], 'x'", "'PUBLISH', 'c', 'm'", "'FLUSHALL'"):
        found = db.read(script=f"return redis.call({command})", keys=["k"])
        assert found.outcome == "failed"
        assert "not allowed from read-only scripts" in found.reason
    assert db.own() == {b"k": b"v"}


def test_only_what_a_read_needs_is_sent(db: Keys) -> None:
    db.call("SET", "k", "v")
    db.changed(url=f"{db.redis.url.removesuffix('/0')}/3")
    with db.server.watched() as sent:
        db.read("GET k\nPING")
    names = [line.partition("] ")[2] for line in sent]
    assert names == [
        '"SELECT" "3"', f'"CLIENT" "SETNAME" "opskit:books:{db.run}"', '"CLIENT" "NO-TOUCH" "ON"',
        '"INFO" "server" "replication" "persistence" "stats" "cluster" "memory"',
        '"COMMAND" "INFO" "GET" "PING"', '"GET" "k"', '"PING"',
    ]  # fmt: skip


def test_a_read_does_not_count_as_use(db: Keys) -> None:
    db.call("SET", "k", "v")
    db.call("DEBUG", "SLEEP", "1.1")
    db.read("GET k")
    assert db.call("OBJECT", "IDLETIME", "k") >= 1


def test_answers_are_lines_and_nothing_is_told_from_a_text(db: Keys) -> None:
    db.call("SET", "k", b"a\tb\nc\\N\r\xff")
    db.call("RPUSH", "l", "x", "y z")
    db.read([["MGET", "k", "none"], ["LRANGE", "l", "0", "-1"], ["EXISTS", "k"], ["GET", "none"]])
    assert db.printed == b"a\\tb\\nc\\\\N\\r\xff\n\\N\nx\ny z\n1\n\\N\n"


def test_what_is_saved_is_the_first_value_or_all_as_json(db: Keys) -> None:
    db.call("HSET", "h", "a", "1", "b", "ü\n")
    assert db.read("HGETALL h", kept=True).stdout == b"a\n"
    found = db.read("PING\nHGETALL h", kept=True, rows="json").stdout
    assert json.loads(found) == ["a", "1", "b", "ü\n"]
    assert db.read("HGET h b", kept=True).stdout == "ü\n\n".encode()
    assert db.read("HGET h c", kept=True).stdout == b"\n"


def test_what_is_not_as_expected_fails(db: Keys) -> None:
    assert db.read("PING", expect="PONG").outcome == "succeeded"
    found = db.read("GET none", expect="1")
    assert (found.outcome, found.reason) == ("failed", "it is nothing, expected '1'")
    db.call("RPUSH", "l", "a", "b")
    assert db.read("LRANGE l 0 -1", expect='["a","b"]', rows="json").outcome == "succeeded"
    found = db.read("LRANGE l 0 -1", expect='["a"]', rows="json")
    assert found.reason == 'it is ["a", "b"], expected ["a"]'
    assert "is no JSON: 'a'" in db.read("GET none", expect="a", rows="json").reason
    assert db.read("EXISTS none", expect="1").reason == "it is '0', expected '1'"


def test_an_answer_that_is_too_long_is_not_held(db: Keys) -> None:
    db.call("SETRANGE", "big", str(40 * 2**20), "x")
    found = db.changed(max_output=2**20).read("GET big")
    assert found.outcome == "failed"
    assert "its answer is longer than 1048576 bytes: read less at once" in found.reason


def test_an_error_says_what_the_server_said(db: Keys) -> None:
    db.call("SET", "k", "v")
    found = db.read("LRANGE k 0 -1")
    assert found.reason.startswith("LRANGE: WRONGTYPE Operation against a key")


def test_a_server_that_hangs_is_not_waited_for_for_ever(db: Keys) -> None:
    with db.server.peer() as other:
        other._socket.sendall(b"DEBUG SLEEP 2\r\n")
        found = db.read("GET k", timeout=0.5)
        assert other.next() == b"OK"
    assert (found.outcome, "0.5 s" in found.reason) == ("failed", True)


def test_a_script_that_does_not_end_is_told_of(db: Keys) -> None:
    found = db.read(script="while true do end", timeout=0.3)
    db.call("SCRIPT", "KILL")
    assert (found.outcome, found.evidence["ended"]) == ("failed", "can't tell")
    assert found.reason.endswith("until somebody says SCRIPT KILL")


HOSTILE = st.one_of(
    st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(max_size=200),
    st.sampled_from(
        ["-1", "--", "*3\r\n$3\r\nSET\r\n", "a b\r\nFLUSHALL\r\n", "'\"\\", "", "{{ x }}",
         "x" * 65536, "\0", "$(id)", "${x}", "%s", "é" * 30000, "EX 1", "NX"]
    ),
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=HOSTILE, value=HOSTILE)
def test_any_value_is_one_argument_and_comes_back_unharmed(
    redis: Server, name: str, value: str
) -> None:
    db = keys(redis)
    raw = [one.encode("utf-8", "surrogateescape") for one in (name, value)]
    found = db.do("SET {{ n }} '{{ v }}'\nGET {{ n }}", given={"n": name, "v": value}, kept=True)
    assert (found.outcome, found.stdout) == ("succeeded", raw[1] + b"\n"), found
    assert db.own() == {raw[0]: raw[1]}
    echoed = db.read("GET {{ n }}", given={"n": name}, kept=True)
    assert echoed.stdout == raw[1] + b"\n"
    script = "return redis.call('APPEND', KEYS[1], ARGV[1])"
    made = db.do(script=script, keys=["{{ n }}"], args=["{{ v }}"], key="2/",
                 given={"n": name, "v": value})  # fmt: skip
    assert made.outcome == "succeeded"
    assert db.own() == {raw[0]: 2 * raw[1]}
