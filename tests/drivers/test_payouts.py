"""Holding, releasing and reversing payments on a real server, by a report and nothing else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from opskit.errors import InputError
from opskit.model.inventory import MARKERS
from opskit.model.payouts import Deed, Payouts
from tests.support.database import base
from tests.support.deeds import LEDGER, Desk, capped, reported
from tests.support.deeds import desk as made
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    found = made(base(postgres, owner=owner), tmp_path)
    found.report()
    return found


def test_what_is_pending_is_held_and_given_back(desk: Desk) -> None:
    before = desk.rows()
    work = desk.work("hold")
    assert work.ids == ("2", "4")
    seen = desk.see(work)
    assert (seen.outcome, desk.rows()) == ("succeeded", before), seen.reason
    found = desk.do(work)
    assert found.outcome == "succeeded", found.reason
    assert {i: s for i, s in desk.statuses().items() if s == "held"} == {2: "held", 4: "held"}
    assert desk.holds() == [("2", "pending", None), ("4", "queued", None)]
    assert "2\t100.00\tEUR\theld\theld\n" in desk.db.printed
    assert desk.do(desk.work("held")).outcome == "succeeded"
    released = desk.do(replace(work, do="release", of="1/"), key="1/!1")
    assert released.outcome == "succeeded", released.reason
    assert desk.rows() == before
    assert [row[2] for row in desk.holds()] == ["released", "released"]
    again = desk.do(replace(work, do="release", of="1/"), key="1/!1", attempt=2)
    assert (again.outcome, desk.rows()) == ("succeeded", before)


@contextmanager
def writers(desk: Desk) -> Iterator[None]:
    """Let others write all the time: new payments, and pending ones that move on and back."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(desk.db.owner, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute(
                    "INSERT INTO payouts (merchant_id, payee_id, amount, currency, status,"
                    " idempotency_key, created_at) VALUES (1, 99, 1, 'EUR', 'pending',"
                    " gen_random_uuid()::text, now())"
                )
                connection.execute(
                    "UPDATE payouts SET status = 'paid' WHERE status = 'pending' AND payee_id = 99"
                )

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


HASH = "SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM payouts AS p WHERE id < 1000"


def test_while_others_write_a_hold_is_taken_back_to_the_byte(desk: Desk) -> None:
    before, work = desk.db.sql(HASH), desk.work("hold")
    with writers(desk):
        for turn in range(5):
            key = f"{turn}/"
            assert desk.do(work, key=key).outcome == "succeeded"
            assert desk.db.sql(HASH) != before
            assert desk.do(replace(work, do="release", of=key), key=f"{key}!1").status == 0
            assert desk.db.sql(HASH) == before
    assert desk.db.sql("SELECT count(*) > 10 FROM payouts WHERE id >= 1000") == [(True,)]


def test_what_has_moved_on_is_told_and_not_forced(desk: Desk) -> None:
    work = desk.work("hold")
    desk.db.sql("UPDATE payouts SET status = 'processing' WHERE id = 4")
    assert desk.see(work).outcome == "succeeded"
    assert "1 row moved on: 4" in desk.db.printed
    assert desk.do(work).reason == "1 row held; 1 row moved on: 4"
    assert "4\t250.50\tEUR\tmoved on\tprocessing\n" in desk.db.printed
    assert (desk.statuses()[2], desk.statuses()[4]) == ("held", "processing")
    again = desk.do(work, key="2/")
    assert "none can be held: 2 rows moved on: 2, 4" in again.reason
    assert "none can be held: 2 rows moved on: 2, 4 (make a new" in desk.see(work).reason
    assert [row[0] for row in desk.holds()] == ["2"]


def test_what_was_taken_up_after_it_was_held_is_not_released(desk: Desk) -> None:
    work = desk.work("hold")
    desk.do(work)
    desk.db.sql("UPDATE payouts SET status = 'failed' WHERE id = 2")
    assert desk.do(replace(work, do="release", of="1/"), key="1/!1").outcome == "succeeded"
    assert (desk.statuses()[2], desk.statuses()[4]) == ("failed", "queued")
    assert sorted(row[::2] for row in desk.holds()) == [("2", "moved on"), ("4", "released")]


