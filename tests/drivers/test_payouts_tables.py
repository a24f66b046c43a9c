"""Deeds on ledgers as they come: other types, odd names, parts, rows without an amount."""

from dataclasses import replace
from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.load.evidence import opened
from opskit.model.payouts import Deed, Switch
from tests.support.database import base
from tests.support.deeds import LEDGER, SWITCH, Desk, capped, reported
from tests.support.deeds import desk as made
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    return made(base(postgres, owner=owner), tmp_path)


def done(desk: Desk, do: Deed, ids: str = "") -> None:
    """Do it after a fresh report, with a look before it and after it."""
    desk.report()
    work = desk.work(do, ids=ids)
    seen = desk.see(work)
    assert seen.outcome == "succeeded", seen.reason
    found = desk.do(work, key=f"{do}/")
    assert found.outcome == "succeeded", found.reason
    after: Deed = "held" if do == "hold" else "reversed"
    back = desk.do(desk.work(after, ids=ids))
    assert (back.outcome, back.evidence["differences"]) == ("succeeded", []), back.reason


SAFE = Switch(schema="public", table="payout_switch", name="payouts")
TYPES = {
    "char(n)": (
        "ALTER TABLE payouts ALTER idempotency_key TYPE char(40), ALTER status TYPE char(12),"
        " ALTER currency TYPE char(5), ALTER iban TYPE char(34)"
    ),
    "money": "ALTER TABLE payouts ALTER amount TYPE money",
    "enum": (
        "ALTER TABLE payouts DROP CONSTRAINT payouts_status_check; CREATE TYPE word AS ENUM"
        " ('pending', 'queued', 'processing', 'paid', 'held', 'failed', 'reversed');"
        "ALTER TABLE payouts ALTER status TYPE word USING status::word"
    ),
    "timestamp": "SET TimeZone = 'UTC'; ALTER TABLE payouts ALTER created_at TYPE timestamp",
    "a reserved word": (
        'ALTER TABLE payouts DROP CONSTRAINT payouts_reverses_key;'
        'ALTER TABLE payouts RENAME reverses TO "order";'
        'CREATE UNIQUE INDEX ON payouts ("order") WHERE "order" IS NOT NULL'
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TYPES)
def test_a_ledger_is_acted_on_whatever_its_types_and_names_are(desk: Desk, what: str) -> None:
    desk.db.sql(TYPES[what])
    reversal = "reversal: {reverses: order," if "word" in what else "reversal: {reverses: reverses,"
    text = LEDGER.replace("reversal: {reverses: reverses,", reversal)
    desk.describe(text.replace("copy: iban}", "copy: iban, negative: true}"))
    done(desk, "hold")
    assert [row[:2] for row in desk.holds()] == [("2", "pending"), ("4", "queued")]
    done(desk, "reverse", ids="6,8")
    sums = "SELECT sum(amount::numeric) FROM payouts WHERE id >= 1000"
    assert str(desk.db.sql(sums)[0][0]) == "-103.33"
    desk.db.sql("ALTER TABLE payouts OWNER TO app")
    guard = replace(desk.work("reverse", ids="6"), do="guard", since="2026-01-01 08:30:00+00:00")
    for work in (replace(guard, probe=True), guard, replace(guard, do="unguard", of="g/")):
        found = desk.do(work, key="g/" if work.do == "guard" else "g/!1")
        assert found.outcome == "succeeded", found.reason


def test_mixed_case_and_blanks_in_names_are_nothing_special(desk: Desk) -> None:
    desk.db.sql(
        'DROP SCHEMA IF EXISTS "Money" CASCADE; CREATE SCHEMA "Money"; GRANT USAGE ON SCHEMA'
        ' "Money" TO PUBLIC; ALTER TABLE payouts SET SCHEMA "Money"; ALTER TABLE "Money".payouts'
        ' RENAME TO "Pay Outs"; ALTER TABLE "Money"."Pay Outs" RENAME status TO "Status";'
        ' ALTER TABLE "Money"."Pay Outs" RENAME id TO "Id"'
    )
    named = LEDGER.replace("public.payouts", '\'"Money"."Pay Outs"\'')
    desk.describe(named.replace("column: status", "column: Status").replace("id: id", "id: Id"))
    done(desk, "hold")
    done(desk, "reverse", ids="6")


@pytest.mark.parametrize("column", ["amount", "currency"])
def test_what_no_cap_can_hold_is_not_acted_on(desk: Desk, column: str) -> None:
    desk.db.sql(f"ALTER TABLE payouts ALTER {column} DROP NOT NULL")
    desk.db.sql(f"UPDATE payouts SET {column} = NULL WHERE id < 3")
    desk.report()
    with pytest.raises(InputError) as raised:
        desk.work("hold")
    assert f"row 2 has no {column}: no cap can hold it" in raised.value.line
    assert "name other rows (`ids`)" in raised.value.hint
    assert desk.do(desk.work("hold", ids="4")).outcome == "succeeded"


def test_a_cell_of_any_length_is_read_again(desk: Desk) -> None:
    desk.db.sql("ALTER TABLE payouts ADD note text DEFAULT repeat('x', 200000)")
    desk.describe(LEDGER + "show: note\n")
    path = desk.report()
    assert {len(row["note"]) for row in opened(path).rows("same-key.csv")} == {200_000}
    assert desk.do(desk.work("hold")).outcome == "succeeded"


PARTED = """
    ALTER TABLE payouts RENAME TO old;
    CREATE TABLE payouts (LIKE old INCLUDING DEFAULTS, PRIMARY KEY (id, created_at))
        PARTITION BY RANGE (created_at);
    CREATE TABLE payouts_now PARTITION OF payouts DEFAULT;
    CREATE TABLE payouts_next PARTITION OF payouts FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
    INSERT INTO payouts TABLE old;
    ALTER TABLE payouts OWNER TO app; ALTER TABLE payouts_now OWNER TO app;
    GRANT SELECT ON payouts TO reader
"""


def test_rows_of_a_ledger_that_is_parted_by_time_are_held_and_given_back(desk: Desk) -> None:
    desk.db.sql(PARTED)
    before = desk.rows()
    done(desk, "hold")
    release = replace(desk.work("hold"), do="release", of="hold/")
    assert desk.do(release, key="hold/!1").outcome == "succeeded"
    assert desk.rows() == before


def test_one_id_in_two_parts_is_held_in_none(desk: Desk) -> None:
    desk.db.sql(PARTED)
    desk.report()
    desk.db.sql(
        "INSERT INTO payouts (id, merchant_id, payee_id, amount, currency, status, created_at)"
        " VALUES (2, 9, 9, 1, 'EUR', 'pending', '2027-02-02')"
    )
    before = desk.rows()
    found = desk.do(desk.work("hold"))
    assert (found.outcome, desk.rows()) == ("failed", before)
    assert "1 row changed since the report: 2" in found.reason


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (
            "reverse",
            "reverses has no unique index → no such index can be built, since the table is",
        ),
        ("guard", "partitioned by created_at: no index can be built CONCURRENTLY on it"),
    ],
)
def test_what_no_index_can_keep_is_refused_with_what_to_do(desk: Desk, do: Deed, said: str) -> None:
    desk.db.sql(PARTED)
    desk.report()
    work = desk.work("reverse", ids="6")
    seen = desk.see(replace(work, do=do, since="2026-01-01 20:00:00+00:00"))
    assert (seen.outcome, said in seen.reason) == ("failed", True), seen.reason


