"""The shipped vacuum-check on a real database, and health checks that ask one."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.support import postgres
from tests.support.database import Base, base, until
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
RUNBOOKS = Path(__file__).parents[2] / "runbooks"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"autovacuum": "off", "max_prepared_transactions": "4", "wal_level": "logical"}
    with postgres.server(**settings) as found:
        yield found


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    made = Desk(base(server), tmp_path)
    made.db.sql("GRANT pg_read_all_stats TO app")
    made.write("  - {notify: x, on: controller}\n")
    return made


def check(desk: Desk, *words: str, status: int = 0) -> str:
    return desk.opskit("run", "vacuum-check", *words, status=status)


@contextmanager
def vacuum(db: Base) -> Iterator[None]:
    """Have a table vacuumed, so slowly that it is not over until this ends."""
    db.sql("CREATE TABLE slow AS SELECT repeat('x', 2000) FROM generate_series(1, 8000)")
    with psycopg.connect(db.owner, autocommit=True) as slow:
        slow.execute("SET vacuum_cost_delay = '100ms'; SET vacuum_cost_limit = 1")
        thread = threading.Thread(target=lambda: ended(slow, "VACUUM slow"))
        thread.start()
        try:
            until(lambda: db.sql("SELECT count(*) FROM pg_stat_progress_vacuum") == [(1,)])
            yield
        finally:
            slow.cancel()
            thread.join(20)


def question(label: str) -> str:
    """Return what the runbook asks the server for a check."""
    steps = yaml.safe_load((RUNBOOKS / "vacuum-check.yaml").read_text())["steps"]
    (found,) = (c for s in steps for c in s.get("for_each", ()) if c["label"].startswith(label))
    return str(found["sql"])


def ended(connection: psycopg.Connection, statement: str) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute(statement.encode())


def test_it_says_what_is_wrong_and_everything_is_looked_at(desk: Desk) -> None:
    db = desk.db
    said = check(desk)
    assert "WARN autovacuum: off for all 1 (> 0)" in said
    db.sql("CREATE TABLE heap (n int) WITH (autovacuum_vacuum_threshold = 10)")
    db.sql("INSERT INTO heap SELECT generate_series(1, 1000); ANALYZE heap; DELETE FROM heap")
    db.sql("SELECT pg_stat_force_next_flush()")
    db.sql("SELECT pg_create_physical_replication_slot('left_behind', true)")
    db.sql("BEGIN; INSERT INTO heap VALUES (1); PREPARE TRANSACTION 'forgotten'")
    try:
        time.sleep(0.5)
        with vacuum(db):
            said = check(desk, "-p", "dead=100", "-p", "old=100ms", status=1)
            keepers = [name for name, _ in db.sql(question("who keeps dead rows"))]
            ((pid,),) = db.sql("SELECT pid FROM pg_stat_progress_vacuum")
        assert keepers
        assert not [name for name in keepers if name.startswith(f"session {pid} ")]
        assert re.search(r"OK longest VACUUM under way, hours: slow, [a-z ]+ 0", said)
        assert re.search(r"OK age of a table beyond which autovacuum freezes it, %: \S+ 0", said)
        assert (
            "WARN dead rows, % of what has autovacuum begin: public.heap, vacuumed never, 47"
            in said
        )
        assert "CRIT oldest transaction, seconds: prepared forgotten " in said
        assert "OK main: as expected (0 tables and indexes of 100 MiB or more)" in said
        assert "OK connections in use, %" in said
        assert "OK transaction ids used up, %" in said
        assert "OK WAL that a replication slot keeps, MiB: left_behind, which nobody reads," in said
        assert "OK who keeps dead rows from being removed, transactions behind" in said
    finally:
        db.sql("ROLLBACK PREPARED 'forgotten'")
        db.sql("SELECT pg_drop_replication_slot('left_behind')")
    db.sql("GRANT SELECT ON heap, slow TO app")
    with psycopg.connect(db.owner, autocommit=True) as connection:
        connection.execute(b"VACUUM (ANALYZE) slow")
        connection.execute(b"DELETE FROM slow WHERE ctid >= '(500,0)' AND ctid < '(1900,0)'")
        connection.execute(b"SELECT pg_stat_force_next_flush()")
        connection.execute(b"VACUUM (ANALYZE) slow")
    shown = desk.opskit("plan", "vacuum-check", "-p", "air_least=5")
    assert "WARN from more than 40% and 5 MiB on" in shown
    said = check(desk, "-p", "air_least=5")
    assert "WARN main: 1 WARN (1 tables and indexes of 5 MiB or more); public.slow: 11 MiB" in said
    assert "no look: the extension pgstattuple is not in this database" in said
    assert "pg_repack needs 16 MiB free" in said
    assert "public.slow" not in check(desk, "-p", "air_least=5", "-p", "bloat=false")
    plugin = desk.opskit("run", "vacuum-check", "--nagios", status=1)
    assert plugin.startswith("VACUUM-CHECK WARNING")


def test_dead_rows_are_weighed_by_what_the_table_itself_says(desk: Desk) -> None:
    db, asked = desk.db, question("dead rows")
    db.sql("CREATE TABLE d (id int, doc text); ALTER TABLE d ALTER doc SET STORAGE EXTERNAL")
    db.sql("INSERT INTO d SELECT n, repeat('x', 21000) FROM generate_series(1, 1000) n;"
           "DELETE FROM d; SELECT pg_stat_force_next_flush()")  # fmt: skip
    found = {name.partition(",")[0]: float(dead) for name, dead in db.sql(asked)}
    assert (found["public.d"], found["TOAST of d"]) == (2000.0, 22000.0)  # of 50 rows
    db.sql("ALTER TABLE d SET (autovacuum_vacuum_threshold = 500)")
    found = {name.partition(",")[0]: float(dead) for name, dead in db.sql(asked)}
    assert (found["public.d"], found["TOAST of d"]) == (200.0, 2200.0)  # which TOAST takes on
    db.sql("ALTER TABLE d SET (toast.autovacuum_vacuum_threshold = 11000)")
    found = {name.partition(",")[0]: float(dead) for name, dead in db.sql(asked)}
    assert (found["public.d"], found["TOAST of d"]) == (200.0, 100.0)
    if db.server.version >= 18:
        db.sql("ALTER TABLE d SET (autovacuum_vacuum_max_threshold = 250)")
        assert dict(db.sql(asked))["public.d, vacuumed never,"] == 400


def test_a_server_that_comes_near_its_limits_is_warned_of(tmp_path: Path) -> None:
    """A slot that was left behind keeps autovacuum from helping, however old all gets."""
    settings = {
        "wal_level": "logical", "autovacuum_freeze_max_age": "1000000000",
        "max_connections": "20", "superuser_reserved_connections": "0",
    }  # fmt: skip
    with postgres.server(**settings) as server, ExitStack() as stack:
        desk = Desk(base(server), tmp_path)
        desk.write("  - {notify: x, on: controller}\n")
        desk.db.sql("GRANT pg_read_all_stats TO app")
        desk.db.sql("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
        server.jump(1192 * 2**20)
        for _ in range(16):
            stack.enter_context(psycopg.connect(desk.db.owner))
        until(lambda: desk.db.others() == 16)
        said = check(desk, status=1)
    assert "WARN connections in use, %: 85 (> 80)" in said
    assert re.search(r"WARN age of a table beyond which autovacuum freezes it, %: \S+ 125", said)
    assert re.search(r"WARN transaction ids used up, %: .*test1 58\.2 \(> 50\)", said)
    assert re.search(r"WARN age beyond which autovacuum freezes, %: .*test1 125 \(> 120\)", said)
    assert "CRIT who keeps dead rows from being removed, transactions behind: slot left_" in said


def test_who_may_not_see_what_others_are_counts_the_same_connections(desk: Desk) -> None:
    """The server's own processes have no user, or no database; that is shown to everybody."""
    db, reader = desk.db, desk.db.owner.replace("//owner@", "//reader@")
    asked = [question("connections in use, %"), question("oldest transaction, seconds")]
    with psycopg.connect(db.owner) as one, psycopg.connect(reader) as other:
        until(lambda: db.others() == 2)
        used, also = ([session.execute(asked[0]).fetchone()] for session in (one, other))
        assert used == also == [(Decimal("3.3"),)], "2 of 60"
        assert len(other.execute(asked[1]).fetchall()) == 2, "the other one and the line of its own"