def test_what_a_person_has_stopped_otherwise_is_not_released(desk: Desk) -> None:
    desk.db.sql("ALTER TABLE payouts DROP CONSTRAINT payouts_status_check")
    desk.describe(LEDGER.replace("held: held", "held: [held, stuck]"))
    desk.report()
    work = desk.work("hold")
    assert desk.do(work).outcome == "succeeded"
    desk.db.sql("UPDATE payouts SET status = 'stuck' WHERE id = 2")
    assert desk.do(replace(work, do="release", of="1/"), key="1/!1").outcome == "succeeded"
    assert (desk.statuses()[2], desk.statuses()[4]) == ("stuck", "queued")
    assert sorted(row[::2] for row in desk.holds()) == [("2", "moved on"), ("4", "released")]


def test_a_run_releases_only_what_it_has_held_itself(desk: Desk) -> None:
    work = desk.work("hold")
    desk.do(work)
    desk.db.sql("UPDATE payouts SET status = 'pending' WHERE id = 2")  # by hand
    other = desk.work("hold", ids="2")
    assert desk.do(other, key="9/").outcome == "succeeded"
    assert desk.do(replace(work, do="release", of="1/"), key="1/!1").outcome == "succeeded"
    assert (desk.statuses()[2], desk.statuses()[4]) == ("held", "queued")
    assert ("2", "pending", "held anew") in desk.holds()


def test_what_somebody_has_held_again_by_hand_is_left_and_told(desk: Desk) -> None:
    work = desk.work("hold")
    assert desk.do(work).outcome == "succeeded"
    desk.db.sql("UPDATE payouts SET status = 'pending' WHERE id = 2")
    desk.db.sql("UPDATE payouts SET status = 'held' WHERE id = 2")  # and nobody else's run knows it
    found = desk.do(replace(work, do="release", of="1/"), key="1/!1")
    assert found.outcome == "succeeded", found.reason
    assert (desk.statuses()[2], desk.statuses()[4]) == ("held", "queued")
    told = "1 row released; 1 row left held, since somebody has written it after this run: 2"
    assert found.reason == told
    assert sorted(row[::2] for row in desk.holds()) == [
        ("2", "held by somebody"), ("4", "released"),
    ]  # fmt: skip
    settled = desk.find(replace(work, do="release", of="1/"), key="1/!1")
    assert (settled.outcome, settled.reason) == ("succeeded", told)


def test_a_release_that_a_trigger_undoes_is_no_release(desk: Desk) -> None:
    work = desk.work("hold")
    desk.do(work)
    desk.db.sql(
        "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " new.status := old.status; RETURN new; END $$;"
        "CREATE TRIGGER keeps BEFORE UPDATE ON payouts FOR EACH ROW EXECUTE FUNCTION keeps()"
    )
    found = desk.do(replace(work, do="release", of="1/"), key="1/!1")
    assert (found.outcome, desk.statuses()[2]) == ("failed", "held")
    assert "2 rows not released in spite of it: 2, 4" in found.reason
    assert [row[2] for row in desk.holds()] == [None, None]


CHANGED = {
    "amount": ("UPDATE payouts SET amount = 99 WHERE id = 2", "1 row changed since the report: 2"),
    "payee": ("UPDATE payouts SET payee_id = 1 WHERE id = 4", "1 row changed since the report: 4"),
    "key": ("UPDATE payouts SET idempotency_key = 'z' WHERE id = 2", "changed since the report"),
    "gone": ("DELETE FROM payouts WHERE id = 4", "1 row gone since the report: 4"),
    "survivor": (
        "UPDATE payouts SET status = 'failed' WHERE id = 1",
        "1 row no longer repeated by a payment that stands: 2",
    ),
}


