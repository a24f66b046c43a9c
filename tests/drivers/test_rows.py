"""Rows removed in batches from a real PostgreSQL, and put back."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from opskit.model.inventory import MARKERS
from tests.support.clearing import ALL, Attic, back, rows, writing
from tests.support.database import base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
TRIGGER = """
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
    CREATE TRIGGER also BEFORE DELETE ON session FOR EACH ROW EXECUTE FUNCTION f()
"""
PARENTS = """
    CREATE TABLE parent (id int PRIMARY KEY);
    INSERT INTO parent VALUES (1), (2);
    ALTER TABLE session ADD owner int REFERENCES parent;
    UPDATE session SET owner = CASE WHEN key = 's7' THEN 2 ELSE 1 END
"""


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def attic(postgres: Server, owner: str) -> Attic:
    found = Attic(base(postgres, owner=owner))
    found.db.sql(f"DELETE FROM {MARKERS}.marker; DELETE FROM {MARKERS}.removed_row")
    found.fill()
    found.db.changed(read_role=None)
    return found


def transactions(attic: Attic) -> list[int]:
    """Return how many rows each transaction has kept."""
    found = attic.db.sql(
        f"SELECT count(*) FROM {MARKERS}.removed_row GROUP BY xmin::text ORDER BY min(id)"
    )
    return [row[0] for row in found]


def test_what_is_over_is_removed_and_put_back_while_others_write(attic: Attic) -> None:
    before, live = attic.hash(), attic.keys("expire_date >= now()")
    with writing(attic.db) as writer:
        found = attic.do(ALL)
        assert found.outcome == "succeeded", found
        assert (found.evidence["removed"], found.evidence["left"]) == (3000, 0)
        assert attic.keys("expire_date < now()") == 0
        assert attic.keys("key LIKE 's%'") == live
        assert attic.kept() == 3000
        undone = attic.do(back(ALL), key="1/!1")
        assert undone.outcome == "succeeded", undone
        assert undone.evidence["restored"] == 3000
        until(lambda: writer.made > 20)
    assert writer.errors == []
    assert attic.hash() == before


LIE, INDEX = ((), "as they lie"), (("expire_date",), "by the index")


@pytest.mark.parametrize(("first", "batch"), [(1, 7), (50, 90), (400, 1000)])
@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(("order", "taken"), [LIE, INDEX])
def test_f12_no_transaction_has_more_rows_than_a_batch(
    attic: Attic, first: int, batch: int, order: tuple[str, ...], taken: str, *, archive: bool
) -> None:
    if taken == "as they lie":
        attic.db.server.since(14)
    attic.fill(over=700, of=1000)
    attic.db.sql(
        "CREATE TABLE IF NOT EXISTS seen (tx xid8, n int); TRUNCATE seen;"
        "GRANT INSERT ON seen TO app;"
        "CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen SELECT pg_current_xact_id(), count(*) FROM gone; RETURN NULL; END $$;"
        "CREATE TRIGGER saw AFTER DELETE ON session REFERENCING OLD TABLE AS gone"
        " FOR EACH STATEMENT EXECUTE FUNCTION see()"
    )
    work = rows(first=first, batch=batch, archive=archive, touches=("saw",), order=order)
    found = attic.do(work)
    assert (found.outcome, found.evidence["taken"]) == ("succeeded", taken), found
    sizes = [row[0] for row in attic.db.sql("SELECT sum(n) FROM seen GROUP BY tx")]
    assert sum(sizes) == 700
    assert max(sizes) <= batch
    if archive:
        assert max(transactions(attic)) <= batch
        assert sum(transactions(attic)) == 700


def test_few_rows_are_taken_by_the_index_and_many_as_they_lie(attic: Attic) -> None:
    attic.db.server.since(14)
    for over, how, taken in (
        (100, {}, "by the index"),
        (300, {}, "as they lie"),
        (300, {"order": ("key",)}, "by the index"),
        (300, {"live": "data ? 'keep'", "needed": 5}, "by the index"),
        (300, {"where": "key IN (SELECT key FROM session)"}, "by the index"),
    ):
        attic.fill(over)
        name = f"{over} {how}"[:40]
        seen = Attic(attic.db.as_run(name)).do(rows(archive=False, **how))
        assert (seen.evidence["removed"], seen.evidence["left"]) == (over, 0), seen
        assert seen.evidence["taken"] == taken, (over, how)


def test_blocks_that_hold_more_rows_than_others_keep_to_the_bound(attic: Attic) -> None:
    attic.db.server.since(14)
    attic.db.sql(
        "DELETE FROM session WHERE key > 's2';"
        "INSERT INTO session (key, data, expire_date) SELECT 'wide' || n, "
        "to_jsonb(repeat(md5(n::text), 40)), now() - interval '1h' FROM generate_series(1, 900) n;"
        "ANALYZE session"
    )
    found = attic.do(rows(first=60, batch=60, share=1.0))
    assert (found.outcome, found.evidence["taken"]) == ("succeeded", "as they lie"), found
    assert max(transactions(attic)) <= 60
    assert attic.keys("expire_date < now()") == 0


def test_a_writer_waits_for_no_batch_that_waits_for_a_lock(attic: Attic) -> None:
    with locked(attic, "key = 's2900'"), psycopg.connect(attic.db.owner) as other:
        other.execute("SET lock_timeout = '5s'")
        with attic.db.beside(rows(rest="ok", pause=0.0, batch=5000, first=5000)) as ended:
            until(lambda: attic.kept() > 0 or attic.db.sessions())
            other.execute("UPDATE session SET expire_date = now() + interval '1 day'"
                          " WHERE key = 's1'")  # fmt: skip
            other.commit()
    assert (ended[0].outcome, ended[0].evidence["left"]) == ("succeeded", 1), ended
    assert ended[0].evidence["removed"] in (2998, 2999)


def test_a_look_counts_and_removes_nothing(attic: Attic) -> None:
    found = attic.see(rows(live="expire_date > now() - interval '10 minutes'"))
    assert found.evidence["meant"] == 3000
    assert found.outcome == "failed"
    found = attic.see(ALL)
    assert found.outcome == "succeeded", found
    assert "public.session: 3000 of 4000 rows (75.0%)" in attic.db.printed
    assert attic.keys() == 4000
    assert attic.kept() == 0


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"rows": 2999}, "3000 rows of public.session are meant, and max_rows is 2999"),
        ({"share": 0.5}, "75.0% of the rows of public.session are meant, and max_share is 50.0%"),
        ({"live": "expire_date > now() - interval '10 minutes'"}, "are still needed (`live`)"),
        ({"table": "nothing"}, "there is no table nothing"),
        ({"table": "session_expire"}, "is no table"),
        ({"table": "pg_class", "time": "", "older": None, "where": "relname = 'x'"},
         "is the server's own"),
        ({"table": f"{MARKERS}.marker", "time": "at"}, "is opskit's own"),
        ({"time": "note"}, "note of public.session is bpchar, and no time"),
        ({"time": "nothing"}, "has no column nothing"),
        ({"order": ("nothing",)}, "has no column nothing"),
        ({"older": None, "time": "", "where": "key = key OR true"}, "holds for every row"),
        ({"older": 10 * 86400.0, "none": "fail"}, "no row of public.session is meant"),
    ],
)  # fmt: skip
def test_what_is_too_much_or_not_meant_is_refused_before_anything(
    attic: Attic, how: dict[str, Any], told: str
) -> None:
    before = attic.hash()
    work = rows(**how)
    for found in (attic.see(work), attic.do(work)):
        assert found.outcome == "failed"
        assert told in found.reason
    assert attic.do(work, attempt=2).sent is False
    assert attic.hash() == before
    assert attic.kept() == 0
    assert attic.db.sql(f"SELECT count(*) FROM {MARKERS}.marker") == [(0,)]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (TRIGGER, "also"),
        ("CREATE TABLE child (key text CONSTRAINT child_key REFERENCES session ON DELETE CASCADE)",
         "child_key"),
        ("CREATE RULE keep AS ON DELETE TO session DO ALSO NOTHING", "keep"),
        ("ALTER TABLE session ENABLE ROW LEVEL SECURITY", "row security hides rows"),
        ("REVOKE UPDATE, DELETE ON session FROM app", "the role may not do this"),
        ("CREATE TABLE more () INHERITS (session)", "others inherit from it"),
        (f"DROP TABLE {MARKERS}.removed_row", "has no opskit_db.removed_row"),
        (f"REVOKE INSERT ON {MARKERS}.removed_row FROM app", "may not add to"),
    ],
)  # fmt: skip
def test_what_else_a_removal_would_do_has_to_be_named(attic: Attic, made: str, told: str) -> None:
    attic.db.sql(made)
    before = attic.hash()
    try:
        for found in (attic.see(ALL), attic.do(ALL)):
            assert found.outcome == "failed"
            assert told in found.reason
        assert attic.hash() == before
    finally:
        attic.db.sql("DROP TABLE session CASCADE; DROP FUNCTION IF EXISTS f() CASCADE")


NEVER_ANALYZED = """
    CREATE TABLE big (id int, at timestamptz);
    INSERT INTO big SELECT n, now() + (n - 50000) * interval '1 s'
        FROM generate_series(1, 100001) n;
    GRANT ALL ON big TO app; GRANT SELECT ON big TO reader
