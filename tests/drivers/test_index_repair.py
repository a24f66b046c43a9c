"""Building and dropping indexes on a real server, with others at work and ruins on the way."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from opskit.drivers.targets import lease_words
from opskit.model.expected import Index
from opskit.model.inventory import MARKERS
from opskit.model.job import Output
from opskit.model.text import text
from opskit.model.work import Repair
from tests.support.busy import findings, look
from tests.support.database import Base, base, until
from tests.support.postgres import Server, server

pytestmark = pytest.mark.acceptance
BY_N = Index(keys=("n DESC", "name"), where="n > 0", name="item_n")
CREATE = Repair(database="main", do="create", relation="item", index=BY_N)
TIDY = Repair(database="main", do="tidy", relation="item")


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def db(postgres: Server, owner: str) -> Iterator[Base]:
    made = base(postgres, owner=owner)
    made.sql("ALTER TABLE item OWNER TO app")
    made.sql("INSERT INTO item SELECT 'n' || x, x FROM generate_series(1, 500) x")
    yield made
    assert made.quiet()


def create(**how: Any) -> Repair:  # noqa: ANN401 - an Index's
    return Repair(database="main", do="create", relation="item", index=Index(**how))


def there(db: Base) -> list[tuple[object, ...]]:
    return db.sql(
        "SELECT c.relname, i.indisvalid AND i.indisready AND i.indislive FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'item'::regclass"
        " AND NOT i.indisprimary ORDER BY 1"
    )


def ruin(db: Base, statement: str) -> None:
    """Let a build come to nothing, so that what is invalid is left."""
    with psycopg.connect(db.owner, autocommit=True) as connection, holding(db):

        def build() -> None:
            with suppress(psycopg.errors.QueryCanceled):
                connection.execute(statement.encode())

        thread = threading.Thread(target=build)
        thread.start()
        pid = connection.info.backend_pid
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        until(lambda: db.sql(waits, pid))
        db.sql("SELECT pg_cancel_backend(%s)", pid)
        thread.join(60)


@contextmanager
def holding(db: Base) -> Iterator[psycopg.Connection[Any]]:
    """Hold a transaction open that has written to the table: a build waits for it."""
    with psycopg.connect(db.owner) as other:
        other.execute(b"INSERT INTO item VALUES ('in the way')")
        yield other
        other.rollback()


def building(db: Base) -> bool:
    return bool(db.sql("SELECT 1 FROM pg_stat_progress_create_index"))


def did(found: Output) -> list[str]:
    verbs: Any = found.evidence["did"]
    return [" ".join(str(one).split()[:2]) for one in verbs]


def test_what_is_missing_is_built_and_found_valid(db: Base) -> None:
    found = db.do(CREATE)
    assert (found.outcome, there(db)) == ("succeeded", [("item_n", True)])
    assert did(found) == ["CREATE INDEX"]
    assert "(n DESC, name) WHERE (n > 0)" in str(found.evidence["definition"])
    assert "what is free was not known" in str(found.evidence["disk"])
    again = db.do(CREATE, key="2/")
    assert (again.outcome, again.evidence["did"]) == ("succeeded", [])
    assert again.evidence["stands"] == "it is there, valid and ready"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"keys": ("lower(name) text_pattern_ops",)}, "lower(name) text_pattern_ops"),
        ({"keys": ("n",), "include": ("name",), "unique": True}, "(n) INCLUDE (name)"),
        ({"keys": ("n",), "method": "brin"}, "USING brin (n)"),
        ({"keys": ("name",), "where": "n IN (1, 2)", "name": "Odd name"}, '"Odd name"'),
    ],
)
def test_it_is_built_as_the_file_says(db: Base, index: dict[str, Any], words: str) -> None:
    found = db.do(create(**index))
    assert found.outcome == "succeeded", found
    assert words in str(found.evidence["definition"])
    assert db.do(create(**index), key="2/").evidence["did"] == []


def test_a_ruin_is_dropped_and_built_again(db: Base) -> None:
    ruin(db, "CREATE INDEX CONCURRENTLY item_n ON item (n DESC, name) WHERE n > 0")
    assert there(db) == [("item_n", False)]
    found = db.do(CREATE)
    assert (found.outcome, there(db)) == ("succeeded", [("item_n", True)])
    assert did(found) == ["DROP INDEX", "CREATE INDEX"]


def test_what_somebody_builds_at_this_moment_is_waited_for_and_never_dropped(db: Base) -> None:
    def build() -> None:
        with psycopg.connect(db.owner, autocommit=True) as connection:
            connection.execute(
                b"CREATE INDEX CONCURRENTLY item_n ON item (n DESC, name) WHERE n > 0"
            )

    other = threading.Thread(target=build)
    with holding(db) as first:
        other.start()
        until(lambda: there(db) == [("item_n", False)])
        with db.beside(CREATE) as found:
            until(lambda: "waiting" in db.printed)
            time.sleep(0.7)
            assert there(db) == [("item_n", False)]
            first.rollback()
    other.join(20)
    assert (found[0].outcome, there(db)) == ("succeeded", [("item_n", True)])
    assert found[0].evidence["did"] == []


def test_a_table_that_is_not_there_and_a_name_that_is_taken_are_refused(db: Base) -> None:
    missing = Repair(database="main", do="create", relation="nothing", index=BY_N)
    found = db.do(missing)
    assert (found.sent, found.reason) == (False, "there is no table nothing")
    db.sql("CREATE INDEX item_n ON item (name, n)")
    found = db.do(CREATE)
    assert not found.sent
    assert "item_n is something else there: CREATE INDEX item_n ON" in found.reason
    assert there(db) == [("item_n", True)]


@pytest.mark.parametrize(
    ("way", "back", "said"),
    [
        ("ALTER TABLE item OWNER TO owner", "ALTER TABLE item OWNER TO app",
         "app does not own it, which owner does → connect as a role that owns it"),
        ("REVOKE CREATE ON SCHEMA public FROM app", "GRANT CREATE ON SCHEMA public TO app",
         "app may not CREATE in schema public"),
    ],
)  # fmt: skip
def test_who_may_build_nothing_there_is_told_so_by_the_dry_run(
    db: Base, way: str, back: str, said: str
) -> None:
    db.sql(way)
    for work in (replace(CREATE, probe=True), CREATE):
        found = db.do(work)
        assert (found.outcome, found.sent, there(db)) == ("failed", False, [])
        assert said in found.reason
    db.sql(back)


def test_a_partitioned_table_is_left_as_it_is_and_its_parts_are_built_on(db: Base) -> None:
    db.sql(
        "CREATE TABLE part (id int, at date) PARTITION BY RANGE (at);"
        "CREATE TABLE part_1 PARTITION OF part DEFAULT; CREATE INDEX part_id ON part (id);"
        "ALTER TABLE part OWNER TO app; ALTER TABLE part_1 OWNER TO app"
    )
    sound = replace(create(keys=("id",)), relation="part")
    assert db.do(sound).evidence["stands"] == "it is there, valid and ready"
    for do in ("tidy", "rebuild"):  # nothing of it that could be worked on
        found = db.do(replace(sound, do=do, bloat=0.0), key=f"{do}/")
        assert (found.outcome, found.evidence["did"]) == ("succeeded", [])
    wanted = replace(create(keys=("at",), name="part_at"), relation="part")
    found = db.do(wanted, key="2/")
    assert (found.outcome, found.sent) == ("failed", False)
    assert "→ CREATE INDEX … ON ONLY part" in found.reason
    db.sql("CREATE INDEX part_at ON ONLY part (at)")
    waits = db.do(wanted, key="3/").reason
    assert '"public"."part_at" is there and waits for its parts; build it on each' in waits
    piece = replace(create(keys=("at",), name="part_1_at"), relation="part_1")
    assert db.do(piece, key="4/").outcome == "succeeded"
    db.sql("ALTER INDEX part_at ATTACH PARTITION part_1_at")
    assert db.do(wanted, key="5/").outcome == "succeeded"


def test_what_an_extension_has_elsewhere_is_to_be_named_with_its_schema(db: Base) -> None:
    found = db.do(create(keys=("name gin_trgm_ops",), method="gin"))
    assert (found.outcome, there(db)) == ("failed", [])
    assert 'operator class "gin_trgm_ops" does not exist' in found.reason
    assert "write SCHEMA.NAME in the file" in found.reason


def test_a_build_that_fails_clears_away_what_it_left(db: Base) -> None:
    db.sql("UPDATE item SET n = 1")
    found = db.do(create(keys=("n",), unique=True, name="item_n"))
    assert (found.outcome, found.evidence["sqlstate"]) == ("failed", "23505")
    assert "what it left has been dropped" in found.reason
    assert there(db) == []


def test_a_build_that_takes_too_long_clears_away_what_it_left(db: Base) -> None:
    with holding(db) as other:
        later = threading.Timer(2.5, other.rollback)
        later.start()
        found = db.do(CREATE, timeout=1.0)
        later.join()
    assert found.outcome == "failed"
    assert "not over within 1 s; the server has ended it" in found.reason
    assert there(db) == []


def test_a_ruin_that_can_not_be_cleared_away_in_time_is_told(
    db: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opskit.drivers.postgres.repair._CLEAR", 1.5)
    until(lambda: db.others() == 0)
    with holding(db):
        found = db.do(CREATE, timeout=1.0)
    assert found.outcome == "failed"
    assert "what it left could not be cleared away" in found.reason
    assert there(db) == [("item_n", False)]
    assert "transactions of 1 others" in str(found.evidence["not seen"])
    assert (db.do(CREATE, attempt=2).outcome, there(db)) == ("succeeded", [("item_n", True)])


def test_a_build_that_a_person_stops_is_ended_and_cleared_away(db: Base) -> None:
    with holding(db) as other, db.beside(CREATE) as found:
        until(lambda: building(db))
        (running,) = db.driver.busy()
        running.give_up.set()
        until(lambda: not building(db))
        other.rollback()
    assert (found[0].outcome, found[0].evidence["stopped"]) == ("failed", "confirmed gone")
    assert there(db) == []


def test_how_far_it_has_come_is_told(db: Base) -> None:
    with holding(db) as other, db.beside(CREATE) as found:
        until(lambda: "waiting for writers before build: 0 % of 1 transactions" in db.printed)
        other.rollback()
    assert found[0].outcome == "succeeded"
    assert db.printed.startswith('CREATE INDEX CONCURRENTLY "item_n" ON "public"."item"')


def test_nothing_is_built_while_somebody_is_in_the_way_for_long(
    db: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opskit.drivers.postgres.readiness.OLD", 1)
    db.sql("GRANT pg_read_all_stats TO app")
    try:
        with holding(db):
            time.sleep(1.6)
            found = db.do(CREATE)
    finally:
        db.sql("REVOKE pg_read_all_stats FROM app")
    assert (found.outcome, found.sent, there(db)) == ("failed", False, [])
    assert "a build would wait for transactions that are older than" in found.reason


@pytest.mark.parametrize(
    ("free", "said"),
    [("1000", "2 times that must be free"), ("much", "is to be a number of bytes")],
)
def test_nothing_is_built_without_room_for_it(db: Base, free: str, said: str) -> None:
    work = Repair(database="main", do="create", relation="item", index=BY_N, free=text(free))
    found = db.do(work)
    assert (found.outcome, found.sent, there(db)) == ("failed", False, [])
    assert said in found.reason


def test_what_a_reindex_left_is_dropped_and_nothing_else(db: Base) -> None:
    db.do(CREATE)
    ruin(db, "REINDEX INDEX CONCURRENTLY item_n")
    db.sql("CREATE INDEX item_ccnew ON item (n)")  # it is valid, whatever it is called
    assert there(db) == [("item_ccnew", True), ("item_n", True), ("item_n_ccnew", False)]
    found = db.do(TIDY, key="2/")
    assert (found.outcome, did(found)) == ("succeeded", ["DROP INDEX"])
    assert there(db) == [("item_ccnew", True), ("item_n", True)]


def test_what_a_reindex_builds_at_this_moment_is_left_alone(db: Base) -> None:
    db.do(CREATE)

    def build() -> None:
        with psycopg.connect(db.owner, autocommit=True) as connection:
            connection.execute(b"REINDEX INDEX CONCURRENTLY item_n")

    other = threading.Thread(target=build)
    with holding(db) as first:
        other.start()
        until(lambda: ("item_n_ccnew", False) in there(db))
        with db.beside(TIDY, key="2/") as found:
            until(lambda: "waiting" in db.printed)
            time.sleep(0.7)
            first.rollback()
    other.join(20)
    assert (found[0].outcome, found[0].evidence["did"]) == ("succeeded", [])
    assert there(db) == [("item_n", True)]


def rebuild(**how: Any) -> Repair:  # noqa: ANN401 - a Repair's
    return Repair(database="main", do="rebuild", relation="item", index=BY_N, **how)


def number(db: Base) -> int:
    return int(db.sql("SELECT 'item_n'::regclass::oid::bigint")[0][0])


def test_only_what_is_bloated_after_a_fresh_look_is_rebuilt(db: Base) -> None:
    db.do(CREATE)
    db.sql("INSERT INTO item SELECT 'm' || x, x FROM generate_series(1, 20000) x")
    before = number(db)
    fresh = db.do(rebuild(), key="2/")  # nobody has analyzed it: it would seem bloated
    assert (did(fresh), number(db)) == (['ANALYZE "public"."item"'], before)
    db.sql("DELETE FROM item WHERE name LIKE 'm%'")
    found = db.do(rebuild(), key="3/")
    assert did(found) == ['ANALYZE "public"."item"', "REINDEX INDEX"]
    assert found.evidence["bytes"] == db.sql("SELECT pg_relation_size('item_n')")[0][0] < 100_000
    assert number(db) != before
    probe = db.do(rebuild(probe=True), "read", key="4/?skip")
    assert (probe.outcome, there(db)) == ("succeeded", [("item_n", True)])


def test_an_index_that_does_not_stand_is_not_rebuilt(db: Base) -> None:
    found = db.do(rebuild())
    assert (found.sent, "is not there: it has to be created first" in found.reason) == (False, True)


def drop(name: str, **how: Any) -> Repair:  # noqa: ANN401 - a Repair's
    return Repair(database="main", do="drop", name=name, **how)


def test_what_may_not_be_dropped_is_not(db: Base) -> None:
    db.do(CREATE)
    for work, said in (
        (drop("item_n"), "it is dropped only with `leftover: true`"),
        (drop("item_pkey", leftover=True), "the constraint item_pkey stands on item_pkey"),
        (drop("nothing"), "there is no index nothing"),
        (drop("item"), "there is no index item"),
    ):
        found = db.do(work, key="2/")
        assert (found.outcome, found.sent) == ("failed", False)
        assert said in found.reason
    assert there(db) == [("item_n", True)]


def test_what_was_dropped_is_built_again_as_it_was(db: Base) -> None:
    db.do(CREATE)
    before = db.sql("SELECT pg_get_indexdef('item_n'::regclass)")
    found = db.do(drop("item_n", leftover=True), key="2/")
    assert (found.outcome, there(db)) == ("succeeded", [])
    assert found.evidence["dropped"] == before[0][0]
    back = Repair(database="main", do="undo", name="item_n", leftover=True, of="2/")
    assert db.do(back, key="2/!1").outcome == "succeeded"
    assert db.sql("SELECT pg_get_indexdef('item_n'::regclass)") == before
    assert db.do(back, key="2/!1", attempt=2).evidence["did"] == []


UNDO = Repair(database="main", do="undo", relation="item", index=BY_N, of="1/")


def test_an_undo_drops_only_what_this_run_has_built(db: Base) -> None:
    db.do(CREATE)
    found = db.do(UNDO, key="1/!1")
    assert (found.outcome, there(db)) == ("succeeded", [])
    assert db.do(UNDO, key="1/!1", attempt=2).evidence["did"] == []


def test_an_undo_leaves_what_was_there_before(db: Base) -> None:
    db.sql("CREATE INDEX item_n ON item (n DESC, name) WHERE n > 0")
    db.do(CREATE)
    found = db.do(UNDO, key="1/!1")
    assert found.evidence["stands"] == "this run has built or dropped nothing there"
    assert there(db) == [("item_n", True)]


def test_an_undo_leaves_another_index_of_the_same_name(db: Base) -> None:
    db.do(CREATE)
    db.sql("DROP INDEX item_n")
    db.sql("CREATE INDEX item_n ON item (name)")
    found = db.do(UNDO, key="1/!1")
    assert (found.outcome, there(db)) == ("failed", [("item_n", True)])
    assert "item_n is another index by now" in found.reason


def test_an_undo_leaves_an_equal_index_that_somebody_else_has_built_since(db: Base) -> None:
    db.do(CREATE)
    db.sql("DROP INDEX item_n")
    db.sql("CREATE INDEX item_n ON item (n DESC, name) WHERE n > 0")
    found = db.do(UNDO, key="1/!1")
    assert (found.outcome, there(db)) == ("failed", [("item_n", True)])
    assert "item_n was built anew since this run has built it" in found.reason


def test_an_undo_does_not_guess_where_what_was_written_down_is_gone(db: Base) -> None:
    db.do(CREATE)
    db.sql(f"DELETE FROM {MARKERS}.marker")
    found = db.do(UNDO, key="1/!1")
    assert (found.outcome, there(db)) == ("failed", [("item_n", True)])
    assert "nothing tells what it has built or dropped" in found.reason


# --- lost from sight


def test_what_was_never_begun_never_is_after_somebody_has_asked(db: Base) -> None:
    found = db.find(CREATE)
    assert (found.outcome, found.again, found.sent) == ("failed", True, False)
    late = db.do(CREATE)
    assert (late.outcome, late.lost, there(db)) == ("unknown", True, [])
    assert db.do(CREATE, attempt=2).outcome == "succeeded"


def begun(db: Base) -> None:
    """Leave what an attempt leaves that was killed once it had written down what it would do."""
    db.sql(f"INSERT INTO {MARKERS}.marker (run, action, attempt) VALUES (%s, '1/', 1)", db.run)
    data = b'["create", "public", "item_n", "", 0, false]'
    db.sql(
        f"INSERT INTO {MARKERS}.marker (run, action, attempt, part, value)"
        " VALUES (%s, '1/', 1, 16, %s)",
        db.run, data,
    )  # fmt: skip


def test_what_was_lost_from_sight_is_settled_by_what_is_there(db: Base) -> None:
    begun(db)
    never = db.find(CREATE)
    assert (never.outcome, never.again) == ("failed", True)
    ruin(db, "CREATE INDEX CONCURRENTLY item_n ON item (n DESC, name) WHERE n > 0")
    ruined = db.find(CREATE)
    assert (ruined.again, there(db)) == (True, [])
    assert "what it left has been dropped" in ruined.reason
    db.sql("CREATE INDEX item_n ON item (n DESC, name) WHERE n > 0")
    built = db.find(CREATE)
    assert (built.outcome, built.evidence["settled"]) == ("succeeded", "the catalog")
    assert db.do(UNDO, key="1/!1").outcome == "succeeded"
    assert there(db) == []


def test_what_goes_on_at_the_server_is_followed(db: Base) -> None:
    with holding(db) as other, db.beside(CREATE) as found:
        until(lambda: building(db))
        lost = db.find(CREATE)
        assert (lost.outcome, lost.lost) == ("unknown", True)
        assert "it still runs at the server" in lost.reason
        other.rollback()
    assert found[0].outcome == "succeeded"
    assert db.find(CREATE).outcome == "succeeded"


# --- locks and places


def test_who_was_overtaken_builds_nothing(db: Base) -> None:
    words = {n: lease_words(["x"], "aa", n, f"r{n} (fix), by ann") for n in (3, 4)}
    old, new = (db.as_run(f"r{n}", *words[n]) for n in (3, 4))
    old.driver.open("main")
    new.driver.open("main")
    found = old.do(CREATE)
    assert (found.sent, there(db)) == (False, [])
    assert "its lock is held there by run r4" in found.reason
    assert new.do(CREATE).outcome == "succeeded"


def test_without_a_place_to_write_down_what_is_done_nothing_is(db: Base) -> None:
    db.sql(f"DROP SCHEMA {MARKERS} CASCADE")
    found = db.do(CREATE)
    assert (found.sent, there(db)) == (False, [])
    assert "opskit db init main" in found.reason


def test_a_replication_slot_that_lags_keeps_builds_from_being_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("opskit.drivers.postgres.readiness.LAG", 1 << 20)
    with server(wal_level="replica") as one:
        db = base(one)
        db.sql("ALTER TABLE item OWNER TO app")
        db.sql("SELECT pg_create_physical_replication_slot('copy', true)")
        db.sql("INSERT INTO item SELECT repeat('x', 100) || x FROM generate_series(1, 20000) x")
        found = db.do(CREATE)
    assert (found.outcome, found.sent) == ("failed", False)
    assert "replication slots lag, and a build writes much more: copy (" in found.reason


CLEANING = "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = 'item'::regclass"
ONE_BY_ONE = "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_cost_limit = 1"


def test_autovacuum_is_neither_one_who_builds_nor_a_transaction_in_the_way() -> None:
    """A role without pg_read_all_stats sees no kind of it: it has to be told by its user."""
    with server(autovacuum_naptime="1s", autovacuum_analyze_threshold="1000000") as one:
        db = base(one)
        db.sql("ALTER TABLE item OWNER TO app")
        db.sql("INSERT INTO item SELECT 'n' || x, x FROM generate_series(1, 50000) x")
        db.sql("CREATE INDEX other ON item (n)")
        ruin(db, "REINDEX INDEX CONCURRENTLY other")
        db.sql("DELETE FROM item WHERE n % 2 = 0")
        db.sql(f"ALTER TABLE item SET ({ONE_BY_ONE}, autovacuum_vacuum_cost_delay = 100)")
        until(lambda: db.sql(CLEANING))
        tidied = db.do(TIDY)
        assert (tidied.outcome, did(tidied)) == ("succeeded", ["DROP INDEX"])
        until(lambda: db.sql(CLEANING) and db.others() == 0)
        looked = look(db, leave_out=("statements", "statement"))
        assert "hidden" not in [check for _, check, _ in findings(looked)]
        until(lambda: db.sql(CLEANING) and db.others() == 0)
        built = db.do(CREATE, key="2/")
        assert (built.outcome, there(db)[0]) == ("succeeded", ("item_n", True))
        assert "not seen" not in built.evidence
