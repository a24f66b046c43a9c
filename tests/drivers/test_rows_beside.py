"""Rows removed from a real PostgreSQL beside others who need it, and what is made of their room."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from opskit.model.inventory import MARKERS
from opskit.model.job import Output
from tests.support.clearing import ALL, Attic, rows
from tests.support.database import base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
MIB = 1 << 20
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
VACUUMED = (
    "SELECT pg_stat_get_vacuum_count('session'::regclass), "
    "pg_stat_get_dead_tuples('session'::regclass)"
)


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def attic(postgres: Server, owner: str) -> Attic:
    found = Attic(base(postgres, owner=owner))
    found.db.sql(f"DELETE FROM {MARKERS}.marker; DELETE FROM {MARKERS}.removed_row")
    found.fill()
    return found


@pytest.fixture
def own(attic: Attic) -> Attic:
    """The role that removes has the table, so it may vacuum it."""
    attic.db.sql("ALTER TABLE session OWNER TO app")
    return attic


@contextlib.contextmanager
def waiting(attic: Attic, lock: str, times: int = 2) -> Iterator[psycopg.Connection]:
    """Keep sessions waiting for what one has; to close that one lets them go on."""
    before = attic.db.sql(WAITING)[0][0]
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(attic.db.owner))
        holder.execute(lock.encode())
        threads = [threading.Thread(target=_wait, args=(attic, lock)) for _ in range(times)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join, 20)
        stack.callback(holder.close)
        until(lambda: attic.db.sql(WAITING)[0][0] == before + times)
        yield holder


def _wait(attic: Attic, lock: str) -> None:
    with psycopg.connect(attic.db.owner) as connection:
        connection.execute(lock.encode())


ROW = "SELECT FROM session WHERE key = 's3999' FOR UPDATE"


def test_sessions_at_a_lock_are_waited_for_and_then_it_is_given_up(attic: Attic) -> None:
    """The role that removes may not see what others wait for in pg_stat_activity."""
    work = rows(waiters=1, wait=0.6)
    with waiting(attic, ROW):
        seen = attic.see(work)
        assert seen.outcome == "succeeded", seen
        told = "2 sessions wait for a lock, 2 of them at this table (max_waiters: 1)"
        first = attic.db.printed.splitlines()[:5]  # so many a dry run shows
        assert f"it would wait now: {told}" in first
        found = attic.do(work)
        assert (found.outcome, found.evidence["removed"]) == ("failed", 0), found
        assert re.search(rf"3000 rows are left: {re.escape(told)} for \d+ s", found.reason)
        assert "→ run it again" in found.reason
        found = Attic(attic.db.as_run("enough")).do(rows(waiters=2, wait=0.0))
        assert (found.outcome, found.evidence["most_waiters"]) == ("succeeded", 2), found
    attic.fill()
    other = Attic(attic.db.as_run("patient"))
    with (
        waiting(attic, ROW) as holder,
        other.db.beside(rows(waiters=1, wait=30.0)) as patient,
    ):
        until(lambda: b"waiting: 2 sessions" in other.db.out.get("stdout", b""))
        assert attic.keys() == 4000
        holder.rollback()
    assert (patient[0].outcome, attic.keys()) == ("succeeded", 1000), patient
    assert "locks" in str(patient[0].evidence["waited_s"])


def test_who_waits_for_an_advisory_lock_holds_nobody_up(attic: Attic) -> None:
    with waiting(attic, "SELECT pg_advisory_xact_lock(7)"):
        found = attic.do(rows(waiters=0, wait=0.0))
    assert (found.outcome, found.evidence["removed"]) == ("succeeded", 3000), found


def wal(attic: Attic) -> int:
    return int(attic.db.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])


def test_no_more_wal_is_made_than_is_allowed(attic: Attic) -> None:
    """A third of what this machine makes now where nothing is said."""

    def removed(of: Attic, limit: int = 0) -> tuple[Output, int, float]:
        of.fill(1600, 2400)
        before, began = wal(of), time.monotonic()
        found = of.do(rows(first=25, batch=25, pause=0.8, wal=limit, wait=60.0))
        return found, wal(of) - before, time.monotonic() - began

    _, made, seconds = removed(Attic(attic.db.as_run("unlimited")))
    limit = int(made / seconds / 3)
    found, made, seconds = removed(attic, limit)
    assert (found.outcome, found.evidence["removed"]) == ("succeeded", 1600), found
    assert "wal" in str(found.evidence["waited_s"])
    free = 0.6 * int(float(str(found.evidence["most_wal_mib_s"])) * MIB)
    assert made - free <= limit * seconds  # what is made until it is looked comes before


def test_wal_that_others_make_without_end_stops_it(attic: Attic) -> None:
    over = threading.Event()

    def burst() -> None:
        with psycopg.connect(attic.db.owner, autocommit=True) as connection:
            while not over.wait(0.01):
                connection.execute(
                    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 200000))"
                )

    thread = threading.Thread(target=burst)
    thread.start()
    try:
        slow = rows(wal=MIB // 2, wait=0.7, first=10, batch=10, pause=2.0)
        found = attic.do(slow)
    finally:
        over.set()
        thread.join(20)
    assert found.outcome == "failed", found
    told = r"MiB/s of WAL \(max_wal: 0\.5 MiB/s\) for \d+ s \(max_wait: 700ms\)"
    assert re.search(told, found.reason), found
    assert "in a quieter hour, or with that limit raised" in found.reason
    assert attic.kept() == found.evidence["removed"]
    assert attic.keys() == 4000 - attic.kept()


def test_a_table_of_which_much_is_gone_is_vacuumed_and_that_is_read_back(own: Attic) -> None:
    work = replace(ALL, vacuum=True)
    assert own.see(work).outcome == "succeeded"
    assert "VACUUM (ANALYZE) afterwards, as more than 20% of the table goes" in own.db.printed
    found = own.do(work)
    assert (found.outcome, found.evidence["vacuum"]) == ("succeeded", "done"), found
    assert "3000 of 4000 rows of public.session are removed, and kept; vacuumed" in own.db.printed
    assert "1000 rows that were not meant are there; 1000 were before" in own.db.printed
    assert own.db.sql(VACUUMED) == [(1, 0)]
    own.fill(over=700, of=4000)
    own.db.sql("ALTER TABLE session OWNER TO app")
    few = Attic(own.db.as_run("few")).do(work)
    assert (few.outcome, "vacuum" in few.evidence) == ("succeeded", False), few
    assert own.db.sql(VACUUMED)[0][0] == 0


def test_a_vacuum_that_the_server_does_not_make_is_not_said_to_be_done(attic: Attic) -> None:
    """The server only warns: VACUUM of a table that is not one's own succeeds."""
    work = replace(ALL, vacuum=True)
    attic.see(work)
    first = "".join(attic.db.printed.splitlines()[:5])  # so many a dry run shows
    assert "it would NOT be vacuumed afterwards: the role is not that of" in first
    found = attic.do(work)
    assert found.outcome == "succeeded", found
    assert "; NOT vacuumed: the role is not that of the table's owner" in attic.db.printed
    assert str(found.evidence["vacuum"]).startswith("not done: the role")
    assert attic.db.sql(VACUUMED)[0][0] == 0