"""


REFERS = """
    CREATE TABLE refers (key text, CONSTRAINT refers_key FOREIGN KEY (key) REFERENCES session);
    INSERT INTO refers VALUES ('s7'), ('s8'), ('s3999'), (NULL);
"""


def test_rows_that_others_refer_to_are_told_before_any_is_removed(attic: Attic) -> None:
    attic.db.sql(REFERS)
    try:
        assert attic.see(ALL).outcome == "succeeded"
        assert "whether public.refers refers to rows that are meant (refers_key) is not told" in (
            attic.db.printed
        )
        attic.db.sql("GRANT SELECT ON refers TO app")
        for found in (attic.see(ALL), attic.do(ALL)):
            assert found.outcome == "failed"
            assert "public.refers refers to 2 of the rows that are meant (refers_key)" in (
                found.reason
            )
        assert attic.keys() == 4000
        attic.db.sql("DELETE FROM refers WHERE key <> 's3999'")
        assert attic.do(ALL, attempt=2).evidence["removed"] == 3000
    finally:
        attic.db.sql("DROP TABLE refers")


TREE = """
    CREATE TABLE tree (id int PRIMARY KEY, at timestamptz, above int,
        CONSTRAINT tree_above FOREIGN KEY (above) REFERENCES tree ON DELETE {how});
    INSERT INTO tree SELECT n, now() - interval '1 hour', CASE WHEN n IN (2, 3) THEN 1
        WHEN n = 9 THEN 9 END FROM generate_series(1, 9) n;
    GRANT ALL ON tree TO app; GRANT SELECT ON tree TO reader; ANALYZE tree
