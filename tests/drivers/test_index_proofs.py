"""Beyond the catalog: queries that are planned, calls that are timed, indexes that are read."""

from typing import Any

import psycopg
import pytest

from opskit.model.expected import Expected, Function, Index, Lookup, Relation
from opskit.model.job import Output
from tests.support.database import ROLES
from tests.support.expecting import findings, verified
from tests.support.postgres import Server, let_read

pytestmark = pytest.mark.acceptance
LOOKER = """
    DO $$ BEGIN CREATE ROLE looker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
COLUMNS = "id integer, a integer, b integer, status text, at timestamptz"
ROWS = "INSERT INTO item SELECT g, g % 5000, g % 7, 'open', now() + g * interval '1 s' FROM"
BIG, SMALL = 20_000, 50


@pytest.fixture(scope="module")
def url(postgres: Server) -> str:
    found = postgres.database(empty=True)
    do(found, ROLES, LOOKER)
    let_read(found, "looker")
    return found


def do(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def made(url: str, rows: int, *indexes: str) -> None:
    """Make the table anew, with so many rows, counted."""
    do(url, "DROP TABLE IF EXISTS item CASCADE", f"CREATE TABLE item ({COLUMNS})",
       f"{ROWS} generate_series(1, {rows}) g", *indexes, "VACUUM ANALYZE item")  # fmt: skip


def looked(url: str, index: Index, user: str = "looker") -> tuple[Output, str]:
    return verified(url, Expected(relations=(Relation(name="item", indexes=(index,)),)), user)


def lookup(keys: str, query: str, *values: str, **more: Any) -> Index:  # noqa: ANN401
    return Index(
        keys=tuple(keys.split(", ")), used_by=(Lookup(query=query, values=values),), **more
    )


def told(output: Output) -> list[tuple[str, str]]:
    return [(one["check"], one["level"]) for one in findings(output)]


def proofs(output: Output) -> list[tuple[str, str]]:
    found: Any = output.evidence["lookups"]
    return [(one["index"], one["how"]) for one in found]


BY_A = "SELECT * FROM item WHERE a = $1"
ON_A = "CREATE INDEX item_a ON item (a)"


@pytest.mark.parametrize(("rows", "how"), [(BIG, "used"), (SMALL, "usable"), (0, "usable")])
def test_a_query_is_planned_with_the_index_that_is_for_it(url: str, rows: int, how: str) -> None:
    made(url, rows, ON_A)
    output, printed = looked(url, lookup("a", BY_A, "7"))
    assert (output.outcome, proofs(output)) == ("succeeded", [("item_a", how)]), printed


def test_a_plan_for_all_values_does_where_there_are_no_samples(url: str) -> None:
    made(url, BIG, ON_A)
    output, printed = looked(url, lookup("a", BY_A))
    assert proofs(output) == [("item_a", "used")], printed


@pytest.mark.parametrize("rows", [BIG, SMALL])
def test_an_equal_twin_does_as_well(url: str, rows: int) -> None:
    made(url, rows, ON_A, "CREATE INDEX item_twin ON item (a)")
    output, printed = looked(url, lookup("a", BY_A, "7", name="item_a"))
    assert [how for _, how in proofs(output)] == ["used" if rows == BIG else "usable"], printed
    assert told(output) == [("duplicate", "WARN")]


@pytest.mark.parametrize("rows", [BIG, SMALL])
@pytest.mark.parametrize(
    ("keys", "index", "asked"),
    [
        ("a", ON_A, ["SELECT * FROM item WHERE a + 1 = $1", "7"]),
        ("a", ON_A, ["SELECT * FROM item WHERE b = $1 ORDER BY id", "7"]),
        ("a, b", "CREATE INDEX item_ab ON item (a, b)",
         ["SELECT * FROM item ORDER BY b, a LIMIT 9"]),
        ("status", "CREATE INDEX item_s ON item (status)",
         ["SELECT * FROM item WHERE lower(status) = $1", "open"]),
    ],
)  # fmt: skip
def test_a_query_that_can_not_use_it_is_told_of(
    url: str, rows: int, keys: str, index: str, asked: list[str]
) -> None:
    made(url, rows, index, "CREATE UNIQUE INDEX item_id ON item (id)")
    output, printed = looked(url, lookup(keys, *asked))
    assert ("lookup", "CRIT") in told(output), printed
    assert (output.outcome, proofs(output)) == ("failed", [])


@pytest.mark.parametrize("rows", [BIG, SMALL])
@pytest.mark.parametrize(
    ("keys", "index", "asked"),
    [
        ("at DESC", "CREATE INDEX item_at ON item (at DESC)",
         ["SELECT * FROM item ORDER BY at DESC LIMIT 9"]),
        ("a, b DESC", "CREATE INDEX item_ab ON item (a, b DESC)",
         ["SELECT * FROM item ORDER BY a, b LIMIT 9"]),
        ("at", "CREATE INDEX item_at ON item (at)", ["SELECT max(at) FROM item"]),
        ("a, b", "CREATE INDEX item_ab ON item (a, b)",
         ["SELECT * FROM item WHERE a = $1 AND b IN ($2, $3)", "7", "1", "2"]),
    ],
)  # fmt: skip
def test_so_is_not_one_that_only_orders_by_it(
    url: str, rows: int, keys: str, index: str, asked: list[str]
) -> None:
    made(url, rows, index, "CREATE UNIQUE INDEX item_id ON item (id)")
    output, printed = looked(url, lookup(keys, *asked))
    assert told(output) == [("extra", "WARN")], printed
    assert len(proofs(output)) == 1


def test_a_unique_index_does_as_well_and_a_wider_one_is_told_of(url: str) -> None:
    made(url, BIG, "CREATE INDEX item_id ON item (id)", "CREATE UNIQUE INDEX item_u ON item (id)")
    output, printed = looked(url, lookup("id", "SELECT * FROM item WHERE id = $1", "7"))
    assert len(proofs(output)) == 1, printed
    made(url, BIG, "CREATE INDEX item_ba ON item (b, a)", "CREATE INDEX item_abs ON item (a, b)")
    asked = lookup("b, a", "SELECT * FROM item WHERE a = $1 AND b > $2 ORDER BY b", "7", "0")
    output, printed = looked(url, asked)
    assert ("lookup", "WARN") in told(output), printed
    assert "item_abs" in printed


def test_with_few_rows_another_index_that_does_as_well_is_no_fault(url: str) -> None:
    made(url, SMALL, "CREATE INDEX item_ab ON item (a, b)", ON_A)
    query = "SELECT * FROM item WHERE a = $1 AND b = $2"
    for keys in ("a, b", "a"):
        output, printed = looked(url, lookup(keys, query, "7", "3"))
        assert ("lookup", "CRIT") not in told(output), printed
        assert output.outcome == "succeeded"


def test_the_parts_of_a_partitioned_index_are_it(url: str) -> None:
    do(url, "DROP TABLE IF EXISTS item CASCADE",
       "CREATE TABLE item (id integer, a integer) PARTITION BY RANGE (id)",
       "CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (10000)",
       "CREATE TABLE item_2 PARTITION OF item FOR VALUES FROM (10000) TO (99999)",
       "INSERT INTO item SELECT g, g FROM generate_series(1, 20000) g", ON_A,
       "ANALYZE item_1, item_2")  # fmt: skip
    output, printed = looked(url, lookup("a", BY_A, "7"))
    assert proofs(output) == [("item_1_a_idx", "used")], printed


def test_what_can_not_be_planned_is_unknown(url: str) -> None:
    made(url, SMALL, ON_A)
    output, _ = looked(url, lookup("a", "SELECT * FROM item WHERE gone = $1", "7"))
    assert told(output) == [("lookup", "UNKNOWN")]
    assert 'column "gone" does not exist' in output.reason
    output, _ = looked(url, lookup("a", BY_A, "seven"))
    assert told(output) == [("lookup", "UNKNOWN")]
    output, _ = looked(url, lookup("a", BY_A, "7"), user="reader")
    assert told(output) == [("lookup", "UNKNOWN")]
    assert "the role needs SELECT" in output.reason


@pytest.mark.parametrize("declared", ["VOLATILE", "STABLE", "IMMUTABLE"])
def test_a_query_is_planned_and_never_carried_out(url: str, declared: str) -> None:
    made(url, BIG, ON_A)
    do(url, "CREATE TABLE IF NOT EXISTS kept (n integer)", "TRUNCATE kept",
       f"CREATE OR REPLACE FUNCTION dirty(n integer) RETURNS integer LANGUAGE plpgsql {declared}"
       " SECURITY DEFINER AS $$ BEGIN INSERT INTO kept VALUES (n); RETURN n; END $$")  # fmt: skip
    output, _ = looked(url, lookup("a", "SELECT * FROM item WHERE a = dirty($1)", "7"))
    assert output.outcome != "succeeded"
    hostile = "'; INSERT INTO kept VALUES (1); --"
    looked(url, lookup("status", "SELECT * FROM item WHERE status = $1", hostile))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


# --- how long it takes ---


def function(url: str, body: str, *, declared: str = "VOLATILE") -> None:
    do(url, "CREATE TABLE IF NOT EXISTS kept (n integer)", "TRUNCATE kept",
       f"CREATE OR REPLACE FUNCTION f(n integer) RETURNS integer LANGUAGE plpgsql {declared}"
       f" AS $$ BEGIN {body} RETURN n; END $$", "GRANT ALL ON kept TO looker")  # fmt: skip


def timed(url: str, within: float, **more: Any) -> tuple[Output, str]:  # noqa: ANN401
    one = Function(signature="f(integer)", call=("7",), within=within, **more)
    return verified(url, Expected(functions=("f(integer)",), traits=(one,)), "looker")


def test_a_function_within_its_time_is_as_expected_and_a_slower_one_is_not(url: str) -> None:
    function(url, "PERFORM pg_sleep(0.003);")
    output, printed = timed(url, 1.0)
    assert (output.outcome, told(output)) == ("succeeded", []), printed
    measured: Any = output.evidence["timed"]
    (one,) = measured
    assert 3 <= one["p95_ms"] < 1000
    output, printed = timed(url, 0.001)
    assert told(output) == [("slow", "CRIT")], printed
    assert "1 ms are expected" in output.reason
    function(url, "PERFORM pg_sleep(30);")
    output, printed = timed(url, 0.001)
    assert told(output) == [("slow", "CRIT")], printed
    assert "more than 2000 ms" in output.reason


def test_a_query_within_its_time_is_as_expected_and_a_slower_one_is_not(url: str) -> None:
    made(url, SMALL, ON_A)
    slow = "SELECT id, pg_sleep(0.01) FROM item WHERE a = $1 LIMIT 5;"
    index = Index(keys=("a",), used_by=(Lookup(query=slow, values=("7",), within=1.0),))
    output, printed = looked(url, index)
    assert output.outcome == "succeeded", printed
    measured: Any = output.evidence["timed"]
    (one,) = measured
    assert (one["name"], 10 <= one["p95_ms"] < 1000) == (slow, True)
    index = Index(keys=("a",), used_by=(Lookup(query=slow, values=("7",), within=0.002),))
    output, printed = looked(url, index)
    assert told(output) == [("slow", "CRIT")], printed
    assert "2 ms are expected" in output.reason


def test_a_function_that_writes_is_not_timed_and_writes_nothing(url: str) -> None:
    function(url, "INSERT INTO kept VALUES (n);")
    output, printed = timed(url, 1.0)
    assert (output.outcome, told(output)) == ("unknown", [("slow", "UNKNOWN")]), printed
    assert "writes: true" in output.reason
    output, printed = timed(url, 1.0, writes=True)
    assert (output.outcome, told(output)) == ("succeeded", [("slow", "INFO")]), printed
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        calls = "SELECT pg_stat_get_xact_tuples_inserted('kept'::regclass)"
        assert connection.execute(calls).fetchone() == (0,)


def test_a_function_that_writes_is_timed_where_a_step_says_so_and_nothing_is_kept(url: str) -> None:
    """Each call finds what the first one found: otherwise only the first had anything to do."""
    function(url, "INSERT INTO kept VALUES (n); ASSERT (SELECT count(*) FROM kept) = 1;")
    one = Function(signature="f(integer)", call=("7",), within=1.0, writes=True)
    wanted = Expected(functions=("f(integer)",), traits=(one,))
    output, printed = verified(url, wanted, "looker", writers=True)
    assert (output.outcome, told(output)) == ("succeeded", []), printed
    measured: Any = output.evidence["timed"]
    assert [one["name"] for one in measured] == ["f(integer)"]
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        connection.execute("REVOKE ALL ON kept FROM looker")
    output, printed = verified(url, wanted, "looker", writers=True)
    assert told(output) == [("slow", "UNKNOWN")], printed


def test_a_function_that_fails_is_unknown(url: str) -> None:
    function(url, "RAISE 'not today';")
    output, _ = timed(url, 1.0)
    assert (output.outcome, told(output)) == ("unknown", [("slow", "UNKNOWN")])
    assert "not today" in output.reason


def test_a_view_is_read_as_a_whole(url: str) -> None:
    made(url, BIG)
    do(url, "CREATE MATERIALIZED VIEW seen AS SELECT a, b FROM item")
    for within, outcome in ((5.0, "succeeded"), (0.00001, "failed")):
        view = Relation(name="seen", view=True, columns=("a",), within=within)
        output, printed = verified(url, Expected(relations=(view,)), "looker")
        assert output.outcome == outcome, printed
    assert told(output) == [("slow", "CRIT")]


# --- what is inside ---


def inside(url: str, user: str = "reader", **how: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401
    wanted = Expected(relations=(Relation(name="item"),))
    output, _ = verified(url, wanted, user, leave_out=("extra",), **how)
    return [(one["check"], one["level"], one["text"]) for one in findings(output)]


def test_indexes_are_whole_or_not(url: str) -> None:
    made(url, SMALL, ON_A)
    do(url, "DROP EXTENSION IF EXISTS amcheck")
    ((check, level, text),) = inside(url, amcheck="index")
    assert (check, level, "CREATE EXTENSION" in text) == ("corrupt", "UNKNOWN", True)
    do(url, "CREATE EXTENSION amcheck")
    first, *_ = inside(url, amcheck="index")
    assert first[:2] == ("corrupt", "UNKNOWN")
    assert "GRANT EXECUTE" in first[2]
    do(url, "GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO reader")
    assert inside(url, amcheck="rows") == []
    turn = "CREATE OR REPLACE FUNCTION turn(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS"
    do(url, f"{turn} 'SELECT n'", "CREATE INDEX item_turn ON item (turn(a))", f"{turn} 'SELECT -n'")
    assert inside(url, amcheck="index") == []  # its own order is whole; its rows are not in it
    ((check, level, text),) = inside(url, amcheck="rows")
    assert (check, level) == ("corrupt", "CRIT")
    assert "lacks matching index tuple" in text


def test_a_broken_order_is_found(url: str) -> None:
    less = "CREATE OR REPLACE FUNCTION odd(a integer, b integer) RETURNS integer LANGUAGE sql"
    made(url, SMALL)
    do(url, "CREATE EXTENSION IF NOT EXISTS amcheck",
       "GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO reader",
       f"{less} IMMUTABLE AS 'SELECT btint4cmp(a, b)'",
       "CREATE OPERATOR CLASS odd_ops FOR TYPE integer USING btree AS OPERATOR 1 <, OPERATOR 2 <=,"
       " OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 odd(integer, integer)",
       "CREATE INDEX item_odd ON item (a odd_ops)",
       f"{less} IMMUTABLE AS 'SELECT btint4cmp(b, a)'")  # fmt: skip
    ((check, level, text),) = inside(url, amcheck="index")
    assert (check, level) == ("corrupt", "CRIT")
    assert "item order invariant violated" in text


def test_air_is_estimated_and_read(url: str) -> None:
    do(url, "DROP TABLE IF EXISTS item CASCADE",
       "CREATE UNLOGGED TABLE item (a integer) WITH (autovacuum_enabled = off)",
       "INSERT INTO item SELECT g FROM generate_series(1, 600000) g", ON_A,
       "DELETE FROM item WHERE a % 8 > 0")  # fmt: skip
    do(url, "VACUUM ANALYZE item", "DROP EXTENSION IF EXISTS pgstattuple")
    ((check, level, text),) = inside(url, user="looker")
    assert (check, level, "by an estimate" in text) == ("bloat", "WARN", True)
    ((check, level, text),) = inside(url, user="looker", pgstatindex=True)
    assert (check, level, "CREATE EXTENSION" in text) == ("bloat", "UNKNOWN", True)
    do(url, "CREATE EXTENSION pgstattuple")
    ((check, level, text),) = inside(url, user="looker", pgstatindex=True)
    assert (level, "pg_stat_scan_tables" in text) == ("UNKNOWN", True)
    do(url, "GRANT pg_stat_scan_tables TO looker")
    try:
        ((check, level, text),) = inside(url, user="looker", pgstatindex=True)
        assert (check, level, "pgstatindex has read" in text) == ("bloat", "WARN", True)
        do(url, "REINDEX TABLE item", "ANALYZE item")
        assert inside(url, user="looker", pgstatindex=True) == inside(url, user="looker") == []
    finally:
        do(url, "REVOKE pg_stat_scan_tables FROM looker")


def test_a_collation_that_has_changed_is_told_of(url: str, postgres: Server) -> None:
    postgres.since(15)  # which notes it of a database
    made(url, SMALL, 'CREATE INDEX item_s ON item (status COLLATE "C")',
         "CREATE INDEX item_d ON item (status)")  # fmt: skip
    assert inside(url) == []
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    do(url, "UPDATE pg_collation SET collversion = '1' WHERE oid = 950",
       f"UPDATE pg_database SET datcollversion = '2' WHERE datname = '{name}'")  # fmt: skip
    found = inside(url)
    assert [one[:2] for one in found] == [("collation", "CRIT")] * 2
    assert sorted(one[2].split(" may")[0] for one in found) == ["item_d", "item_s"]
