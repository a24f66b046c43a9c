"""The shipped rate-limit-attempts and cleanup-expired on the lab's data, from the command line."""

import re
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
TABLE = "auth_rate_limit_attempts"
RIGHTS = """
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
    GRANT USAGE ON SCHEMA public TO PUBLIC
"""
MORE = f"""
    INSERT INTO {TABLE} (ip_address, username, attempt_time, attempt_type, success)
    SELECT '192.0.2.7'::inet, 'John', now() - n * interval '1 minute', 'login', false
        FROM generate_series(1, 6) AS n
    UNION ALL SELECT '192.0.2.7', 'john', now() - n * interval '1 minute', 'login', false
        FROM generate_series(1, 3) AS n
    UNION ALL SELECT '192.0.2.7', 'John', now() - interval '2 minutes', 'login', true
    UNION ALL SELECT '192.0.2.7', 'John', now() - interval '2 days', 'login', false
    UNION ALL SELECT '192.0.2.8', 'Ann', now() - n * interval '1 second', 'login', false
        FROM generate_series(1, 20) AS n
"""
BY_ONE = (
    "SELECT '192.0.2.9'::inet, 'u' || n % 2, now() - n * interval '1 second', 'login', false"
    " FROM generate_series(1, 51) AS n"
)
BY_MANY = (
    "SELECT '192.0.2.10'::inet + n % 60, 'a' || n % 60, now() - interval '9 minutes', 'login',"
    " false FROM generate_series(1, 300) AS n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def loaded(server: postgres.Server) -> dict[str, str]:
    """Load each set once; every test changes what is its own."""
    found = {}
    for name in ("youtility", "sync"):
        found[name], _ = datasets.load(server, name, Amount(rows=2000))
        with psycopg.connect(found[name], autocommit=True) as connection:
            connection.execute(";".join([ROLES, *ddl(MARKERS, "app"), RIGHTS]).encode())
    return found


def at(server: postgres.Server, url: str, folder: Path) -> Desk:
    app = Database(name="main", url=url.replace("//owner@", "//app@"))
    desk = Desk(Base(server, url, "none", app), folder)
    desk.write("  - {run: 'true', on: controller}\n")
    return desk


@pytest.fixture
def desk(server: postgres.Server, loaded: dict[str, str], tmp_path: Path) -> Desk:
    made = at(server, loaded["youtility"], tmp_path)
    made.db.sql(f"DELETE FROM {TABLE} WHERE ip_address <<= any('{{192.0.2.0/24,2001:db8::/32}}')")
    made.db.sql(MORE)
    return made


def attempts(desk: Desk, **how: str | int) -> str:
    status = int(how.pop("status", 0))
    given = [word for name, value in how.items() for word in ("-p", f"{name}={value}")]
    return desk.opskit("run", "rate-limit-attempts", "--yes", *given, status=status)


def rows(desk: Desk, where: str = "true") -> int:
    return int(desk.db.sql(f"SELECT count(*) FROM {TABLE} WHERE {where}")[0][0])


def hashed(desk: Desk) -> object:
    query = f"SELECT md5(string_agg(a::text, ';' ORDER BY id)) FROM {TABLE} AS a"
    return desk.db.sql(query)[0][0]


def blocked(desk: Desk, user: str, ip: str = "198.51.100.1") -> bool:
    query = (
        "SELECT check_rate_limit(%s::inet, %s::varchar, interval '15 minutes', 5)->>'is_blocked'"
    )
    return bool(desk.db.sql(query, ip, user)[0][0] == "true")


def test_a_show_tells_who_is_blocked_and_changes_nothing(desk: Desk) -> None:
    before = hashed(desk)
    attempts(desk)
    said = desk.opskit("output", "last", "Who is blocked, and by what")
    lines = [line.split("\t")[:4] for line in map(str.strip, said.splitlines())]
    assert ["username", "John", "6", "t"] in lines
    assert ["username", "john", "3", "f"] in lines
    assert ["ip", "192.0.2.8", "20", "t"] in lines
    assert hashed(desk) == before


def test_one_user_tries_again_and_nothing_but_his_failures_is_touched(desk: Desk) -> None:
    before, all_rows = hashed(desk), rows(desk)
    assert blocked(desk, "John")
    said = attempts(desk, what="username", username="John")
    assert "6 of " in said
    assert "'john'\t3" in desk.opskit("output", "last", "Names that look like it")
    said = desk.opskit("output", "last", "What the application says before")
    assert '"is_blocked" : true' in said
    assert "let in" in desk.opskit("output", "last", "The application lets them in again")
    assert not blocked(desk, "John")
    assert rows(desk) == all_rows - 6
    assert rows(desk, "username = 'John'") == 2  # his success, and what is out of the window
    assert rows(desk, "username = 'john'") == 3
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == before
    assert blocked(desk, "John")
    desk.proved()


def test_an_address_tries_again_where_several_are_behind_it_only_if_that_is_said(
    desk: Desk,
) -> None:
    said = attempts(desk, what="ip", ip="192.0.2.7", status=5)
    assert "2 users are behind it: say shared=true" in said
    attempts(desk, what="ip", ip="192.0.2.7", shared="true")
    assert rows(desk, "ip_address = '192.0.2.7'") == 2
    said = desk.opskit("output", "last", "Users behind that address who are still blocked")
    assert said.split()[-2:] == ["username", "fails"]  # John's were all from there
    attempts(desk, what="ip", ip="192.0.2.8")
    assert rows(desk, "ip_address = '192.0.2.8'") == 0
    assert not blocked(desk, "nobody", "192.0.2.8")


def test_f10_all_try_again_and_the_trail_of_before_stays(desk: Desk) -> None:
    moment = desk.db.sql("SELECT now() - interval '16 minutes'")[0][0]
    trail = f"success OR attempt_time < '{moment}'"
    old = rows(desk, trail)
    before = hashed(desk)
    attempts(desk, what="all")
    assert rows(desk, "NOT success AND attempt_time >= now() - interval '15 minutes'") == 0
    assert rows(desk, trail) == old
    assert "Nobody is blocked any more" in desk.opskit("report", "last")
    desk.opskit("undo", "last", "--yes")
    assert hashed(desk) == before


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ({"what": "all", "username": "John"}, 5, "show and all want neither"),
        ({"what": "ip", "ip": "192.0.2.7", "username": "John"}, 5, "what=username wants username"),
        ({"what": "ip", "ip": "0.0.0.0/0"}, 2, "does not fit"),
        ({"what": "ip", "ip": "999.1.1.1"}, 5, "invalid input syntax for type inet"),
        ({"what": "username", "username": "a\tb"}, 2, "does not fit"),
        ({"what": "username", "username": "JOHN"}, 5,
         "names that look like it: 'John' (6), 'john' (3)"),
        ({"what": "all", "max_rows": 5}, 5, "max_rows is 5"),
        ({"what": "all", "window": "0s"}, 2, "window"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_and_nothing_is_touched(
    desk: Desk, how: dict[str, str | int], status: int, told: str
) -> None:
    before = hashed(desk)
    said = attempts(desk, **how, status=status)
    assert told in " ".join(said.split())
    assert hashed(desk) == before


def test_what_the_application_says_of_them_is_what_counts(desk: Desk) -> None:
    """Its function may count otherwise than the runbook was told to."""
    ((made,),) = desk.db.sql("SELECT pg_get_functiondef('check_rate_limit'::regproc)")
    desk.db.sql(str(made).replace("username = p_username", "lower(username) = lower(p_username)"))
    try:
        desk.db.sql(f"UPDATE {TABLE} SET username = 'JOHN' WHERE username = 'Ann'")
        said = " ".join(attempts(desk, what="username", username="John", status=1).split())
        assert 'it says {"is_blocked" : true' in said
        assert desk.opskit("undo", "last", "--yes")
    finally:
        desk.db.sql(str(made))


def test_where_nobody_has_failed_that_is_told_and_no_success(desk: Desk) -> None:
    """The function is not everybody's: without it nothing is asked."""
    attempts(desk, what="all")
    desk.db.sql("ALTER FUNCTION check_rate_limit RENAME TO another")
    try:
        said = " ".join(attempts(desk, what="all", status=5).split())
        assert "no row of public.auth_rate_limit_attempts is meant" in said
        desk.db.sql(MORE)
        attempts(desk, what="username", username="John")
    finally:
        desk.db.sql("ALTER FUNCTION another RENAME TO check_rate_limit")


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (BY_ONE, "192.0.2.9 has failed 51 times in 5 minutes"),
        (BY_MANY, "users and addresses are blocked"),
    ],
)  # fmt: skip
def test_nobody_is_let_in_during_an_attack_unless_it_is_said_why(
    desk: Desk, attack: str, told: str
) -> None:
    desk.db.sql(
        f"INSERT INTO {TABLE} (ip_address, username, attempt_time, attempt_type, success) {attack}"
    )
    before = hashed(desk)
    assert told in " ".join(attempts(desk, what="all", status=5).split())
    if attack == BY_ONE:
        desk.db.sql(f"UPDATE {TABLE} SET ip_address = '2001:db8::9' WHERE ip_address = '192.0.2.9'")
        before = hashed(desk)
        said = attempts(desk, what="ip", ip="2001:DB8:0::9", shared="true", status=5)
        assert "2001:db8::9 has failed 51 times" in " ".join(said.split())
    assert hashed(desk) == before
    attempts(desk, what="all", override="it was our own load test")
    assert rows(desk, "NOT success AND attempt_time >= now() - interval '14 minutes'") == 0


