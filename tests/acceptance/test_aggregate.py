"""The shipped aggregate-analytics on the lab's data, from the command line."""

from collections.abc import Iterator
from pathlib import Path

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
SYNCED = """
    DELETE FROM sync_analytics_snapshot WHERE "timestamp" > now() - interval '30 days';
    DELETE FROM sync_idempotency_record WHERE created_at > now() - interval '30 days';
    DELETE FROM sync_conflict_log WHERE domain = 'recent';
    INSERT INTO sync_idempotency_record (id, idempotency_key, scope, device_id, user_id, tenant_id,
            request_hash, response_data, hit_count, created_at, expires_at)
        SELECT 1000000 + n, md5(n::text) || md5(n::text), 'item', 'recent', 1, 1 + n % 10, 'x',
            CASE WHEN n % 20 = 0 THEN '{"ok": false, "duration_ms": "slow"}'
                 ELSE jsonb_build_object('ok', true, 'duration_ms', 40 + n % 90) END,
            (n % 3 = 0)::int, at, at + interval '1 day'
        FROM (SELECT n, date_trunc('hour', now(), 'UTC') - (1 + n % 300) * interval '1 minute' AS at
              FROM generate_series(1, 3000) AS n) AS made;
    INSERT INTO sync_conflict_log (tenant_id, domain, resolution, created_at)
        SELECT tenant_id, 'recent', 'manual', created_at FROM sync_idempotency_record
        WHERE device_id = 'recent' AND id % 50 = 1
"""
RECENT = "FROM sync_analytics_snapshot WHERE \"timestamp\" > now() - interval '30 days'"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def url(server: postgres.Server) -> str:
    found, _ = datasets.load(server, "sync", Amount(rows=400))
    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute(";".join([ROLES, *ddl(MARKERS, "app"), RIGHTS]).encode())
    return found


@pytest.fixture
def desk(server: postgres.Server, url: str, tmp_path: Path) -> Desk:
    app = Database(name="main", url=url.replace("//owner@", "//app@"))
    made = Desk(Base(server, url, "none", app), tmp_path)
    made.write("  - {run: 'true', on: controller}\n")
    made.db.sql(SYNCED)
    return made


def number(desk: Desk) -> int:
    return int(desk.db.sql(f"SELECT count(*) {RECENT}")[0][0])


def run(desk: Desk, how: str, back: str = "5h", status: int = 0, took: str = "") -> str:
    words: tuple[str, ...] = ("-p", f"look_back={back}", "-p", "settle=0s", how)
    words = (*words, "-p", f"took={took}") if took else words
    return " ".join(desk.opskit("run", "aggregate-analytics", *words, status=status).split())


def test_f16_an_hour_that_is_run_twice_has_one_snapshot(desk: Desk) -> None:
    said = run(desk, "--dry-run")
    assert number(desk) == 0
    assert said.count(":00:00+00 10") == 5, said
    assert "Aggregate them: 50 snapshots of 5 hours are made Next:" in run(desk, "--yes")
    assert number(desk) == 50
    assert float(desk.db.sql(f"SELECT min(avg_sync_duration_ms) {RECENT}")[0][0]) > 40
    by_hand = """
        SELECT tenant_id, date_trunc('hour', created_at, 'UTC'), sum(1 + hit_count)::int,
            count(*) FILTER (WHERE response_data->>'ok' = 'false')::int,
            round(avg((response_data->>'duration_ms')::numeric)
                  FILTER (WHERE response_data->>'duration_ms' <> 'slow'), 1)
        FROM sync_idempotency_record WHERE device_id = 'recent' GROUP BY 1, 2
        EXCEPT SELECT tenant_id, "timestamp", total_sync_requests, failed_syncs,
            avg_sync_duration_ms
        FROM sync_analytics_snapshot
    """
    assert desk.db.sql(by_hand) == []
    assert float(desk.db.sql(f"SELECT max(conflict_rate) {RECENT}")[0][0]) > 0
    before = desk.db.sql(f"SELECT sum(id), count(*) {RECENT}")
    settled = ("-p", "settle=0s", "-p", "look_back=5h", "-p", "max_hours=1")
    desk.opskit("run", "aggregate-analytics", "--yes", *settled)  # none of the five is left to do
    assert desk.db.sql(f"SELECT sum(id), count(*) {RECENT}") == before


