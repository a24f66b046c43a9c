"""Data sets are what their manifests say: by plain SQL, and nothing more than that is amiss."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from opskit.errors import InputError, OpskitError
from opskit.lab import fixtures
from opskit.lab.fixtures import Amount
from tests.support import datasets, postgres

WINDOWS = ("10 minutes", "25 hours")


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


def load(
    server: postgres.Server, name: str, amount: Amount
) -> tuple[psycopg.Connection[Any], dict[str, Any]]:
    """Return a connection to a new database with this in it, and the manifest."""
    url, manifest = datasets.load(server, name, amount)
    return psycopg.connect(url, autocommit=True), manifest


INDEXES = """
select c.relname, t.relname, i.indisvalid and i.indisready,
       regexp_replace(pg_get_indexdef(i.indexrelid),
                      '^CREATE (UNIQUE )?INDEX .* ON .* USING', '\\1')
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
where t.relnamespace = %s::regnamespace and not i.indisprimary
"""


def canonical(connection: psycopg.Connection[Any], index: dict[str, Any]) -> str:
    """Return how the server writes down what is expected, without any name."""
    unique = "unique" if index["unique"] else ""
    include = f"include ({', '.join(index['include'])})" if index["include"] else ""
    where = f"where {index['where']}" if index["where"] else ""
    keys = f"using {index['method']} ({', '.join(index['keys'])})"
    with connection.transaction(force_rollback=True):
        connection.execute(f"create temporary table copy as table {index['table']} with no data")
        connection.execute(f"create {unique} index probe on copy {keys} {include} {where}")
        sql = INDEXES.replace("%s::regnamespace", "pg_my_temp_schema()")
        found = {row[0]: row[3] for row in connection.execute(sql).fetchall()}
    return str(found["probe"])


def seen(
    connection: psycopg.Connection[Any], manifest: dict[str, Any]
) -> list[tuple[str, str | None]]:
    """Return what differs from the expected indexes: in which table, and which index it is."""
    rows = connection.execute(INDEXES, ["public"]).fetchall()
    wanted = {index["name"]: index for index in manifest["indexes"]}
    found = {name: (table, valid, text) for name, table, valid, text in rows}
    constraints = connection.execute("select conname from pg_constraint").fetchall()
    extra = set(found) - set(wanted) - {row[0] for row in constraints}
    differing = [(found[name][0], name) for name in extra]
    texts: dict[str, str] = {}
    for name, index in wanted.items():
        shape = str([index[key] for key in ("keys", "include", "where", "unique")]) + (
            "" if index["table"].startswith("item_0") else index["table"]
        )
        if name in found and shape not in texts:
            texts[shape] = canonical(connection, index)
        if name not in found:
            differing.append((index["table"], None))
        elif found[name][1:] != (True, texts[shape]):
            differing.append((index["table"], name))
    return sorted(differing, key=str)


def said(manifest: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return what the manifest says that differs; an index under another name is absent, too."""
    faults = [one for one in manifest["faults"] if one["kind"] not in OTHERS]
    drifted = [(one["table"], None) for one in faults if one["kind"] == "drifted"]
    return sorted([*((one["table"], one["object"]) for one in faults), *drifted], key=str)


OTHERS = {"unpopulated", "columns", "overloaded", "foreign_key", "view_missing",
          "refreshes_nothing"}  # fmt: skip


@pytest.mark.acceptance
@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("name", ["teams", "tickets", "sync", "catalog"])
def test_the_indexes_differ_where_the_manifest_says_and_nowhere_else(
    server: postgres.Server, name: str, planted: bool
) -> None:
    connection, manifest = load(server, name, Amount(rows=100, tables=30, cases=2, planted=planted))
    with connection:
        assert seen(connection, manifest) == said(manifest)
    kinds = Counter(one["kind"] for one in manifest["faults"])
    if name == "catalog" and planted:
        assert len(kinds) == 17
        assert set(kinds.values()) == {2}
        assert len({one["table"] for one in manifest["faults"] if one["table"]}) == 2 * 16
    elif not planted:
        assert not kinds