def test_what_has_expired_goes_and_what_is_needed_stays(
    server: postgres.Server, loaded: dict[str, str], tmp_path: Path
) -> None:
    desk = at(server, loaded["sync"], tmp_path)
    tables = ("sync_idempotency_record", "upload_session")
    hashes = [f"SELECT md5(string_agg(a::text, ';' ORDER BY id)) FROM {t} AS a" for t in tables]
    for table in tables:  # nothing is to expire while this looks
        desk.db.sql(
            f"UPDATE {table} SET expires_at = expires_at - interval '20 minutes'"
            " WHERE expires_at BETWEEN now() AND now() + interval '10 minutes'"
        )
    before = [desk.db.sql(query) for query in hashes]
    over = [
        desk.db.sql(f"SELECT count(*) FROM {table} WHERE expires_at < now() AND {also}")[0][0]
        for table, also in zip(tables, ("true", "status = 'active'"), strict=True)
    ]
    assert min(over) > 0
    said = desk.opskit("run", "cleanup-expired", "--yes", "-p", "max_share=1")
    for count, table in zip(over, tables, strict=True):
        assert f"{count} of 2000 rows of public.{table} are removed, and kept" in said
    assert desk.db.sql(f"SELECT count(*) FROM {tables[0]} WHERE expires_at < now()") == [(0,)]
    desk.opskit("undo", "last", "--yes")
    assert [desk.db.sql(query) for query in hashes] == before
    logs = "SELECT md5(string_agg(a::text, ';' ORDER BY id)) FROM sync_conflict_log AS a"
    whole = desk.db.sql(logs)
    aged = "FROM sync_conflict_log WHERE created_at < now() - interval '90 days'"
    ((old,),) = desk.db.sql(f"SELECT count(*) {aged}")
    given = ("-p", "what=conflicts", "-p", "max_share=1")
    younger = ("-p", "older_than=300d")  # it would be passed over, and 90 days be meant
    said = desk.opskit("run", "cleanup-expired", "--yes", *given, *younger, status=5)
    assert "says conflicts_after" in said
    assert f"{old} of 100 rows" in desk.opskit("run", "cleanup-expired", "--yes", *given)
    assert desk.db.sql(f"SELECT count(*) {aged}") == [(0,)]
    desk.opskit("undo", "last", "--yes")
    assert desk.db.sql(logs) == whole


