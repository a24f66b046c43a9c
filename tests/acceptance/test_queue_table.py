"""The shipped queue-table… runbooks on the lab's data: looked at, refused, killed, undone."""

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.drivers.postgres.marks import ddl
from opskit.lab.fixtures import Amount
from opskit.model.inventory import MARKERS, Database
from tests.support import datasets, postgres
from tests.support.database import ROLES, Base
from tests.support.desk import Desk

pytestmark = pytest.mark.acceptance
RIGHTS = """
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
    GRANT USAGE ON SCHEMA public TO PUBLIC
"""
TASKS = """
    DELETE FROM task_queue; DELETE FROM task_workers; DELETE FROM task_execution_history;
    INSERT INTO task_workers (id, worker_id, hostname, pid, status, last_heartbeat)
        VALUES (gen_random_uuid(), 'w1', 'h1', 1, 'active', now() + interval '1 day'),
               (gen_random_uuid(), 'w2', 'h2', 2, 'active', now() - interval '1 hour');
    INSERT INTO task_queue (id, task_name, queue_name, status, created_at, scheduled_at)
        SELECT md5('p' || n)::uuid, 'mail', 'email', 'pending', now(), now()
        FROM generate_series(1, 100) AS n
"""
SOUND = "UPDATE task_workers SET last_heartbeat = now() + interval '1 day'"
HANGING = """
    INSERT INTO task_queue (id, task_name, queue_name, status, created_at, scheduled_at, started_at,
                            worker_id, retry_count, error_message)
        SELECT md5('h' || n)::uuid, (ARRAY['report', 'payout'])[1 + n % 2], 'reports', 'processing',
               now(), now(), now() - interval '20 minutes', (ARRAY['w1', 'w2'])[1 + n / 2 % 2],
               CASE WHEN n > 20 THEN 3 ELSE n % 3 END, 'card 4111 of a customer'
        FROM generate_series(1, 24) AS n
"""
MADE = """
    INSERT INTO task_queue (id, task_name, queue_name, status, created_at, scheduled_at)
        VALUES (gen_random_uuid(), 'mail', 'made', 'pending', now(), now())
"""
STUCK = "task_name = 'report' AND worker_id = 'w2' AND retry_count < 3 AND status = 'processing'"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def loaded(server: postgres.Server) -> str:
    url, _ = datasets.load(server, "youtility", Amount(rows=200))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(";".join([ROLES, *ddl(MARKERS, "app"), RIGHTS]).encode())
    return url


@pytest.fixture
def desk(server: postgres.Server, loaded: str, tmp_path: Path) -> Desk:
    app = Database(name="main", url=loaded.replace("//owner@", "//app@"))
    found = Desk(Base(server, loaded, "none", app), tmp_path)
    found.write("  - {run: 'true', on: controller}\n")
    found.db.sql(TASKS)
    return found


def look(desk: Desk, status: int, workers: str = "w1,w2") -> str:
    return desk.opskit("run", "queue-table", "-p", f"workers={workers}", status=status)


def retry(desk: Desk, status: int | None = 0, kill: str = "", **how: object) -> str:
    given = {"idempotent": "report", "max_share": 50, **how}
    params = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    program = ("tests.support.deadly", *kill.split()) if kill else ()
    words = ("run", "queue-table-retry", "--yes", *params)
    return desk.opskit(*words, status=None if kill else status, program=program)


def count(desk: Desk, where: str) -> int:
    return int(desk.db.sql(f"SELECT count(*) FROM task_queue WHERE {where}")[0][0])


def hashed(desk: Desk, where: str = "true") -> object:
    query = f"SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM task_queue AS t WHERE {where}"
    return desk.db.sql(query)[0][0]


def test_a_sound_queue_is_as_it_should_be(desk: Desk) -> None:
    desk.db.sql(SOUND)
    assert "CRIT" not in look(desk, 0)