"""


@pytest.mark.parametrize("how", ["RESTRICT", "NO ACTION"])
def test_rows_of_the_table_itself_that_hold_others_are_told_before(attic: Attic, how: str) -> None:
    attic.db.sql(TREE.format(how=how))
    tree = rows(table="tree", time="at", share=1.0)
    try:
        attic.db.sql("UPDATE tree SET at = now() + interval '1 day' WHERE id = 3")
        for found in (attic.see(tree), attic.do(tree)):
            assert found.outcome == "failed"
            told = "public.tree itself refers to 1 of the rows that are meant (tree_above), by rows"
            assert f"{told} that are not meant" in found.reason
        attic.db.sql("UPDATE tree SET at = now() - interval '1 hour' WHERE id = 3")
        apart = rows(table="tree", time="at", share=1.0, first=4, batch=4)
        for found in (attic.see(apart), attic.do(apart, attempt=2)):  # row 1 would go before 3
            assert "itself refers to 1 of the rows that are meant (tree_above), and" in found.reason
            assert "what is meant may not all go in the first batch (first: 4)" in found.reason
        assert attic.db.sql("SELECT count(*) FROM tree") == [(9,)]
        found = attic.do(tree, attempt=3)  # all in one statement
        assert (found.outcome, found.evidence["removed"]) == ("succeeded", 9), found
    finally:
        attic.db.sql("DROP TABLE tree")


PARTS = """
    CREATE TABLE part (key text, at timestamptz, PRIMARY KEY (key, at)) PARTITION BY RANGE (at);
    CREATE TABLE part_old PARTITION OF part FOR VALUES FROM (MINVALUE) TO (now());
    CREATE TABLE part_new PARTITION OF part FOR VALUES FROM (now()) TO (MAXVALUE);
    INSERT INTO part SELECT 'p' || n, now() - interval '1 hour' FROM generate_series(1, 9) n;
    CREATE TABLE names (key text, at timestamptz, CONSTRAINT names_part FOREIGN KEY (key, at)
        REFERENCES part) PARTITION BY HASH (key);
    CREATE TABLE names_0 PARTITION OF names FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE names_1 PARTITION OF names FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO names SELECT key, at FROM part WHERE key <= 'p3';
    GRANT ALL ON part_old, names TO app; GRANT SELECT ON part_old TO reader; ANALYZE