def nothing_expires_soon(desk: Desk) -> None:
    """What is counted before and after is to be the same however long a test takes."""
    desk.db.sql("DELETE FROM select2_cache WHERE abs(extract(epoch FROM expires_at - now())) < 600")


def test_a_cache_is_cleaned_by_what_has_expired_and_not_by_its_age(desk: Desk) -> None:
    nothing_expires_soon(desk)
    live = "SELECT count(*) FROM select2_cache WHERE expires_at >= now()"
    old = desk.db.sql(
        "SELECT count(*) FROM select2_cache WHERE expires_at >= now()"
        " AND created_at < now() - interval '7 days'"
    )[0][0]
    assert old > 0  # by age these would go, too
    before = desk.db.sql(live)
    by_age = """
  - rows:
      remove: select2_cache
      time: created_at
      older_than: 7d
      live: expires_at >= now()
      archive: false
"""
    desk.write(by_age)
    said = desk.run("--dry-run", status=5)
    assert re.search(r"[1-9]\d* of the rows meant are still needed", " ".join(said.split()))
    desk.opskit("run", "cleanup-expired", "--yes", "-p", "what=select2")
    assert desk.db.sql(live) == before
    assert desk.db.sql("SELECT count(*) FROM select2_cache WHERE expires_at < now()") == [(0,)]


