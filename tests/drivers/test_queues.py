"""Planted states of a broker, each told for what it is; and nothing of what messages carry."""

import importlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.lab import broker
from opskit.model.activity import Limit
from opskit.model.inventory import Redis
from opskit.model.queues import Layout
from tests.support import redis as support
from tests.support.queueing import DEFAULTS, Broker, beside, said
from tests.support.redis import Peer, Server

pytestmark = pytest.mark.acceptance
BOTH = ("celery@a", "celery@b")
IDLE = {"active": 0, "processed": 7, "before": 7}
BUSY = {"active": 2, "processed": 7, "before": 7}
WORKS = {"active": 0, "processed": 9, "before": 7}


@pytest.fixture
def at(redis: Server, tmp_path: Path) -> Broker:
    found = support.keys(redis)
    redis.call("CONFIG", "SET", "maxmemory", "0")
    redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    return Broker(found, folder=str(tmp_path / "evidence"))


def takes(name: str) -> Callable[[Peer, int], None]:
    return lambda peer, _: peer.call("RPOP", name)


def gives(name: str) -> Callable[[Peer, int], None]:
    return lambda peer, n: peer.call("LPUSH", name, broker.message(5000 + n, "mail.send", name))


def test_an_idle_broker_is_as_it_should_be(at: Broker) -> None:
    at.send(*broker.bound("celery"))
    found = at.look(workers=BOTH, answers=said(a=IDLE, b=IDLE))
    assert (found.outcome, found.evidence["level"]) == ("succeeded", "OK")
    assert found.evidence["diagnosis"] == ""
    assert "0 wait in 1 queues, 0 taken" in found.reason


def test_a_dead_worker(at: Broker) -> None:
    at.queue("celery", 4)
    found = at.look(workers=BOTH, answers=said(a=WORKS))
    assert found.evidence["diagnosis"] == "workers"
    assert "celery@b: does not answer" in found.reason
    assert (found.outcome, found.evidence["level"]) == ("failed", "CRIT")


def test_all_workers_dead_explains_why_nothing_is_taken(at: Broker) -> None:
    at.queue("celery", 4)
    at.taken(9, 4000)
    found = at.look(workers=BOTH, answers="{}")
    assert found.evidence["diagnosis"] == "workers"
    assert "none of 2 workers answers" in found.reason
    assert at.found(found, "check") == ["workers", "old"]


def test_a_worker_that_answers_and_takes_nothing(at: Broker) -> None:
    at.queue("celery", 4)
    with beside(at.db, gives("celery")):
        found = at.look(workers=BOTH, answers=said(a=IDLE, b=IDLE))
    assert found.evidence["diagnosis"] == "stuck"
    assert "though 2 workers answer, run nothing and have done nothing" in found.reason
    assert found.outcome == "failed"


def test_busy_workers_are_not_stuck(at: Broker) -> None:
    at.queue("celery", 4)
    found = at.look(workers=BOTH, answers=said(a=BUSY, b=BUSY))
    assert (found.evidence["diagnosis"], found.evidence["level"]) == ("stuck", "WARN")
    assert "the workers do other things" in found.reason


def test_one_queue_that_nobody_takes_from_beside_one_that_moves(at: Broker) -> None:
    at.queue("celery", 200)
    at.queue("reports", 3)
    with beside(at.db, takes("celery")):
        found = at.look(workers=BOTH, answers=said(a=WORKS, b=WORKS))
    assert found.evidence["diagnosis"] == "stuck"
    assert at.found(found, "name") == ["reports"]


def test_one_worker_that_lost_its_queue_beside_one_that_works(at: Broker) -> None:
    at.queue("celery", 120)
    lost = {**IDLE, "takes": ["celery"], "reserved": 1}
    both = said(a={**WORKS, "takes": ["celery"]}, b=lost, c={**IDLE, "takes": ["mail"]})
    with beside(at.db, takes("celery")):
        found = at.look(workers=(*BOTH, "celery@c"), answers=both)
    assert at.found(found, "name") == ["celery@b"]
    assert (found.evidence["diagnosis"], found.evidence["level"]) == ("stuck", "WARN")
    assert "messages wait in celery, which others take from: where it stays so, restart" in (
        found.reason
    )
    limits = {**DEFAULTS, "depth": Limit(warn=5, crit=10)}
    with beside(at.db, takes("celery")):
        found = at.look(workers=(*BOTH, "celery@c"), answers=both, limits=limits)
    assert (found.evidence["diagnosis"], found.evidence["level"]) == ("stuck", "CRIT")