"""


def test_a_key_that_refers_to_a_whole_table_holds_rows_of_its_partition(attic: Attic) -> None:
    attic.db.sql(PARTS)
    try:
        for found in (attic.see(parts := rows(table="part_old", time="at", share=1.0)),
                      attic.do(parts)):  # fmt: skip
            assert found.outcome == "failed", found
            assert found.reason.count("public.names refers to 3 of the rows that are meant") == 1
        assert attic.db.sql("SELECT count(*) FROM part") == [(9,)]
    finally:
        attic.db.sql("DROP TABLE names, part")


def test_a_big_table_without_an_index_is_refused(attic: Attic) -> None:
    attic.db.sql("DROP INDEX session_expire; UPDATE pg_class SET reltuples = 200000,"
                 " relpages = 4000 WHERE oid = 'session'::regclass")  # fmt: skip
    attic.db.sql(NEVER_ANALYZED)
    try:
        for work in (ALL, rows(table="big", time="at")):
            for found in (attic.see(work), attic.do(work)):
                assert found.outcome == "failed"
                assert "no index leads to them" in found.reason, found
    finally:
        attic.db.sql("DROP TABLE big")
    assert attic.kept() == 0


def test_the_moment_is_that_of_the_first_attempt(attic: Attic) -> None:
    """What ends while it is done is not meant: it was in no count, and was shown to nobody."""
    slow = rows(first=10, batch=10, pause=100.0)
    with attic.db.beside(slow) as ended:
        until(lambda: attic.kept() > 0)
        attic.db.sql("UPDATE session SET expire_date = now() WHERE key IN ('s3500', 's2900')")
        (running,) = attic.db.driver.busy()
        running.give_up.set()
    again = attic.do(ALL, attempt=2)
    assert (again.outcome, again.evidence["removed"], again.evidence["left"]) == (
        "succeeded", 2999, 0,
    )  # fmt: skip
    assert again.evidence["as_of"] == ended[0].evidence["as_of"]
    assert attic.keys("key IN ('s3500', 's2900') AND expire_date < now()") == 2


def test_the_rows_of_a_batch_are_taken_by_where_they_lie(attic: Attic) -> None:
    from opskit.render.removals import Statement, removed

    attic.fill(over=20_000, of=30_000)
    made = removed(Statement(ALL.chosen, "session", "2030-01-01"), 500)
    with psycopg.connect(attic.db.owner) as connection:
        connection.execute("SET enable_seqscan = on")
        text = made.text
        for number in range(len(made.values), 0, -1):
            text = text.replace(f"${number}", f"'{made.values[number - 1]}'")
        told = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {text}".encode()))
    assert "Tid Scan" in told
    assert "Index Scan using session_expire" in told
    assert "Seq Scan" not in told


@contextlib.contextmanager
def locked(attic: Attic, where: str) -> Iterator[None]:
    with psycopg.connect(attic.db.owner) as connection:
        connection.execute(f"SELECT FROM session WHERE {where} FOR UPDATE".encode())
        yield


def test_rows_that_somebody_has_locked_are_left_and_told(attic: Attic) -> None:
    with locked(attic, "key IN ('s1', 's2')"):
        found = attic.do(ALL)
    assert found.outcome == "failed"
    assert "2 rows are left: somebody else has them locked; 2998 were removed" in found.reason
    with locked(attic, "key IN ('s1')"):
        other = attic.db.as_run("later")
        found = Attic(other).do(replace(ALL, rest="ok"))
    assert found.outcome == "succeeded"
    assert (found.evidence["removed"], found.evidence["left"]) == (1, 1)


def test_rows_that_are_prolonged_meanwhile_are_not_removed(attic: Attic) -> None:
    with psycopg.connect(attic.db.owner) as connection:
        connection.execute(
            "UPDATE session SET expire_date = now() + interval '1 day' WHERE key = 's5'"
        )
        thread = threading.Timer(0.4, connection.commit)
        thread.start()
        found = attic.do(ALL)
        thread.join()
    assert found.outcome == "succeeded", found
    assert found.evidence["removed"] == 2999
    assert attic.keys("key = 's5'") == 1


def test_f11_a_deadline_leaves_the_rest_and_says_so(attic: Attic) -> None:
    attic.fill(over=3000)
    slow = rows(first=10, batch=10, pause=20.0, deadline=1.0)
    found = attic.do(slow)
    assert found.outcome == "failed"
    assert "no batch begins after 1 s" in found.reason
    assert 0 < int(str(found.evidence["removed"])) == attic.kept() < 3000
    assert attic.keys("key LIKE 's%'") == 4000 - attic.kept()


def test_a_row_that_becomes_needed_on_the_way_stops_it_and_what_is_done_stays(attic: Attic) -> None:
    live = "data ? 'keep'"
    slow = rows(first=10, batch=10, pause=10.0, live=live)
    with attic.db.beside(slow) as ended:
        until(lambda: attic.kept() > 0)
        attic.db.sql("UPDATE session SET data = '{\"keep\": 1}' WHERE expire_date < now()")
    assert ended[0].outcome == "failed"
    assert "rows that are still needed (`live`) would be removed" in ended[0].reason
    assert f"{attic.kept()} rows were removed before, and stay so" in ended[0].reason
    assert attic.keys() == 4000 - attic.kept()


def test_f12_rows_that_come_meanwhile_don_t_make_it_more_than_the_share(attic: Attic) -> None:
    """A condition that does not ask for a time may hold for ever more rows."""
    attic.fill(over=700, of=1000)
    work = rows(
        older=None, time="", where="note = 'n 1'", share=0.15, first=10, batch=40, pause=9.0
    )
    with attic.db.beside(work) as ended:
        until(lambda: attic.kept() > 0)
        attic.db.sql("UPDATE session SET note = 'n 1'")
    assert (ended[0].outcome, ended[0].evidence["removed"]) == ("failed", 150), ended[0]
    assert "850 rows are left: max_share of the 1000 rows that were there is reached" in (
        ended[0].reason
    )
    again = attic.do(work, attempt=2)
    assert (again.outcome, attic.keys()) == ("failed", 850), again


def test_a_stop_is_heard_between_batches_and_what_is_done_stays(attic: Attic) -> None:
    slow = rows(first=10, batch=10, pause=100.0)
    with attic.db.beside(slow) as ended:
        until(lambda: attic.kept() > 0)
        (running,) = attic.db.driver.busy()
        running.give_up.set()
    assert ended[0].outcome == "failed"
    assert "stopped by a person" in ended[0].reason
    assert f"{attic.kept()} rows were removed before, and stay so" in ended[0].reason
    before = attic.kept()
    undone = attic.do(back(slow), key="1/!1")
    assert (undone.outcome, undone.evidence["restored"]) == ("succeeded", before)
    assert attic.keys() == 4000


def test_an_undo_leaves_what_stands_there_by_now_and_says_so(attic: Attic) -> None:
    attic.db.sql(PARENTS)
    before = attic.hash()
    assert attic.do(ALL).outcome == "succeeded"
    attic.db.sql("INSERT INTO session (key, expire_date) VALUES ('s3', 'infinity');"
                 "DELETE FROM parent WHERE id = 2")  # fmt: skip
    undone = attic.do(back(ALL), key="1/!1")
    assert undone.outcome == "succeeded", undone
    assert (undone.evidence["restored"], undone.evidence["stayed"]) == (2998, 2)
    which = undone.evidence["which"]
    assert isinstance(which, list)
    assert sorted(str(one).split(":")[0] for one in which) == ["s3", "s7"]
    assert attic.keys("expire_date = 'infinity'") == 1
    attic.db.sql("DELETE FROM session WHERE key = 's3'; INSERT INTO parent VALUES (2)")
    again = attic.do(back(ALL), key="1/!2")  # it may be done once more
    assert again.evidence["restored"] == 2
    assert attic.hash() == before


def test_an_undo_does_not_guess_where_columns_are_others_by_now(attic: Attic) -> None:
    assert attic.do(ALL).outcome == "succeeded"
    attic.db.sql("ALTER TABLE session ADD more text")
    undone = attic.do(back(ALL), key="1/!1")
    assert undone.outcome == "failed"
    assert "has not the columns, from which rows were removed" in undone.reason


def test_rows_are_chosen_by_a_value_that_is_bound(attic: Attic) -> None:
    odd = "o'hare\\ %s $1; --"
    attic.db.sql("UPDATE session SET note = 'x', data = to_jsonb(%s::text) WHERE key = 's9'", odd)
    work = rows(older=None, time="", where="data = to_jsonb({{ who }}::text)", given={"who": odd})
    found = attic.do(work)
    assert (found.outcome, found.evidence["removed"]) == ("succeeded", 1)
    assert attic.keys("key = 's9'") == 0


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_a_time_without_a_zone_is_read_as_utc_whatever_the_role_has(
    attic: Attic, zone: str
) -> None:
    attic.db.sql(
        f"ALTER ROLE app SET TimeZone = '{zone}';"
        "CREATE TABLE plain (id int PRIMARY KEY, at timestamp); GRANT ALL ON plain TO app;"
        "INSERT INTO plain SELECT n, (now() AT TIME ZONE 'UTC') + n * interval '1 minute'"
        " FROM generate_series(-60, 59) AS n; INSERT INTO plain VALUES (100, NULL)"
    )
    try:
        found = attic.do(rows(table="plain", time="at", share=1.0))
        assert (found.outcome, found.evidence["removed"]) == ("succeeded", 61)
        assert attic.db.sql("SELECT min(id), max(id) FROM plain") == [(1, 100)]
        attic.do(back(rows(table="plain", time="at")), key="1/!1")
        assert attic.db.sql("SELECT count(*), min(id) FROM plain") == [(121, -60)]
    finally:
        attic.db.sql("ALTER ROLE app RESET TimeZone; DROP TABLE plain")


def test_a_batch_that_the_server_gives_up_is_made_smaller(attic: Attic) -> None:
    attic.db.sql(
        "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM gone) > 50 THEN RAISE EXCEPTION 'deadlock' USING"
        " ERRCODE = '40P01'; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER slows AFTER DELETE ON session REFERENCING OLD TABLE AS gone"
        " FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    )
    found = attic.do(rows(first=400, touches=("slows",), batch=500))
    assert found.outcome == "succeeded", found
    assert max(transactions(attic)) <= 50
    assert attic.kept() == 3000


def test_somebody_who_came_later_ends_an_attempt(attic: Attic) -> None:
    slow = rows(first=10, batch=10, pause=100.0)
    with attic.db.beside(slow) as ended:
        until(lambda: attic.kept() > 0)
        contact = attic.db.driver.open("main")
        found = attic.db.find(slow, contact=contact)
        assert (found.outcome, found.again) == ("failed", True)
        kept = attic.kept()
    assert ended[0].outcome == "unknown"
    assert attic.kept() == kept
    with attic.db.beside(slow, attempt=2) as ended:
        until(lambda: attic.kept() > kept)
        found = attic.db.find(slow, attempt=2, contact=contact)
        assert (found.outcome, found.again) == ("failed", True)
        kept = attic.kept()
    assert (ended[0].outcome, attic.kept()) == ("unknown", kept)
    assert attic.do(ALL, attempt=3).evidence["removed"] == 3000
    assert attic.kept() == 3000
    told = attic.db.find(ALL, attempt=3, contact=contact)
    assert (told.outcome, told.evidence["removed"]) == ("succeeded", 3000)