LIVE = "SELECT count(*) FROM select2_cache WHERE expires_at >= now()"


def cache(desk: Desk, *words: str, status: int = 0) -> str:
    given = [part for word in words if not word.startswith("-") for part in ("-p", word)]
    flags = [word for word in words if word.startswith("-")]
    said = desk.opskit("run", "select2-cache", *(flags or ["--yes"]), *given, status=status)
    return " ".join(said.split())


def test_f20_a_look_says_how_many_live_entries_a_predicate_would_take(desk: Desk) -> None:
    desk.db.sql("INSERT INTO select2_cache (cache_key, cache_value, tenant_id, created_at,"
                " expires_at) SELECT 'gone:' || n, '{}', 1, now() - interval '9 days',"
                " now() - n * interval '1 minute' FROM generate_series(1, 50) AS n"
                " ON CONFLICT DO NOTHING")  # fmt: skip
    nothing_expires_soon(desk)
    live = desk.db.sql(LIVE)[0][0]
    all_rows = desk.db.sql("SELECT count(*) FROM select2_cache")[0][0]
    said = cache(desk, "what=cleanup", "by=created_at", "older_than=7d", "--dry-run", status=5)
    assert re.search(r"[1-9]\d* of the rows meant are still needed", said)
    assert "max_share" in cache(desk, "what=cleanup", "by=created_at", status=5)  # all of it
    assert "for what=clear" in cache(desk, "what=cleanup", "prefix=x", "older_than=9d", status=5)
    assert desk.db.sql("SELECT count(*) FROM select2_cache") == [(all_rows,)]
    said = cache(desk, "what=cleanup")
    assert f"{all_rows - live} of {all_rows} rows" in said
    assert desk.db.sql(LIVE) == [(live,)]
    assert desk.db.sql("SELECT count(*) FROM select2_cache") == [(live,)]


def test_a_cache_is_cleared_within_caps_and_brought_back(desk: Desk) -> None:
    hashed = "SELECT md5(string_agg(c::text, ';' ORDER BY cache_key)) FROM select2_cache AS c"
    nothing_expires_soon(desk)
    before, live = desk.db.sql(hashed), desk.db.sql(LIVE)[0][0]
    assert live > 0
    assert "tenant" in cache(desk, "--dry-run")
    assert "max_share is 90.0%" in cache(desk, "what=clear", "max_live=9999", status=5)
    assert "still needed" in cache(desk, "what=clear", "max_share=1", status=5)
    mistyped = cache(desk, "what=clear", "prefix=peopel:", f"max_live={live}", status=5)
    assert "no row of public.select2_cache is meant" in mistyped
    assert desk.db.sql(hashed) == before
    cache(desk, "what=clear", "max_share=1", f"max_live={live}")
    assert desk.db.sql("SELECT count(*) FROM select2_cache") == [(0,)]
    desk.opskit("undo", "last", "--yes")
    assert desk.db.sql(hashed) == before
