"""Files of checks that come with opskit: real databases and a real Redis are asked."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import yaml

from opskit.lab.fixtures import Amount
from tests.support import datasets, postgres, redis
from tests.support.database import base
from tests.support.desk import Desk

pytestmark = pytest.mark.acceptance
RUNBOOKS = Path(__file__).parents[2] / "runbooks"

STAYS = {"server": "cache", "warn": "> 3600", "crit": "< 0"}
CELERY = """CREATE TABLE django_celery_results_taskresult (
    status text NOT NULL, task_name text, date_started timestamptz,
    date_done timestamptz NOT NULL DEFAULT now())"""
PAYOUTS = (
    "CREATE TABLE payouts (status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())"
)
STALE = "connections that heard nothing for 30 minutes"
MIGRATIONS = "CREATE TABLE django_migrations (app text, name text, applied timestamptz NOT NULL)"
LEDGER = """
    CREATE TABLE economy_cointransaction (id integer, transaction_type text, metadata jsonb,
        created_at timestamptz DEFAULT now());
    INSERT INTO economy_cointransaction (transaction_type, metadata) VALUES
        ('tournament_payout', '{}'), ('tournament_payout', '{}'),
        ('tournament_payout', '{"dedup_key": "a"}'), ('tournament_payout', '{"dedup_key": "b"}'),
        ('tournament_payout', '{"dedup_key": "b"}'), ('purchase', '{"dedup_key": "a"}');
    CREATE FUNCTION economy_ledger_is_immutable() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'append-only'; END $$;
    CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON economy_cointransaction
        FOR EACH ROW EXECUTE FUNCTION economy_ledger_is_immutable()
"""
BEAT = """
    CREATE TABLE django_celery_beat_crontabschedule (id integer, hour text, day_of_week text,
        day_of_month text, month_of_year text);
    CREATE TABLE django_celery_beat_periodictask (name text, task text, enabled boolean,
        crontab_id integer, last_run_at timestamptz, date_changed timestamptz DEFAULT now());
    INSERT INTO django_celery_beat_crontabschedule VALUES (1, '4', '*', '*', '*'),
        (2, '*', '*', '*', '*');
    INSERT INTO django_celery_beat_periodictask VALUES
        ('ranking', 'teams.rank', true, 1, now() - interval '26 hours'),
        ('warm', 'teams.warm_cache', true, 2, now() - interval '2 days');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def cache() -> Iterator[redis.Server]:
    with redis.server() as found:
        yield found


@pytest.fixture(scope="module")
def owners(server: postgres.Server) -> Mapping[str, str]:
    """Databases of two systems, and one with the tables that Django's applications share."""
    found = {
        name: datasets.load(server, name, Amount(rows=60))[0] for name in ("sync", "youtility")
    }
    found["main"] = base(server).owner
    for url in found.values():
        with psycopg.connect(url, autocommit=True) as db:
            if url == found["main"]:
                for table in (CELERY, PAYOUTS, MIGRATIONS, LEDGER, BEAT):
                    db.execute(table)
            db.execute(
                "GRANT pg_monitor TO app; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app"
            )
    return found


@pytest.fixture
def desk(
    server: postgres.Server, cache: redis.Server, owners: Mapping[str, str], tmp_path: Path
) -> Desk:
    cache.call("FLUSHALL")
    desk = Desk(base(server, owner=server.database(empty=True)), tmp_path)
    desk.environ["OWNERS"] = json.dumps(dict(owners))
    desk.environ["CACHE"] = str(cache.port)
    return desk


