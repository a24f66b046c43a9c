"""What a database is busy with, on a real server: as it is, and never OK where nobody knows."""

import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.model.inventory import Database
from opskit.model.job import Output
from tests.support.busy import SETTINGS, WATCHER, clients, findings, limits, look, shown
from tests.support.database import Base, base, until
from tests.support.postgres import Server, server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    with server(**SETTINGS) as found:
        yield found


def watched(server: Server, *, extension: str = "CREATE EXTENSION pg_stat_statements") -> Base:
    """Make a database that is looked at as one who may see all and change nothing."""
    db = base(server)
    db.sql(WATCHER)
    if extension:
        db.sql(extension)
    return db.use(Database(name="main", url=db.owner.replace("//owner@", "//watcher@")))


@pytest.fixture(scope="module")
def seen(busy: Server) -> Base:
    return watched(busy)


@pytest.fixture
def db(seen: Base) -> Base:
    return seen


SEED = """
    SELECT query, calls, total_time, mean_time, max_time FROM pg_stat_statements
    ORDER BY mean_time DESC LIMIT 10
"""


def test_f8_columns_are_those_that_the_view_has(db: Base) -> None:
    """The procedure asks for columns that PostgreSQL 13 has renamed."""
    with pytest.raises(psycopg.errors.UndefinedColumn, match="total_time"):
        db.sql(SEED)
    db.sql("SELECT pg_sleep(0.15)")
    output = look(db, limits=limits(statement=(0.1, 30.0)))
    assert (output.outcome, output.evidence["level"]) == ("succeeded", "WARN")
    statements: Any = output.evidence["statements"]
    (slow,) = [one for one in statements if one["text"] == "SELECT pg_sleep($1)"]
    assert slow["calls"] == 1
    assert slow["mean_s"] >= 0.15
    assert ("WARN", "statement", slow["queryid"]) in findings(output)


def test_f8_an_old_extension_on_a_new_server(busy: Server) -> None:
    """After an upgrade of the server the extension is what it was before."""
    db = watched(busy, extension="CREATE EXTENSION pg_stat_statements VERSION '1.4'")
    with pytest.raises(psycopg.errors.UndefinedColumn):  # what goes by the server's version
        db.sql("SELECT total_exec_time, mean_exec_time FROM pg_stat_statements")
    db.sql("SELECT pg_sleep(0.15)")
    output = look(db, limits=limits(statement=(0.1, 0.1)))
    assert output.evidence["level"] == "CRIT", output.reason
    assert "SELECT pg_sleep($1)" in shown(output)


def test_without_the_extension_it_is_unknown_and_says_what_to_do(busy: Server) -> None:
    db = watched(busy, extension="")
    output = look(db)
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "CREATE EXTENSION pg_stat_statements" in output.reason
    assert look(db, leave_out=("statements", "statement")).evidence["level"] == "OK"


def test_an_extension_that_the_server_has_not_loaded_is_unknown(postgres: Server) -> None:
    db = watched(postgres)
    output = look(db)
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "shared_preload_libraries" in output.reason


def test_a_server_that_counts_nothing_is_unknown(busy: Server) -> None:
    db = watched(busy)
    db.sql("ALTER ROLE watcher SET pg_stat_statements.track = 'none'")
    db.sql("ALTER ROLE owner SET pg_stat_statements.track = 'none'")
    try:
        output = look(db, window=0.3)
    finally:
        db.sql("ALTER ROLE watcher RESET ALL; ALTER ROLE owner RESET ALL")
    assert output.evidence["level"] == "UNKNOWN"
    assert "no statement was counted" in output.reason


