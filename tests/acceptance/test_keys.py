"""Whole runs that clear rate limits and caches, with opskit killed in the middle."""

import json
import pickle
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from opskit.lab import limits
from opskit.lab.fixtures import Amount
from opskit.steps.limits import window
from tests.acceptance.test_redis import SECRET, Desk
from tests.support.cluster import cluster
from tests.support.redis import Server, server

pytestmark = pytest.mark.acceptance
RUNBOOKS = Path(__file__).parents[2] / "runbooks"
LIMITS, CACHE = str(RUNBOOKS / "rate-limit-reset.yaml"), str(RUNBOOKS / "cache-invalidate.yaml")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with server(user=f"app on >{SECRET} ~* &* +@all") as one:
        yield one


class Keyed(Desk):
    """A desk at a Redis that holds counters and a cache, and at the queue's database beside it."""

    def fill(self, rows: int = 100, *, planted: bool = False) -> None:
        self.call("FLUSHALL")
        amount = Amount(rows=rows, planted=planted)
        limits.fill(("127.0.0.1", self.redis.port), "app", SECRET, amount)
        url = f"redis://app@127.0.0.1:{self.redis.port}"
        (self.folder / "i.yaml").write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\nsecrets: {word: env:REDIS_WORD}\nredis:\n"
            f"  main: {{url: '{url}/0', password: word}}\n"
            f"  queue: {{url: '{url}/1', password: word}}\n"
        )

    @property
    def settings(self) -> Mapping[str, str]:
        return {**super().settings, "XDG_STATE_HOME": str(self.folder / "state")}

    def go(self, how: str, runbook: str, status: int = 0, kill: str = "", **params: object) -> str:
        given = [
            word for k, v in {"server": "main", **params}.items() for word in ("-p", f"{k}={v}")
        ]
        words = (how, runbook, *given, *(("--yes",) if how == "run" else ()))
        program = ("tests.support.deadly", *kill.split()) if kill else ()
        return self.opskit(*words, status=None if kill else status, program=program)

    def world(self) -> Mapping[bytes, tuple[bytes, int]]:
        with self.redis.peer() as peer:
            peer.call("AUTH", "app", SECRET)
            names = [n for n in peer.call("KEYS", "*") if not n.startswith(b"opskit:")]
            return {n: (peer.call("DUMP", n), peer.call("PEXPIRETIME", n)) for n in names}

    def evidence(self) -> Mapping[str, object]:
        ended = [e for e in self.events("step ended") if "sha256" in e.get("evidence", {})]
        found: Mapping[str, object] = ended[-1]["evidence"]
        return found


@pytest.fixture
def desk(guarded: Server, tmp_path: Path) -> Keyed:
    found = Keyed(guarded, tmp_path)
    found.fill()
    return found


def test_a_user_is_shown_let_in_again_and_kept_out_as_before(desk: Keyed) -> None:
    desk.fill(planted=True)
    before = desk.world()
    shown = desk.go("plan", LIMITS, user="50")
    assert "1000 of 1000 in 1h  blocked until" in shown
    assert "1000 of 2000 in 1h  not blocked" in desk.go("plan", LIMITS, user="50", rate="2000/h")
    assert desk.world() == before
    assert not (desk.folder / "state").exists()
    said = desk.go("run", LIMITS, user="50")
    assert "removed 1 of 1 keys" in said
    assert before.keys() - desk.world().keys() == {b":1:throttle_user_50"}
    kept = desk.evidence()
    assert desk.opskit("audit", "log", "last").count(str(kept["sha256"])) <= 1
    manifest = Path(str(kept["manifest"]))
    assert json.loads(manifest.read_text())["source"]["run"] in str(manifest)
    assert "put back 1 keys" in desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    desk.proved()