def test_what_is_due_and_what_fails_is_asked_after_a_recovery(owners: Mapping[str, str]) -> None:
    steps = yaml.safe_load((RUNBOOKS / "queue-verify.yaml").read_text())["steps"]
    due, fails = (one["health"]["sql"] for one in steps if "sql" in one.get("health", {}))
    with psycopg.connect(owners["main"]) as db:
        assert db.execute(due).fetchall() == [("ranking", Decimal("26.0"))]
        db.execute("UPDATE django_celery_beat_periodictask SET last_run_at = NULL")
        assert db.execute(due).fetchall() == [("ranking", Decimal("0.0"))], "it is new"
        db.execute("DELETE FROM django_celery_results_taskresult")
        assert db.execute(fails).fetchone() == (None,), "of nothing nobody knows"
        result = "INSERT INTO django_celery_results_taskresult (status, date_done) "
        ended = "SELECT CASE n WHEN 1 THEN 'FAILURE' ELSE 'SUCCESS' END, now()"
        db.execute(f"{result} {ended} FROM generate_series(1, 80) AS n".encode())
        db.execute(f"{result} VALUES ('FAILURE', now() - interval '11 minutes')".encode())
        assert db.execute(fails).fetchone() == (Decimal("1.25"),)
        steps = yaml.safe_load((RUNBOOKS / "queue-restore.yaml").read_text())["steps"]
        (again,) = (one["health"]["sql"] for one in steps if "sql" in one.get("health", {}))
        again = again.replace("{{ idempotent }}", "'a, b.c'").replace("{{ pause }}", "'0.5'")
        db.execute(b"UPDATE django_celery_results_taskresult SET task_name = 'b'")
        assert db.execute(again).fetchone() == (0,)
        db.execute(b"UPDATE django_celery_results_taskresult SET task_name = 'b.c'")
        assert db.execute(again).fetchone() == (1,)
        db.rollback()


def check(desk: Desk, checks: Sequence[object], *words: str, status: int | None = 0) -> str:
    """Run health-check where a service has these; return what it said."""
    urls = json.loads(desk.environ["OWNERS"]).items()
    named = {name: {"url": url.replace("//owner@", "//app@")} for name, url in urls}
    cache = f"redis://127.0.0.1:{desk.environ['CACHE']}/0"
    (desk.folder / "i.yaml").write_text(
        "opskit: 1\nhosts: {web1: 127.0.0.1}\ngroups: {web: [web1]}\n"
        f"services:\n  app: {{hosts: web, checks: {json.dumps(checks)}}}\n"
        f"databases: {json.dumps(named)}\nredis: {{cache: {{url: '{cache}'}}}}\n"
    )
    return desk.opskit("run", "health-check", *words, status=status)


def act(desk: Desk, database: str, *statements: str) -> None:
    with psycopg.connect(json.loads(desk.environ["OWNERS"])[database], autocommit=True) as db:
        for statement in statements:
            db.execute(statement)


METRICS = re.compile(
    r"(?:# (?:HELP|TYPE) opskit_\w+ .+\n"
    r'|opskit_\w+\{\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*\} -?[0-9.]+\n)+'
)
SYNC = {"file": "checks/sync.yaml", "database": "sync"}
TOOK = """UPDATE sync_idempotency_record SET created_at = now(),
    response_data = jsonb_build_object('ok', true, 'duration_ms', {})"""
SNAPSHOT = """INSERT INTO sync_analytics_snapshot
    (tenant_id, timestamp, total_sync_requests, failed_syncs, conflict_rate, avg_sync_duration_ms)
    VALUES {}"""


def test_f3_what_no_new_snapshot_tells_is_unknown_and_how_old_it_is_is_told(desk: Desk) -> None:
    said = check(desk, [SYNC], status=6)
    assert "CRIT newest snapshot, minutes old: " in said, "the lab's lacks the last hours"
    assert "UNKNOWN syncs that succeed, %: NULL is no number [P1]" in said
    assert "UNKNOWN more than half of all syncs succeed, %: NULL is no number [P0]" in said
    assert "UNKNOWN syncs of a tenant that succeed, %: it brings no rows [P3]" in said
    act(desk, "sync", "DELETE FROM sync_analytics_snapshot",
        "UPDATE sync_idempotency_record SET response_data = '{}'")  # fmt: skip
    said = check(desk, [SYNC], status=6)
    assert "UNKNOWN syncs in an hour: NULL is no number [P2]" in said
    assert "UNKNOWN P95 of a sync in an hour, ms: NULL is no number [P2]" in said
    assert "UNKNOWN newest snapshot, minutes old: NULL is no number [P2]" in said
    act(desk, "sync", "ALTER TABLE sync_analytics_snapshot RENAME TO away")
    try:
        said = check(desk, [SYNC], "--nagios", status=3)
        assert said.startswith("HEALTH-CHECK UNKNOWN - ")
        assert "does not exist" in said, "an error is no value"
    finally:
        act(desk, "sync", "ALTER TABLE away RENAME TO sync_analytics_snapshot")