def test_what_this_user_may_not_see_is_unknown(desk: Desk) -> None:
    desk.db.sql("REVOKE pg_read_all_stats FROM app")
    with psycopg.connect(desk.db.owner) as other:
        other.execute("SELECT 1")
        said = check(desk, status=6)
    assert "UNKNOWN oldest transaction, seconds: session " in said
    assert "UNKNOWN who keeps dead rows from being removed, transactions behind: session " in said


CHECK = (
    "  - {name: look, health: {sql: SQL, crit: '> 5', label: items}, on: controller,"
    " on_unknown: fail}\n"
)


@pytest.mark.parametrize(
    ("sql", "status", "said"),
    [
        ("SELECT 5", 0, "OK items: 5"),
        ("SELECT 6", 1, "CRIT items: 6 (> 5)"),
        ("SELECT 1 WHERE false", 6, "UNKNOWN items: it brings no rows"),
        ("SELECT count(*) FROM nowhere", 6, "UNKNOWN items: "),
        ("DELETE FROM item", 2, "a read can't begin with DELETE"),
        ("WITH x AS (DELETE FROM item RETURNING 1) SELECT count(*) FROM x", 6, "would change"),
        ("SELECT pg_sleep(20)", 6, "UNKNOWN items: "),
    ],
)
def test_a_check_that_asks_a_database(desk: Desk, sql: str, status: int, said: str) -> None:
    desk.db.sql("INSERT INTO item VALUES ('kept')")
    limit = "1s" if "pg_sleep" in sql else "20s"
    desk.write(CHECK.replace("SQL", sql).replace("}\n", f", timeout: {limit}}}\n"))
    assert said in desk.run(status=status)
    assert desk.db.items() == ["kept"]