def test_a_queue_that_no_worker_takes_from(at: Broker) -> None:
    at.queue("celery", 4)
    at.queue("reports", 3)
    both = said(a={**WORKS, "takes": ["celery"]}, b={**BUSY, "takes": []})
    with beside(at.db, takes("celery")):
        found = at.look(workers=BOTH, answers=both)
    assert at.found(found, "name") == ["reports"]
    assert "no worker that has answered takes from it" in found.reason
    assert found.evidence["level"] == "CRIT"


def test_a_queue_is_worked_off_where_less_waits_each_time(at: Broker) -> None:
    at.queue("celery", 400)
    at.queue("mail", 3)
    at.queue("few", 5)
    at.taken(1, 350)
    how: dict[str, Any] = {"falling": 3, "window": 0.3}

    def both(peer: Peer, number: int) -> None:
        takes("celery")(peer, number)
        gives("few")(peer, number)
        takes("few")(peer, number)

    with beside(at.db, both):
        found = at.look(names=("celery", "few"), **how)
        assert at.found(found, "check") == ["falling", "old"]
        assert "what was taken longest ago is still there, after 5m5" in found.reason
        at.db.call("DEL", "unacked", "unacked_index")
        assert at.look(names=("celery", "few"), **how).evidence["level"] == "OK"
        found = at.look(**how)
    assert {*at.found(found, "name")} == {"mail"}
    assert "does not fall from look to look (300ms apart): 3, 3, 3" in str(found.evidence)
    with beside(at.db, gives("celery")):
        found = at.look(names=("celery",), **how)
    assert "falling" in at.found(found, "check")


def test_a_backlog_only(at: Broker) -> None:
    at.queue("celery", 120)
    limits = {**DEFAULTS, "depth": Limit(warn=50, crit=100)}
    with beside(at.db, takes("celery")):
        found = at.look(workers=BOTH, answers=said(a=WORKS, b=WORKS), limits=limits)
    assert found.evidence["diagnosis"] == "depth"
    assert "fewer than 300ms before" in found.reason


def test_a_message_that_is_given_up_again_and_again(at: Broker) -> None:
    at.taken(1, 5, "shop.export", redelivered=True)

    def again(peer: Peer, _: int) -> None:
        peer.call("ZADD", "unacked_index", repr(time.time()), "tag-1")

    at.send(*broker.bound("celery"))
    with beside(at.db, again):
        found = at.look(workers=BOTH, answers=said(a=WORKS, b=WORKS))
    assert found.evidence["diagnosis"] == "redelivered"
    assert re.search(r"shop.export was taken \d+ times within 300ms", found.reason)
    assert "00000001-0000-4000-8000-000000000000" in at.printed


POISON = [
    ({"redelivered": True}, 10, "redelivered", "10 messages were taken, given up and put back"),
    ({"id": "the-same"}, 5, "copies", "the same message of shop.export is there 5 times"),
    ({"retries": 10}, 1, "retries", "shop.export was tried 10 times before"),
]


@pytest.mark.parametrize(("headers", "count", "check", "told"), POISON)
def test_what_comes_too_often(
    at: Broker, headers: dict[str, object], count: int, check: str, told: str
) -> None:
    at.queue("celery", 3)
    given: Any = headers
    at.queue("celery", count, "shop.export", 100, **given)
    found = at.look(window=0)
    assert found.evidence["diagnosis"] == check
    assert told in found.reason
    assert found.outcome == "failed"


def test_f9_what_waits_is_what_the_broker_has_of_each_priority(at: Broker) -> None:
    layout = Layout(prefix="shop:[1]", separator="#", steps=(0, 5))
    at.send(*broker.bound("mail", prefix="shop:[1]", joint="#"),
            *broker.bound("other", prefix="shop:1", joint="#"))  # fmt: skip
    for key, count in (("shop:[1]mail", 3), ("shop:[1]mail#5", 4), ("mail", 9)):
        at.send(*(("LPUSH", key, broker.message(n, "mail.send", "mail")) for n in range(count)))
    at.send(("HSET", "shop:[1]unacked", "t", "[]"), ("ZADD", "shop:[1]unacked_index", "1", "t"))
    found = at.look(window=0, layout=layout)
    queues: Any = found.evidence["queues"]
    (queue,) = queues
    assert (queue["name"], queue["waiting"], queue["lists"]) == ("mail", 7, [3, 4])
    assert found.evidence["taken"] == 1
    assert "(unreadable) 1" in at.printed