def test_f3_nobody_at_night_is_no_share_of_failures_and_no_data_is_still_unknown(
    desk: Desk,
) -> None:
    """That nobody synced is data, where a new snapshot says so: it holds no deploy up."""
    act(desk, "sync", "DELETE FROM sync_analytics_snapshot",
        SNAPSHOT.format("(1, now(), 0, 0, 0, 0), (2, now(), 0, 0, 0, 0)"),
        "UPDATE sync_idempotency_record SET created_at = now() - interval '3 hours'",
        "UPDATE upload_session SET created_at = now() - interval '3 days'",
        "UPDATE sync_device_health SET last_sync_at = now(), health_score = 90")  # fmt: skip
    celery = {"file": "checks/celery.yaml", "database": "main", "server": "cache"}
    said = check(desk, [SYNC, celery], status=6)
    assert "UNKNOWN failed tasks in an hour, %: NULL is no number" in said, "none is kept at all"
    act(desk, "main", "INSERT INTO django_celery_results_taskresult (status, date_done)"
        " VALUES ('SUCCESS', now() - interval '2 days')")  # fmt: skip
    said = check(desk, [SYNC, celery])
    for what in (
        "OK failed tasks in an hour, %: 0", "OK more than half of all syncs succeed, %: 100",
        "OK syncs that succeed, %: 100", "OK syncs of a tenant that succeed, %: Tenant",
        "OK conflicts, %: 0", "OK average duration of a sync, ms: 0",
        "OK P95 of a sync in an hour, ms: 0", "WARN syncs in an hour: 0 (< 1)",
        "OK uploads that were abandoned in a day, %: 0",
    ):  # fmt: skip
        assert what in said, f"{what}\n{said}"
    act(desk, "sync", "UPDATE sync_analytics_snapshot SET failed_syncs = 1")
    said = check(desk, [SYNC], status=6)
    assert "UNKNOWN syncs that succeed, %: NULL is no number" in said, "one failed of none"


def test_f3_syncs_are_judged_by_the_worst_and_each_limit_is_a_row(desk: Desk) -> None:
    rows = "(1, now(), 1000, 10, 1, 90), (2, now() - interval '30 minutes', 1000, 20, 2, 120)"
    act(desk, "sync", "DELETE FROM sync_analytics_snapshot", SNAPSHOT.format(rows),
        "UPDATE sync_device_health SET last_sync_at = now(), health_score = 90",
        "UPDATE upload_session SET created_at = now(), status = 'completed'",
        TOOK.format("0.1 * id"))  # fmt: skip
    said = check(desk, [SYNC])
    assert "OK syncs that succeed, %: 98.5" in said
    assert "OK newest snapshot, minutes old: 0" in said
    assert "OK health of devices, average: 90" in said
    assert "OK syncs in an hour: 2000" in said
    assert "OK devices that synced in a day: 60" in said
    assert "checks             14 OK" in said
    rows = "(1, now(), 1000, 940, 9, 900), (2, now(), 1000, 200, 9, 900)"
    act(desk, "sync", "DELETE FROM sync_analytics_snapshot", SNAPSHOT.format(rows),
        "UPDATE sync_device_health SET health_score = 60",
        "UPDATE upload_session SET status = 'expired' WHERE id % 3 = 0",
        TOOK.format("CASE WHEN id % 10 = 0 THEN 900 ELSE 90 END"))  # fmt: skip
    said = check(desk, [SYNC, {"label": "conflicts, %", "warn": "> 8"}], status=1)
    for what in (
        "CRIT more than half of all syncs succeed, %: 43 (< 50) [P0]",
        "CRIT syncs that succeed, %: 43 (< 95) [P1]",
        "CRIT syncs of a tenant that succeed, %: Tenant 1 6 (< 95), Tenant 2 80 (< 95) [P3]",
        "WARN conflicts, %: 9 (> 8) [P2]",
        "WARN average duration of a sync, ms: 900 (> 500) [P2]",
        "WARN P95 of a sync in an hour, ms: 900 (> 500) [P2]",
        "CRIT failed syncs a minute: 19 (> 10) [P1]",
        "WARN uploads that were abandoned in a day, %: 33.33 (> 20) [P3]",
        "WARN health of devices, average: 60 (< 70) [P3]",
    ):
        assert what in said, what
    told = desk.opskit("incident")
    assert ": P0\n" in told
    assert "1. what changed? opskit run rollback" in told
    file = desk.folder / "opskit.prom"
    check(desk, [SYNC], "--nagios", "--textfile", str(file), status=2)
    assert METRICS.fullmatch(file.read_text()), "a collector would refuse all of it"
    about = 'runbook="health-check",host="db:sync",check="%s",severity="%s",system="sync"'
    for metric, check_, severity, value in (
        ("level", "syncs that succeed, %", "P1", "2"),
        ("value", "syncs that succeed, %", "P1", "43"),
        ("value", "conflicts, %", "P2", "9"),
        ("value", "health of devices, average", "P3", "60"),
    ):
        line = f"opskit_check_{metric}{{{about % (check_, severity)}}} {value}\n"
        assert line in file.read_text(), line
    tenant = about % ("syncs of a tenant that succeed, %", "P3")
    assert f'opskit_check_value{{{tenant},name="Tenant 1"}} 6\n' in file.read_text()
    assert [one.name for one in desk.folder.glob("opskit.prom*")] == ["opskit.prom"]


