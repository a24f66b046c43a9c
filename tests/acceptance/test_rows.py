"""Rows removed from the command line: planned, refused, killed, gone on with, taken back."""

import random
import re
import signal
import time
from pathlib import Path

import pytest

from opskit.model.inventory import MARKERS
from tests.support.clearing import Attic, writing
from tests.support.database import base
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
STEP = """
  - name: Remove what is over
    rows:
      remove: session
      time: expire_date
      older_than: 0s
      live: expire_date >= now()
      archive: true
      first: 20
      batch: 50
      pause: 0.2
"""
DJANGO = """
    CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL);
    CREATE INDEX ON django_session (expire_date);
    GRANT SELECT, INSERT, UPDATE, DELETE ON django_session TO app;
    GRANT SELECT ON django_session TO reader;
    INSERT INTO django_session SELECT 's' || n, 'x', now() + CASE WHEN n <= %s THEN -1 ELSE 1 END
        * n * interval '1 minute' FROM generate_series(1, 2000) AS n
"""


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    made = Desk(base(postgres, owner=owner), tmp_path)
    made.write(STEP, "on_failure: stop\n")
    return made


def sessions(desk: Desk, where: str = "true") -> int:
    return int(desk.db.sql(f"SELECT count(*) FROM django_session WHERE {where}")[0][0])


def kept(desk: Desk) -> int:
    return int(desk.db.sql(f"SELECT count(*) FROM {MARKERS}.removed_row")[0][0])


def test_sessions_are_counted_first_and_what_is_over_is_removed(desk: Desk) -> None:
    desk.db.sql(DJANGO.replace("%s", "1500"))
    said = desk.opskit("plan", "session-cleanup")
    assert "remove rows of django_session where expire_date is past" in said
    assert "THERE IS NO UNDO" in said
    assert (
        "waits at most 5m while a standby is more than 10s behind, more than 64 MiB/s of WAL are"
        " written or more than 10 sessions wait for a lock" in " ".join(said.split())
    )
    for wrong, told in (("max_wal=64", "which is 64 bytes a second"), ("older_than=-1s", "-1s")):
        assert told in desk.opskit("plan", "session-cleanup", "-p", wrong, status=2)
    said = desk.opskit("run", "session-cleanup", "--dry-run")
    assert "public.django_session: 1500 of 2000 rows (75.0%)" in said
    assert "it would NOT be vacuumed afterwards: the role is not that of" in " ".join(said.split())
    assert "at the server now: standbys 0.0 s behind, 0 sessions waiting for a lock" in said
    assert sessions(desk) == 2000
    said = desk.opskit("run", "session-cleanup", "--yes")
    assert "1500 of 2000 rows of public.django_session are removed; NOT vacuumed" in said
    assert (sessions(desk), sessions(desk, "expire_date < now()")) == (500, 0)
    desk.opskit("run", "session-cleanup", "--yes")  # there is nothing to do, and that is well
    assert (sessions(desk), kept(desk)) == (500, 0)
    desk.proved()


@pytest.mark.parametrize(
    ("made", "more", "told"),
    [
        ("", ("-p", "max_share=0.5"), "max_share is 50.0%"),
        ("", ("-p", "max_rows=1000"), "max_rows is 1000"),
        ("DROP TABLE django_session", (), "there is no table django_session"),
        ("REVOKE DELETE ON django_session FROM app", (), "the role may not do this"),
        (f"DROP TABLE {MARKERS}.marker", (), "opskit db init main"),
    ],
)  # fmt: skip
def test_what_may_not_be_removed_is_refused_before_the_first_change(
    desk: Desk, made: str, more: tuple[str, ...], told: str
) -> None:
    desk.db.sql(DJANGO.replace("%s", "1500"))
    if made:
        desk.db.sql(made)
    said = desk.opskit("run", "session-cleanup", "--yes", *more, status=5)
    assert told in " ".join(said.split())
    if not made.startswith("DROP TABLE django"):
        assert sessions(desk) == 2000


@pytest.mark.parametrize("turns", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_a_run_that_is_killed_goes_on_where_it_was_and_is_taken_back(
    desk: Desk, turns: int
) -> None:
    attic = Attic(desk.db)
    for turn in range(turns):
        chance = random.Random(turn)
        attic.fill(1200, 1500)
        desk.db.sql("ALTER TABLE session OWNER TO app")  # who removes may vacuum it
        desk.db.sql(f"DELETE FROM {MARKERS}.removed_row")
        before = attic.hash()
        with writing(desk.db) as writer:
            child = desk.background("run", "t.yaml", "--yes")
            time.sleep(0.7 + chance.random() * 0.9)
            child.send_signal(signal.SIGKILL)
            child.wait(20)
            child.communicate()
            desk.opskit("resume", "last", status=None)
            if not kept(desk):  # killed before there was a run
                desk.run()
            assert attic.keys("key LIKE 's%' AND expire_date < now()") == 0, turn
            assert kept(desk) == 1200, turn
            assert desk.db.sql("SELECT pg_stat_get_vacuum_count('session'::regclass)")[0][0], turn
            desk.opskit("undo", "last", "--yes")
        assert writer.errors == []
        assert attic.hash() == before, turn
    desk.proved()


def test_an_undo_tells_which_rows_it_left(desk: Desk) -> None:
    attic = Attic(desk.db)
    attic.fill(100, 200)
    desk.run()
    desk.db.sql("INSERT INTO session (key, expire_date) VALUES ('s7', 'infinity')")
    said = desk.opskit("undo", "last", "--yes")
    assert "99 of 100 rows of public.session are put back" in said
    printed = desk.opskit("output", "last", "Take back: Remove what is over")
    assert re.search(r"1 are not: .*\n.*  s7", printed)
    assert attic.keys() == 200
