"""The shipped slow-query… runbooks from the command line: looked at, planned, refused, killed."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.model.inventory import Database
from tests.support.busy import SETTINGS, WATCHER, Client, clients
from tests.support.database import Base, base, until
from tests.support.desk import Desk
from tests.support.postgres import Server, server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    with server(**SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def made(busy: Server) -> Base:
    db = base(busy)
    db.sql(WATCHER)
    db.sql("CREATE EXTENSION pg_stat_statements")
    return db.use(Database(name="main", url=db.owner.replace("//owner@", "//watcher@")))


@pytest.fixture
def desk(made: Base, tmp_path: Path) -> Desk:
    found = Desk(made, tmp_path)
    found.write("  - {run: 'true', on: controller}\n")
    return found


def sessions(desk: Desk, *wanted: Client, window: str = "0") -> str:
    """Look, and return what it calls the sessions of these clients."""
    given = ["-p", f"window={window}", "-p", "users=app"]
    desk.opskit("run", "slow-query", *given, status=None)
    said = desk.opskit("output", "last", "1")
    found = dict(re.findall(r"^ *(\d+) .* (\1\.[0-9a-z]+\.[0-9a-z]+) ", said, re.MULTILINE))
    assert found.keys() >= {str(one.pid) for one in wanted}, said
    return ",".join(found[str(one.pid)] for one in wanted)


def asked(do: str, named: str, **how: str) -> list[str]:
    values = {"sessions": named, "users": "app", "older": "0s", **how}
    words = [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
    return [f"slow-query-{do}", *words]


def state(desk: Desk, client: Client) -> str:
    found = desk.db.sql("SELECT state FROM pg_stat_activity WHERE pid = %s", client.pid)
    return str(found[0][0]) if found else "gone"


def test_what_was_listed_is_planned_and_cancelled(desk: Desk) -> None:
    with clients(desk.db) as client:
        one, other = client(application="reports"), client()
        for each in (one, other):
            each.run("SELECT pg_sleep(60), 'hunter2'")
        named = sessions(desk, one)
        plan = desk.opskit("plan", *asked("cancel", named, terminate="true"))
        assert "those that are so even 5s later are terminated" in plan
        plan = desk.opskit("plan", *asked("cancel", named))
        assert "are terminated" not in plan
        assert "cancel 1 session of app, all or none" in plan
        assert f"process {one.pid}, there since 20" in plan
        assert "there is no undo" in plan
        assert state(desk, one) == "active"
        said = desk.opskit("run", "--yes", *asked("cancel", named))
        assert "canceling statement" in one.ended()
        assert (state(desk, one), state(desk, other)) == ("idle", "active")
        assert "1 of 1 cancelled; there is no undo" in said
        again = desk.opskit("run", "--yes", *asked("cancel", named), status=5)
        assert "list them anew" in again
    assert b"hunter2" not in (desk.folder / "store.db").read_bytes()
    desk.proved()


def test_terminate_and_what_the_record_has_of_it(desk: Desk) -> None:
    with clients(desk.db) as client:
        stuck, pool = client(), client()
        stuck.do("BEGIN")
        stuck.do("LOCK TABLE item")
        pool.do("SELECT 1")
        desk.opskit("run", "--yes", *asked("terminate", sessions(desk, stuck)))
        assert (state(desk, stuck), state(desk, pool)) == ("gone", "idle")
    lines = desk.opskit("status", "last", "--json").splitlines()
    actions: Any = json.loads(lines[-1])["actions"]
    (evidence,) = [a["evidence"] for a in actions if "undo" in a.get("evidence", {})]
    assert evidence["undo"] == "none"
    assert evidence["left"] == []
    assert evidence["sessions"][0]["query"] == "LOCK TABLE item"
    assert "nothing" in desk.opskit("undo", "last", "--yes", status=None)


def test_a_list_that_is_not_true_any_more_stops_it_before_it_begins(desk: Desk) -> None:
    with clients(desk.db) as client:
        one, two = client(), client()
        for each in (one, two):
            each.run("SELECT pg_sleep(60)")
        named = sessions(desk, one, two)
        one.close()
        said = desk.opskit("run", "--yes", *asked("cancel", named), status=5)
        assert f"process {one.pid} is not there any more" in said
        assert state(desk, two) == "active"
        assert "is in `users`" not in said
        said = desk.opskit("plan", *asked("cancel", sessions(desk, two), users="reader"), status=5)
        assert "is of somebody who is not in `users`" in said


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("4711", "'4711' is no session"),
        (",".join(f"{n}.a.b" for n in range(1, 7)), "6 sessions are named, and 5 are allowed"),
        ("", "no session is named"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(desk: Desk, named: str, said: str) -> None:
    assert said in desk.opskit("run", "--yes", *asked("cancel", named), status=2)


def test_a_look_says_how_bad_it_is(desk: Desk) -> None:
    quiet = ["-p", "mean_warn=50s", "-p", "mean_crit=60s", "-p", "window=500ms"]
    assert "OK main" in desk.opskit("run", "slow-query", *quiet)
    with clients(desk.db) as client:
        client().run("SELECT pg_sleep(60)")
        time.sleep(0.3)
        limits = ["-p", "running_warn=100ms", "-p", "running_crit=200ms"]
        assert "CRIT main" in desk.opskit("run", "slow-query", *quiet, *limits, status=1)
    none = desk.db.server.database(empty=True)
    desk.write("  - {run: 'true', on: controller}\n")
    inventory = desk.folder / "i.yaml"
    inventory.write_text(inventory.read_text().replace(desk.db.database.url,
                         none.replace("//owner@", "//watcher@")))  # fmt: skip
    said = desk.opskit("run", "slow-query", *quiet, status=6)
    assert "CREATE EXTENSION pg_stat_statements" in said


def killed(desk: Desk, at: str, number: int, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deadly", at, str(number), "run", "--yes", *words],
        env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode


@pytest.mark.parametrize("point", ["signal-before", "signal-after"])
def test_a_kill_around_the_signals_ends_those_once(desk: Desk, point: str) -> None:
    with clients(desk.db) as client:
        one, other = client(), client()
        for each in (one, other):
            each.run("SELECT pg_sleep(60)")
        words = asked("cancel", sessions(desk, one))
        assert killed(desk, point, 0, *words) == -signal.SIGKILL
        until(lambda: not desk.db.sessions())
        desk.opskit("resume", "last")
        assert "canceling statement" in one.ended()
        one.do("SELECT pg_sleep(0.05)")
        assert (state(desk, one), state(desk, other)) == ("idle", "active")
    desk.proved()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(30))
def test_a_run_that_is_killed_at_any_time_ends_those_once(desk: Desk, turn: int) -> None:
    do = ("cancel", "terminate")[turn % 2]
    with clients(desk.db) as client:
        one, other = client(), client()
        for each in (one, other):
            each.run("SELECT pg_sleep(300)")
        named = sessions(desk, one)
        desk.cut(random.Random(turn).uniform(0.2, 1.6), "run", "--yes", *asked(do, named))
        desk.opskit("resume", "last", status=None)  # unless it had not begun, or was over
        if state(desk, one) == "active":  # it had not begun, or came to nothing
            desk.opskit("run", "--yes", *asked(do, named))
        assert one.ended()
        assert state(desk, one) == ("idle" if do == "cancel" else "gone")
        assert state(desk, other) == "active"
    desk.proved()