def trap() -> str:
    """Return what a role that may CREATE in a schema of the path leaves for whoever comes by.

    What fits the types exactly is taken before what the server has itself, wherever that stands.
    """
    evil = (
        "CREATE FUNCTION public.{name}({given}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.spoils VALUES (current_user, '{name}({given})');"
        " RETURN NULL; END $$"
    )
    wanted = [
        ("joined", "bigint, text", "text"), ("joined", "numeric, text", "text"),
        ("like_it", "varchar, varchar", "boolean"), ("array_to_string", "text[], text", "text"),
        ("make_interval", "secs float8", "interval"),
        ("jsonb_populate_record", "payouts, jsonb", "payouts"),
        ("jsonb_build_object", "text, text", "jsonb"), ("gathered", "text[], text", "text[]"),
        *(("concat_ws", ", ".join(["text"] * count), "text") for count in range(2, 14)),
    ]  # fmt: skip
    made = [evil.format(name=name, given=given, result=result) for name, given, result in wanted]
    made += [
        "CREATE OPERATOR public.|| (FUNCTION = joined, LEFTARG = bigint, RIGHTARG = text)",
        "CREATE OPERATOR public.|| (FUNCTION = joined, LEFTARG = numeric, RIGHTARG = text)",
        "CREATE OPERATOR public.= (FUNCTION = like_it, LEFTARG = varchar, RIGHTARG = varchar)",
        "CREATE AGGREGATE public.array_agg(text) (SFUNC = gathered, STYPE = text[])",
    ]
    return ";".join(["SET ROLE reader", *made, "RESET ROLE"])


def test_what_somebody_has_left_in_the_search_path_is_not_carried_out(desk: Desk) -> None:
    desk.db.sql(
        "CREATE TABLE spoils (who text, what text); GRANT INSERT ON spoils TO PUBLIC;"
        "GRANT CREATE ON SCHEMA public TO reader;"
        "ALTER TABLE payouts ALTER id DROP IDENTITY; ALTER TABLE payouts DROP reverses;"
        "ALTER TABLE payouts ALTER id TYPE varchar(40), ADD reverses varchar(40) UNIQUE,"
        " ALTER status TYPE varchar(20), ALTER idempotency_key TYPE varchar(99),"
        " ALTER id SET DEFAULT gen_random_uuid()::text"
    )
    desk.db.sql(SWITCH)
    desk.db.sql(trap())
    desk.report()
    hold, reverse = desk.work("hold"), desk.work("reverse", ids="6")
    freeze = replace(hold, do="freeze", report=None, switch=SAFE)
    desk.db.sql("UPDATE payouts SET status = 'processing' WHERE id::text = '4'")  # it is told
    for number, work in enumerate((hold, reverse, freeze)):
        assert desk.see(work).outcome == "succeeded"
        assert desk.do(work, key=f"{number}/").outcome == "succeeded"
    assert desk.do(capped(hold, rows=0), key="4/").outcome == "failed"  # so are reasons
    assert desk.do(reported(hold, now="2026-01-01 00:00+00"), key="5/").outcome == "failed"
    for work, key in ((replace(hold, do="release", of="0/"), "0/!1"),
                      (replace(freeze, do="thaw", of="2/"), "2/!1")):  # fmt: skip
        assert desk.do(work, key=key).outcome == "succeeded"
    assert desk.db.sql("SELECT DISTINCT * FROM spoils") == []
