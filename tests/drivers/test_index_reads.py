"""Expectations against a real server: every planted fault is found, and nothing that is none."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.drivers.postgres.connection import Connection
from opskit.lab import fixtures, release
from opskit.lab.fixtures import Amount
from opskit.load.expectations import expectations
from opskit.model.expected import Expected, Index, Lookup, Relation
from tests.support import datasets, postgres
from tests.support.database import ROLES
from tests.support.expecting import expected, findings, verified

pytestmark = pytest.mark.acceptance
OTHER_MATTERS = frozenset({"refreshes_nothing"})
"""Planted for another runbook: what a function does, no catalog says."""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS, track_commit_timestamp="on") as found:
        with psycopg.connect(found.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
            connection.execute(b"CREATE ROLE looker LOGIN")
        postgres.let_read(found.url("template1"), "looker")
        yield found


@pytest.fixture(scope="module")
def url(server: postgres.Server) -> str:
    """A database for what a test makes itself."""
    return server.database(empty=True)


def do(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def table(url: str, columns: str, *indexes: str) -> None:
    do(url, "DROP TABLE IF EXISTS item CASCADE", f"CREATE TABLE item ({columns})", *indexes)


def item(*indexes: Index, **more: Any) -> Expected:  # noqa: ANN401 - a Relation's
    return Expected(relations=(Relation(name="item", indexes=indexes, **more),))


CHECKS = {
    "invalid": "invalid", "ccnew": "leftover", "duplicate": "duplicate", "twin": "duplicate",
    "prefix": "prefix", "drifted": "name", "unpopulated": "view", "view_missing": "view",
    "columns": "columns", "overloaded": "function", "foreign_key": "foreign_key",
}  # fmt: skip
"""Kind of a planted fault → the check that finds it; of all others it is `missing`."""


def planted(manifest: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return what must be found: check, table, name (of an index, or of a function)."""
    found = set()
    for fault in manifest["faults"]:
        if fault["kind"] in OTHER_MATTERS:
            continue
        check = CHECKS.get(fault["kind"], "missing")
        name = fault["expected"] if check == "missing" else fault["object"]
        if check in ("view", "columns", "foreign_key"):
            name = ""
        if check == "function":  # the note of either data set says which is expected
            wanted = [o["name"] for o in manifest["objects"] if o["kind"] == "function"]
            name = next(w for w in wanted if w.partition("(")[0] == name.partition("(")[0])
        found.add((check, fault["table"], name))
    return found


def seen(output: Any) -> set[tuple[str, str, str]]:  # noqa: ANN401 - an Output
    return {(one["check"], one["table"], one["name"]) for one in findings(output)}