def test_another_separator_than_the_applications_is_told_and_no_queue_looks_empty(
    at: Broker,
) -> None:
    """Kombu itself lays it down: bindings are written with `sep`, as priorities are."""
    options = {"sep": ":", "priority_steps": [0, 5], "queue_order_strategy": "priority"}
    kombu: Any = importlib.import_module("kombu")
    with kombu.Connection(
        f"redis://127.0.0.1:{at.db.server.port}/0", transport_options=options
    ) as line:
        queue = line.SimpleQueue("mail")
        for priority in (0, 5, 5):
            queue.put({"card": 4111}, priority=priority, headers={"task": "mail.send", "id": "i"})
        queue.close()
    found = at.look(window=0)
    assert (found.outcome, found.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "say separator" in found.reason
    found = at.look(window=0, layout=Layout(separator=":", steps=(0, 5)))
    queues: Any = found.evidence["queues"]
    assert [(one["name"], one["lists"]) for one in queues] == [("mail", [1, 2])]
    assert "say separator" in at.do(ids=("i",)).reason
    layout = Layout(separator=":", steps=(0, 3))
    for less in (at.look(window=0, layout=layout), at.do(ids=("i",), queue="mail", layout=layout)):
        assert "messages of mail wait with priority 5, which is not among steps" in less.reason
    moved = at.do(ids=("i",), queue="mail", layout=Layout(separator=":", steps=(0, 5)), most=9)
    assert moved.evidence["moved"] == 3


def test_what_was_taken_long_ago_and_what_is_not_due_yet(at: Broker) -> None:
    at.send(*broker.bound("celery"))
    at.taken(1, 400)
    due = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    at.taken(2, 3000, "shop.remind", eta=due)
    crit = at.look(window=0, once=("celery",))
    assert (crit.evidence["diagnosis"], crit.evidence["level"]) == ("old", "CRIT")
    found = at.look(window=0)
    assert found.evidence["diagnosis"] == "old"
    assert re.search(r"mail.send was taken 6m[45]\ds ago and not acknowledged", at.printed)
    assert "shop.remind is due 3h50m after it was taken" in at.printed
    assert found.outcome == "succeeded"


LATE = {**WORKS, "late": 1, "limit": 600, "running": 5, "visibility": 3600}
TWICE: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {}, "", ""),
    ({"limit": 0, "late": 0}, {}, "", ""),
    ({"limit": 0}, {}, "WARN", "nothing limits how long a task may run (task_time_limit)"),
    ({"limit": 0}, {}, "WARN", "the broker gives it to another worker after 1h: it is done twice"),
    ({"limit": 5400}, {}, "WARN", "a task may run for 1h30m (task_time_limit)"),
    ({"limit": 5400}, {"once": ("celery",)}, "CRIT", "longer than the longest task"),
    ({"limit": 5400, "takes": ["celery"]}, {"once": ("mail",)}, "WARN", "let visibility_timeout"),
    ({"limit": 5400, "takes": ["a", "mail"]}, {"once": ("mail",)}, "CRIT", "let visibility_"),
    ({"due": 3600}, {}, "", ""),
    ({"due": 7300, "late": 0}, {}, "WARN", "it holds a task that is due in 2h1m40s, and the"),
    ({"due": 7300}, {"once": ("mail",)}, "CRIT", "or let visibility_timeout be longer"),
    ({"limit": 5400}, {"visibility": 7200.0}, "", ""),
    ({"limit": 600, "visibility": 300}, {}, "WARN", "to another worker after 5m"),
    ({"running": 3700}, {}, "CRIT", "it has run a task for 1h1m40s"),
    ({"late": 0}, {"longest": 4000.0}, "WARN", "the longest task takes up to 1h6m40s"),
    ({"limit": 0}, {"longest": 60.0}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("worker", "how", "level", "told"), TWICE)
def test_a_task_that_may_outlast_the_patience_of_the_broker(
    at: Broker, worker: dict[str, Any], how: dict[str, Any], level: str, told: str
) -> None:
    at.send(*broker.bound("celery", "mail"))
    both = said(a={**LATE, **worker}, b={**LATE, **worker})
    output = at.look(window=0, workers=BOTH, answers=both, **how)
    findings: Any = output.evidence["findings"]
    found = [one for one in findings if one["check"] == "twice"]
    assert bool(found) == bool(level)
    assert output.evidence["level"] == (level or "OK")
    assert all(told in one["text"] and one["level"] == level for one in found)
    each = "running" in worker or "due" in worker
    assert len(found) == (2 if level and each else bool(level)), "what is alike is told once"


def test_a_broker_that_may_lose_messages_comes_first(at: Broker) -> None:
    at.queue("celery", 1200)
    at.db.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    found = at.look(window=0)
    assert found.evidence["diagnosis"] == "policy"
    assert "set noeviction before anything else" in found.reason