@pytest.mark.acceptance
def test_each_planted_fault_is_of_its_kind(server: postgres.Server) -> None:
    connection, manifest = load(server, "catalog", Amount(planted=True, tables=14, cases=1))
    of = {one["kind"]: one for one in manifest["faults"]}

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql.encode()).fetchall()

    def text(kind: str) -> str:
        return str(ask(f"select pg_get_indexdef('{of[kind]['object']}'::regclass)")[0][0])

    def flags(name: str) -> tuple[bool, bool]:
        sql = "select indisvalid, indisready from pg_index where indexrelid = '%s'::regclass"
        found: tuple[bool, bool] = ask(sql % name)[0]
        return found

    with connection:
        assert text("column_order").endswith("(status, tenant_id)")
        assert text("descending").endswith("(score, name)")
        assert "<> 'deleted'" in text("predicate")
        assert text("include").endswith('(name COLLATE "C")')
        assert text("opclass").endswith("(lower(email))")
        assert text("collation").endswith("(name) INCLUDE (amount)")
        assert text("expression").endswith("(upper(email) text_pattern_ops)")
        assert flags(of["invalid"]["object"]) == (False, False)
        assert re.search(r"_ccnew[0-9]*$", of["ccnew"]["object"])
        assert flags(of["ccnew"]["object"]) == (False, False)
        assert flags(of["ccnew"]["expected"]) == (True, True)
        table = of["twin"]["table"]
        plan = ask(f"explain select id from {table} where tenant_id = 7 and status = 'paused'")
        assert of["twin"]["object"] in str(plan)
        view = of["unpopulated"]["object"]
        assert ask(f"select ispopulated from pg_matviews where matviewname = '{view}'") == [
            (False,)
        ]
        absent = of["overloaded"]["note"].removeprefix("there is no ")
        assert ask(f"select to_regprocedure('{absent}')") == [(None,)]
        assert ask(f"select to_regprocedure('{of['overloaded']['object']}')") != [(None,)]


LIVE = "select * from payouts where status in ('paid', 'processing', 'pending')"
SAME_KEY = f"""
with r as (
    select id, status, count(*) over k as n,
        row_number() over (k order by status = 'paid' desc, status = 'processing' desc,
                           created_at, id) as rn,
        min(payee_id) over k <> max(payee_id) over k or min(amount) over k <> max(amount) over k
            or min(currency) over k <> max(currency) over k as conflict
    from ({LIVE}) live where nullif(btrim(idempotency_key, e' \\t\\n'), '') is not null
    window k as (partition by merchant_id, idempotency_key))
select id, case when rn = 1 then 'SURVIVOR' when conflict then 'KEY_REUSED_DIFFERENT_PAYLOAD'
    when status = 'pending' then 'HOLD' else 'MONEY_SENT_REVIEW' end
from r where n > 1
"""
KEYLESS = (
    f"select id, 'KEYLESS' from ({LIVE}) live where"
    " coalesce(btrim(idempotency_key, e' \\t\\n'), '') = ''"
)
NEAR = f"""
with g as (select *, created_at - lag(created_at) over w <= %s::interval as close from ({LIVE}) live
    where order_id not like 'settlement-%%'
    window w as (partition by merchant_id, payee_id, currency, amount order by created_at, id)),
s as (select *, count(*) filter (where close is not true) over (
    partition by merchant_id, payee_id, currency, amount order by created_at, id) as session from g)
select unnest(array_agg(id)), 'MEMBER' from s
group by merchant_id, payee_id, currency, amount, session having count(*) > 1
"""
TWICE = f"""select unnest(array_agg(id)), 'MEMBER' from ({LIVE}) live where %s is not null
group by %s having count(*) > 1"""  # the same name twice


def verdicts(manifest: dict[str, Any], rule: str, window: str = "") -> set[tuple[int, str]]:
    return {
        (row["id"], row["verdict"])
        for group in manifest["groups"]
        if group["rule"] == rule and (not window or window in group["within"])
        for row in group["rows"]
        if row["verdict"] is not None
    }


def allowed(manifest: dict[str, Any], rule: str) -> set[tuple[int, str]]:
    groups = [group for group in manifest["groups"] if rule in group["may"]]
    return {(row["id"], "MEMBER") for group in groups for row in group["rows"]}


@pytest.mark.acceptance
def test_hand_written_queries_find_the_planted_payouts_and_no_other(
    server: postgres.Server,
) -> None:
    amount = Amount(rows=5000, cases=3, planted=True)
    connection, manifest = load(server, "payouts", amount)
    with connection:

        def found(sql: str, *values: object) -> set[tuple[int, str]]:
            return set(connection.execute(sql, values or None).fetchall())

        assert len(verdicts(manifest, "A")) == 3 * 19
        assert found(SAME_KEY) == verdicts(manifest, "A")
        assert found(KEYLESS) == verdicts(manifest, "B")
        for window in WINDOWS:
            more = found(NEAR, window) - verdicts(manifest, "C", window)
            assert more == allowed(manifest, "C")
            assert verdicts(manifest, "C", window) <= found(NEAR, window)
        for rule, column in (("D", "order_id"), ("E", "provider_ref"), ("G", "task_id")):
            assert found(TWICE % (column, column)) == verdicts(manifest, rule)
        ((total,),) = connection.execute("select count(*) from payouts").fetchall()
        planted = sum(len(group["rows"]) for group in manifest["groups"])
        assert total == 5000 + planted


@pytest.mark.acceptance
def test_clean_payouts_have_no_duplicate_by_any_rule(server: postgres.Server) -> None:
    connection, manifest = load(server, "payouts", Amount(rows=5000))
    with connection:
        near = [NEAR.replace("%s", f"'{window}'") for window in WINDOWS]
        twice = [TWICE % (name, name) for name in ("order_id", "provider_ref", "task_id")]
        for sql in (SAME_KEY, KEYLESS, *near, *twice):
            assert connection.execute(sql.encode()).fetchall() == []
        (switch,) = connection.execute("select name, enabled from payout_switch").fetchall()
    assert switch == ("payouts", True)  # what payouts-freeze switches off
    assert manifest["groups"] == []