def test_each_of_several_ills_is_told(desk: Desk) -> None:
    desk.db.sql(HANGING)
    desk.db.sql("UPDATE task_queue SET scheduled_at = now() - interval '16 minutes'"
                " WHERE id = md5('p7')::uuid")  # fmt: skip
    desk.db.sql("UPDATE scheduled_tasks SET next_run_at = now() - interval '20 minutes'"
                " WHERE name = 'cleanup_old_tasks'")  # fmt: skip
    said = look(desk, 6, "w1, w2,w3")
    desk.db.sql("UPDATE scheduled_tasks SET next_run_at = NULL")
    for told in (
        r"CRIT seconds since a heartbeat: w3 999999 .*w2 3[67]\d\d",
        r"CRIT seconds that a task is due: email 9\d\d",
        r"CRIT seconds that a scheduled task is due: cleanup_old_tasks 12\d\d",
        r"CRIT tasks of workers that are gone: \w+ \d+ ",
        r"CRIT seconds that a task has run: \w+ 12\d\d",
        r"WARN tasks whose retries are used up: report 2 .*payout 2|payout 2 .*report 2",
        r"UNKNOWN % of the executions",
    ):
        assert re.search(told, said), f"{told}\n{said}"
    assert "card 4111" not in said


def test_nobody_is_expected_is_refused(desk: Desk) -> None:
    for workers in ("", " , "):
        desk.opskit("run", "queue-table", "-p", f"workers={workers}", status=2)


def test_what_hangs_is_tried_again_and_an_undo_takes_that_back(desk: Desk) -> None:
    desk.db.sql(HANGING)
    meant, before = count(desk, STUCK), hashed(desk)
    assert meant == 5
    others = f"NOT ({STUCK})"
    kept = hashed(desk, others)
    plan = desk.opskit("plan", "queue-table-retry", "-p", "idempotent=report", "-p", "max_share=50")
    assert "UPDATE task_queue" in plan
    assert hashed(desk) == before
    assert "done               3 Let them be tried again: 5 rows\n" in retry(desk)
    assert count(desk, STUCK) == 0
    again = "task_name = 'report' AND status = 'pending'"
    assert count(desk, f"{again} AND worker_id = '' AND started_at IS NULL") == meant
    due = "round(extract(epoch FROM scheduled_at - now()) / 60.0)"
    waits = desk.db.sql(f"SELECT retry_count, {due} FROM task_queue WHERE {again} ORDER BY 1")
    assert {int(minutes) for retries, minutes in waits if retries == 1} == {2}
    assert {int(minutes) for retries, minutes in waits if retries == 3} <= {8}
    assert hashed(desk, f"NOT ({again})") == kept
    desk.db.sql(f"UPDATE task_queue SET status = 'processing', worker_id = 'w1', started_at = now()"
                f" WHERE id = (SELECT id FROM task_queue WHERE {again} LIMIT 1)")  # fmt: skip
    desk.opskit("undo", "last", "--yes")
    assert count(desk, STUCK) == meant - 1
    assert count(desk, f"{again} AND worker_id = ''") == 0
    assert b"card 4111" not in (desk.folder / "store.db").read_bytes()
    desk.proved()


def test_undone_all_of_it_is_as_it_was(desk: Desk) -> None:
    desk.db.sql(HANGING)
    some = f"SELECT id FROM task_queue WHERE {STUCK} ORDER BY id DESC LIMIT 2"
    earlier = "SET started_at = started_at - interval '1 hour'"
    desk.db.sql(f"UPDATE task_queue {earlier} WHERE id IN ({some})")
    before = hashed(desk)
    assert "5 tasks are meant, and 2 are allowed (max_rows): only=2" in retry(desk, 5, max_rows=2)
    with producing(desk):
        assert "Let them be tried again: 2 rows" in retry(desk, max_rows=2, only=2, max_share=10)
        assert count(desk, f"{STUCK} AND started_at < now() - interval '1 hour'") == 0
        desk.opskit("undo", "last", "--yes")
        retry(desk)
        assert hashed(desk, "queue_name <> 'made'") != before
        desk.opskit("undo", "last", "--yes")
    assert hashed(desk, "queue_name <> 'made'") == before


@contextmanager
def producing(desk: Desk) -> Iterator[None]:
    stop = threading.Event()

    def go() -> None:
        with psycopg.connect(desk.db.owner, autocommit=True) as connection:
            while not stop.wait(0.005):
                connection.execute(MADE)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