@pytest.mark.parametrize("what", CHANGED)
@pytest.mark.parametrize("do", ["see", "do"])
def test_a_report_that_is_no_longer_true_is_refused(desk: Desk, what: str, do: str) -> None:
    statement, told = CHANGED[what]
    work = desk.work("hold")
    desk.db.sql(statement)
    before = desk.rows()
    found = desk.see(work) if do == "see" else desk.do(work)
    assert found.outcome == "failed"
    assert told in found.reason
    assert (desk.rows(), desk.holds()) == (before, [])


@pytest.mark.parametrize("do", ["see", "do"])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"now": "2026-01-01 00:00:00+00"}, "which is too long ago"),
        ({"now": "2999-01-01 00:00:00+00"}, "and it is"),
        ({"lsn": "FFFF/0"}, "has not come to where the report was made"),
        ({"catalog": "other"}, "of another database"),
        ({"system": "7000000000000000001"}, "another cluster answers"),
    ],
)
def test_a_report_of_another_time_or_place_is_refused(
    desk: Desk, do: str, how: dict[str, str], told: str
) -> None:
    before, work = desk.rows(), reported(desk.work("hold"), **how)
    found = desk.see(work) if do == "see" else desk.do(work)
    assert (found.outcome, desk.rows()) == ("failed", before)
    assert told in found.reason


def test_caps_hold_when_it_is_planned_and_when_it_is_done(desk: Desk) -> None:
    with pytest.raises(InputError, match="has 2 rows to act on, and max_rows is 1"):
        desk.work("hold", max_rows=1)
    with pytest.raises(InputError, match="and max_amount is 350"):
        desk.work("hold", max_amount="EUR 350")
    with pytest.raises(InputError, match="and max_amount names no EUR"):
        desk.work("hold", max_amount="USD 1000")
    with pytest.raises(InputError, match="how much money"):
        desk.work("hold", max_amount="")
    desk.work("hold", max_amount="EUR 350.50", max_rows=2)
    before = desk.rows()
    for work, told in (
        (capped(desk.work("hold"), rows=1), "2 rows, and max_rows is 1"),
        (capped(desk.work("hold"), amounts={"EUR": "350.49"}), "350.50 EUR, and max_amount is 350"),
        (capped(desk.work("hold"), amounts={"USD": "9"}), "EUR, and max_amount does not name it"),
    ):
        for found in (desk.see(work), desk.do(work)):
            assert found.outcome == "failed"
            assert told in found.reason
    assert (desk.rows(), desk.holds()) == (before, [])


def test_only_what_the_report_says_so_of_is_acted_on(desk: Desk) -> None:
    assert desk.work("hold", ids="4").ids == ("4",)
    for ids, told in (("1", "SURVIVOR"), ("6", "MONEY_SENT_REVIEW"), ("9", "nothing")):
        with pytest.raises(InputError, match=told):
            desk.work("hold", ids=ids)
    with pytest.raises(InputError, match="which rows are to be reversed"):
        desk.work("reverse")
    with pytest.raises(InputError, match="says of row 2: HOLD"):
        desk.work("reverse", ids="6,2")
    with pytest.raises(InputError, match="named twice"):
        desk.work("reverse", ids="6,6")
    with pytest.raises(InputError, match="somebody who approves"):
        desk.work("hold", approved_by=" ")
    (desk.folder / "ledger.yaml").write_text(LEDGER.replace("held: held", "held: [held, stuck]"))
    desk.describe(LEDGER.replace("held: held", "held: [held, stuck]"))
    with pytest.raises(InputError, match="described differently"):
        desk.work("hold")