def test_queues_payouts_logins_and_the_server_itself(desk: Desk, cache: redis.Server) -> None:
    act(desk, "main",
        "INSERT INTO payouts SELECT 'FAILED' FROM generate_series(1, 2)",
        "INSERT INTO django_migrations VALUES ('teams', '0045_performance_indices', now())",
        "INSERT INTO django_celery_results_taskresult (status, date_started)"
        " SELECT CASE WHEN n < 30 THEN 'FAILURE' ELSE 'SUCCESS' END, now() - interval '400 s'"
        " FROM generate_series(1, 1000) n")  # fmt: skip
    act(desk, "youtility",
        "INSERT INTO auth_rate_limit_attempts (ip_address, username, attempt_type)"
        " SELECT '203.0.113.9', 'x', 'login' FROM generate_series(1, 60)",
        "UPDATE task_queue SET queue_name = 'email', status = 'pending'")  # fmt: skip
    cache.call("SET", "board", "x", "EX", "7200")
    cache.call("RPUSH", "celery", *("task" for _ in range(600)))
    checks = [
        {"file": "checks/teams.yaml", "database": "main",
         "without": ["page", "database, by the page", "cache, by the page", "Celery, by the page"]},
        {"file": "checks/celery.yaml", "database": "main", "server": "cache"},
        {"file": "checks/django.yaml", "database": "main"},
        {"file": "checks/youtility.yaml", "database": "youtility",
         "without": ["page", "ready", "alive", "page, in detail"]},
        {"file": "checks/postgres.yaml", "database": "main"},
        {"file": "checks/beat.yaml", "database": "main"},
        {"file": "checks/before-sync.yaml", "database": "sync", "server": "cache"},
        {"file": "checks/before-teams.yaml", "database": "main", "server": "cache"},
        {"file": "checks/before-youtility.yaml", "database": "youtility"},
        {"file": "checks/redis.yaml", "server": "cache"},
        {"file": "checks/cache.yaml", "server": "cache"},
        *({**STAYS, "label": key, "redis": [f"TTL {key}"]} for key in ("board", "celery", "none")),
        *({"label": label, "window": "500ms"} for label in
          ("connections refused in 5 s", "keys evicted in 5 s", "cache hit rate, %")),
    ]  # fmt: skip
    said = check(desk, checks, status=1)
    for what in (
        "WARN failed payouts in an hour: 2 (> 0) [P1]",
        "CRIT keys that several payouts of a week have: 1 (> 0) [P0]",
        "WARN tasks that wait: 600 (> 500) [P2]",
        "CRIT failed tasks in 5 minutes: 29 (> 20) [P2]",
        "WARN failed tasks in an hour, %: 2.9 (> 1) [P2]",
        "CRIT longest task, s: 400 (> 300) [P2]",
        "WARN migrations in a day: 1 (> 0)",
        "CRIT failed logins of one address in 5 minutes: 6",
        "OK tasks that wait: email 60",
        "CRIT hours since a daily task was begun: ranking 26",
        "OK PostgreSQL is 14.2 or later: 18",
        "CRIT PostGIS is there: 0 (< 1)",
        "OK Redis is 6.0 or later: ",
        "OK migration 0045 of teams is applied: 1",
        "OK beat warms the cache: 1",
        "OK Redis answers, ms: ",
        "OK the ledger refuses changes: 1",
        "CRIT extensions are there: uuid-ossp 0 (< 1)",
        "OK connections in use, %: ",
        "OK statements that have run for over 1 s: 0",
        "OK longest wait for a lock, s: 0",
        "OK longest time idle in a transaction, s: 0",
        "memory in use, %: of all memory, no maxmemory: ",
        "WARN board: 7",
        "CRIT celery: -1 (< 0)",
        "CRIT none: -2 (< 0)",
        "OK connections refused in 5 s: 0",
        "OK keys evicted in 5 s: 0",
        "OK cache hit rate, %: nothing was looked up within 0.5 s: there is no rate to judge",
    ):
        assert what in said, f"{what}\n{said}"