LATER = pytest.param("sql-before-commit 0", marks=pytest.mark.soak)
REFUSED: list[tuple[int, dict[str, object], str]] = [
    (2, {"idempotent": " , "}, "idempotent"),
    (5, {"idempotent": "repor"}, "none of 12 tasks that hang is meant"),
    (5, {"max_share": 3}, "of those that are under way (max_share)"),
]


@pytest.mark.parametrize(("status", "how", "told"), REFUSED)
def test_bad_input_is_refused_and_nothing_is_touched(
    desk: Desk, status: int, how: dict[str, object], told: str
) -> None:
    desk.db.sql(HANGING)
    before = hashed(desk)
    assert told in retry(desk, status, **how)  # type: ignore[arg-type]
    assert hashed(desk) == before


MANY = """
    INSERT INTO task_queue (id, task_name, queue_name, status, created_at, scheduled_at,
                            started_at, worker_id)
        SELECT md5('m' || n)::uuid, 'report', 'reports', 'processing', now(), now(),
               now() - interval '20 minutes', 'worker-' || n % 7 || '@host.example.com'
        FROM generate_series(1, 4000) AS n
"""


@pytest.mark.soak
def test_as_many_as_may_be_tried_again_are_kept_as_they_were(desk: Desk) -> None:
    desk.db.sql(MANY.replace("4000", "9000"))
    before = hashed(desk)
    assert "9000 tasks are meant, and 4000" in retry(desk, 5, max_rows=4000, max_share=100)
    assert "4000 rows" in retry(desk, max_rows=4000, only=4000, max_share=100)
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == before


def test_what_could_not_be_kept_for_an_undo_is_refused(desk: Desk) -> None:
    desk.db.sql(HANGING)
    desk.db.sql(f"UPDATE task_queue SET worker_id = repeat('\u00e9', 120000) WHERE {STUCK}")
    before = hashed(desk)
    assert "tasks are more than can be kept for an undo at once" in retry(desk, 5)
    assert hashed(desk) == before


@pytest.mark.parametrize("point", ["sql-after-commit 0", LATER])
def test_killed_around_its_commit_each_is_tried_again_once(desk: Desk, point: str) -> None:
    desk.db.sql(HANGING)
    before = hashed(desk)
    retry(desk, kill=point)
    desk.opskit("resume", "last")
    assert count(desk, STUCK) == 0
    assert count(desk, "task_name = 'report' AND status = 'pending' AND retry_count = 0") == 0
    told = desk.db.sql("SELECT sum(retry_count) FROM task_queue WHERE task_name = 'report'")
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == before
    now = desk.db.sql("SELECT sum(retry_count) FROM task_queue WHERE task_name = 'report'")
    assert told[0][0] - now[0][0] == 5


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(30))
def test_killed_at_any_time_each_is_tried_again_once(desk: Desk, turn: int) -> None:
    desk.db.sql(HANGING)
    before = hashed(desk)
    tried = "SELECT sum(retry_count) FROM task_queue WHERE task_name = 'report'"
    ((was,),) = desk.db.sql(tried)
    retry(desk, kill=f"sql-time {random.Random(turn).randrange(0, 300)}")
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    ((now,),) = desk.db.sql(tried)
    assert (count(desk, STUCK), now - was) == (0, 5)
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == before
    desk.proved()


WAITING = """
    INSERT INTO task_queue (id, task_name, queue_name, status, created_at, scheduled_at,
                            retry_count, error_message)
        SELECT md5('w' || n)::uuid, 'export', 'reports',
               (ARRAY['pending', 'retrying'])[1 + n % 2], now() - n * interval '1 minute',
               now(), n % 2, 'card 4111 of a customer'
        FROM generate_series(1, 20) AS n
"""
PARKED = "status = 'parked' AND task_name = 'export'"


def move(desk: Desk, what: str, status: int | None = 0, kill: str = "", **how: object) -> str:
    params = [word for name, value in how.items() for word in ("-p", f"{name}={value}")]
    program = ("tests.support.deadly", *kill.split()) if kill else ()
    words = ("run", f"queue-table-{what}", "--yes", *params)
    return desk.opskit(*words, status=None if kill else status, program=program)