def test_only_what_ran_within_the_window_counts(db: Base) -> None:
    for _ in range(3):
        db.sql("SELECT pg_sleep(0.05), 'before'")
    with Calling(db, "SELECT count(*), 'within' FROM pg_class"):
        output = look(db, window=0.6)
    statements: Any = output.evidence["statements"]
    told = {one["text"]: one["calls"] for one in statements}
    assert "SELECT pg_sleep($1), $2" not in told
    assert told["SELECT count(*), $1 FROM pg_class"] >= 2
    assert not any("opskit" in text for text in told)


class Calling:
    """Let a client call a statement again and again while the window of a look is open."""

    def __init__(self, db: Base, statement: str, pause: float = 0.05) -> None:
        self._over = threading.Event()
        db.out = {"stdout": bytearray(), "stderr": bytearray()}

        def call() -> None:
            with psycopg.connect(db.owner, autocommit=True) as connection:
                until(lambda: self._over.is_set() or "counting statements" in db.printed)
                while not self._over.wait(pause):
                    connection.execute(statement.encode())

        self._thread = threading.Thread(target=call)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize(
    "reset",
    [
        "SELECT pg_stat_statements_reset()",
        """SELECT pg_stat_statements_reset(0, 0, queryid) FROM pg_stat_statements
           WHERE query LIKE '%early bird%'""",
    ],
)
def test_counters_that_are_reset_meanwhile_make_it_unknown(db: Base, reset: str) -> None:
    db.sql('SELECT count(*) AS "early bird" FROM pg_class')
    with Calling(db, reset, 0.1):
        output = look(db, window=0.8)
    assert output.evidence["level"] == "UNKNOWN"
    assert "reset meanwhile" in output.reason


def test_what_it_may_not_see_is_unknown(busy: Server) -> None:
    db = watched(busy)
    db.sql("SELECT count(*) FROM item")
    db.use(Database(name="main", url=db.owner.replace("//owner@", "//reader@")))
    with clients(db) as client:
        client().run("SELECT pg_sleep(30)")
        output = look(db)
    assert output.evidence["level"] == "UNKNOWN"
    checks = [(level, check, name) for level, check, name in findings(output)]
    assert ("UNKNOWN", "hidden", "sessions") in checks
    assert ("UNKNOWN", "hidden", "statements") in checks
    assert "GRANT pg_read_all_stats TO reader" in shown(output)


def test_a_read_as_a_superuser_is_refused(busy: Server) -> None:
    db = watched(busy)
    output = look(db.use(Database(name="main", url=db.owner)))
    assert output.outcome in ("failed", "unknown")
    assert "superuser" in output.reason


def test_secrets_in_statements_are_not_shown(db: Base) -> None:
    with clients(db) as client:
        client().run("SELECT pg_sleep(30), 'hunter2-running' /* hunter2-said */")
        idle = client()
        idle.do("BEGIN")
        idle.do("SET LOCAL app.token = hunter2")
        db.sql("CREATE ROLE carol PASSWORD 'hunter2-role'")
        db.sql("DROP ROLE carol")
        output = look(db, limits=limits(running=(0, 0), idle=(0, 0)), top=200)
    assert "hunter2" not in shown(output) + db.printed + output.reason
    assert "SELECT pg_sleep(?), ?" in db.printed
    assert "SET LOCAL app.token = ?" in db.printed
    assert "CREATE ROLE carol PASSWORD" in db.printed


def test_long_sessions_by_their_limits(db: Base) -> None:
    with clients(db) as client:
        runs, idle, lazy = client(application="worker"), client(), client()
        runs.run("SELECT pg_sleep(30)")
        idle.do("BEGIN")
        idle.do("SELECT 1")
        lazy.do("SELECT 1")
        time.sleep(0.3)
        few = look(db, limits=limits(running=(0.2, 100), idle=(0.2, 0.25)))
        none = look(db)
        opened = look(db, limits=limits(open=(0.2, 100)))
    assert set(findings(few)) == {
        ("WARN", "running", str(runs.pid)),
        ("CRIT", "idle", str(idle.pid)),
    }
    assert (few.outcome, none.evidence["level"]) == ("failed", "OK")
    assert {one[1:] for one in findings(opened)} == {
        ("open", str(runs.pid)), ("open", str(idle.pid))
    }  # fmt: skip
    sessions: Any = none.evidence["sessions"]
    assert {one["pid"] for one in sessions} >= {runs.pid, idle.pid}
    assert lazy.pid not in {one["pid"] for one in sessions}


