# ruff: noqa: ANN401 - keywords are those of a RedisCall
"""Numbers of a real Redis for health checks: counted within a window, or not known."""

import threading
import time
from typing import Any

import pytest

from opskit.drivers.redis.figures import info
from opskit.model.job import Output
from opskit.model.work import Limits
from opskit.steps.health import judge
from tests.support.redis import Keys, Server, in_the_window, keys

pytestmark = pytest.mark.acceptance


@pytest.fixture
def db(redis: Server) -> Keys:
    return keys(redis)


def checked(
    db: Keys, commands: str = "INFO", *, warn: str = "", crit: str = "", **how: Any
) -> Output:
    limits = Limits(label="x", warn=warn, crit=crit)
    found = db.read(commands, check=limits, **how)
    return judge(db.job(commands, "read", check=limits).work, found)


def looked_up(db: Keys, hits: int, misses: int) -> threading.Thread:
    """Look keys up while a window is open; they have been there before."""

    def act() -> None:
        with db.server.peer() as peer:
            for name, times in (("there", hits), ("away", misses)):
                for _ in range(times):
                    peer.call("GET", name)

    db.call("SET", "there", "1")
    return in_the_window(db.server, act)


def test_f17_the_hit_rate_is_what_was_added_to_the_counters_and_not_what_they_say(db: Keys) -> None:
    db.call("CONFIG", "RESETSTAT")
    for _ in range(300):
        db.call("GET", "away")  # a month of misses would hide what is so now
    thread = looked_up(db, hits=17, misses=3)
    found = checked(db, figure="hit_rate", window=1.0, warn="< 80", crit="< 70")
    thread.join()
    assert (found.reason, found.outcome) == ("OK x: 85", "succeeded")
    whole = checked(db, figure="hit_rate", warn="< 80", crit="< 70")
    assert whole.reason.startswith("CRIT x: ")


def test_where_nothing_was_looked_up_there_is_no_rate_to_judge(db: Keys) -> None:
    """A cache that nobody reads at night has no hit rate: nobody is to be called for that."""
    found = checked(db, figure="hit_rate", window=0.2, crit="< 50")
    assert found.reason == "OK x: nothing was looked up within 0.2 s: there is no rate to judge"
    assert found.outcome == "succeeded"
    db.call("CONFIG", "RESETSTAT")
    found = checked(db, figure="hit_rate", warn="< 80")
    assert found.reason == "OK x: nothing was looked up since it began: there is no rate to judge"
    db.call("GET", "away")
    assert checked(db, figure="hit_rate", warn="< 80").reason == "WARN x: 0 (< 80)"


def test_f17_counters_that_were_set_back_are_no_rate(db: Keys) -> None:
    db.call("SET", "there", "1")
    for _ in range(9):
        db.call("GET", "there")

    thread = in_the_window(db.server, lambda: db.call("CONFIG", "RESETSTAT"))
    found = checked(db, figure="hit_rate", window=0.5, crit="< 50")
    thread.join()
    assert found.reason.startswith("UNKNOWN x: keyspace_hits has gone down within the window")


def test_memory_and_clients_are_shares_of_what_there_is(db: Keys) -> None:
    used = int(info(db.call("INFO"))["used_memory"])
    try:
        db.call("CONFIG", "SET", "maxmemory", str(used * 100 // 70))
        found = checked(db, figure="memory", warn="> 50", crit="> 90")
        assert found.reason.startswith(("WARN x: 6", "WARN x: 7"))
    finally:
        db.call("CONFIG", "SET", "maxmemory", "0")
    found = checked(db, figure="memory", crit="> 99.9")
    assert found.reason.startswith("OK x: of all memory, no maxmemory: ")
    assert checked(db, "PING", figure="ping", crit="> 2000").reason.startswith("OK x: ")
    assert checked(db, "PING", figure="ping", crit=">= 0").reason.startswith("CRIT x: ")
    assert checked(db, figure="clients", crit="> 90").reason.startswith("OK x: 0.0")


def test_a_field_that_is_not_there_is_unknown(db: Keys) -> None:
    found = checked(db, figure="evicted_kays", crit="> 0")
    assert found.reason == "UNKNOWN x: its INFO has no 'evicted_kays'"
    assert checked(db, figure="redis_version", crit="> 0").reason.startswith("UNKNOWN x: redis_ver")
    assert checked(db, figure="rejected_connections", window=0.1, crit="> 0").reason == "OK x: 0"


def test_lengths_of_queues_are_weighed_each_and_the_worst_counts(db: Keys) -> None:
    db.call("RPUSH", "email", *("task" for _ in range(600)))
    queues = "LLEN celery\nLLEN email"
    found = checked(db, queues, warn="> 500", crit="> 1000")
    assert found.reason == "WARN x: LLEN email 600 (> 500)"
    assert checked(db, "LLEN email", crit="> 1000").reason == "OK x: 600"
    assert checked(db, "GET away", crit="> 1").reason == "UNKNOWN x: NULL is no number"
    wrong = checked(db, "LLEN there\nLPOP email", crit="> 1")
    assert wrong.reason.startswith("UNKNOWN x: not sent: "), "what is no read is not sent"
    db.call("SET", "there", "1")
    assert "WRONGTYPE" in checked(db, "LLEN there", crit="> 1").reason
    assert db.call("LLEN", "email") == 600


def test_a_window_ends_with_the_time_of_the_step(db: Keys) -> None:
    began = time.monotonic()
    found = checked(db, figure="hit_rate", window=30.0, crit="< 50", timeout=0.5)
    assert found.outcome == "unknown"
    assert "not over within 0.5 s" in found.reason
    assert time.monotonic() - began < 5