STATUS = "pending', 'queued', 'processing', 'paid', 'failed"
NO_CHECK = "ALTER TABLE payouts DROP CONSTRAINT payouts_status_check"
ENUM = f"""
    {NO_CHECK};
    CREATE TYPE state AS ENUM ('{STATUS}', 'reversed');
    ALTER TABLE payouts ALTER status TYPE state USING status::state
"""
TRIGGER = """
    CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.status NOT IN ('processing', 'paid') THEN RAISE EXCEPTION 'no such move'; END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER moves BEFORE UPDATE OF status ON payouts FOR EACH ROW EXECUTE FUNCTION moves()
"""
FORBIDS = {
    "check": (
        f"{NO_CHECK}; ALTER TABLE payouts ADD CONSTRAINT known CHECK (status IN ('{STATUS}'))",
        "the CHECK known forbids 'held'",
    ),
    "two columns": (
        "ALTER TABLE payouts ADD CONSTRAINT small CHECK (status <> 'held' OR amount < 200)",
        "the CHECK small forbids 'held'",
    ),
    "enum": (ENUM, "'held' is no value of status"),
    "trigger": (
        TRIGGER,
        "the trigger moves (public.moves()) looks at status and does not know 'held'",
    ),
    "privilege": ("REVOKE UPDATE ON payouts FROM app", "may not change status"),
    "no table": (f"DROP TABLE {MARKERS}.payout_hold", "--payouts` makes it"),
    "its role": (f"REVOKE INSERT ON {MARKERS}.payout_hold FROM app", "may not add to"),
    "column": ("ALTER TABLE payouts DROP merchant_id", "has no column merchant_id"),
}


@pytest.mark.parametrize("what", FORBIDS)
def test_what_forbids_to_hold_is_seen_before(desk: Desk, what: str) -> None:
    statements, told = FORBIDS[what]
    work = desk.work("hold")
    desk.db.sql(statements)
    before = desk.rows()
    found = desk.see(work)
    assert found.outcome == "failed"
    assert told in found.reason
    assert desk.do(work).outcome == "failed"
    assert desk.rows() == before


TWO_OF_ONE_ID = """
    ALTER TABLE payouts DROP CONSTRAINT payouts_reverses_fkey, DROP CONSTRAINT payouts_pkey
"""
LOOSE = {
    "none": "",
    "of two columns": "CREATE UNIQUE INDEX ON payouts (id, created_at)",
    "of some rows": "CREATE UNIQUE INDEX ON payouts (id) WHERE status = 'paid'",
    "deferred": "ALTER TABLE payouts ADD UNIQUE (id) DEFERRABLE",
    "plain": "CREATE INDEX ON payouts (id)",
}


@pytest.mark.parametrize("do", ["hold", "reverse"])
@pytest.mark.parametrize("index", LOOSE)
def test_a_ledger_whose_id_is_not_unique_is_not_acted_on(desk: Desk, do: Deed, index: str) -> None:
    work = desk.work(do, **({"ids": "6"} if do == "reverse" else {}))
    desk.db.sql(f"{TWO_OF_ONE_ID}; {LOOSE[index]}")
    found = desk.see(work)
    assert found.outcome == "failed"
    assert "nothing keeps two rows from having one id" in found.reason
    assert 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."payouts" ("id");' in found.reason
    desk.db.sql("CREATE UNIQUE INDEX ON payouts (id)")
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason


@pytest.mark.parametrize("do", ["hold", "reverse"])
def test_two_rows_of_one_id_are_seen_in_the_transaction_too(desk: Desk, do: Deed) -> None:
    """What keeps ids apart may be dropped after the look."""
    work = desk.work(do, **({"ids": "6"} if do == "reverse" else {}))
    desk.db.sql(TWO_OF_ONE_ID)
    desk.db.sql("INSERT INTO payouts SELECT * FROM payouts WHERE id IN (2, 6)")
    rows = "SELECT p::text FROM payouts AS p ORDER BY 1"
    before = desk.db.sql(rows)
    found = desk.do(work)
    assert (found.outcome, desk.db.sql(rows), desk.holds()) == ("failed", before, [])
    assert "already exists" in found.reason


def test_nothing_is_to_be_made_where_the_ledger_is_not(desk: Desk) -> None:
    work = desk.work("hold")
    desk.db.sql(f"ALTER TABLE payouts RENAME TO elsewhere; DROP TABLE {MARKERS}.payout_hold")
    found = desk.see(work)
    assert found.outcome == "failed"
    assert "there is no table" in found.reason
    assert "payout_hold" not in found.reason