def test_whoever_has_the_table_goes_on_and_is_named(own: Attic) -> None:
    with psycopg.connect(own.db.owner, application_name="builds an index") as connection:
        process = connection.info.backend_pid
        connection.execute("LOCK TABLE session IN SHARE UPDATE EXCLUSIVE MODE")
        found = own.do(replace(ALL, vacuum=True))
        connection.execute("SELECT 1")  # it was not ended
    assert (found.outcome, found.evidence["removed"]) == ("succeeded", 3000), found
    assert f"NOT vacuumed: process {process}" in own.db.printed
    assert own.db.sql(VACUUMED)[0][0] == 0


def test_dead_rows_that_somebody_older_holds_are_told(own: Attic) -> None:
    with psycopg.connect(own.db.owner) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM session")
        found = own.do(replace(ALL, vacuum=True))
    assert found.outcome == "succeeded", found
    assert "; vacuumed, but 3000 dead rows are still there" in own.db.printed
    assert (own.db.sql(VACUUMED), found.evidence["dead"]) == ([(1, 3000)], 3000)


SLOW = """
    CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('application_name') LIKE 'opskit:%' THEN PERFORM pg_sleep(0.01); END IF;
        RETURN $1; END $$;
    CREATE INDEX slowly ON session (slow(key));
    ALTER TABLE session OWNER TO app
"""


def test_a_vacuum_that_somebody_cancels_is_not_said_to_be_late(attic: Attic) -> None:
    attic.db.sql(SLOW)
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'VACUUM%'"
    with attic.db.beside(replace(ALL, vacuum=True)) as ended:
        until(lambda: any(query.startswith("VACUUM") for _, _, query in attic.db.sessions()))
        assert attic.db.sql(cancel) == [(True,)]
    assert (ended[0].outcome, ended[0].evidence["removed"]) == ("succeeded", 3000), ended
    assert "; NOT vacuumed: somebody has cancelled it" in attic.db.printed
    assert "not over within" not in attic.db.printed


def test_a_vacuum_is_bounded_and_goes_on_after_it_was_cut_off(attic: Attic) -> None:
    """To count the values of the index takes ten seconds here."""
    attic.db.sql(SLOW)
    work = replace(ALL, vacuum=True)
    found = attic.do(work, timeout=4.0)
    assert (found.outcome, found.evidence["removed"]) == ("succeeded", 3000), found
    assert "; NOT vacuumed: not over within" in attic.db.printed
    attic.fill()
    attic.db.sql(SLOW.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    late = Attic(attic.db.as_run("cut"))
    with late.db.beside(work) as ended:
        until(lambda: any("VACUUM" in query for _, _, query in late.db.sessions()))
        met = late.db.find(work, contact=late.db.driver.open("main"))
        assert (met.outcome, met.again) == ("failed", True), met
        assert "(3000 rows)" in met.reason
        (running,) = late.db.driver.busy()
        running.give_up.set()
    assert "stopped by a person" in ended[0].reason
    attic.db.sql("DROP INDEX slowly")
    again = late.do(work, attempt=2)
    assert (again.outcome, again.evidence["removed"]) == ("succeeded", 3000), again
    assert (again.evidence["vacuum"], late.kept()) == ("done", 3000)