def test_a_look_that_goes_on_after_a_crit_has_found_it_all_the_same(desk: Desk) -> None:
    looks = CHECK.replace("on_unknown: fail", "on_unknown: fail, on_failure: continue")
    desk.write(looks.replace("SQL", "SELECT 6") + looks.replace("SQL", "SELECT 1"))
    said = desk.run(status=1)
    assert "CRIT items: 6" in said
    assert "OK items: 1" in said
    desk.write(looks.replace("SQL", "SELECT 5") + looks.replace("SQL", "SELECT 1"))
    desk.run()


def test_a_database_that_is_not_there_is_unknown(desk: Desk) -> None:
    desk.write(CHECK.replace("SQL", "SELECT 1"))
    inventory = desk.folder / "i.yaml"
    inventory.write_text(
        "opskit: 1\nhosts: {nowhere: 127.0.0.1}\ndatabases:\n"
        "  away: {url: 'postgresql://reader@127.0.0.1:9/x', connect_timeout: 1s}\n"
    )
    assert "UNKNOWN" in desk.run(status=6)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{sql: SELECT 1, crit: '> 5'}, on_unknown: fail", "asked once"),
        ("{sql: SELECT 1}, on: controller, on_unknown: fail", "nothing says which number"),
        ("{sql: SELECT 1, run: echo 1, crit: '> 1'}, on: controller, on_unknown: fail", "one of"),
        ("{sql: SELECT 1, crit: high}, on: controller, on_unknown: fail", "no limit"),
    ],
)
def test_what_can_not_be_asked_is_refused(desk: Desk, step: str, said: str) -> None:
    desk.write(f"  - {{name: look, health: {step}}}\n")
    assert said in desk.opskit("lint", "t.yaml", status=2)
