"""SQL reads on a real server: what is returned, and that nothing gets out of the transaction."""

import json

import pytest

from opskit.drivers.postgres.connection import ServerError, Taker
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.session import Access, opened
from opskit.model.job import Output
from opskit.model.text import text
from tests.support.database import Base, base
from tests.support.postgres import Server

HOSTILE = [
    "$(id)", "'; DROP TABLE item; --", '"', "\\", "100%", "%s %(x)s $1", "a\nb\tc\r", "é€🙂",
    "/* */", "", "x" * 65536, "{a,b}", "NULL", "\\N",
]  # fmt: skip
pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def db(postgres: Server, owner: str) -> Base:
    return base(postgres, owner=owner)


def test_what_a_read_returns_is_printed_with_a_header_and_its_first_value_saved(db: Base) -> None:
    db.sql("INSERT INTO item VALUES ('a', 1), ('b', NULL)")
    found = db.read("SELECT name, n FROM item ORDER BY name", kept=True)
    assert (found.outcome, found.status, found.stdout) == ("succeeded", 0, b"a")
    assert db.printed == "name\tn\na\t1\nb\t\\N\n"
    assert found.evidence == {"did": ["SELECT 2"], "rows": 2, "role": "app"}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_arrives_at_the_server_as_it_is(db: Base, value: str) -> None:
    found = db.read("SELECT {{ x }}, length({{ x }})", given={"x": value}, kept=True)
    assert found.stdout.decode() == value
    db.do("INSERT INTO item VALUES ({{ x }})", given={"x": value})
    assert db.items() == [value]


def test_a_percent_sign_needs_no_doubling_with_values_or_without(db: Base) -> None:
    assert db.read("SELECT 'ab' LIKE 'a%'", kept=True).stdout == b"true"
    found = db.read("SELECT {{ x }} LIKE 'a%'", given={"x": "ab"}, kept=True)
    assert found.stdout == b"true"


@pytest.mark.parametrize(
    ("query", "given", "value"),
    [
        ("SELECT 3 + {{ x }}", 4, "7"),
        ("SELECT 3 = ANY ({{ x }})", [1, 3], "true"),
        ("SELECT 'b''c' = ANY ({{ x }})", ['a"', "b'c", None], "true"),
        ("SELECT {{ x }}::jsonb ->> 'a'", {"a": "it's"}, "it's"),
        ("SELECT {{ x }}::boolean", False, "false"),
        ("SELECT coalesce({{ x }}, 'none')", None, "none"),
        ("SELECT count(*) FROM (VALUES (1), (2)) v (n) WHERE n <= {{ x }}", "1", "1"),
        ("SELECT now() - {{ x }}::interval < now()", "1 hour", "true"),
    ],
)
def test_the_server_reads_a_value_as_what_is_wanted_there(
    db: Base, query: str, given: object, value: str
) -> None:
    found = db.read(query, given={"x": given}, kept=True)
    assert (found.outcome, found.stdout.decode()) == ("succeeded", value), found.reason


def test_all_rows_are_saved_as_json(db: Base) -> None:
    found = db.read(
        "SELECT 1 AS i, 2.50::numeric AS d, true AS b, NULL AS z, 'é\"' AS s, '{\"k\": [1]}'::jsonb"
        " AS j, 'NaN'::float AS f",
        rows="json", kept=True,
    )  # fmt: skip
    assert found.stdout.decode().startswith('[{"i": 1, "d": 2.50, "b": true, "z": null')
    assert json.loads(found.stdout) == [
        {"i": 1, "d": 2.5, "b": True, "z": None, "s": 'é"', "j": {"k": [1]}, "f": "NaN"}
    ]
    assert db.read("SELECT 1 WHERE false", rows="json", kept=True).stdout == b"[]"


def test_two_columns_of_one_name_are_not_mixed_up_in_json(db: Base) -> None:
    found = db.read("SELECT 1 AS a, 2 AS a", rows="json", kept=True)
    assert (found.outcome, "two columns have one name" in found.reason) == ("failed", True)
    assert (
        db.do("INSERT INTO item VALUES ('a') RETURNING name, name", rows="json").outcome == "failed"
    )
    assert db.items() == []


def test_no_row_and_null_are_saved_as_nothing(db: Base) -> None:
    assert db.read("SELECT 1 WHERE false", kept=True).stdout == b""
    assert db.read("SELECT NULL", kept=True).stdout == b""