def test_counters_of_a_cluster_are_cleared_at_every_primary(tmp_path: Path) -> None:
    with cluster(user=f"app on >{SECRET} ~* &* +@all") as three:
        desk = Keyed(three.servers[0], tmp_path)
        url = f"redis://app@127.0.0.1:{three.servers[0].port}"
        (tmp_path / "i.yaml").write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\nsecrets: {word: env:REDIS_WORD}\n"
            f"redis: {{main: {{url: '{url}', password: word}}}}\n"
        )
        three.fill({f":1:throttle_user_{number}": "5" for number in range(300)})
        three.fill({"other": "stays"})
        before = three.own()
        how: dict[str, Any] = {"all": "true", "override": "all of them"}
        assert "300 keys, 99.7 % of 301" in desk.go("plan", LIMITS, **how)
        assert three.own() == before
        desk.go("run", LIMITS, kill="keys-after 1", **how)
        assert 1 < len(three.own()) < 300
        assert "removed 300 of 300 keys" in desk.opskit("resume", "last")
        assert three.own() == {b"other": b"stays"}
        assert "put back 300 keys" in desk.opskit("undo", "last", "--yes")
        assert three.own() == before
        ended = [one.get("evidence", {}).get("primaries") for one in desk.events("step ended")]
        assert ended.count(3) >= 2  # what was removed, and what was put back
        desk.proved()