def test_memory_that_is_nearly_full(at: Broker) -> None:
    at.send(*broker.bound("celery"))
    used = next(line for line in at.db.call("INFO", "memory").decode().splitlines()
                if line.startswith("used_memory:"))  # fmt: skip
    at.db.call("CONFIG", "SET", "maxmemory", str(int(used.partition(":")[2]) * 100 // 95))
    found = at.look(window=0)
    assert found.evidence["diagnosis"] == "memory"
    assert "% of its memory is used" in found.reason


def test_results_that_can_not_be_kept(at: Broker) -> None:
    at.send(*broker.bound("celery"))
    nobody = Redis(name="results", url="redis://127.0.0.1:1/0", connect_timeout=1.0)
    at.db.driver._servers = {"main": at.db.redis, "results": nobody}
    found = at.look(window=0, results="results")
    assert found.evidence["diagnosis"] == "results"
    assert "can't be reached" in found.reason


UNKNOWN = [
    ({}, "no queue of Celery is known there"),
    ({"names": ("mial",)}, "the broker knows no such queue; it knows celery"),
    ({"once": ("payuots",)}, "payuots: the broker knows no such queue, of which tasks must not be"),
    (
        {"workers": BOTH, "answers": '{"error": "celery ended with 1"}'},
        "could not be asked: celery",
    ),
    ({"workers": BOTH, "answers": ""}, "no answer that can be read"),
]


@pytest.mark.parametrize(("how", "told"), UNKNOWN)
def test_nothing_is_known(at: Broker, how: dict[str, object], told: str) -> None:
    if how:
        at.send(*broker.bound("celery"))
    found = at.look(window=0, **how)
    assert (found.outcome, found.evidence["level"]) == ("unknown", "UNKNOWN")
    assert told in found.reason


def test_of_very_many_queues_those_that_are_named_are_looked_at(at: Broker) -> None:
    at.send(*broker.bound(*(f"q{number}" for number in range(201))))
    assert "more than 200 queues: name those that are meant" in at.look(window=0).reason
    assert at.look(window=0, names=("q7",)).outcome == "succeeded"


def test_a_key_that_is_no_queue_is_unknown(at: Broker) -> None:
    at.send(("SET", "celery", "1"))
    found = at.look(window=0, names=("celery",))
    assert found.outcome == "unknown"
    assert "WRONGTYPE" in found.reason


def test_what_messages_carry_is_told_nowhere(at: Broker) -> None:
    at.send(*broker.queues(time.time()))
    at.send(("LPUSH", "celery", b'{"headers": {"task": 3}, "x": "4111 1111"}'),
            ("LPUSH", "celery", b"\xff4111 1111"), ("LPUSH", "celery", b"[" * 3000))  # fmt: skip
    found = at.look(window=0)
    told = f"{at.printed} {found}"
    assert "mail.send 3" in at.printed
    assert "(unreadable) 3" in at.printed
    for secret in ("4111 1111", "4111-of", "MTEx", broker.SECRET):
        assert secret not in told


def test_what_is_no_message_of_celerys_stops_no_look_and_prints_nothing_strange(at: Broker) -> None:
    """Whoever can write to a broker can write anything: no name, time or number is trusted."""
    for number, task in enumerate(
        ("\x1b[2J\x07a", "b\r\nOK main: as expected", "c\ud800d", "e\x00")
    ):
        at.queue("celery", 1, task, number)
    at.queue("celery", 2, "big", 10, retries=10**400, eta="9999-12-31T23:59:59+00:00")
    at.send(*broker.bound("glob*[a]?\x1b[1m\n"))
    for number, since in enumerate(("-inf", "inf")):
        raw = broker.message(20 + number, "odd", "celery", eta=None)
        (_, *words), *rest = broker.taken(raw, "celery", 0.0)
        at.send(("ZADD", words[0], since, words[2]), *rest)
    found = at.look(window=0.1)
    assert found.outcome in ("succeeded", "failed"), found
    assert not any(line.startswith("OK") for line in at.printed.splitlines())
    json.dumps(found.evidence).encode("utf-8", "strict")
    assert "Infinity" not in json.dumps(found.evidence)
    for hostile in ("[" * 100_000, '{"a": {"active": 1e400}}', '{"a": [NaN]}', "\x00", "[]"):
        assert at.look(window=0, workers=("a",), answers=hostile).outcome in ("failed", "unknown")


def test_a_look_reads_and_reads_little(at: Broker) -> None:
    at.queue("celery", 1000)
    with at.db.server.watched() as sent:
        at.look(window=0.1)
    names = {line.partition("] ")[2].split('"')[1] for line in sent}
    assert names <= {"INFO", "CLIENT", "SCAN", "SMEMBERS", "TIME", "HLEN", "LLEN", "LRANGE",
                     "ZRANGE", "HMGET"}  # fmt: skip
    assert sum('"LRANGE"' in line and '"-100"' in line for line in sent) == 1