@pytest.mark.parametrize(
    ("query", "wanted", "said"),
    [
        ("SELECT 1 = 1", "true", ""), ("SELECT count(*) FROM item", "0", ""),
        ("SELECT count(*) FROM item", "1", "it is '0', expected '1'"),
        ("SELECT 1 WHERE false", "1", "it returned no row, expected '1'"),
        ("SELECT NULL", "", "it is NULL, expected ''"),
    ],
)  # fmt: skip
def test_what_is_expected_decides(db: Base, query: str, wanted: str, said: str) -> None:
    found = db.read(query, expect=text(wanted))
    assert (found.outcome, found.reason) == ("failed" if said else "succeeded", said)
    assert found.status == (1 if said else 0)


def test_a_long_answer_is_cut_and_held_nowhere_as_a_whole(db: Base) -> None:
    found = db.changed(max_output=4096).read(
        "SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
    )
    assert (found.outcome, found.evidence["rows"], found.evidence["cut"]) == (
        "succeeded", 20000, ["stdout"]
    )  # fmt: skip
    assert len(db.printed) == 4096


def test_a_notice_is_printed_beside_the_rows(db: Base) -> None:
    db.sql(
        "CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hear %', 1;"
        " RETURN 3; END $$"
    )
    assert db.read("SELECT loud()", kept=True).stdout == b"3"
    assert "hear 1" in db.out["stderr"].decode()


ESCAPES = [
    "SET TRANSACTION READ WRITE; CREATE TABLE escaped ()",
    "SET TRANSACTION READ WRITE",
    "commit; CREATE TABLE escaped ()",
    "SELECT 1; CREATE TABLE escaped ()",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT nextval('numbers')",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "WITH gone AS (DELETE FROM item RETURNING 1) SELECT count(*) FROM gone",
    "SELECT * INTO escaped FROM item",
    "SELECT sneaky()",
    "EXPLAIN ANALYZE INSERT INTO item VALUES ('escaped')",
    "EXPLAIN ANALYZE CREATE TABLE escaped AS SELECT 1",
    "EXPLAIN (ANALYZE, COSTS off) CREATE MATERIALIZED VIEW escaped AS SELECT 1",
    "EXPLAIN ANALYSE SELECT 1 AS n INTO escaped",
    "SELECT gin_clean_pending_list('letters')",
    "COPY item TO PROGRAM 'touch escaped'",
    "SELECT * FROM item FOR UPDATE",
    "SELECT query_to_xml('select pg_reload_conf()', true, true, '')",
]


@pytest.mark.parametrize("query", ESCAPES)
def test_a_read_changes_nothing_whatever_it_says(db: Base, query: str) -> None:
    db.sql("INSERT INTO item VALUES ('a')")
    db.sql("CREATE SEQUENCE numbers; GRANT ALL ON numbers TO app, reader")
    db.sql(  # whoever owns an index may write in it, also where nothing may be written
        "CREATE TABLE book (words int[]); CREATE INDEX letters ON book USING gin (words);"
        "INSERT INTO book VALUES ('{1}'); ALTER TABLE book OWNER TO app"
    )
    db.sql(
        "CREATE FUNCTION sneaky() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM set_config('transaction_read_only', 'off', false);"
        " INSERT INTO item VALUES ('escaped'); RETURN 1; END $$"
    )
    found = db.read(query)
    assert found.outcome == "failed", found
    assert db.items() == ["a"]
    assert db.sql("SELECT gin_clean_pending_list('letters') > 0") == [(True,)]
    assert db.sql("SELECT to_regclass('escaped')") == [(None,)]
    assert db.sql("SELECT is_called FROM numbers") == [(False,)]


def test_a_change_that_is_called_a_read_is_told_what_it_is(db: Base) -> None:
    before = db.read("UPDATE item SET n = 1")
    assert (before.sent, before.outcome) == (False, "failed")
    assert "a read can't begin with UPDATE: say effect: change" in before.reason
    hidden = db.read("WITH x AS (INSERT INTO item VALUES ('x') RETURNING 1) TABLE x")
    assert "this read would change something" in hidden.reason
    assert hidden.evidence["sqlstate"] == "25006"


@pytest.mark.parametrize(
    "query", ["EXPLAIN UPDATE item SET n = 1", "EXPLAIN ANALYZE SELECT 1", "EXPLAIN (SELECT 1)",
              "EXPLAIN (ANALYZE) WITH a AS (SELECT 1 AS into_x) TABLE a"],
)  # fmt: skip
def test_what_explain_only_plans_or_only_reads_is_a_read(db: Base, query: str) -> None:
    assert db.read(query).outcome == "succeeded"


