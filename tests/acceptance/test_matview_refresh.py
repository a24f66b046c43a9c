"""The shipped matview-refresh on a real database: what is refreshed, refused, and not kept."""

import re
import signal
import sys
import time
from pathlib import Path

import psycopg
import pytest
import yaml

from opskit.lab.fixtures import Amount
from opskit.model.text import text
from tests.support import datasets
from tests.support.database import base, until
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
VIEWS = "mv_people_dropdown,mv_location_dropdown"


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    made = Desk(base(postgres, owner=owner), tmp_path)
    datasets.fill(owner, "youtility", Amount(rows=20))
    for name in ("people", "location", "asset"):
        made.db.sql(f"ALTER MATERIALIZED VIEW mv_{name}_dropdown OWNER TO app")
    made.db.sql("GRANT SELECT ON people, locations, assets TO app")
    made.write("  - {notify: x, on: controller}\n")
    return made


def refresh(desk: Desk, views: str, *words: str, status: int = 0) -> str:
    words = ("matview-refresh", "--yes", "-p", f"views={views}", *words)
    return desk.opskit("run", *words, status=status)


def people(desk: Desk, where: str = "mv_people_dropdown") -> int:
    return int(desk.db.sql(f"SELECT count(*) FROM {where}")[0][0])


def test_it_shows_what_the_tables_say_by_now(desk: Desk) -> None:
    before = people(desk)
    desk.db.sql(
        "UPDATE people SET enable = false WHERE id = (SELECT min(id) FROM people WHERE enable)"
    )
    # F1: what the system itself has for this looks where no materialized view is ever listed.
    listed = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'mv_%'"
    assert desk.db.sql(listed) == [(0,)]
    shown = desk.opskit("plan", "matview-refresh", "-p", f"views={VIEWS}")
    assert "REFRESH MATERIALIZED VIEW CONCURRENTLY" in shown
    assert people(desk) == before
    refresh(desk, VIEWS)
    assert people(desk) == before - 1
    printed = desk.opskit("output", "last", "Refresh it while others read")
    assert f"as it should be\t{before}\t{before - 1}" in printed
    desk.db.sql("UPDATE people SET enable = true")
    refresh(desk, VIEWS)
    desk.proved()


@pytest.mark.parametrize(
    ("views", "words", "status", "said"),
    [
        ("mv_nowhere", (), 5, "mv_nowhere does not exist"),
        ("people", (), 5, "people is no materialized view"),
        (f"{VIEWS},mv_people_dropdown", (), 5, "mv_people_dropdown is named twice"),
        ("mv_people_dropdown; drop table people", (), 2, "views"),
        ("Mv_People", (), 2, "views"),
        ("", (), 2, "views"),
        (VIEWS, ("-p", "free=1000"), 5, "bytes of the disk once more, and 1000 are free (free)"),
        (VIEWS, ("-p", "free=some"), 2, "free"),
        (VIEWS, ("-p", "grow=-1"), 2, "grow"),
        (VIEWS, ("-p", "window=25-3", "-p", "blocking=true"), 2, "window"),
    ],
)
def test_what_can_not_be_refreshed_is_refused_before_anything_is(
    desk: Desk, views: str, words: tuple[str, ...], status: int, said: str
) -> None:
    assert said in refresh(desk, views, *words, status=status)
    assert desk.db.sql("SELECT count(*) FROM opskit_db.marker WHERE part = 0") == [(0,)]


def test_one_that_was_never_filled_or_has_no_fit_index_needs_leave(desk: Desk) -> None:
    db = desk.db
    db.sql("CREATE MATERIALIZED VIEW bare AS SELECT id FROM people WITH NO DATA")
    db.sql("CREATE MATERIALIZED VIEW over AS SELECT id FROM mv_people_dropdown")
    db.sql("CREATE UNIQUE INDEX ON over (id)")
    for name in ("bare", "over"):
        db.sql(f"ALTER MATERIALIZED VIEW {name} OWNER TO app")
    assert "bare was never filled" in refresh(desk, "bare", status=5)
    now = db.sql("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int")[0][0]
    closed = f"window={(now + 2) % 24}-{(now + 3) % 24 or 24}"
    assert "is permitted from" in refresh(
        desk, "bare", "-p", "blocking=true", "-p", closed, status=5
    )
    refresh(desk, "bare", "-p", "blocking=true", "-p", "window=0-24")
    assert people(desk, "bare") > 0
    db.sql("CREATE UNIQUE INDEX ON bare (id) WHERE id > 0")  # not over all rows
    assert "bare has no unique index" in refresh(desk, "bare", status=5)
    wrong = refresh(desk, "over,mv_people_dropdown", status=5)
    assert "mv_people_dropdown is read by over: put it before that one" in wrong
    refresh(desk, "mv_people_dropdown,over")
    assert people(desk, "over") == people(desk)
    # Through a view that is none of the materialized ones, too.
    db.sql("CREATE VIEW between AS SELECT id FROM mv_people_dropdown")
    db.sql(
        "CREATE MATERIALIZED VIEW far AS SELECT id FROM between; CREATE UNIQUE INDEX ON far (id)"
    )
    db.sql("ALTER VIEW between OWNER TO app; ALTER MATERIALIZED VIEW far OWNER TO app")
    wrong = refresh(desk, "far,mv_people_dropdown", status=5)
    assert "mv_people_dropdown is read by far: put it before that one" in wrong


