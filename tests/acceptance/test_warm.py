"""Whole runs that fill a cache from files and databases, with opskit killed in the middle."""

import json
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from opskit.drivers.redis.shelf import SAID
from tests.acceptance.test_keys import Keyed
from tests.acceptance.test_redis import SECRET
from tests.support.database import ROLES
from tests.support.postgres import Server as Postgres
from tests.support.redis import Peer, Server, server

pytestmark = pytest.mark.acceptance
RUNBOOKS = Path(__file__).parents[2] / "runbooks"
WARM = str(RUNBOOKS / "cache-warm.yaml")
COUNT = 1100


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with server(user=f"app on >{SECRET} ~* &* +@all") as one:
        yield one


class Warmed(Keyed):
    """A desk at a cache that is empty but for some teams, with a file of rows beside it."""

    def rows(self, count: int = COUNT, *, ready: int = 100) -> Path:
        self.fill(1)
        self.call("SELECT", "0")
        with self.redis.peer() as peer:
            peer.call("AUTH", "app", SECRET)
            for n in range(ready):
                peer.call("SET", f"team:{n:05}", f"app{n}", "PX", "7200000")
        path = self.folder / "rows.jsonl"
        made = ({"key": f"team:{n:05}", "value": {"n": n}, "ttl": "30m"} for n in range(count))
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        return path

    def warm(self, how: str = "run", status: int = 0, **params: object) -> str:
        given = {"rows": self.folder / "rows.jsonl", "ttl": "{ttl}", **params}
        return self.go(how, WARM, status, **given)  # type: ignore[arg-type]

    def heard(self, number: int) -> bool:
        """Tell whether the answer to what wrote a key of the list has come, and was noted."""
        notes = self.folder.rglob(SAID)
        lines = [line.split() for one in notes for line in one.read_text().splitlines()]
        return any(int(at) <= number < int(at) + int(count) for at, count, *_ in lines)

    def change(self, name: str, value: str) -> None:
        with self.redis.peer() as peer:
            peer.call("AUTH", "app", SECRET)
            peer.call("SET", name, value) if value else peer.call("DEL", name)


@pytest.fixture
def desk(guarded: Server, tmp_path: Path) -> Warmed:
    found = Warmed(guarded, tmp_path)
    found.rows()
    return found


def test_what_a_dry_run_has_told_is_written_told_of_and_taken_back(desk: Warmed) -> None:
    before = desk.world()
    shown = desk.warm("plan")
    assert "write what is not there yet of the rows of" in shown
    assert "for {ttl}" in shown
    assert f"{COUNT} keys, 20890 bytes, for 1800 s; digest " in shown
    assert desk.world() == before
    digest = shown.partition("; digest ")[2].split()[0]
    ran = desk.warm(digest=digest)
    assert f"wrote 1000 of {COUNT} keys; 100 were there and stay" in ran
    now = desk.world()
    assert len(now) == len(before) + 1000
    assert before.items() <= now.items()
    kept = desk.evidence()
    assert json.loads(Path(str(kept["manifest"])).read_text())["asked"]["digest"] == digest
    assert "removed 1000 of 1000 keys" in desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    desk.proved()
    assert "the rows are others than those" in desk.warm(status=5, digest=digest, ttl="1h")


REFUSED = [
    (2, {"ttl": ""}, "`ttl` came to nothing: keys would stay for ever"),
    (2, {"jitter": "1"}, "`jitter` came to 1"),
    (2, {"rate": "NaN"}, "`rate`"),
    (2, {"rows": "gone.jsonl"}, "gone.jsonl"),
    (2, {"allow": "opskit:"}, "belongs to a queue, to sessions or to opskit"),
    (5, {"ttl": "31d"}, "it would stay for more than 30 days"),
    (5, {"prefix": "x:", "allow": "y:"}, "begins with none of what is allowed"),
    (5, {"max_keys": "1099"}, "there are more than 1099 keys (max_keys)"),
    (5, {"server": "queue"}, "is that of a queue (Celery): nothing is written there"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "params", "told"), REFUSED)