def test_what_a_role_may_not_see_is_unknown(desk: Desk) -> None:
    act(desk, "main", "REVOKE pg_monitor FROM app")
    try:
        with psycopg.connect(json.loads(desk.environ["OWNERS"])["main"]):
            said = check(desk, [{"file": "checks/postgres.yaml", "database": "main"}], status=6)
    finally:
        act(desk, "main", "GRANT pg_monitor TO app")
    for what in ("statements that have run for over 1 s", "longest wait for a lock, s",
                 "longest time idle in a transaction, s"):  # fmt: skip
        assert f"UNKNOWN {what}: NULL is no number" in said, said


def test_a_question_may_take_as_long_as_is_said(desk: Desk) -> None:
    rate = {"label": "hits", "info": "hit_rate", "window": "1500ms", "server": "cache"}
    said = check(desk, [{**rate, "crit": "< 50"}], "-p", "longest=1s", status=6)
    assert "not over within 1 s" in said
    said = check(desk, [{**rate, "crit": "< 50"}], "-p", "longest=10m")
    assert "OK hits: nothing was looked up within 1.5 s" in said


def test_checks_that_can_not_be_made_are_refused_before_anything_is_asked(desk: Desk) -> None:
    said = check(desk, [SYNC, {"label": "a", "sql": "SELECT 1"}], status=2)
    assert "i.yaml:5:" in said
    assert "nothing says which number would be wrong" in said


def shown(file: str, label: str, **instead: str) -> str:
    """Return what the text of a check prints, with other words in place of its own."""
    text = (Path(__file__).parents[2] / "inventories" / "checks" / file).read_text()
    (run,) = (one["run"] for one in yaml.safe_load(text)["checks"] if one["label"] == label)
    for old, new in instead.items():
        assert old in run
        run = run.replace(old, new)
    done = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_log_files_that_are_not_rotated_are_counted(tmp_path: Path) -> None:
    def rotated(label: str) -> str:
        return shown("logs.yaml", label, **{"/var/log/youtility": str(tmp_path)})

    large, old = "log files of more than 15 MiB", "old files of one log, the most"
    assert (rotated(large), rotated(old)) == ("0", "0")
    for name in ("a.log", "b.log", "c.log.gz"):
        with (tmp_path / name).open("wb") as file:
            file.truncate((15 << 20) + (name != "b.log"))
    for number in range(12):
        (tmp_path / f"a.log.{number}").touch()
    assert (rotated(large), rotated(old)) == ("1", "12")
    tmp_path = tmp_path / "away"
    assert rotated(large) == ""  # no number is UNKNOWN