def test_an_empty_one_a_wrong_one_and_one_with_duplicates_are_not_kept(desk: Desk) -> None:
    db = desk.db
    before = people(desk)
    db.sql("CREATE TABLE tag (n int); GRANT SELECT ON tag TO app")
    db.sql("CREATE MATERIALIZED VIEW tags AS SELECT n FROM tag; CREATE UNIQUE INDEX ON tags (n)")
    db.sql("ALTER MATERIALIZED VIEW tags OWNER TO app")
    assert "it is empty, as it was before" in refresh(desk, "tags", status=1)
    refresh(desk, "tags", "-p", "empty=true")
    db.sql("INSERT INTO tag VALUES (1), (1)")
    said = refresh(desk, "tags", status=1)
    assert "duplicate rows without any null columns" in said
    assert people(desk, "tags") == 0
    assert "leave out one of" in refresh(
        desk, "tags", "-p", "exact=true", "-p", "blocking=true", "-p", "window=0-24", status=5
    )
    refresh(desk, "mv_people_dropdown", "-p", "exact=true")
    assert people(desk) == before
    # A definition that says something else each time it is asked.
    db.sql("CREATE SEQUENCE turn; GRANT USAGE ON turn TO app")
    db.sql("CREATE FUNCTION more() RETURNS SETOF int LANGUAGE sql VOLATILE AS $$ SELECT n FROM"
           " generate_series(1, 100 + nextval('public.turn')::int * 7 % 5) n $$")  # fmt: skip
    db.sql(
        "CREATE MATERIALIZED VIEW less AS SELECT n FROM more() n; CREATE UNIQUE INDEX ON less (n)"
    )
    db.sql("ALTER MATERIALIZED VIEW less OWNER TO app; SELECT setval('turn', 5)")
    said = refresh(desk, "less", "-p", "exact=true", status=1)
    assert re.search(r"it is '\d+ rows would be there, and its definition has \d+, then \d+", said)


def test_what_looks_wrong_is_not_kept_and_what_comes_after_it_not_begun(desk: Desk) -> None:
    before = people(desk)
    places = people(desk, "mv_location_dropdown")
    desk.db.sql("UPDATE people SET enable = false")
    desk.db.sql("UPDATE locations SET is_active = false")
    said = refresh(desk, VIEWS, status=1)
    assert f"none of {before} rows would be left" in said
    assert people(desk) == before
    assert people(desk, "mv_location_dropdown") == places
    desk.db.sql("UPDATE people SET enable = id % 2 = 0")
    assert "would be left (shrink)" in refresh(desk, "mv_people_dropdown", status=1)
    waits = ("-p", "blocking=true", "-p", "window=0-24")
    assert "would be left (shrink)" in refresh(desk, "mv_people_dropdown", *waits, status=1)
    assert people(desk) == before
    refresh(desk, "mv_people_dropdown", "-p", "shrink=60")
    desk.db.sql("UPDATE people SET enable = true")
    assert "(grow)" in refresh(desk, "mv_people_dropdown", status=1)
    refresh(desk, "mv_people_dropdown", "-p", "grow=200")
    assert people(desk) == people(desk, "people")


def test_whoever_reads_is_not_kept_waiting_and_a_refresh_under_way_is_not_queued_behind(
    desk: Desk,
) -> None:
    with psycopg.connect(desk.db.owner) as reader:
        reader.execute("SELECT count(*) FROM mv_people_dropdown")  # holds its lock to the end
        refresh(desk, "mv_people_dropdown")
    with psycopg.connect(desk.db.owner) as other:
        other.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY mv_people_dropdown")
        said = refresh(desk, "mv_people_dropdown", status=5)
        pid = other.info.backend_pid
        assert f"mv_people_dropdown is being refreshed, or locked, by process {pid}" in said


def test_killed_at_the_commit_it_is_settled_by_its_mark(desk: Desk) -> None:
    words = ("run", "matview-refresh", "--yes", "-p", "views=mv_people_dropdown")
    desk.opskit(
        *words, program=("tests.support.deadly", "sql-after-commit", "0"), status=-signal.SIGKILL
    )
    until(lambda: desk.db.sessions() == [])
    desk.opskit("resume", "last")
    marks = desk.db.sql(
        "SELECT attempt, barred FROM opskit_db.marker WHERE part = 0 AND run = %s",
        desk.events("run created")[-1]["run"],
    )
    assert marks == [(1, False)]
    desk.proved()


@pytest.mark.soak
def test_it_costs_less_than_50_ms_beside_the_bare_refresh(desk: Desk) -> None:
    """By turns, the best of each: what others do on the machine only adds."""
    db = desk.db
    steps = yaml.safe_load((RUNBOOKS / "matview-refresh.yaml").read_text())["steps"]
    query = next(s["sql"]["query"] for s in steps if s["name"] == "Refresh it while others read")
    given = {"item": "big", "empty": False, "shrink": 20, "grow": 50}
    db.sql(
        "CREATE TABLE rows AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 3000) n"
    )
    db.sql("CREATE MATERIALIZED VIEW big AS SELECT * FROM rows; CREATE UNIQUE INDEX ON big (id)")
    db.sql("GRANT SELECT ON rows TO app; ALTER MATERIALIZED VIEW big OWNER TO app")
    ours: list[float] = []
    bare: list[float] = []
    with psycopg.connect(db.owner.replace("//owner@", "//app@"), autocommit=True) as connection:
        for turn in range(15):
            for times in (ours, bare):
                db.sql("UPDATE rows SET name = md5(name) WHERE id % 50 = 0")
                db.run = f"timed{turn}"
                began = time.perf_counter()
                if times is bare:
                    connection.execute(b"REFRESH MATERIALIZED VIEW CONCURRENTLY big")
                else:
                    assert db.do(query, given=given, expect=text("as it should be")).outcome == (
                        "succeeded"
                    )
                times.append(1000 * (time.perf_counter() - began))
    sys.stdout.write(f"refresh: {min(ours):.0f} ms, bare {min(bare):.0f} ms\n")
    assert min(ours) < min(bare) + 50