def test_the_holder_comes_before_what_waits_for_it(db: Base) -> None:
    """The outage by a queue: an old reader, DDL that waits for it, and all behind the DDL."""
    with clients(db) as client:
        holder, ddl, first, second = (client() for _ in range(4))
        holder.do("BEGIN")
        holder.do("SELECT * FROM item")
        owner = client("owner", "migration")
        owner.run("ALTER TABLE item ADD COLUMN later integer", waits=True)
        ddl.run("SELECT count(*) FROM item", waits=True)
        first.run("SELECT count(*) FROM item WHERE name = 'x'", waits=True)
        second.run("SELECT 1 FROM item", waits=True)
        time.sleep(0.3)
        output = look(db, limits=limits(blocking=(0.2, 100)))
        holder.do("COMMIT")
        owner.ended()
    nodes: Any = output.evidence["blocking"]
    assert [(one["pid"], one["level"], one["blocks"]) for one in nodes[:2]] == [
        (holder.pid, 0, 4), (owner.pid, 1, 3),
    ]  # fmt: skip
    assert {one["pid"] for one in nodes[2:]} == {ddl.pid, first.pid, second.pid}
    assert findings(output) == [("WARN", "blocking", str(holder.pid))]
    assert re.search(rf"^{holder.pid} +4 .*\n  └ {owner.pid} +3 ", db.printed, re.MULTILINE)


def test_a_ring_has_no_root_and_is_shown(db: Base) -> None:
    db.sql("TRUNCATE item; INSERT INTO item VALUES ('a'), ('b')")
    with clients(db) as client:
        one, two, three = client(), client(), client()
        for who, row in ((one, "a"), (two, "b")):
            who.do("BEGIN")
            who.do(f"UPDATE item SET n = 1 WHERE name = '{row}'")
        one.run("UPDATE item SET n = 2 WHERE name = 'b'", waits=True)
        two.run("UPDATE item SET n = 2 WHERE name = 'a'", waits=True)
        three.run("UPDATE item SET n = 3 WHERE name = 'a'", waits=True)
        output = look(db, limits=limits(blocking=(0, 0)))
    nodes: Any = output.evidence["blocking"]
    assert {node["pid"] for node in nodes} == {one.pid, two.pid, three.pid}
    assert sorted(nodes[0]["ring"]) == sorted([one.pid, two.pid])
    assert "in a ring" in output.reason


def test_a_prepared_transaction_is_a_root(db: Base) -> None:
    db.sql("TRUNCATE item; INSERT INTO item VALUES ('a')")
    db.sql("BEGIN; UPDATE item SET n = 1; PREPARE TRANSACTION 'forgotten'")
    try:
        with clients(db) as client:
            waits = client()
            waits.run("UPDATE item SET n = 2", waits=True)
            output = look(db, limits=limits(open=(0, 3600), blocking=(0, 3600)))
            assert ("WARN", "prepared", "forgotten") in findings(output)
            assert ("WARN", "blocking", "0") in findings(output)
    finally:
        db.sql("ROLLBACK PREPARED 'forgotten'")


def test_it_leaves_nothing_at_the_server(db: Base) -> None:
    look(db, window=0.3)
    assert db.quiet()