@contextmanager
def login(redis: Server) -> Iterator[str]:
    """Serve /USER, which answers 429 for as long as the counter of the user is full."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with redis.peer() as peer:
                peer.call("AUTH", "app", SECRET)
                counted = peer.call("GET", f":1:throttle_user_{self.path[1:]}")
            limit = limits.RATES["user"][0]
            self.send_response(429 if counted and len(pickle.loads(counted)) >= limit else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_probe_tells_whether_the_user_is_let_in(desk: Keyed, guarded: Server) -> None:
    with login(guarded) as url:
        said = desk.go("run", LIMITS, 1, user="1", probe=f"{url}/50")
        assert "status 429, expected 200" in said
        said = desk.go("run", LIMITS, user="50", probe=f"{url}/50")
        assert "ok       3 It answers again" in said
        desk.opskit("undo", "last", "--yes")
        said = desk.go("run", LIMITS, 1, user="2", probe=f"{url}/50")
    assert "removed 1 of 1 keys" in said
    assert "status 429" in said


def test_a_counter_whose_name_is_a_digest_is_found_and_put_back(desk: Keyed) -> None:
    now = int(time.time())
    user = max(("50", "100"), key=lambda one: window(now, one, 3600))  # whose window lasts longer
    counted_and_put_back(
        desk, ":1:rl:", b"5",
        library="django-ratelimit", user=user, group=limits.GROUP, rate=limits.RATE,
    )  # fmt: skip


def test_the_counters_of_an_address_are_found_and_put_back(desk: Keyed) -> None:
    counted_and_put_back(
        desk, "LIMITS:LIMITER/10.0.0.50/login/", b"2", library="flask-limiter", ip="10.0.0.50"
    )


def test_counters_of_an_application_are_cleared_by_a_pattern_or_one_by_one(desk: Keyed) -> None:
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        for name in (":1:ratelimit:42:export", ":1:ratelimit:420:export", "hits:42:a", "hits:42:b"):
            peer.call("SET", name, "10", "EX", "3600")
    given = {"pattern": ":1:ratelimit:42:*", "allow": ":1:ratelimit:", "rate": "10/h"}
    shown = desk.go("plan", LIMITS, library="plain", **given)  # type: ignore[arg-type]
    assert "10 of 10 in 1h  blocked until" in shown
    counted_and_put_back(desk, ":1:ratelimit:42:", b"10", library="plain", **given)
    shown = desk.go("plan", LIMITS, library="plain", key="hits:42:a", allow="hits:")
    assert "hits:42:a" in shown.partition("now")[2]


def counted_and_put_back(desk: Keyed, begins: str, value: bytes, **given: object) -> None:
    before = desk.world()
    assert "removed 1 of 1 keys" in desk.go("run", LIMITS, **given)  # type: ignore[arg-type]
    (name,) = before.keys() - desk.world().keys()
    assert name.startswith(begins.encode())
    desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        assert peer.call("GET", name) == value
    desk.proved()


def test_only_shown_is_nothing_done(desk: Keyed) -> None:
    before = desk.world()
    said = desk.go("run", LIMITS, all="true", show="true")
    assert "ok       1 What is counted" in said
    assert ": 200 keys, " in said
    assert "blocked until" in desk.opskit("output", "last", "1", "redis:main")
    assert {n for n in desk.world() if not n.startswith(b"opskit:")} == before.keys()
    assert "did nothing that can be taken back" in desk.opskit("undo", "last", "--yes", status=2)


PLAIN = {"library": "plain", "allow": ":1:ratelimit:"}
REFUSED = [
    (LIMITS, 2, {"all": "true", "user": "1"}, "they contradict each other"),
    (LIMITS, 2, {"ip": "0.0.0.0/0"}, "0.0.0.0/0 is wider than /24"),
    (LIMITS, 2, {"user": "a\x07b"}, "control character"),
    (LIMITS, 2, {"library": "django-ratelimit", "user": "1"}, "by its group and rate only"),
    (LIMITS, 2, {**PLAIN, "pattern": "*"}, "is too wide"),
    (LIMITS, 2, {**PLAIN, "pattern": ":1:leaderboard:*"}, "begins with none of what is allowed"),
    (LIMITS, 2, {**PLAIN, "key": "hits:42", "user": "1"}, "`user` means nothing with library: pl"),
    (LIMITS, 2, {"pattern": ":1:throttle_*", "all": "true"}, "`pattern` means nothing with"),
    (LIMITS, 5, {"all": "true"}, "more than 20 % (max_share)"),
    (LIMITS, 5, {"user": "nobody"}, "no key is there that is meant"),
    (LIMITS, 5, {"user": "50", "server": "queue"}, "is that of a queue (Celery)"),
    (CACHE, 2, {"pattern": "*"}, "does not begin with the prefix"),
    (CACHE, 2, {"pattern": "a*"}, "does not begin with the prefix"),
    (CACHE, 2, {"pattern": "?"}, "does not begin with the prefix"),
    (CACHE, 2, {"pattern": ":1:throttle_*"}, "begins with none of what is allowed"),
    (CACHE, 2, {"pattern": ":1:leaderboard:1"}, "it is one key, which goes under `keys`"),
    (CACHE, 5, {"pattern": ":1:leaderboard:*", "max_keys": "99"}, "more than 99 keys fit"),
    (CACHE, 5, {"pattern": ":1:leaderboard:x*"}, "no key is there that is meant"),
]  # fmt: skip


@pytest.mark.parametrize(("runbook", "status", "params", "told"), REFUSED)
def test_bad_input_is_refused_and_nothing_is_touched(
    desk: Keyed, runbook: str, status: int, params: Mapping[str, str], told: str
) -> None:
    before = desk.world()
    assert told in desk.go("run", runbook, status, **params)
    assert desk.world() == before
    assert not (desk.folder / "state").exists()


def test_a_cache_is_removed_by_the_digest_that_was_read(desk: Keyed) -> None:
    shown = desk.go("plan", CACHE, pattern=":1:leaderboard:*")
    digest = shown.partition("; digest ")[2].split()[0]
    desk.call("SELECT", "0")
    said = desk.go("run", CACHE, pattern=":1:leaderboard:*", digest=digest)
    assert "removed 100 of 100 keys" in said
    desk.opskit("undo", "last", "--yes")
    other = desk.go("run", CACHE, 5, pattern=":1:leaderboard:1*", digest=digest)
    assert "other keys are there than those that were agreed on" in other


def test_one_key_of_a_cache_is_removed_and_no_other(desk: Keyed) -> None:
    before = desk.world()
    assert "removed 1 of 1 keys" in desk.go("run", CACHE, key=":1:leaderboard:1")
    assert before.keys() - desk.world().keys() == {b":1:leaderboard:1"}
    desk.opskit("undo", "last", "--yes")
    assert desk.world() == before


def test_what_is_cached_of_one_object_is_removed_and_nothing_of_another(desk: Keyed) -> None:
    mine = {b":1:tournament:12:page", b":1:tournament:12:[1]*"}
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        for name in (*mine, b":1:tournament:123:page", b":1:tournament:1:page", b":1:webcaps_7"):
            peer.call("SET", name, "x", "EX", "3600")
    before = desk.world()
    assert "removed 2 of 2 keys" in desk.go("run", CACHE, object="tournament:12")
    assert before.keys() - desk.world().keys() == mine
    desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    assert b":1:webcaps_7" in desk.go("plan", CACHE, pattern=":1:webcaps*").encode()
    desk.go("plan", CACHE, 5, object="tournament:*")
    desk.go("plan", CACHE, 5, object="tournament:12", pattern=":1:webcaps*")


POINTS = ["keys-kept 0", "keys-agreed 0", "keys-before 1", "keys-sent 1", "keys-after 1"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_around_a_piece_it_goes_on_with_what_was_listed(desk: Keyed, point: str) -> None:
    desk.fill(1100)
    before = desk.world()
    desk.go("run", CACHE, pattern=":1:leaderboard:*", override="all of it", kill=point)
    gone = before.keys() - desk.world().keys()
    anew = sorted(gone)[:2]
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        for name in anew:
            peer.call("SET", name, "anew")
        if point != "keys-kept 0":
            peer.call("SET", ":1:leaderboard:9999", "was not listed")
    said = desk.opskit("resume", "last")
    assert "removed 1100 of 1100 keys" in said
    listed = {name for name in before if name.startswith(b":1:leaderboard:")}
    assert desk.world().keys() & listed == set(anew)
    assert (b":1:leaderboard:9999" in desk.world()) == (point != "keys-kept 0")
    desk.opskit("undo", "last", "--yes")
    now = desk.world()
    assert all(now[name] == was for name, was in before.items() if name not in anew)
    desk.proved()


@pytest.mark.parametrize("point", ["keys-sent 0", "keys-after 0"])
def test_killed_around_a_piece_of_names_nothing_is_removed_twice(desk: Keyed, point: str) -> None:
    """Without values there is no undo: the plan says so, and undo does."""
    desk.fill(1100)
    before = desk.world()
    given: Mapping[str, Any] = {"pattern": ":1:leaderboard:*", "override": "all", "keep": "false"}
    if point == "keys-sent 0":
        shown = desk.go("plan", CACHE, **given)
        assert "THERE IS NO UNDO: names are kept, and no values" in shown
    desk.go("run", CACHE, kill=point, **given)
    # what was sent is done or not when opskit is killed, and is known only a moment later
    gone = before.keys() - desk.world().keys()
    anew = sorted(gone)[:2]
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        for name in anew:
            peer.call("SET", name, "anew")
    said = desk.opskit("resume", "last")
    assert "removed 1100 of 1100 keys" in said
    assert ("2 have been made anew since, and stay" in said) == bool(anew)
    assert before.keys() - desk.world().keys() == {
        name for name in before if name.startswith(b":1:leaderboard:")
    } - set(anew)
    told = desk.opskit("undo", "last", "--yes", status=2)
    assert "did nothing that can be taken back" in told
    desk.proved()


def test_an_undo_that_is_killed_goes_on(desk: Keyed) -> None:
    desk.fill(1100)
    before = desk.world()
    desk.go("run", CACHE, pattern=":1:leaderboard:*", override="all")
    desk.opskit("undo", "last", "--yes", status=None,
                program=("tests.support.deadly", "keys-after", "1"))  # fmt: skip
    assert 0 < len(before) - len(desk.world()) < 1100
    desk.opskit("resume", "last")
    assert desk.world() == before
    desk.proved()


@pytest.mark.parametrize("turn", range(3))
def test_killed_at_any_time_it_is_done_once(desk: Keyed, turn: int) -> None:
    killed_at_any_time(desk, turn)


@pytest.mark.soak
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("turn", range(100))
def test_killed_at_any_time_it_is_done_once_often(desk: Keyed, turn: int, *, kept: bool) -> None:
    killed_at_any_time(desk, turn, keep=str(kept).lower())


def killed_at_any_time(desk: Keyed, turn: int, keep: str = "true") -> None:
    desk.fill(1100)
    before = desk.world()
    late = random.Random(turn).randrange(0, 700)
    kill = f"redis-time {late}"
    desk.go("run", CACHE, pattern=":1:leaderboard:*", override="all", keep=keep, kill=kill)
    anew = sorted(before.keys() - desk.world().keys())[:2]
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        for name in anew:
            peer.call("SET", name, "anew")
    said = desk.opskit("resume", "last", status=None)  # unless it had come to its end
    said += desk.opskit("report", "last")
    assert "removed 1100 of 1100 keys" in said
    assert len(before) - len(desk.world()) == 1100 - len(anew)
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    if keep == "true":
        desk.opskit("undo", "last", "--yes")
        now = desk.world()
        assert all(now[name] == was for name, was in before.items() if name not in anew)
    desk.proved()
