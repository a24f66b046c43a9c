"""The shipped index-fix from the command line: dry run, run, undo, and opskit killed on the way."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.bystander import writing
from tests.support.database import base, until
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
EXPECT = """
opskit: 1
tables:
  item:
    indexes:
      - {keys: [n, name], name: item_n_name}
      - {keys: [name, n DESC], where: n > 10, name: item_some}
"""
THERE = "CREATE INDEX item_n_name ON item (n, name)"
INDEXES = (
    "SELECT c.relname, i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class c"
    " ON c.oid = i.indexrelid WHERE i.indrelid = 'item'::regclass AND NOT i.indisprimary ORDER BY 1"
)
BOTH = [("item_n_name", True), ("item_some", True)]


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    made = Desk(base(postgres, owner=owner), tmp_path)
    made.write("  - sql: SELECT 1\n    effect: read\n")
    (tmp_path / "e.yaml").write_text(EXPECT)
    made.db.sql("ALTER TABLE item OWNER TO app")
    made.db.sql("INSERT INTO item SELECT 'n' || x, x FROM generate_series(1, 20000) x")
    return made


def words(desk: Desk, *more: str) -> tuple[str, ...]:
    return ("run", "index-fix", "-p", f"expect={desk.folder}/e.yaml", *more)


def hashed(desk: Desk, where: str = "true") -> object:
    query = f"SELECT md5(string_agg(i::text, ';' ORDER BY name)) FROM item i WHERE {where}"
    return desk.db.sql(query)[0][0]


def write(connection: "psycopg.Connection[Any]", number: int) -> None:
    """What another client does: it writes a row and reads it."""
    row = (f"w{number % 500}", number)
    connection.execute(
        b"INSERT INTO item VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET n = excluded.n", row
    )
    connection.execute(b"SELECT n FROM item WHERE name = %s", row[:1])


def test_a_dry_run_says_what_is_missing_and_builds_nothing(desk: Desk) -> None:
    desk.db.sql(THERE)
    said = desk.opskit(*words(desk, "--dry-run"))
    assert "CREATE INDEX CONCURRENTLY item_some ON item USING btree (name, n DESC)" in said
    assert said.count("now: its effect is there already") == 2
    assert said.count("now: its effect is not there yet: to be done: CREATE INDEX CONC") == 1
    assert desk.db.sql(INDEXES) == BOTH[:1]


def test_a_run_builds_what_is_missing_and_another_nothing(desk: Desk) -> None:
    desk.db.sql(THERE)
    desk.opskit(*words(desk, "--yes"))
    assert desk.db.sql(INDEXES) == BOTH
    did = [e["evidence"]["did"] for e in desk.events("step ended") if e["evidence"].get("did")]
    assert [len(one) for one in did] == [1]
    desk.opskit(*words(desk, "--yes", "-p", "rebuild=true"))
    assert len(desk.events("step skipped")) == 3
    desk.proved()


def test_an_undo_takes_back_what_was_built_while_others_write(desk: Desk) -> None:
    desk.db.sql(THERE)
    before = hashed(desk, "name LIKE 'n%'")
    with writing(desk.db.owner, write) as writer:
        desk.opskit(*words(desk, "--yes"))
        assert desk.db.sql(INDEXES) == BOTH
        desk.opskit("undo", "last", "--yes")
    assert writer.errors == []
    assert len(writer.times) > 10
    assert desk.db.sql(INDEXES) == BOTH[:1]
    assert hashed(desk, "name LIKE 'n%'") == before
    assert desk.db.sql("SELECT count(*) FROM item WHERE name LIKE 'w%'")[0][0] > 0


def test_a_rebuild_leaves_rows_and_definition_as_they_were(desk: Desk) -> None:
    desk.db.sql(THERE)
    desk.db.sql(
        "UPDATE item SET n = n + 1; UPDATE item SET n = n - 1; DELETE FROM item WHERE n > 9"
    )
    before = (hashed(desk), desk.db.sql("SELECT pg_get_indexdef('item_n_name'::regclass)"))
    size = desk.db.sql("SELECT pg_relation_size('item_n_name')")[0][0]
    desk.opskit(*words(desk, "--yes", "-p", "rebuild=true", "-p", "only=item_n_name"))
    assert (hashed(desk), desk.db.sql("SELECT pg_get_indexdef('item_n_name'::regclass)")) == before
    assert desk.db.sql("SELECT pg_relation_size('item_n_name')")[0][0] < size / 4


def test_one_that_can_not_be_built_leaves_no_ruin(desk: Desk) -> None:
    unique = "{keys: [n], unique: true, name: twice}"
    text = EXPECT.replace("{keys: [n, name], name: item_n_name}", unique)
    (desk.folder / "e.yaml").write_text(text)
    desk.db.sql("INSERT INTO item VALUES ('again', 1)")
    said = desk.opskit(*words(desk, "--yes"), status=1)
    assert "could not create unique index" in said
    assert "what it left has been dropped" in said
    assert desk.db.sql(INDEXES) == []


# --- opskit killed


def killed(desk: Desk, after: int, *more: str) -> None:
    """Kill opskit so many milliseconds after it has begun to build."""
    done = subprocess.run(
        [*desk.words()[:2], "tests.support.deadly", "sql-time", str(after),
         *words(desk, "--yes", *more)],
        env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done


def killed_once(desk: Desk, holds: Callable[[], object], *more: str) -> None:
    """Kill opskit once something holds at the server."""
    with desk.background(*words(desk, "--yes", *more)) as process:
        try:
            until(holds)
        finally:
            process.kill()
            process.communicate()


def settled(desk: Desk) -> None:
    """Resume until the run has come to its end."""
    with suppress(AssertionError):  # it had come to its end before it was killed
        desk.opskit("resume", "last")
    assert "SUCCEEDED" in desk.opskit("status", "last")


@pytest.mark.parametrize("after", [1, 40, 90])
def test_a_build_whose_opskit_is_killed_is_done_once(desk: Desk, after: int) -> None:
    killed(desk, after)
    settled(desk)
    assert desk.db.sql(INDEXES) == BOTH
    desk.proved()


def test_a_build_whose_opskit_is_killed_can_be_taken_back(desk: Desk) -> None:
    with psycopg.connect(desk.db.owner) as other:
        other.execute(b"INSERT INTO item VALUES ('in the way', 0)")
        killed_once(desk, lambda: desk.db.sql("SELECT 1 FROM pg_stat_progress_create_index"))
        threading.Timer(1, other.commit).start()
        desk.opskit("undo", "last", "--yes")  # which waits until the build has come to its end
    assert desk.db.sql(INDEXES) == []
    desk.proved()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(200))
def test_a_build_whose_opskit_is_killed_at_any_time_is_done_once(desk: Desk, turn: int) -> None:
    chance = random.Random(turn)
    if turn % 3 == 0:
        desk.db.sql(THERE)
    killed(desk, chance.randrange(0, 160))
    settled(desk)
    assert desk.db.sql(INDEXES) == BOTH
    if turn % 2:
        desk.opskit("undo", "last", "--yes")
        assert desk.db.sql(INDEXES) == (BOTH[:1] if turn % 3 == 0 else [])
    desk.proved()


COUNTED = """
    CREATE TABLE IF NOT EXISTS rebuilt (at timestamptz DEFAULT clock_timestamp());
    GRANT INSERT ON rebuilt TO PUBLIC;
    TRUNCATE rebuilt;
    CREATE OR REPLACE FUNCTION counted() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO rebuilt DEFAULT VALUES; END $$;
    DROP EVENT TRIGGER IF EXISTS reindexed;
    CREATE EVENT TRIGGER reindexed ON ddl_command_end WHEN TAG IN ('REINDEX')
        EXECUTE FUNCTION counted()