def test_five_hundred_waiters_are_told_at_once() -> None:
    """In one question, within 50 ms (the target for 500 sessions)."""
    from opskit.drivers.postgres.present import moment
    from opskit.drivers.postgres.session import opened

    settings = {**SETTINGS, "max_connections": "560", "shared_buffers": "64MB"}
    with server(**settings) as many:
        db = watched(many)
        db.sql("INSERT INTO item VALUES ('a')")
        with clients(db) as client:
            holder = client()
            holder.do("BEGIN")
            holder.do("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
            waiting = [client() for _ in range(499)]
            for one in waiting:
                one.connection.pgconn.send_query(b"SELECT * FROM item")
            count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            until(lambda: db.sql(count)[0][0] == 499, 60)
            session = opened(db.driver._access("main"))
            there = Path(f"/proc/{session.identity.process}/schedstat")

            def spent() -> float:
                """Return the CPU that both sides have used in ms: what others use adds none."""
                return int(there.read_text().split()[0]) / 1e6 + 1000 * time.process_time()

            took, used = [], spent()
            try:
                for _ in range(9):
                    began = time.perf_counter()
                    found = moment(session.connection)
                    took.append(1000 * (time.perf_counter() - began))
                used = (spent() - used) / len(took)
            finally:
                session.close()
        roots = [node for node in found.nodes if not node.level]
        assert [(node.pid, node.blocks) for node in roots] == [(holder.pid, 499)]
        said = f"blocking tree of 500 sessions: {used:.1f} ms of CPU, {min(took):.1f} ms at best"
        sys.stdout.write(f"{said} (target 50)\n")
        assert used < 50


LARGE = """
    CREATE TABLE IF NOT EXISTS big (id integer PRIMARY KEY, name text, "Odd one" integer)
    WITH (autovacuum_enabled = off);
    TRUNCATE big;
    INSERT INTO big SELECT n, 'n' || n % 5000, n % 7000 FROM generate_series(1, 20000) n
"""


@pytest.fixture(scope="module")
def big(busy: Server) -> Base:
    db = watched(busy)
    db.sql(LARGE)
    db.sql("ANALYZE big")
    db.sql("CREATE TABLE small AS SELECT n FROM generate_series(1, 500) n")
    return db


def about(output: Output, check: str) -> dict[str, str]:
    found: Any = output.evidence["findings"]
    return {one["table"]: one["text"] for one in found if one["check"] == check}


def test_statistics_that_are_stale_are_told_with_their_share(big: Base) -> None:
    until(lambda: about(look(big), "stale") == {})
    big.sql("UPDATE big SET name = name WHERE id <= 1000")
    output = look(big, stale=2.0)
    until(lambda: about(look(big, stale=2.0), "stale") != {})
    assert about(look(big), "stale") == {}  # 5 of 100, and 10 may have
    output = look(big, stale=2.0)
    assert output.evidence["level"] == "WARN"
    assert "1,000 of 20,000 rows (5%) have changed since it was analysed" in str(
        about(output, "stale")["public.big"]
    )
    big.sql("CREATE TABLE never (n) WITH (autovacuum_enabled = off) AS"
            " SELECT n FROM generate_series(1, 15000) n")  # fmt: skip
    try:
        until(lambda: "public.never" in about(look(big), "stale"))
        assert "never analysed" in about(look(big), "stale")["public.never"]
    finally:
        big.sql("DROP TABLE never")
    assert about(look(big, stale=2.0, large=30_000), "stale") == {}


def test_large_tables_that_are_read_as_a_whole_are_told_by_the_window(big: Base) -> None:
    big.sql("SELECT count(*) FROM big WHERE name = 'before'")
    time.sleep(0 if big.server.version >= 15 else 1.5)  # before 15 it is counted some time later
    with Calling(big, "SELECT n FROM small"):
        output = look(big, window=1.5)
    assert about(output, "scan") == {}  # it was before, and the other one is small
    with Calling(big, "SELECT id FROM big WHERE name = 'x'"):
        output = look(big, window=2.5)
    assert output.evidence["level"] == "OK"  # by itself that is no fault
    assert re.search(r"[0-9,]+0,000 rows were read from end to end of it in \d+s",
                     about(output, "scan")["public.big"])  # fmt: skip
    assert "public.big" in about(look(big), "scan")
    assert about(look(big, leave_out=("scan",)), "scan") == {}


def test_the_dearest_statements_are_planned_and_none_is_carried_out(big: Base) -> None:
    big.sql("GRANT SELECT ON big TO watcher")
    big.sql("SELECT pg_stat_statements_reset()")
    with clients(big) as client:
        one = client("owner")
        one.do("SELECT id FROM big WHERE name = 'hunter2' AND \"Odd one\" > 5")
        one.do("SELECT name FROM big WHERE id = 7")
        one.do("DELETE FROM big WHERE name = 'nobody'")
        one.do("SET work_mem = '8MB'")
    assert about(look(big), "plan") == {}  # only where it is asked for
    output = look(big, plans=True, top=50)
    assert output.evidence["level"] == "OK", output.reason
    (text,) = about(output, "plan").values()
    assert 'reads all 20,000 rows for name, "Odd one" at each call: SELECT id FROM big' in text
    assert re.search(r"Index Scan on big_pkey +SELECT name FROM big WHERE id = \$1", big.printed)
    assert re.search(r"permission denied for table big.* +DELETE FROM big", big.printed)
    assert "not planned: nothing to plan" in big.printed
    assert "the extension hypopg is not in this database" in big.printed
    assert "hunter2" not in shown(output) + big.printed
    look(big, top=200)
    assert "opskit_plan" not in big.printed  # what it asks itself is not shown as somebody's
    assert big.sql("SELECT count(*) FROM big") == [(20000,)]
    assert big.quiet()


def test_planning_waits_for_nobody(big: Base) -> None:
    big.sql("GRANT SELECT ON big TO watcher")
    big.sql("SELECT pg_stat_statements_reset()")
    big.sql("SELECT id FROM big WHERE name = 'x'")
    with clients(big) as client:
        holder = client("owner")
        holder.do("BEGIN")
        holder.do("LOCK TABLE big IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        output = look(big, plans=True)
        assert time.monotonic() - began < 10
    assert output.evidence["level"] == "OK"
    assert "lock timeout" in big.printed


def test_a_text_that_is_more_than_a_read_is_not_planned(big: Base) -> None:
    """Whoever may write a statement could have it planned by a role that may more."""
    from opskit.drivers.postgres.plans import _unfit

    for text in (
        "SELECT 1; DROP TABLE big", "SELECT pg_terminate_backend($1)", "COMMIT", "",
        "SELECT pg_read_file('x')", "EXPLAIN ANALYZE DELETE FROM big", "CREATE TABLE x AS SELECT 1",
    ):  # fmt: skip
        assert _unfit(text), text
    assert _unfit("(SELECT 1)") == _unfit("WITH a AS (SELECT 1) SELECT * FROM a") == ""


def test_an_index_is_suggested_where_the_planner_would_take_it(busy: Server) -> None:
    db = watched(busy)
    if not db.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'hypopg'"):
        pytest.skip("this server has no HypoPG")
    db.sql("CREATE EXTENSION hypopg")
    db.sql(LARGE)
    db.sql("ANALYZE big")
    db.sql("GRANT SELECT ON big TO watcher")
    db.sql("SELECT pg_stat_statements_reset()")
    db.sql("SELECT id FROM big WHERE name = 'n7'")
    db.sql("SELECT id FROM big WHERE name <> 'n7' AND id > 0")
    output = look(db, plans=True, top=50)
    found: Any = output.evidence["findings"]
    hints = [one["text"] for one in found if "an index on public.big (name) would" in one["text"]]
    assert len(hints) == 1, found
    assert "in place of" in hints[0]
    assert "no index is suggested" not in db.printed
    assert db.sql("SELECT count(*) FROM pg_class WHERE relname ~ 'btree_big'") == [(0,)]