def test_what_allows_to_hold_is_not_taken_for_what_forbids_it(desk: Desk) -> None:
    desk.db.sql(
        "ALTER TABLE payouts ADD CONSTRAINT filled CHECK (status <> '');"
        "ALTER TABLE payouts ADD CONSTRAINT small CHECK (status <> 'held' OR amount < 1000);"
        f"{NO_CHECK}; CREATE TYPE state AS ENUM ('{STATUS}', 'held', 'reversed');"
        "ALTER TABLE payouts DROP CONSTRAINT filled, DROP CONSTRAINT small;"
        "ALTER TABLE payouts ALTER status TYPE state USING status::state;" + TRIGGER.replace(
            "'paid')", "'paid', 'held', 'pending', 'queued')")
    )  # fmt: skip
    before, work = desk.rows(), desk.work("hold")
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason
    assert desk.do(work).outcome == "succeeded"
    assert desk.do(replace(work, do="release", of="1/"), key="1/!1").outcome == "succeeded"
    assert desk.rows() == before


def test_a_trigger_that_was_accepted_and_forbids_it_after_all_leaves_nothing(desk: Desk) -> None:
    desk.db.sql(TRIGGER)
    before = desk.rows()
    work = replace(desk.work("hold"), triggers=("moves",))
    assert desk.see(work).outcome == "succeeded"
    assert "no such move" in desk.do(work).reason
    assert (desk.rows(), desk.holds()) == (before, [])


def test_a_trigger_that_changes_more_than_the_status_is_noticed(desk: Desk) -> None:
    desk.db.sql(
        "CREATE FUNCTION zero() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " new.amount := 0; RETURN new; END $$;"
        "CREATE TRIGGER zero BEFORE UPDATE ON payouts FOR EACH ROW EXECUTE FUNCTION zero()"
    )
    before = desk.rows()
    assert "2 rows changed since the report: 2, 4" in desk.do(desk.work("hold")).reason
    assert (desk.rows(), desk.holds()) == (before, [])


def test_a_superuser_holds_nothing(desk: Desk) -> None:
    desk.db.changed(url=desk.db.owner)
    assert "is a superuser" in desk.see(desk.work("hold")).reason


def test_a_row_that_somebody_works_on_is_not_waited_for_for_ever(desk: Desk) -> None:
    before, work = desk.rows(), desk.work("hold")
    with psycopg.connect(desk.db.owner) as other:
        other.execute("SELECT FROM payouts WHERE id = 4 FOR UPDATE")
        found = desk.do(work)
    assert "somebody else holds a lock" in found.reason
    assert (found.outcome, desk.rows(), desk.holds()) == ("failed", before, [])


def test_what_was_done_is_told_by_its_mark(desk: Desk) -> None:
    work, contact = desk.work("hold"), desk.db.driver.open("main")
    assert desk.find(work, contact).again
    assert desk.do(work).outcome == "unknown"  # that attempt may never be committed again
    assert desk.holds() == []
    assert desk.do(work, attempt=2).outcome == "succeeded"
    assert desk.find(work, contact, attempt=2).outcome == "succeeded"
    assert len(desk.holds()) == 2


# --- reversing


def test_what_was_sent_is_reversed_once(desk: Desk) -> None:
    before = desk.rows()
    work = desk.work("reverse", ids="6, 8")
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason
    assert desk.rows() == before
    found = desk.do(work)
    assert found.outcome == "succeeded", found.reason
    after = desk.rows("id < 1000")
    assert after == before
    new = desk.db.sql(
        "SELECT reverses, merchant_id, payee_id, amount::text, currency, status, idempotency_key,"
        " iban FROM payouts WHERE id >= 1000 ORDER BY 1"
    )
    iban = "DE02120300000000202051"
    assert new == [
        (6, 1, 13, "70.00", "USD", "reversed", "reversal:6", iban),
        (8, 1, 14, "33.33", "USD", "reversed", "reversal:8", iban),
    ]
    assert desk.do(desk.work("reversed", ids="6,8")).outcome == "succeeded"
    again = desk.do(work, key="2/")
    assert again.outcome == "succeeded", again.reason
    assert "0\t2 rows reversed before: 6, 8" in desk.db.printed
    assert len(desk.rows()) == len(before) + 2