def test_tasks_are_put_aside_and_an_undo_lets_them_wait_again_as_they_did(desk: Desk) -> None:
    """While others are added; what a worker has at that moment stays with it."""
    desk.db.sql(WAITING)
    desk.db.sql("UPDATE task_queue SET status = 'processing' WHERE id = md5('w1')::uuid")
    made = "queue_name <> 'made'"
    before = hashed(desk, made)
    plan = desk.opskit("plan", "queue-table-park", "--full", "-p", "tasks=export")
    assert hashed(desk, made) == before
    assert plan.count("\texport\t") == 19, "each that is meant is listed"
    assert "now: case\n                  ok\n" in plan
    with producing(desk):
        assert "Put them aside: 19 rows\n" in move(desk, "park", tasks="export, none")
        assert (count(desk, PARKED), count(desk, "task_name = 'export'")) == (19, 20)
        desk.db.sql("UPDATE task_queue SET status = 'completed' WHERE id = md5('w2')::uuid")
        assert "18 rows updated" in desk.opskit("undo", "last", "--yes")
    desk.db.sql("UPDATE task_queue SET status = 'pending' WHERE id = md5('w2')::uuid")
    assert hashed(desk, made) == before
    assert b"card 4111" not in (desk.folder / "store.db").read_bytes()
    desk.proved()