def test_how_busy_a_host_is_is_counted_over_a_second(tmp_path: Path) -> None:
    def busy(label: str, file: str, before: str, after: str) -> str:
        now, then = tmp_path / "now", tmp_path / "then"
        now.write_text(before)
        then.write_text(after)
        return shown("host.yaml", label, **{file: str(now), "sleep 1": f"cp {then} {now}"})

    cpu, disk = "processors busy, %", "busiest disk, %"
    said = busy(
        cpu, "/proc/stat", "cpu  10 0 10 50 5 0 0 5 0 0\ncpu0 1", "cpu  70 0 20 70 6 4 0 10"
    )
    assert said == "79", "75 of 100 in work and 4 in interrupts; to wait for a disk is not to work"
    long = "cpu  {0} 0 10 9301234567{1} 5 0 0 5 0 0"
    said = busy(cpu, "/proc/stat", long.format(3101234567, 10), long.format(3101234597, 80))
    assert said == "30", "an awk may write what is larger than 2^31 as 9.3e+11"
    row = "   8  {n}  {name} 1 0 8 2 1 0 8 2 0 {ticks} 4"

    def disks(a: int, b: int) -> str:
        return "\n".join(
            [row.format(n=0, name="sda", ticks=a), row.format(n=1, name="loop0", ticks=b)]
        )

    assert busy(disk, "/proc/diskstats", disks(100, 0), disks(730, 999)) == "63"
    assert busy(disk, "/proc/diskstats", "", "") == "", "no disk is UNKNOWN"
    assert 0 <= int(shown("host.yaml", cpu, **{"sleep 1": "sleep 0.2"})) <= 100


def test_where_connections_can_not_be_seen_nobody_says_that_there_are_none() -> None:
    for label in (STALE, "connections that are open"):
        assert shown("websockets.yaml", label, **{"ss -": "no-such-program -"}) == ""


@contextmanager
def talked(peer: socket.socket) -> Iterator[None]:
    """Say something over a connection all the time; it has been heard when this returns."""
    over, said = threading.Event(), threading.Event()

    def talk() -> None:
        while not over.wait(0.02):
            peer.sendall(b"ping")
            said.set()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        assert said.wait(60)
        yield
    finally:
        over.set()
        thread.join()


def test_connections_that_hear_nothing_any_more_are_counted() -> None:
    if shutil.which("ss") is None:
        pytest.skip("this machine has no ss")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = listening.getsockname()
        with socket.create_connection(at), socket.create_connection(at) as talking:
            peers = [listening.accept()[0] for _ in range(2)]
            time.sleep(1.1)
            instead = {":8000": f":{at[1]}", "1800000": "1000"}
            with talked(talking):
                stale = shown("websockets.yaml", STALE, **instead)
            there = shown("websockets.yaml", "connections that are open", **{":8000": f":{at[1]}"})
            for peer in peers:
                peer.close()
    assert (stale, there) == ("1", "2")


def test_slow_statements_are_counted_in_the_log_of_a_server(
    server: postgres.Server, tmp_path: Path
) -> None:
    log = tmp_path / "postgresql.log"
    instead = {"/var/log/postgresql/postgresql.log": str(log), "> 1000": "> 500"}
    label = "statements over 1 s in 5 minutes"
    whole = server.folder / "log"  # of which `log()` has the end only
    began = len(whole.read_bytes())
    log.write_bytes(whole.read_bytes())
    assert shown("postgres-log.yaml", label, **instead) == "", "nobody knows what it would log"
    with psycopg.connect(base(server).owner, autocommit=True) as db:
        db.execute("SET log_min_duration_statement = 1")
        for seconds in (0.01, 0.51, 0.52):
            db.execute("SELECT pg_sleep(%s)", [seconds])
    hour = time.time() - 3600
    old = time.strftime(
        "%Y-%m-%d %H:%M:%S.000 UTC [9] LOG:  duration: 9000.1 ms", time.gmtime(hour)
    )
    log.write_bytes(f"{old}\n".encode() + whole.read_bytes()[began:])
    assert shown("postgres-log.yaml", label, **instead) == "2"
    fast = log.read_text().replace("duration: ", "duration: 0.")
    log.write_text(fast)
    assert shown("postgres-log.yaml", label, **instead) == "0"
    log.write_text(f"{fast}{old.replace(' UTC', ' QQT')}\n")
    assert shown("postgres-log.yaml", label, **instead) == "", "when that was, nobody knows"
    log.unlink()
    assert shown("postgres-log.yaml", label, **instead) == ""