def beside(found: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Return what follows from planted faults: an index too many, a key that lost its index.

    And that this role may not see sequences, which is told and weighs nothing.
    """
    follows = {one for one in found if one[0] in ("extra", "foreign_key_index")}
    return follows | {one for one in found if one == ("sequence", "", "sequences")}


@pytest.mark.parametrize("name", fixtures.EXPECTED)
def test_sound_systems_are_as_their_files_expect(
    server: postgres.Server, name: str, tmp_path: Path
) -> None:
    url, manifest = datasets.load(server, name, Amount(rows=50))
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(release.data(f"expect/{name}.yaml"))
    wanted = expectations(path)
    output, printed = verified(url, wanted, "looker")
    assert (output.outcome, output.evidence["level"]) == ("succeeded", "OK"), printed
    assert [one["text"] for one in findings(output) if "not timed" not in one["text"]] == []
    proved: Any = output.evidence.get("lookups", [])
    asked = [query for r in wanted.relations for one in r.indexes for query in one.used_by]
    assert len(proved) == len(asked)
    assert sum(len(one.indexes) for one in wanted.relations) == len(manifest["indexes"])
    assert len(wanted.functions) == sum(o["kind"] == "function" for o in manifest["objects"])


@pytest.mark.parametrize("name", ["teams", "tickets", "sync", "youtility"])
def test_every_fault_of_a_system_is_found_and_nothing_else(
    server: postgres.Server, name: str
) -> None:
    url, manifest = datasets.load(server, name, Amount(rows=50, planted=True))
    output, printed = verified(url, expected(manifest))
    wanted, found = planted(manifest), seen(output)
    assert wanted - found == set(), printed
    assert found - wanted - beside(found) == set(), printed
    assert (output.outcome, output.evidence["level"]) == ("failed", "CRIT")


@pytest.mark.parametrize(
    "amount",
    [
        Amount(tables=56, cases=3, rows=5),
        pytest.param(Amount(tables=1000, cases=30, rows=5), marks=pytest.mark.soak),
    ],
    ids=["56 tables", "1000 tables"],
)
def test_planted_faults_among_many_tables_are_all_found_and_nothing_false(
    server: postgres.Server, amount: Amount
) -> None:
    clean, manifest = datasets.load(server, "catalog", amount)
    output, printed = verified(clean, expected(manifest))
    assert seen(output) == {("sequence", "", "sequences")}, printed
    assert output.evidence["level"] == "OK"
    url, manifest = datasets.load(server, "catalog", replace(amount, planted=True))
    output, printed = verified(url, expected(manifest))
    said = {
        (check, where, name)
        for check, where, name in (
            (line.split()[1], *_where(line)) for line in printed.splitlines()[1:-1]
        )
    }
    wanted = planted(manifest)
    assert len(wanted) == 17 * amount.cases
    _twins_are_taken(url, manifest)
    assert wanted - said == set()
    extra = {one for one in said - wanted if one[0] not in ("extra", "sequence")}
    assert extra == set()
    # The one index that is too many is what the manifest planted as a prefix of another.
    prefixes = {one[1:] for one in wanted if one[0] == "prefix"}
    assert {one[1:] for one in said if one[0] == "extra"} == prefixes


def _twins_are_taken(url: str, manifest: dict[str, Any]) -> None:
    """The planner takes the twin, which is smaller; it is as good as the index that is meant."""
    query = "SELECT id FROM {} WHERE tenant_id = $1 AND status = $2"
    twins = {one["table"]: one for one in manifest["faults"] if one["kind"] == "twin"}
    wanted = Expected(
        relations=tuple(
            Relation(
                name=name,
                indexes=(
                    Index(
                        keys=("tenant_id", "status"),
                        name=one["expected"],
                        used_by=(Lookup(query=query.format(name), values=("7", "paused")),),
                    ),
                ),
            )
            for name, one in twins.items()
        )
    )
    output, printed = verified(url, wanted, "looker")
    assert findings(output, "CRIT", "UNKNOWN") == [], printed
    proved: Any = output.evidence["lookups"]
    assert {one["index"] for one in proved} == {one["object"] for one in twins.values()}


def _where(line: str) -> tuple[str, str]:
    """Return table and name of a printed row."""
    words = line.split()
    if words[1] == "function":
        return "", words[2]
    return words[2], "" if words[1] in ("view", "columns") else words[3]


SAME = [
    ("status IN ('a', 'b')", "status = ANY (ARRAY['b'::text, 'a'::text])", False),
    ("status IN ('a', 'b')", "status = ANY (ARRAY['a'::text, 'b'::text])", True),
    ("status IN ('a', 'b')", "status = ANY ('{a,b}'::text[])", True),
    ("status = 'a'", "(status)::text = 'a'::text", True),
    ("status = 'a'", "status = 'A'", False),
    ("status <> 'a'", "NOT status = 'a'", True),
    ("at > '2026-01-01 00:00+00'", "at > '2026-01-01 02:00:00+02'::timestamptz", True),
    ("at > '2026-01-01 00:00+00'", "at > '2026-01-01 00:00+01'", False),
    ("n BETWEEN 1 AND 5", "n >= 1 AND n <= 5", True),
    ("n > 1 AND status = 'a'", "status = 'a' AND n > 1", False),
    ("code = 'x'", "(code)::text = 'x'::text", True),
    ("flag", "flag = true", True),
    ("n IS NOT NULL", "n is not null", True),
    ("n > 5.0", "n > 5", False),
]


@pytest.mark.parametrize(("expected", "there", "same"), SAME)
def test_conditions_are_equal_where_the_server_says_so(
    url: str, expected: str, there: str, same: bool
) -> None:
    columns = "n integer NOT NULL, status text, code varchar(9), at timestamptz, flag boolean"
    table(url, columns, f"CREATE INDEX item_n ON item (n) WHERE {there}")
    do(url, "REVOKE ALL ON item FROM reader, PUBLIC")  # the definition is all that is read
    output, printed = verified(url, item(Index(keys=("n",), where=expected, name="item_n")))
    assert (output.outcome == "succeeded") is same, printed
    assert [one["check"] for one in findings(output)] == ([] if same else ["missing"])


@pytest.mark.parametrize(
    ("key", "there", "same"),
    [
        ("code", "code varchar_ops", True),
        ("code text_ops", "code", True),
        ("code varchar_pattern_ops", "code text_pattern_ops", True),
        ("code text_pattern_ops", "code", False),
        ('code COLLATE "C"', "code", False),
        ("code", 'code COLLATE "C"', False),
        ('c COLLATE "C"', "c", True),
        ("c", "c", True),
        ("lower(c)", "lower(c)", True),
        ('lower(c) COLLATE "C"', "lower(c)", True),
        ('lower(code) COLLATE "C"', "lower(code)", False),
        ("lower(code)", 'lower(code) COLLATE "C"', False),
        ("n", "n DESC", False),
        ("n DESC", "n DESC NULLS LAST", False),
        ("n DESC NULLS FIRST", "n DESC", True),
        ("n ASC NULLS LAST", "n", True),
        ("lower(code)", "lower((code)::text)", True),
        ("(n + 1)", "(n+1)", True),
        ("(n + 1)", "(n + 2)", False),
        ("(m ->> 'k')", "(m->>'k'::text)", True),
        ('"Big"', '"Big"', True),
        ("coalesce(n, 0) DESC", "coalesce(n, 0) DESC", True),
    ],
)
def test_keys_are_equal_where_they_order_rows_alike(
    url: str, key: str, there: str, same: bool
) -> None:
    columns = 'n integer, code varchar(9), c text COLLATE "C", m jsonb, "Big" integer'
    table(url, columns, f"CREATE INDEX item_x ON item ({there})")
    output, printed = verified(url, item(Index(keys=(key,), name="item_x")))
    assert (output.outcome == "succeeded") is same, printed


def test_uniqueness_method_and_included_columns_are_part_of_an_index(url: str) -> None:
    table(url, "a integer, b integer, c integer",
          "CREATE UNIQUE INDEX item_u ON item (a) INCLUDE (b, c)",
          "CREATE INDEX item_h ON item USING hash (b)")  # fmt: skip
    right = item(
        Index(keys=("a",), include=("c", "b"), unique=True), Index(keys=("b",), method="hash")
    )
    assert findings(verified(url, right)[0]) == []
    wrong = item(
        Index(keys=("a",), include=("b", "c")), Index(keys=("a",), unique=True),
        Index(keys=("b",)), Index(keys=("a",), unique=True, include=("b", "c"),
                                  nulls_distinct=False),
    )  # fmt: skip
    assert len(findings(verified(url, wrong)[0], "CRIT")) == 4


def test_an_expression_that_the_server_can_not_read_is_told_with_its_words(url: str) -> None:
    table(url, "a integer", "CREATE INDEX item_a ON item (a) WHERE a > 1")
    wanted = item(
        Index(keys=("a",), where="gone = 1"), Index(keys=("a",), where="a > 1", name="item_a"),
        Index(keys=("nothing(a)",)),
    )  # fmt: skip
    output, printed = verified(url, wanted)
    said = [one["text"] for one in findings(output)]
    assert len(said) == 2, printed
    assert 'column "gone" does not exist' in said[0]
    assert "function nothing(integer) does not exist" in said[1]


@pytest.mark.parametrize(
    "where",
    ["pg_terminate_backend(pg_backend_pid())", "nextval('s') > 0", "pg_sleep(9) IS NULL",
     "dirty() > 0", "(SELECT max(n) FROM kept) > 0"],
)  # fmt: skip
def test_what_an_expectation_says_is_never_carried_out(url: str, where: str) -> None:
    table(url, "a integer", "CREATE INDEX item_a ON item (a)")
    do(url, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept (n integer)",
       "DROP SEQUENCE IF EXISTS s", "CREATE SEQUENCE s",
       "CREATE OR REPLACE FUNCTION dirty() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS"
       " $$ BEGIN INSERT INTO kept VALUES (1); RETURN 1; END $$",
       "GRANT ALL ON kept, s TO reader")  # fmt: skip
    began = time.monotonic()
    output, _ = verified(url, item(Index(keys=("a",), where=where)))
    assert time.monotonic() - began < 8
    assert output.outcome in ("failed", "unknown")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert connection.execute("SELECT last_value, is_called FROM s").fetchone() == (1, False)


WORDS = (
    "order",
    "user",
    "char",
    "end",
    "left",
    "time",
    "values",
    "interval",
    "row",
    "position",
    "Or",
    "is",
)
"""Names of columns that are words of SQL, of those that need quotes and those that need none."""


def test_columns_that_are_called_as_words_of_sql_are_read_as_columns(url: str) -> None:
    made = [
        Index(keys=(f'"{word}"', f'("{word}" + 1) DESC'), where=f'"{word}" IN (1, 2)')
        for word in WORDS
    ]
    table(url, ", ".join(f'"{word}" int' for word in WORDS), *(
        f"CREATE INDEX ON item ({', '.join(one.keys)}) WHERE {one.where}" for one in made
    ))  # fmt: skip
    output, printed = verified(url, item(*made))
    assert output.evidence["level"] == "OK", printed
    others = [replace(one, where=(one.where or "").replace("(1, 2)", "(1, 3)")) for one in made]
    output, printed = verified(url, item(*others))
    assert [one["check"] for one in findings(output, "CRIT")] == ["missing"] * len(WORDS), printed


@pytest.mark.parametrize(
    ("denied", "index", "said"),
    [
        ("SCHEMA hidden", Index(keys=("n",), where="name IN ('a', 'b')"), "schema hidden"),
        ("SCHEMA trick", Index(keys=("trick.norm((name))",)), "schema trick"),
        ("FUNCTION trick.norm(text)", Index(keys=("trick.norm((name))",)), "function norm"),
    ],
)
def test_what_the_role_may_not_see_is_not_told_to_be_missing(
    url: str, denied: str, index: Index, said: str
) -> None:
    do(
        url, "DROP SCHEMA IF EXISTS hidden, trick CASCADE", "CREATE SCHEMA hidden",
        "CREATE SCHEMA trick", "GRANT USAGE ON SCHEMA hidden, trick TO PUBLIC",
        "CREATE FUNCTION trick.norm(text) RETURNS text IMMUTABLE LANGUAGE plpgsql"
        " AS 'BEGIN RETURN lower($1); END'", "CREATE TABLE hidden.book (n int, name text)",
        "CREATE INDEX some_n ON hidden.book (n) WHERE name IN ('a', 'b')",
        "CREATE INDEX norm_n ON hidden.book (trick.norm(name))",
    )  # fmt: skip
    wanted = Expected(relations=(Relation(name="hidden.book", indexes=(index,)),))
    sound, _ = verified(url, wanted)
    assert [one["check"] for one in findings(sound)] == ["extra"]  # the other of the two
    do(url, f"REVOKE ALL ON {denied} FROM PUBLIC")
    output, printed = verified(url, wanted)
    assert output.outcome == "unknown", printed
    assert f"permission denied for {said}" in printed
    assert "GRANT USAGE" in printed
    assert [one["check"] for one in findings(output, "CRIT")] == []
    gone = Expected(relations=(Relation(name="hidden.book", indexes=(Index(keys=("n",)),)),))
    assert [one["check"] for one in findings(verified(url, gone)[0], "CRIT")] == ["missing"]


def test_an_index_of_a_partitioned_table_waits_for_its_parts(url: str) -> None:
    do(
        url, "CREATE TABLE part (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF part DEFAULT", "CREATE INDEX part_id ON ONLY part (id)",
    )  # fmt: skip
    wanted = Expected(relations=(Relation(name="part", indexes=(Index(keys=("id",)),)),))
    output, printed = verified(url, wanted)
    assert [one["check"] for one in findings(output, "CRIT")] == ["invalid"]
    assert "invalid until each part of the table has it" in printed


def test_a_missing_table_and_one_that_is_there_twice_are_refused(url: str) -> None:
    table(url, "a integer")
    do(url, "CREATE SCHEMA IF NOT EXISTS old", "CREATE TABLE IF NOT EXISTS old.item (a integer)")
    try:
        output, printed = verified(url, item())
        assert (output.outcome, output.sent) == ("failed", False)
        assert (output.evidence["level"], output.evidence["refused"]) == ("UNKNOWN", True)
        assert "old, public" in output.reason
        assert printed == "item: " + output.reason.partition("item: ")[2].partition(" → ")[0] + "\n"
        gone = Expected(relations=(Relation(name="gone"), Relation(name="old.item"),
                                   Relation(name="gone.item")))  # fmt: skip
        output, printed = verified(url, gone)
        assert printed == "gone: there is no such table\ngone.item: there is no such table\n"
        assert (output.outcome, "and 1 more" in output.reason) == ("failed", True)
    finally:
        do(url, "DROP SCHEMA old CASCADE")


def test_a_locked_table_is_waited_for_two_seconds_and_only_for_expressions(url: str) -> None:
    plain, partial = Index(keys=("a",)), Index(keys=("a",), where="a > 1")
    with psycopg.connect(url) as other:
        table(url, "a integer", "CREATE INDEX item_a ON item (a)")
        other.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        assert verified(url, item(plain))[0].outcome == "succeeded"
        other.rollback()
        table(url, "a integer", "CREATE INDEX item_a ON item (a) WHERE a > 1")
        other.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        output, _ = verified(url, item(partial))
        assert (output.outcome, time.monotonic() - began < 12) == ("unknown", True)
        assert "somebody holds a lock" in output.reason


def test_an_index_that_is_being_built_is_not_broken(url: str) -> None:
    table(url, "a integer")
    with psycopg.connect(url) as old:
        old.execute("INSERT INTO item VALUES (1)")  # the build waits for this to end
        build = threading.Thread(
            target=do, args=(url, "CREATE INDEX CONCURRENTLY item_a ON item (a)")
        )
        build.start()
        end = time.monotonic() + 60
        while True:
            output, printed = verified(url, item(Index(keys=("a",))))
            if [o["check"] for o in findings(output)] != ["missing"]:
                break
            assert time.monotonic() < end, printed
        # The role may not see whose build that is.
        assert (output.outcome, findings(output)[0]["level"]) == ("unknown", "UNKNOWN"), printed
        do(url, "GRANT pg_read_all_stats TO reader")
        try:
            output, printed = verified(url, item(Index(keys=("a",))))
            assert [o["check"] for o in findings(output)] == ["building"], printed
            assert output.outcome == "succeeded"
        finally:
            do(url, "REVOKE pg_read_all_stats FROM reader")
    build.join(20)
    assert findings(verified(url, item(Index(keys=("a",))))[0]) == []


@pytest.mark.parametrize(
    ("made", "at", "level", "told"),
    [
        ("id serial", 1503238553, "", ""),  # 70 of 100, and no more
        ("id serial", 1503238554, "WARN", "id (integer) is at 1,503,238,554 of 2,147,483,647"),
        ("id integer GENERATED ALWAYS AS IDENTITY", 2147483647, "CRIT", "(100%)"),
        ("id smallserial", 30000, "CRIT", "of 32,767 (92%)"),
        ("id bigserial", 2147483647, "", ""),
        ("id bigint GENERATED BY DEFAULT AS IDENTITY (MAXVALUE 1000)", 800, "WARN", "of 1,000"),
        ("id bigint GENERATED BY DEFAULT AS IDENTITY (MAXVALUE 1000 CYCLE)", 990, "", ""),
        ("id integer GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1)", -2000000000, "CRIT",
         "-2,000,000,000 of -2,147,483,648"),
    ],
)  # fmt: skip
def test_a_sequence_that_comes_to_its_end_is_told_of(
    url: str, made: str, at: int, level: str, told: str
) -> None:
    table(url, f"{made}, a integer", f"SELECT setval('item_id_seq', {at})")
    output, printed = verified(url, item(), "looker")
    found = findings(output)
    assert [(one["check"], one["level"]) for one in found] == [("sequence", level)] * bool(level)
    assert told in printed


def test_a_column_may_be_narrower_than_its_sequence_and_both_may_be_hidden(url: str) -> None:
    """As after an old dump: the sequence could give more than the column takes."""
    table(url, "id integer, a integer", "CREATE SEQUENCE wide OWNED BY item.id",
          "SELECT setval('wide', 2000000000)")  # fmt: skip
    output, printed = verified(url, item(), "looker")
    assert [(one["level"], one["name"]) for one in findings(output)] == [("CRIT", "public.wide")]
    output, printed = verified(url, item())  # who may not see it
    assert output.evidence["level"] == "OK"
    assert "how far sequences are can't be seen: public.wide; GRANT USAGE" in printed


def test_a_view_that_was_not_refreshed_for_long_is_stale(url: str) -> None:
    table(url, "a integer", "INSERT INTO item VALUES (1)",
          "CREATE MATERIALIZED VIEW shown AS SELECT a FROM item",
          "CREATE UNIQUE INDEX shown_a ON shown (a)")  # fmt: skip
    view = Relation(name="shown", view=True, indexes=(Index(keys=("a",), unique=True),))

    def seen(within: float) -> tuple[str, float]:
        """Return the level, and for how long it was not touched where that is no fault."""
        wanted = Expected(relations=(replace(view, fresh_within=within),))
        output, printed = verified(url, wanted, "looker")
        found = [(one["check"], one["level"]) for one in findings(output)]
        assert found in ([], [("fresh", "CRIT")]), printed
        touched: Any = output.evidence["touched"]
        return str(output.evidence["level"]), touched[0]["seconds"] if touched else 0.0

    time.sleep(1.2)
    do(url, "ANALYZE shown", "VACUUM shown")  # neither makes it any younger
    assert seen(1) == ("CRIT", 0.0)
    assert seen(3600)[1] >= 1.2
    for how in ("CONCURRENTLY", ""):  # the first of them though nothing of it is new
        time.sleep(0.5)
        began = time.monotonic()
        do(url, f"REFRESH MATERIALIZED VIEW {how} shown")
        level, ago = seen(3600)
        assert (level, ago <= time.monotonic() - began + 0.2) == ("OK", True)


def test_an_index_that_nobody_uses_is_told_of_once_that_was_counted_for_long(url: str) -> None:
    table(url, "a integer, b integer, c integer", "CREATE INDEX item_a ON item (a)",
          "CREATE UNIQUE INDEX item_u ON item (c)", "CREATE INDEX item_b ON item (b)",
          "INSERT INTO item VALUES (1, 1, 1)", "SET enable_seqscan = off",
          "SELECT FROM item WHERE b = 1")  # fmt: skip
    wanted = item(Index(keys=("a",)), Index(keys=("c",), unique=True), Index(keys=("b",)))
    assert findings(verified(url, wanted)[0]) == []  # 30 days have not been counted
    end = time.monotonic() + 60
    while True:
        output, printed = verified(url, wanted, unused_after=0.001)
        told = [(one["check"], one["name"], one["level"]) for one in findings(output)]
        if told == [("unused", "item_a", "INFO")]:
            break
        assert time.monotonic() < end, printed  # the use of the other one is not counted at once


def test_a_superuser_and_a_database_that_is_not_there_are_unknown(
    url: str, server: postgres.Server
) -> None:
    table(url, "a integer")
    output, _ = verified(url, item(), user="owner")
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "is a superuser" in output.reason
    output, _ = verified(server.url("nowhere"), item())
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")


@pytest.mark.parametrize(
    "tables", [60, pytest.param(1000, marks=pytest.mark.soak)], ids=["60 tables", "1000 tables"]
)
def test_all_tables_take_three_questions(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch, tables: int
) -> None:
    url, manifest = datasets.load(server, "catalog", Amount(tables=tables, rows=2))
    wanted = expected(manifest)
    asked: list[str] = []
    plain = Connection.one

    def counted(self: Connection, text: str, *values: str | None) -> Any:  # noqa: ANN401
        asked.append(text)
        return plain(self, text, *values)

    monkeypatch.setattr(Connection, "one", counted)
    times = []
    for _ in range(3):
        asked.clear()
        began = time.monotonic()
        output, _ = verified(url, wanted)
        times.append(time.monotonic() - began)
        assert output.evidence["level"] == "OK"
    catalog_rows = [text for text in asked if "pg_index" in text or "pg_opclass" in text]
    meanings = [text for text in asked if text.startswith("EXPLAIN")]
    assert (len(catalog_rows), len(meanings)) == (2, 1)
    assert min(times) < 1.0, f"{len(manifest['indexes'])} indexes took {times} s"
