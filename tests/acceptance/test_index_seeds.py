"""Procedures that teams had for this, and what they pass over: each beside what opskit says.

The statistics of statements (columns that PostgreSQL 13 renamed) are no matter of indexes.
"""

import psycopg
import pytest

from opskit.model.expected import Expected, Index, Lookup, Relation
from tests.support.database import ROLES, Base, base
from tests.support.expecting import findings, verified
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def url(postgres: Server) -> str:
    found = postgres.database(empty=True)
    with psycopg.connect(found, autocommit=True) as owner:
        owner.execute(ROLES.encode())
        owner.execute(b"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader")
    return found


VIEW = """
    CREATE TABLE people (id integer PRIMARY KEY, name text, loginid text, tenant_id integer);
    INSERT INTO people VALUES (1, 'Ann', 'ann', 3);
    CREATE MATERIALIZED VIEW mv_people_dropdown AS
        SELECT id, name AS display_name, loginid, tenant_id FROM people;
    CREATE UNIQUE INDEX idx_mv_people_dropdown_id ON mv_people_dropdown (id)
"""
READER = "SELECT id, text, loginid, tenant_id FROM mv_people_dropdown ORDER BY text LIMIT 20"
"""What the application asks; it takes an error for "no people"."""


def test_f19_a_view_that_is_there_but_lacks_a_column_that_is_read(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(VIEW.encode())
        there = "SELECT ispopulated FROM pg_matviews WHERE matviewname = 'mv_people_dropdown'"
        assert owner.execute(there).fetchone() == (True,)  # the procedure is content
        with pytest.raises(psycopg.errors.UndefinedColumn):
            owner.execute(READER.encode())
    view = Relation(
        name="mv_people_dropdown", view=True, columns=("id", "text", "loginid", "tenant_id"),
        indexes=(Index(keys=("id",), unique=True),),
    )  # fmt: skip
    output, _ = verified(url, Expected(relations=(view,)))
    assert output.outcome == "failed"
    ((check, text),) = [(one["check"], one["text"]) for one in findings(output)]
    assert (check, text) == (
        "columns", "text missing; it has id, display_name, loginid, tenant_id"
    )  # fmt: skip


HOT = """
    CREATE TABLE conflict_policy (id integer PRIMARY KEY, tenant_id integer, domain text);
    INSERT INTO conflict_policy SELECT g, g, 'task' FROM generate_series(1, 20) g;
    CREATE INDEX idx_conflict_policy_tenant_domain ON conflict_policy (tenant_id, domain);
    CREATE TABLE looked_up (n integer);
    GRANT INSERT ON looked_up TO PUBLIC;
    CREATE FUNCTION noted(n integer) RETURNS integer LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO looked_up VALUES (n); RETURN n; END $$;
    ANALYZE conflict_policy
"""
QUERY = "SELECT noted(id) FROM conflict_policy WHERE tenant_id = 3 AND domain = 'task'"


def test_f21_a_small_table_is_rightly_read_as_a_whole(url: str) -> None:
    """The procedure: EXPLAIN ANALYZE must not show Seq Scan."""

    def plan() -> str:
        with psycopg.connect(url, autocommit=True) as owner:
            return str(owner.execute(f"EXPLAIN ANALYZE {QUERY}".encode()).fetchall())

    def ours() -> tuple[str, list[str], object]:
        index = Index(
            keys=("tenant_id", "domain"),
            used_by=(Lookup(query=QUERY.replace("3", "$1"), values=("3",)),),
        )
        wanted = Relation(name="conflict_policy", indexes=(index,))
        output, _ = verified(url, Expected(relations=(wanted,)))
        found = [str(one["check"]) for one in findings(output)]
        return output.outcome, found, output.evidence["lookups"]

    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(HOT.encode())
        assert "Seq Scan" in plan()  # a false alarm
        assert owner.execute("SELECT count(*) FROM looked_up").fetchone() == (1,)  # and it wrote
        outcome, found, proved = ours()
        assert (outcome, found) == ("succeeded", [])
        assert isinstance(proved, list)
        assert [one["how"] for one in proved] == ["usable"]
        assert owner.execute("SELECT count(*) FROM looked_up").fetchone() == (1,)
        owner.execute("DROP INDEX idx_conflict_policy_tenant_domain")
    assert "Seq Scan" in plan()  # the same as before: it can't tell
    assert ours() == ("failed", ["missing"], [])


LIMIT = """
    CREATE TABLE attempts (ip_address inet, attempt_time timestamp);
    INSERT INTO attempts SELECT '10.0.0.1', (now() AT TIME ZONE 'UTC') - interval '1 minute'
        FROM generate_series(1, 9);
    CREATE FUNCTION check_rate_limit(p_ip inet, p_window interval, p_max integer) RETURNS boolean
        LANGUAGE sql STABLE AS $$ SELECT count(*) >= p_max FROM attempts
        WHERE ip_address = p_ip AND attempt_time >= now() - p_window $$;
    GRANT SELECT ON attempts TO app
"""
BLOCKED = "SELECT check_rate_limit('10.0.0.1', interval '15 minutes', 5)"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_f22_times_without_zone_are_compared_in_utc_whatever_the_session_begins_with(
    postgres: Server, zone: str
) -> None:
    db: Base = base(postgres)
    db.sql(LIMIT)
    name = psycopg.conninfo.conninfo_to_dict(db.owner)["dbname"]
    db.sql(f"ALTER DATABASE {name} SET TimeZone = '{zone}'")
    (theirs,) = db.sql(BLOCKED)[0]
    assert theirs is (zone != "Asia/Kolkata")  # there nobody is ever blocked
    found = db.read(BLOCKED, kept=True)
    assert (found.outcome, found.stdout) == ("succeeded", b"true")
    assert db.read("SHOW TimeZone", kept=True).stdout == b"UTC"