@pytest.mark.acceptance
def test_one_seed_makes_the_same_twice_and_another_makes_other(server: postgres.Server) -> None:
    def made(seed: int) -> tuple[dict[str, Any], Any]:
        connection, manifest = load(server, "payouts", Amount(seed=seed, planted=True, rows=200))
        sql = "select md5(string_agg(p::text, ',' order by id)) from payouts p"
        with connection:
            return manifest, connection.execute(sql).fetchall()

    assert made(7) == made(7)
    assert made(7)[1] != made(8)[1]


@pytest.mark.acceptance
def test_another_seed_breaks_other_tables(server: postgres.Server) -> None:
    tables = []
    for seed in (1, 2):
        connection, manifest = load(
            server, "catalog", Amount(seed=seed, tables=14, rows=2, planted=True)
        )
        connection.close()
        tables.append([(one["kind"], one["table"]) for one in manifest["faults"]])
    assert len(tables[0]) == len(tables[1]) == 17
    assert tables[0] != tables[1]


@pytest.mark.acceptance
def test_planted_functions_and_views_do_what_they_are_there_for(server: postgres.Server) -> None:
    clean, manifest = load(server, "youtility", Amount(rows=300))
    broken, faults = load(server, "youtility", Amount(rows=300, planted=True))
    with clean, broken:
        refresh = "select refresh_select2_materialized_views()"
        ((done,),) = clean.execute(refresh).fetchall()
        assert len(done["refreshed_views"]) == 3
        ((done,),) = broken.execute(refresh).fetchall()
        assert (done["success"], done["refreshed_views"]) == (True, [])
        signatures = [one["name"] for one in manifest["objects"] if one["kind"] == "function"]
        assert len(signatures) == 4
        missing = [
            name
            for name in signatures
            if broken.execute("select to_regprocedure(%s)", [name]).fetchone() == (None,)
        ]
        assert missing == ["check_rate_limit(inet,varchar,interval,integer)"]
        probe = "select check_rate_limit('10.0.1.1', 'user1', '15 minutes', 5)"
        assert set(clean.execute(probe).fetchall()[0][0]) == {
            "is_blocked", "ip_attempts", "username_attempts", "max_attempts", "time_window",
            "last_attempt", "block_reason", "time_until_reset",
        }  # fmt: skip
        views = "select matviewname, ispopulated from pg_matviews order by 1"
        assert broken.execute(views).fetchall() == [
            ("mv_location_dropdown", False), ("mv_people_dropdown", True),
        ]  # fmt: skip
        tables = [one["name"] for one in manifest["objects"] if one["kind"] == "table"]
        assert sum("task" in name or "worker" in name for name in tables) == 9
    kinds = {one["kind"] for one in faults["faults"]}
    assert kinds == {
        "columns",
        "unpopulated",
        "view_missing",
        "overloaded",
        "refreshes_nothing",
        "missing",
    }


@pytest.mark.acceptance
def test_what_the_server_refuses_is_told(server: postgres.Server) -> None:
    url = server.database(empty=True)
    datasets.fill(url, "tickets", Amount(rows=10))
    with pytest.raises(OpskitError, match='relation "accounts_user" already exists'):
        datasets.fill(url, "tickets", Amount(rows=10))


@pytest.mark.parametrize(
    ("names", "amount", "told"),
    [
        (["team"], Amount(), "no data set 'team'"),
        (["teams", "teams"], Amount(), "named twice"),
        (["teams"], Amount(rows=0), "rows is 0; it can be 1 to"),
        (["catalog"], Amount(tables=10_000), "tables is 10000"),
        (["catalog"], Amount(tables=27, cases=2, planted=True), "do not fit into 27 tables"),
    ],
)
def test_what_can_not_be_made_is_refused(names: list[str], amount: Amount, told: str) -> None:
    with pytest.raises(InputError, match=told):
        fixtures.check(names, amount)


@pytest.mark.soak
def test_a_thousand_tables_and_a_million_rows(server: postgres.Server) -> None:
    begun = time.monotonic()
    connection, manifest = load(server, "catalog", Amount(tables=1000, cases=20, planted=True))
    assert time.monotonic() - begun < 120
    with connection:
        assert len(manifest["faults"]) == 17 * 20
        assert seen(connection, manifest) == said(manifest)
    begun = time.monotonic()
    amount = Amount(rows=1_000_000, cases=100, planted=True)
    connection, manifest = load(server, "payouts", amount)
    assert time.monotonic() - begun < 120
    with connection:
        found = set(connection.execute(SAME_KEY.encode()).fetchall())
        assert found == verdicts(manifest, "A")
        near = set(connection.execute(NEAR.encode(), [WINDOWS[0]]).fetchall())
        assert near - allowed(manifest, "C") == verdicts(manifest, "C", WINDOWS[0])