def test_a_read_is_not_made_as_a_superuser_but_as_the_role_for_it(db: Base) -> None:
    db.changed(url=db.owner)
    refused = db.read("SELECT 1")
    assert (refused.outcome, refused.sent) == ("failed", False)
    assert "owner, which is a superuser" in refused.reason
    assert "read_role" in refused.reason
    found = db.changed(read_role="reader").read("SELECT current_user", kept=True)
    assert found.stdout == b"reader"
    denied = db.read("SELECT * FROM pg_authid").reason
    assert "permission denied" in denied
    assert denied.endswith("→ GRANT it to the role that does this")


def test_a_role_for_reads_that_can_not_be_taken_on_is_told_with_what_to_do(db: Base) -> None:
    db.sql("DO $$ BEGIN CREATE ROLE stranger; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    for role, said in (("absent", "does not exist"), ("stranger", "permission denied to set role")):
        found = db.changed(read_role=role).read("SELECT 1")
        assert (found.outcome, found.sent, said in found.reason) == ("failed", False, True)
        assert "see `read_role` of the database: CREATE ROLE, GRANT it TO app" in found.reason


@pytest.mark.parametrize("way", ["SELECT set_config('role', 'none', false)", "RESET ROLE"])
def test_the_role_for_reads_is_not_shaken_off(db: Base, way: str) -> None:
    assert db.changed(url=db.owner, read_role="reader").read(way).sent is False


def test_a_session_is_set_up_for_the_job(db: Base) -> None:
    db.sql("ALTER ROLE app SET TimeZone = 'Asia/Tokyo'")
    try:
        found = db.read(
            "SELECT current_setting('TimeZone'), current_setting('statement_timeout'),"
            " current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout'),"
            " current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
            " current_setting('application_name')",
            timeout=7.0,
        )
    finally:
        db.sql("ALTER ROLE app RESET TimeZone")
    assert found.outcome == "succeeded"
    values = db.printed.splitlines()[1].split("\t")
    assert values == ["UTC", "7s", "2s", "1min", "repeatable read", "on", f"opskit:books:{db.run}"]


def refused(db: Base) -> Output:
    found = db.read("SELECT 1")
    assert (found.outcome, found.sent, found.unreachable) == ("failed", False, True), found
    return found


def test_another_cluster_than_the_one_meant_is_refused(db: Base) -> None:
    own = db.sql("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    assert db.changed(system_identifier=own).read("SELECT 1").outcome == "succeeded"
    found = refused(db.changed(system_identifier="7000000000000000001"))
    assert f"another cluster answers: its system_identifier is {own}" in found.reason


def test_a_primary_is_refused_where_a_standby_is_meant(db: Base) -> None:
    assert "a standby is meant" in refused(db.changed(standby=True)).reason


def test_a_server_that_is_not_there_or_refuses_is_said(db: Base) -> None:
    there = db.database.url
    assert "does not exist" in refused(db.changed(url=there.replace("//app@", "//nobody0@"))).reason
    away = refused(db.changed(url="postgresql://app@127.0.0.1:1/x"))
    assert "refused" in away.reason.lower()


def test_a_statement_that_takes_too_long_is_ended_by_the_server(db: Base) -> None:
    found = db.read("SELECT pg_sleep(30)", timeout=1.0)
    assert (found.outcome, found.reason) == (
        "failed", "not over within 1 s; the server has ended it"
    )  # fmt: skip
    assert db.quiet()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SET TRANSACTION READ WRITE", "must be set before any query"),
        ("SELECT 1; CREATE TABLE escaped ()", "cannot insert multiple commands"),
        ("COMMIT; CREATE TABLE escaped ()", "cannot insert multiple commands"),
        ("CREATE TABLE escaped ()", "read-only transaction"),
    ],
)
def test_the_transaction_and_the_protocol_hold_without_a_look_at_the_text(
    db: Base, statement: str, said: str
) -> None:
    access = Access(database=db.database, run=db.run, runbook="books")
    session = opened(access)
    try:
        session.connection.own(SNAPSHOT)
        with pytest.raises(ServerError, match=said):
            session.connection.run(statement, (), Taker())
    finally:
        session.close()
    assert db.sql("SELECT to_regclass('escaped')") == [(None,)]