ASIDE = [
    pytest.param(what, how, told, marks=pytest.mark.soak if late else ())
    for late, what, how, told in (
        (False, "park", {"tasks": " ,"}, "nothing says which tasks are meant"),
        (False, "park", {"tasks": "export", "queue": "reports"},
         "20 tasks are 100.0 % of those that wait"),
        (True, "park", {}, "nothing says which tasks are meant"),
        (True, "park", {"tasks": "exp"}, "no task that waits is meant"),
        (True, "park", {"tasks": "export", "max_rows": 19}, "20 tasks are meant, and 19 are"),
        (True, "park", {"tasks": "export", "aside": "completed"}, "takes no status completed"),
        (True, "restore", {"idempotent": "export"}, "no task is aside that is meant"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("what", "how", "told"), ASIDE)
def test_what_is_too_much_or_says_nothing_is_refused(
    desk: Desk, what: str, how: dict[str, object], told: str
) -> None:
    desk.db.sql(WAITING)
    before = hashed(desk)
    assert told in move(desk, what, 5, **how)  # type: ignore[arg-type]
    assert hashed(desk) == before


@pytest.mark.soak
def test_a_queue_that_is_full_of_them_is_told_by_how_many(desk: Desk) -> None:
    """And as many as may be meant at most go there and back, however long their names are."""
    name = "x" * 250
    desk.db.sql(WAITING.replace("1, 20", "1, 6000").replace("'export'", f"'{name}'"))
    more: dict[str, Any] = {"tasks": name, "max_rows": 2000, "override": "all of them"}
    assert "6000 tasks are meant, and 2000 are allowed" in move(desk, "park", 5, **more)
    desk.db.sql(f"DELETE FROM task_queue WHERE task_name = '{name}'"
                f" AND created_at < now() - interval '2000.5 minutes'")  # fmt: skip
    move(desk, "park", **more)
    assert count(desk, "status = 'parked'") == 2000
    back: dict[str, Any] = {"idempotent": name, "first": 100, "pause": "0s"}
    assert "2000 tasks are meant, and 1999" in move(desk, "restore", 5, max_rows=1999, **back)
    move(desk, "restore", max_rows=2000, **back)
    assert count(desk, "status = 'parked'") == 0


@pytest.mark.soak
def test_a_table_that_takes_no_other_status_is_refused(desk: Desk) -> None:
    desk.db.sql(WAITING)
    known = "'pending', 'processing', 'completed', 'failed', 'retrying'"
    desk.db.sql(f"ALTER TABLE task_queue ADD CONSTRAINT known CHECK (status IN ({known}))")
    try:
        assert "the table takes no status parked" in move(desk, "park", 5, tasks="export")
        move(desk, "park", tasks="export", aside="failed")
        assert count(desk, "status = 'failed' AND task_name = 'export'") == 20
    finally:
        desk.db.sql("ALTER TABLE task_queue DROP CONSTRAINT known")


@pytest.mark.parametrize("point", ["sql-after-commit 0", LATER])
def test_killed_around_its_commit_each_is_put_aside_once(desk: Desk, point: str) -> None:
    desk.db.sql(WAITING)
    before = hashed(desk)
    move(desk, "park", kill=point, tasks="export")
    desk.db.sql("UPDATE task_queue SET status = 'retrying' WHERE id = md5('w2')::uuid")
    desk.opskit("resume", "last", status=None)  # it says that one waits again
    assert count(desk, PARKED) == 19
    desk.opskit("undo", "last", "--yes")
    desk.db.sql("UPDATE task_queue SET status = 'pending' WHERE id = md5('w2')::uuid")
    assert hashed(desk) == before


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(30))
def test_killed_at_any_time_each_is_put_aside_and_goes_back_once(desk: Desk, turn: int) -> None:
    desk.db.sql(WAITING)
    late = random.Random(turn).randrange(0, 300)
    move(desk, "park", kill=f"sql-time {late}", tasks="export")
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    assert count(desk, PARKED) == 20
    aside = hashed(desk)
    back: dict[str, Any] = {"idempotent": "export", "first": 100, "pause": "0s"}
    move(desk, "restore", kill=f"sql-time {2 * late}", **back)
    said = desk.opskit("resume", "last", status=None)
    assert count(desk, PARKED) == 0, said
    assert not [e for e in desk.events("step ended") if e["outcome"] == "unknown"]
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == aside
    desk.opskit("audit", "verify")
    desk.proved()


def test_what_was_put_aside_goes_back_a_small_part_first(desk: Desk) -> None:
    desk.db.sql(WAITING)
    desk.db.sql(WAITING.replace("'w'", "'x'").replace("'export'", "'payout'"))
    desk.db.sql("UPDATE task_queue SET status = 'parked' WHERE queue_name = 'reports'")
    said = move(desk, "restore", 5, idempotent="export")
    assert "tasks of payout are meant, too" in said
    fails = "UPDATE task_queue SET status = 'failed', retry_count = 3 WHERE status = 'pending'"
    with worker(desk, f"{fails} AND task_name = 'export'"):
        said = move(desk, "restore", 1, idempotent="export", tasks="export", pause="1s")
    assert "1 of the first have failed again" in said
    assert (count(desk, PARKED), count(desk, "status = 'parked'")) == (19, 39)
    said = move(desk, "restore", 1, idempotent="export", tasks="export", pause="0s")
    assert "no worker has begun one of the first (1) yet" in said, "that none failed says nothing"
    assert count(desk, PARKED) == 18
    begins = "UPDATE task_queue SET started_at = now() WHERE status = 'pending'"
    with worker(desk, f"{begins} AND id = md5('w18')::uuid"):  # the oldest by now
        move(desk, "restore", idempotent="export", tasks="export", first="10", pause="1s")
    assert (count(desk, PARKED), count(desk, "status = 'parked'")) == (0, 20)
    desk.db.sql("UPDATE task_queue SET started_at = now() WHERE id = md5('w3')::uuid")
    desk.opskit("undo", "last", "--yes")
    assert count(desk, PARKED) == 16, "what was begun meanwhile stays"


@contextmanager
def worker(desk: Desk, does: str) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(desk.db.owner, autocommit=True) as connection:
            while not stop.wait(0.05):
                connection.execute(does.encode())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def test_a_canary_comes_back_from_each_queue(desk: Desk) -> None:
    """A worker of ours does what is due."""
    desk.db.sql("UPDATE task_queue SET queue_name = 'reports' WHERE id < md5('p3')::uuid")
    with worker(desk, "UPDATE task_queue SET status = 'completed' WHERE task_name = 'canary'"):
        desk.opskit("run", "queue-table-canary", "--yes", "-p", "task=canary")
        assert count(desk, "task_name = 'canary' AND status = 'completed'") == 2