"""
"""A server that counts each REINDEX that has come to its end."""


def bloated(desk: Desk) -> None:
    """Make an index that has more air than entries."""
    desk.db.sql(COUNTED)
    desk.db.sql(THERE)
    desk.db.sql(
        "UPDATE item SET n = n + 1; UPDATE item SET n = n - 1; DELETE FROM item WHERE n > 2000"
    )


def rebuilt_once(desk: Desk, after: int) -> None:
    """Kill a rebuild so many milliseconds after it has begun; see that it was done, and once."""
    bloated(desk)
    size = "SELECT pg_relation_size('item_n_name')"
    before = (hashed(desk), desk.db.sql("SELECT pg_get_indexdef('item_n_name'::regclass)"))
    big = desk.db.sql(size)[0][0]
    killed(desk, after, "-p", "rebuild=true", "-p", "only=item_n_name")
    settled(desk)
    assert desk.db.sql("SELECT count(*) FROM rebuilt") == [(1,)]
    assert desk.db.sql(INDEXES) == [("item_n_name", True)]  # and nothing is left of a half one
    assert desk.db.sql(size)[0][0] < big / 2
    assert (hashed(desk), desk.db.sql("SELECT pg_get_indexdef('item_n_name'::regclass)")) == before
    desk.proved()


@pytest.mark.parametrize("after", [20, 60])
def test_a_rebuild_whose_opskit_is_killed_is_done_once(desk: Desk, after: int) -> None:
    rebuilt_once(desk, after)


def test_a_rebuild_that_goes_on_without_opskit_is_waited_for(desk: Desk) -> None:
    bloated(desk)
    with psycopg.connect(desk.db.owner) as other:
        other.execute(b"INSERT INTO item VALUES ('in the way', 0)")
        killed_once(
            desk, lambda: ("item_n_name_ccnew", False) in desk.db.sql(INDEXES),
            "-p", "rebuild=true", "-p", "only=item_n_name",
        )  # fmt: skip
        other.commit()
    settled(desk)
    assert desk.db.sql("SELECT count(*) FROM rebuilt") == [(1,)]
    assert desk.db.sql(INDEXES) == [("item_n_name", True)]
    desk.proved()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(200))
def test_a_rebuild_whose_opskit_is_killed_at_any_time_is_done_once(desk: Desk, turn: int) -> None:
    rebuilt_once(desk, random.Random(turn).randrange(0, 250))


# --- bystanders


@pytest.mark.soak
def test_others_go_on_reading_and_writing_meanwhile(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """No statement of theirs waits for a lock for 2 s; their 99th percentile is printed."""
    desk.db.sql("CREATE EXTENSION IF NOT EXISTS amcheck")
    desk.db.sql("INSERT INTO item SELECT 'm' || x, x FROM generate_series(1, 1500000) x")
    figures: list[tuple[str, float, int]] = []
    with writing(desk.db.owner, write) as writer:
        time.sleep(5)
        figures.append(("alone", writer.p99(), len(writer.times)))
        since = len(writer.times)
        desk.opskit(*words(desk, "--yes"))
        figures.append(("two builds", writer.p99(since), len(writer.times) - since))
        since = len(writer.times)
        desk.db.sql("SELECT bt_index_check('item_n_name'::regclass, heapallindexed => true)")
        figures.append(("amcheck", writer.p99(since), len(writer.times) - since))
        since = len(writer.times)
        desk.opskit("undo", "last", "--yes")
        figures.append(("undo", writer.p99(since), len(writer.times) - since))
    with capsys.disabled():
        for what, p99, count in figures:
            sys.stdout.write(f"\nbystander, {what}: p99 {p99:.1f} ms of {count} pairs")
        sys.stdout.write(f"\nthe longest took {1000 * max(writer.times):.1f} ms\n")
    assert writer.errors == []
    assert max(writer.times) < 2.0
    assert figures[1][2] > 50