SEEDS = """
    INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, idempotency_key,
        created_at)
    SELECT merchant_id, payee_id, -amount, currency, 'reversed', NULL, now() FROM payouts
    WHERE idempotency_key IN ('c', 'd') AND status = 'paid' AND id IN (6, 8)
"""


def test_the_usual_reversal_reverses_as_often_as_it_is_run(desk: Desk) -> None:
    """The fault that ours does not have: nothing in it knows what was reversed."""
    desk.db.sql(SEEDS)
    desk.db.sql(SEEDS)
    taken = "SELECT payee_id, count(*) FROM payouts WHERE amount < 0 GROUP BY 1 ORDER BY 1"
    assert desk.db.sql(taken) == [(13, 2), (14, 2)]
    work = desk.work("reverse", ids="6")
    for key in ("1/", "2/", "3/"):
        assert desk.do(work, key=key).outcome == "succeeded"
    assert desk.db.sql("SELECT count(*) FROM payouts WHERE reverses = 6") == [(1,)]


def test_two_that_reverse_at_once_write_one_row(desk: Desk) -> None:
    work = desk.work("reverse", ids="6,8")
    threads = [
        threading.Thread(target=lambda n=n: desk.db.driver.perform(
            desk.job(work, key=f"{n}/"), lambda *_: None)) for n in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert desk.db.sql("SELECT reverses FROM payouts WHERE id >= 1000 ORDER BY 1") == [(6,), (8,)]


FREE = "ALTER TABLE payouts DROP CONSTRAINT payouts_reverses_key;"
NOTE = "ALTER TABLE payouts ADD note text NOT NULL DEFAULT ''; ALTER TABLE payouts ALTER note"
REVERSED = """
    INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, reverses, created_at)
    SELECT merchant_id, payee_id, amount, currency, 'reversed', id, now() FROM payouts
"""
REVERSAL = {
    "no index": (
        FREE,
        'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."payouts" ("reverses")',
    ),
    "partial index": (
        f"{FREE} CREATE UNIQUE INDEX ON payouts (reverses) WHERE status = 'paid'",
        "reverses has no unique index",
    ),
    "two columns": (
        f"{FREE} CREATE UNIQUE INDEX ON payouts (reverses, status)",
        "reverses has no unique index",
    ),
    "column": (f"{NOTE} DROP DEFAULT", "would lack note"),
    "privilege": ("REVOKE INSERT ON payouts FROM app", "may not write"),
    "failed since": ("UPDATE payouts SET status = 'failed' WHERE id = 6", "nothing to reverse"),
    "amount since": ("UPDATE payouts SET amount = 1 WHERE id = 6", "changed since the report: 6"),
    "survivor": ("UPDATE payouts SET status = 'failed' WHERE id = 5", "no longer repeated"),
    "survivor reversed": (f"{REVERSED} WHERE id = 5", "no longer repeated"),
    "survivor's key": (
        "UPDATE payouts SET idempotency_key = 'z' WHERE id = 5",
        "no longer repeated",
    ),
    "survivor's scope": ("UPDATE payouts SET merchant_id = 2 WHERE id = 5", "no longer repeated"),
}


@pytest.mark.parametrize("what", REVERSAL)
def test_what_may_not_be_reversed_is_refused_before(desk: Desk, what: str) -> None:
    statements, told = REVERSAL[what]
    work = desk.work("reverse", ids="6")
    desk.db.sql(statements)
    before = desk.rows()
    found = desk.see(work)
    assert found.outcome == "failed"
    assert told in found.reason
    if what not in ("no index", "partial index", "two columns"):
        assert desk.do(work).outcome == "failed"
    assert len(desk.rows()) == len(before) or "index" in told


@pytest.mark.parametrize(("do", "ids", "survivor"), [("reverse", "6", 5), ("hold", "2", 1)])
def test_the_payment_that_stands_can_not_fall_meanwhile(
    desk: Desk, do: Deed, ids: str, survivor: int
) -> None:
    """Otherwise the other one would be reversed, too, by whoever has the opposite report."""
    before, work = desk.rows(), desk.work(do, ids=ids)
    with psycopg.connect(desk.db.owner) as other:
        other.execute("UPDATE payouts SET status = 'failed' WHERE id = %s", (survivor,))
        found = desk.do(work)
        other.rollback()
    assert "somebody else holds a lock" in found.reason
    assert (found.outcome, desk.rows()) == ("failed", before)


def test_a_partial_index_of_all_that_reverse_is_as_good(desk: Desk) -> None:
    desk.db.sql(f"{FREE} CREATE UNIQUE INDEX ON payouts (reverses) WHERE reverses IS NOT NULL")
    work = desk.work("reverse", ids="6")
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason
    assert desk.do(work).outcome == "succeeded"


def test_caps_of_a_reversal_hold_when_it_is_done(desk: Desk) -> None:
    before = desk.rows()
    for caps, told in (
        ({"rows": 1}, "2 rows, and max_rows is 1"),
        ({"amounts": {"USD": "103.32"}}, "103.33 USD, and max_amount is 103.32"),
    ):
        work = capped(desk.work("reverse", ids="6,8"), **caps)
        for found in (desk.see(work), desk.do(work)):
            assert found.outcome == "failed"
            assert told in found.reason
    assert desk.rows() == before


def test_what_was_reversed_is_neither_to_be_reversed_again_nor_a_survivor(desk: Desk) -> None:
    assert desk.do(desk.work("reverse", ids="6")).outcome == "succeeded"
    desk.report()
    with pytest.raises(InputError, match="says of row 6: nothing"):
        desk.work("reverse", ids="6")
    assert desk.work("reverse", ids="8").ids == ("8",)
    # The one that stood is taken back by hand: what repeated it is the only payment then.
    desk.db.sql(
        "INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, reverses,"
        " created_at) VALUES (1, 14, 33.33, 'USD', 'reversed', 7, now())"
    )
    desk.report()
    with pytest.raises(InputError, match="says of row 8: nothing"):
        desk.work("reverse", ids="8")


COINS = """
    CREATE TABLE coin (id bigserial PRIMARY KEY, user_id bigint NOT NULL, amount integer NOT NULL,
        transaction_type varchar(30) NOT NULL, metadata jsonb NOT NULL DEFAULT '{}',
        reverses bigint UNIQUE, created_at timestamptz NOT NULL DEFAULT now());
    INSERT INTO coin (user_id, amount, transaction_type, metadata)
    SELECT 1 + n / 2, 50, 'tournament_payout', jsonb_build_object('dedup_key', 'k' || n / 2, 'x', n)
    FROM generate_series(0, 3) n;
    GRANT SELECT, INSERT, UPDATE ON coin TO app; GRANT USAGE ON SEQUENCE coin_id_seq TO app;
    GRANT SELECT ON coin TO reader
"""
COIN_LEDGER = """
opskit: 1
ledger: public.coin
id: id
key: metadata->>'dedup_key'
payee: user_id
amount: amount
currency: {is: COIN}
created_at: created_at
where: {transaction_type: tournament_payout}
reversal: {reverses: reverses, negative: true, copy: metadata, set: {transaction_type: reversal}}
"""


def test_a_ledger_without_statuses_and_with_a_key_in_json_is_reversed_too(desk: Desk) -> None:
    desk.db.sql(COINS)
    desk.describe(COIN_LEDGER)
    desk.report()
    with pytest.raises(InputError, match="no status that holds"):
        desk.work("hold", max_amount="COIN 100")
    work = desk.work("reverse", ids="2", max_amount="COIN 50")
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason
    found = desk.do(work)
    assert found.outcome == "succeeded", found.reason
    new = desk.db.sql("SELECT user_id, amount, transaction_type, metadata FROM coin WHERE id > 4")
    assert new == [(1, -50, "reversal", {"dedup_key": "reversal:2", "x": 1})]
    assert desk.do(desk.work("reversed", ids="2")).outcome == "succeeded"
    desk.report()
    with pytest.raises(InputError, match="says of row 5: nothing"):
        desk.work("reverse", ids="5", max_amount="COIN 50")


# --- guarding

TWICE = (
    "INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, idempotency_key,"
    " created_at) VALUES (1, 5, 1, 'EUR', '{}', '{}', '2026-03-01')"
)


def test_a_guard_keeps_new_payments_from_repeating_a_key_and_is_taken_back(desk: Desk) -> None:
    desk.db.sql("ALTER TABLE payouts OWNER TO app")
    work = Payouts(
        do="guard", database="main", ledger=desk.ledger, file="", since="2026-02-01 00:00:00+00:00"
    )
    assert desk.see(work).outcome == "succeeded", desk.see(work).reason
    found = desk.do(work)
    assert found.outcome == "succeeded", found.reason
    flags = "SELECT indisvalid, indisready FROM pg_index WHERE indexrelid = %s::regclass"
    assert desk.db.sql(flags, "payouts_once_20260201") == [(True, True)]
    for status, key in (("paid", "new"), ("failed", "new"), ("paid", "a"), ("paid", " "),
                        ("paid", " ")):  # fmt: skip
        desk.db.sql(TWICE.format(status, key))
    with pytest.raises(psycopg.errors.UniqueViolation):
        desk.db.sql(TWICE.format("pending", "new"))
    assert desk.do(work, key="2/").outcome == "succeeded"
    assert desk.do(replace(work, do="unguard", of="2/"), key="2/!1").outcome == "succeeded"
    assert len(desk.db.sql(flags, "payouts_once_20260201")) == 1
    back = desk.do(replace(work, do="unguard", of="1/"), key="1/!1")
    assert back.outcome == "succeeded", back.reason
    assert desk.db.sql("SELECT to_regclass('payouts_once_20260201')::text") == [(None,)]


def test_a_guard_over_what_repeats_is_refused_and_leaves_nothing(desk: Desk) -> None:
    work = Payouts(
        do="guard", database="main", ledger=desk.ledger, file="", since="2026-01-01 00:00:00+00:00"
    )
    assert "does not own" in desk.see(work).reason
    desk.db.sql("ALTER TABLE payouts OWNER TO app")
    found = desk.see(work)
    assert "4 keys are used more than once" in found.reason
    assert "1 a, 1 b, 1 c, 1 d" in found.reason
    ahead = replace(work, since="2999-01-01 00:00:00+00:00")
    assert "that has not come" in desk.see(ahead).reason
    assert desk.do(work).outcome == "failed"
    assert desk.db.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert desk.db.sql("SELECT to_regclass('payouts_once_20260101')::text") == [(None,)]


@pytest.mark.parametrize("do", ["hold", "reverse", "held", "quiet"])
def test_a_look_that_the_server_refuses_has_failed(desk: Desk, do: Deed) -> None:
    """Nothing can have been done by it, so there is nothing to be in doubt of."""
    work = desk.work(do, **({"ids": "6"} if do == "reverse" else {}))
    desk.db.sql("ALTER TABLE payouts ENABLE ROW LEVEL SECURITY")
    desk.db.sql("CREATE POLICY part ON payouts USING (merchant_id = 1)")
    found = desk.do(work) if do in ("held", "quiet") else desk.see(work)
    assert found.outcome == "failed", found
    assert "row-level security" in found.reason
    assert found.evidence["sqlstate"] == "42501"