MEANWHILE = """
    CREATE OR REPLACE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW."timestamp" <> '{}' OR pg_trigger_depth() > 1 THEN RETURN NEW; END IF;
        {} END $$;
    CREATE OR REPLACE TRIGGER meanwhile BEFORE INSERT ON sync_analytics_snapshot
        FOR EACH ROW EXECUTE FUNCTION meanwhile()
"""
SWALLOWED = "RETURN NULL;"
QUICKER = """
    IF NEW.tenant_id = 5 THEN
        INSERT INTO sync_analytics_snapshot (tenant_id, "timestamp", total_sync_requests,
            failed_syncs, conflict_rate) VALUES (5, NEW."timestamp", 1, 0, 0);
    END IF;
    RETURN NEW;
"""
"""Somebody else has made the snapshot of a tenant since it was looked whether there is one."""


def test_an_hour_that_was_missed_is_caught_up_and_taken_back_alone(desk: Desk) -> None:
    hour = desk.db.sql("SELECT date_trunc('hour', now() - interval '3 hours', 'UTC')::text")[0][0]
    try:
        desk.db.sql(MEANWHILE.format(hour, SWALLOWED))
        assert "10 missing, 0 twice" in run(desk, "--yes", status=1)
        assert number(desk) == 40
        desk.db.sql(MEANWHILE.format(hour, QUICKER))
        assert "Aggregate them: 9 snapshots of 1 hours are made" in run(desk, "--yes")
        assert number(desk) == 50
        desk.opskit("undo", "last", "--yes")
        there = f"SELECT tenant_id FROM sync_analytics_snapshot WHERE \"timestamp\" = '{hour}'"
        assert (number(desk), desk.db.sql(there)) == (41, [(5,)])
    finally:
        desk.db.sql("DROP TRIGGER meanwhile ON sync_analytics_snapshot")


LASTING = """
    INSERT INTO sync_idempotency_record SELECT * FROM away WHERE id % 300 = 0;
    UPDATE sync_idempotency_record SET expires_at = expires_at + interval '30 days'
        WHERE id IN (SELECT id FROM away)
"""


@pytest.mark.parametrize(
    ("removed", "more", "hours"),
    [(160, "", 2), (160, LASTING, 2), (30, "", 1), (-1, "", 1)],
)
def test_an_hour_whose_records_are_being_removed_gets_no_snapshot(
    desk: Desk, removed: int, more: str, hours: int
) -> None:
    """What cleanup-expired has left of it would be taken for all of it: it goes by the end of a
    record, and some last longer. The last hour is whole; so is one before which nobody synced."""
    gone = f"created_at < date_trunc('hour', now(), 'UTC') - interval '{removed} minutes'"
    desk.db.sql(f"CREATE TABLE away AS SELECT * FROM sync_idempotency_record WHERE {gone}")
    desk.db.sql(f"DELETE FROM sync_idempotency_record WHERE {gone}")
    desk.db.sql(more or "SELECT 1")
    try:
        assert f"{hours}0 snapshots of {hours} hours are made" in run(desk, "--yes")
        assert number(desk) == 10 * hours
    finally:
        desk.db.sql("DELETE FROM sync_idempotency_record WHERE id IN (SELECT id FROM away)")
        desk.db.sql("INSERT INTO sync_idempotency_record SELECT * FROM away; DROP TABLE away")


def test_how_long_syncs_took_stays_empty_where_nothing_says_it(desk: Desk) -> None:
    said = run(desk, "--yes", "3h", took="elapsed")
    assert (
        "30 snapshots of 3 hours are made; no record says how long it took (took: elapsed)" in said
    )
    assert desk.db.sql(f"SELECT count(avg_sync_duration_ms) {RECENT}") == [(0,)]


def test_more_hours_than_may_be_caught_up_are_refused(desk: Desk) -> None:
    said = run(desk, "--yes", "7d", status=5)
    assert "168 hours from" in said
    assert "max_hours is 24" in said
    assert number(desk) == 0


def test_without_a_key_nothing_is_made(desk: Desk) -> None:
    desk.db.sql("DROP INDEX sync_analytics_hour_key")
    try:
        said = run(desk, "--yes", status=5)
        assert "CREATE UNIQUE INDEX CONCURRENTLY" in said
        assert number(desk) == 0
    finally:
        desk.db.sql(
            "CREATE UNIQUE INDEX sync_analytics_hour_key ON sync_analytics_snapshot"
            " (tenant_id, date_trunc('hour', \"timestamp\" AT TIME ZONE 'UTC'))"
        )