def test_bad_input_is_refused_and_nothing_is_touched(
    desk: Warmed, status: int, params: Mapping[str, str], told: str
) -> None:
    if params.get("prefix"):
        rows = [{"key": "z", "value": "1", "ttl": 60}]
        (desk.folder / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    before = desk.world()
    assert told in desk.warm(status=status, **params)
    assert desk.world() == before
    assert not (desk.folder / "state").exists()


POINTS = ["warm-kept 0", "warm-agreed 0", "warm-sent 2", "warm-after 2"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_around_a_batch_it_goes_on_and_writes_nothing_twice(
    desk: Warmed, point: str
) -> None:
    before = desk.world()
    desk.warm(kill=point)
    done = [name for name in desk.world() if name not in before]
    invalidated = sorted(done)[:2]
    for name in invalidated:
        desk.change(name.decode(), "")
    said = desk.opskit("resume", "last")
    assert f"wrote 1000 of {COUNT} keys; 100 were there and stay" in said
    now = desk.world()
    assert not now.keys() & set(invalidated), "what was taken out meanwhile is not written anew"
    assert len(now) == len(before) + 1000 - len(invalidated)
    desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    desk.proved()


@pytest.mark.parametrize("point", ["warm-old 1", "warm-sent 1"])
def test_a_refresh_that_is_killed_has_kept_what_it_has_overwritten(
    desk: Warmed, point: str
) -> None:
    desk.rows(700, ready=700)
    before = desk.world()
    desk.warm(kill=point, refresh="true")
    now = desk.world()
    assert 0 < sum(now[name] != was for name, was in before.items()) < 700
    desk.change("team:00001", "newer")
    said = desk.opskit("resume", "last")
    assert "wrote 700 of 700 keys" in said
    undone = desk.opskit("undo", "last", "--yes")
    assert "699 are what they were before; 1 are something else by now, and stay" in undone
    newer = b"team:00001"
    now = desk.world()
    assert {n: v for n, v in now.items() if n != newer} == {
        n: v for n, v in before.items() if n != newer
    }
    desk.proved()


@pytest.mark.parametrize("turn", range(2))
def test_killed_at_any_time_each_key_is_written_once(desk: Warmed, turn: int) -> None:
    killed_at_any_time(desk, turn)


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(100))
def test_killed_at_any_time_each_key_is_written_once_often(desk: Warmed, turn: int) -> None:
    killed_at_any_time(desk, turn)


def killed_at_any_time(desk: Warmed, turn: int) -> None:
    refresh = "true" if turn % 2 else "false"
    desk.rows(3000, ready=1000)
    before = desk.world()
    desk.warm(kill=f"redis-time {random.Random(turn).randrange(0, 900)}", refresh=refresh)
    done = sorted(n for n, v in desk.world().items() if before.get(n) != v)
    newer = done[:2]
    for name in newer:
        desk.change(name.decode(), "newer")
    others = {name: desk.world()[name] for name in newer}
    unheard = [name for name in newer if not desk.heard(int(name.rpartition(b":")[2]))]
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    said = desk.opskit("report", "last")
    # Where the answers of a batch were lost what others have changed of it by then stood there.
    count = 3000 if turn % 2 else 2000 - len(unheard)
    more = "" if turn % 2 else f"; {3000 - count} were there and stay"
    assert f"wrote {count} of 3000 keys{more}" in said, (unheard, said)
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    desk.opskit("undo", "last", "--yes")
    now = desk.world()
    assert now == {**before, **others}, "what others wrote stays, all else is as it was"
    desk.proved()


def test_an_undo_that_is_killed_goes_on(desk: Warmed) -> None:
    before = desk.world()
    desk.warm()
    desk.opskit("undo", "last", "--yes", status=None,
                program=("tests.support.deadly", "keys-after", "0"))  # fmt: skip
    assert len(before) < len(desk.world()) < len(before) + 1000
    desk.opskit("resume", "last")
    assert desk.world() == before
    desk.proved()


def test_rows_of_a_database_become_keys_hot_ones_first(desk: Warmed, postgres: Postgres) -> None:
    url = postgres.database(empty=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ROLES.encode())
        connection.execute(
            "CREATE TABLE teams_team AS SELECT n AS id, 'Team ' || n AS name, 'team-' || n AS slug,"
            " 'cs2' AS game, n % 97 AS total_points FROM generate_series(1, 12000) n"
        )
        connection.execute(
            "GRANT USAGE ON SCHEMA public TO PUBLIC; GRANT SELECT ON teams_team TO app"
        )
    path = desk.folder / "i.yaml"
    app = url.replace("//owner@", "//app@")
    path.write_text(path.read_text() + f"databases:\n  main: {{url: '{app}'}}\n")
    before = desk.world()
    said = desk.go("run", WARM, max_keys="11000", prefix="shop:1:", format="json")
    assert "wrote 11000 of 11000 keys" in said
    names = desk.world().keys() - before.keys()
    teams = {name for name in names if name.startswith(b"shop:1:team:detail:team-")}
    assert names - teams == {b"shop:1:leaderboard:cs2"}
    with desk.redis.peer() as peer:
        peer.call("AUTH", "app", SECRET)
        value = json.loads(peer.call("GET", "shop:1:team:detail:team-96"))
        best = json.loads(peer.call("GET", "shop:1:leaderboard:cs2"))
    assert (len(best), best[0]["total_points"], best[0]["slug"]) == (100, 96, "team-10087")
    assert value == {
        "id": 96,
        "name": "Team 96",
        "slug": "team-96",
        "game": "cs2",
        "total_points": 96,
    }
    desk.opskit("undo", "last", "--yes")
    assert desk.world() == before
    assert "wrote 1 of 1 keys" in desk.go(
        "run", WARM, team="team-96", prefix="shop:1:", format="json"
    )
    assert desk.world().keys() - before.keys() == {b"shop:1:team:detail:team-96"}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE teams_team ALTER id TYPE uuid USING md5(id::text)::uuid")
    assert "wrote 1 of 1 keys" in desk.go(
        "run", WARM, team="team-95", prefix="shop:1:", format="json"
    )


class Shop(BaseHTTPRequestHandler):
    """An application that fills its own cache when it is asked for a page."""

    port = 0
    asked: ClassVar[list[tuple[str, str | None, str | None]]] = []
    both: ClassVar[threading.Barrier] = threading.Barrier(3, timeout=60)

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"], self.headers["X-Opskit-Warm"]))
        fine = self.path != "/broken/"
        if self.path.startswith("/both/"):
            self.both.wait()
        if fine:
            with closing(Peer(self.port)) as peer:
                peer.call("AUTH", "app", SECRET)
                peer.call("SET", f":1:page:{self.path}", b"\x80\x05pickled", "EX", "60")
        self.send_response(200 if fine else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_an_application_is_asked_for_its_pages_and_writes_them_itself(desk: Warmed) -> None:
    pages = str(RUNBOOKS / "cache-warm-pages.yaml")
    Shop.port = desk.redis.port
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        site = f"http://127.0.0.1:{server.server_address[1]}"
        desk.go("run", pages, site=site, pages="/teams/ /leaderboards/?top=10", host_name="shop")
        assert sorted(Shop.asked) == [
            ("/leaderboards/?top=10", "shop", "1"), ("/teams/", "shop", "1"),
        ]  # fmt: skip
        assert {b":1:page:/teams/", b":1:page:/leaderboards/?top=10"} <= desk.world().keys()
        assert "500" in desk.go("run", pages, 1, site=site, pages="/broken/ /teams/", at_once=1)
        assert len(Shop.asked) == 3, "after a page that fails none is asked for"
        desk.go("run", pages, site=site, pages="/both/1 /both/2 /both/3", at_once=3)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert "pages" in desk.go("run", pages, 2, site="http://127.0.0.1:1", pages="teams")


def test_hits_are_counted_before_and_after(desk: Warmed) -> None:
    said = desk.warm(status=1, window="200ms")
    assert "nobody has looked anything up in 0.2 s" in said
    assert "UNKNOWN" in said
