"""The shipped payouts-… runbooks from the command line: planned, refused, killed, taken back."""

import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.drivers.postgres.holds import ddl
from opskit.model.inventory import MARKERS
from tests.support.database import base, until
from tests.support.deeds import LEDGER, PAYOUTS, SWITCH
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


@dataclass
class Money(Desk):
    """A desk with a ledger, its description, and a report of it."""

    reports: "itertools.count[int]" = field(default_factory=itertools.count)
    manifest: str = ""

    def fill(self) -> None:
        self.db.sql(PAYOUTS + ";" + SWITCH)
        self.db.sql(";".join(ddl(MARKERS, "app")))
        (self.folder / "ledger.yaml").write_text(LEDGER)
        self.write("  - {run: 'true', on: controller}\n")
        self.report()

    def search(self, *, status: int) -> str:
        return self.opskit(
            "run", "duplicate-payouts", *self.given(), "-p", "full=true", "-p",
            f"evidence={self.folder}/evidence", status=status,
        )  # fmt: skip

    def report(self) -> str:
        self.search(status=1)
        found = (self.folder / "evidence").glob("*/manifest.json")
        self.manifest = str(max(found, key=lambda path: path.stat().st_mtime_ns))
        return self.manifest

    def given(self) -> list[str]:
        return ["-p", f"ledger={self.folder}/ledger.yaml"]

    def asked(self, do: str, **how: str) -> list[str]:
        """Return the words of a run of payouts-DO."""
        values = {} if do in ("freeze", "guard") else {
            "report": self.manifest, "approved_by": "second", "max_amount": "EUR 1000, USD 1000",
        }  # fmt: skip
        pairs = [
            word for name, value in {**values, **how}.items() for word in ("-p", f"{name}={value}")
        ]
        return ["run", f"payouts-{do}", "--yes", *self.given(), *pairs]

    def payouts(self, do: str, *, status: int = 0, **how: str) -> str:
        return self.opskit(*self.asked(do, **how), status=status)

    def rows(self) -> list[tuple[object, ...]]:
        return self.db.sql("SELECT p::text FROM payouts AS p ORDER BY id")

    def held(self) -> list[int]:
        return [
            row[0] for row in self.db.sql("SELECT id FROM payouts WHERE status = 'held' ORDER BY 1")
        ]

    def reversed(self) -> list[int]:
        found = self.db.sql("SELECT reverses FROM payouts WHERE reverses IS NOT NULL ORDER BY 1")
        return [row[0] for row in found]


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Money:
    found = Money(base(postgres, owner=owner), tmp_path)
    found.fill()
    return found


def test_what_is_pending_is_held_verified_and_given_back(desk: Money) -> None:
    before = desk.rows()
    plan = desk.opskit("plan", *desk.asked("hold")[1:2], *desk.asked("hold")[3:])
    assert "hold 2 rows of public.payouts, 350.50 EUR: 2, 4" in plan
    assert "see whether it is possible to hold 2 rows" in plan
    assert "approved by second" in plan
    assert desk.rows() == before
    said = desk.payouts("hold")
    assert desk.held() == [2, 4]
    assert "2 of 2 rows of public.payouts held: all 12 rows add up" in said
    kept = desk.db.sql(f"SELECT payout, approved_by FROM {MARKERS}.payout_hold ORDER BY 1")
    assert kept == [("2", "second"), ("4", "second")]
    assert "approved by" in desk.opskit(
        "plan", "payouts-hold", *desk.asked("hold")[3:], "--no-reads"
    )
    desk.opskit("undo", "last", "--yes")
    assert desk.rows() == before
    desk.proved()


def test_f6_what_was_sent_is_reversed_once_however_often_it_is_run(desk: Money) -> None:
    before = desk.rows()
    assert "`ids`" in desk.payouts("reverse", status=2)
    plan = desk.opskit("plan", "payouts-reverse", *desk.asked("reverse", ids="6,8")[3:])
    assert "reverse 2 rows of public.payouts, 103.33 USD: 6, 8" in plan
    assert "there is no undo for this" in plan
    for _ in range(2):
        desk.payouts("reverse", ids="6,8")
        assert desk.reversed() == [6, 8]
    assert desk.rows()[:12] == before
    desk.opskit("undo", "last", "--yes", status=None)
    assert desk.reversed() == [6, 8]
    desk.proved()


def test_what_was_reversed_and_held_is_gone_from_the_next_report(desk: Money) -> None:
    desk.payouts("hold")
    desk.payouts("reverse", ids="6,8")
    said = desk.search(status=0)
    assert "OK main:" in said
    assert "2 of them reversed" in said


def test_whoever_begins_a_run_can_not_be_who_approves_of_it(desk: Money) -> None:
    desk.environ = {"LOGNAME": "Second"}
    said = desk.payouts("hold", status=5)
    assert "second begins this run and has approved of it" in said
    desk.environ = {"SUDO_USER": "first", "LOGNAME": "second"}  # who has become somebody else
    for other in ("second", "\uff33econd\u200b", "second @vm"):
        assert "that takes two" in desk.payouts("hold", status=5, approved_by=other)
    assert desk.held() == []
    desk.environ = {"LOGNAME": "first"}
    desk.payouts("hold")


REFUSED = {
    "no report": ({"report": "missing.json"}, 2, "is not there"),
    "an old one": ({"max_age": "0s"}, 5, "which is too long ago"),
    "too many rows": ({"max_rows": "1"}, 2, "has 2 rows to act on, and max_rows is 1"),
    "too much": ({"max_amount": "EUR 350.49"}, 2, "max_amount is 350.49"),
    "no amount": ({"max_amount": "a lot"}, 2, "is no amount"),
    "nobody else": ({"approved_by": " "}, 2, "somebody who approves"),
    "other rows": ({"ids": "9"}, 2, "says of row 9: nothing"),
    "hostile": ({"ids": "2'; DROP TABLE payouts; --"}, 2, "nothing"),
}


def test_what_must_not_be_done_is_refused_with_nothing_touched(desk: Money) -> None:
    before = desk.rows()
    for how, status, told in REFUSED.values():
        assert told in desk.payouts("hold", status=status, **how)
    assert desk.rows() == before
    for table in ("payout_hold", "marker"):
        assert desk.db.sql(f"SELECT count(*) FROM {MARKERS}.{table}") == [(0,)]


def test_evidence_that_was_changed_is_refused(desk: Money) -> None:
    table = Path(desk.manifest).parent / "same-key.csv"
    table.write_text(table.read_text().replace("HOLD", "H0LD", 1))
    assert f"{table}: it is not what it was" in desk.payouts("hold", status=2)
    desk.report()
    rewritten(desk, system="7000000000000000001")
    desk.environ = {"OPSKIT_STORE": f"{desk.folder}/other.db"}
    assert "another cluster answers" in desk.payouts("hold", status=5)
    assert desk.held() == []


def rewritten(desk: Money, **source: str) -> None:
    """Change what a manifest says of its source; all of its files are as they were."""
    manifest = json.loads(Path(desk.manifest).read_text())
    manifest["source"] |= source
    Path(desk.manifest).write_text(json.dumps(manifest))


def test_a_refusal_is_told_once_and_nothing_is_offered_that_can_not_help(desk: Money) -> None:
    said = desk.payouts("hold", max_age="0s", status=5)
    assert said.count("which is too long ago") == 2  # as it happens, and in the summary
    assert "nowhere" not in said  # the only host of the inventory, which nothing is done at
    assert "refused on db:main: 0:main:1 Before: Hold what is still pending" in said
    assert "failed on" not in said
    assert "opskit retry" not in said
    plan = desk.opskit("plan", "payouts-hold", *desk.asked("hold", max_age="0s")[3:], status=5)
    assert plan.count("which is too long ago") == 2
    said = desk.opskit("run", "duplicate-payouts", *desk.given(), "-p", "since=2999-01-01",
                       status=5)  # fmt: skip
    assert "opskit retry" not in said
    desk.db.sql("REVOKE UPDATE ON payouts FROM app")
    said = desk.payouts("hold", status=5)
    assert re.search(r"opskit retry \S+ --hosts failed", said)  # once somebody has granted it
    desk.db.sql("GRANT UPDATE ON payouts TO app")
    desk.db.sql("ALTER TABLE payouts ENABLE ROW LEVEL SECURITY")
    desk.db.sql("CREATE POLICY part ON payouts USING (merchant_id = 1)")
    said = desk.payouts("hold", status=5)  # the server refuses: nothing is unknown by that
    assert "row-level security" in said
    said = desk.payouts("hold", ids="9", status=2)
    assert said.count("the report says of row 9: nothing") == 1  # though two steps have `ids`


def test_a_period_without_rows_is_named(desk: Money) -> None:
    said = desk.opskit("run", "duplicate-payouts", *desk.given(), "-p", "since=2026-02-01", "-p",
                       "until=2026-02-02", status=6)  # fmt: skip
    assert "there is no row to look at since 2026-02-01 00:00:00+00 and before 2026-02-02" in said
    assert "(the newest is of 2026-01-01 12:00:00+00): nothing is known" in said


def test_a_database_that_is_not_there_is_told_with_what_to_do(desk: Money) -> None:
    inventory = desk.folder / "i.yaml"
    text = inventory.read_text()
    inventory.write_text(text.partition("databases:")[0])
    said = desk.payouts("hold", status=2)
    assert said.count("the step works on a database, and the inventory has none") == 1
    assert "add databases:" in said
    inventory.write_text(re.sub(r"@/\w+", "@/nothere", text))
    said = desk.payouts("hold", status=5)
    assert "unreachable: db:main: database main: no session can be had" in said
    assert "see `url` of the database in the inventory" in said
    assert "opskit hosts check" not in said


@pytest.mark.parametrize("do", ["hold", "reverse"])
def test_a_report_is_what_the_record_of_its_run_has_or_nothing_is_done(
    desk: Money, do: str
) -> None:
    how: dict[str, Any] = {"ids": "6"} if do == "reverse" else {}
    run = str(json.loads(Path(desk.manifest).read_text())["source"]["run"])
    before = desk.rows()
    plan = desk.opskit("plan", f"payouts-{do}", "--no-reads", *desk.asked(do, **how)[3:])
    assert f"as the record of run {run} has it" in plan
    rewritten(desk, now="2026-12-31 00:00:00+00")  # whole in itself, and younger than it is
    for words in (desk.asked(do, **how), ["plan", f"payouts-{do}", *desk.asked(do, **how)[3:]]):
        said = desk.opskit(*words, status=2)
        assert f"says that run {run} made it, and the record of that run has" in said
        assert "make the report again" in said
    assert desk.rows() == before
    desk.opskit("run", "t.yaml", "--yes")
    other = str(desk.events("run created")[0]["run"])
    rewritten(desk, run=other)
    assert "has no report of it" in desk.opskit(*desk.asked(do, **how), status=2)
    desk.report()
    desk.environ = {"OPSKIT_STORE": f"{desk.folder}/other.db"}
    run = str(json.loads(Path(desk.manifest).read_text())["source"]["run"])
    said = desk.payouts(do, **how)
    assert f"the record does not know run {run}, which made the report" in said
    assert desk.rows() != before


def test_a_ledger_described_anew_needs_a_new_report(desk: Money) -> None:
    path = desk.folder / "ledger.yaml"
    path.write_text(path.read_text().replace("pending: [pending, queued]", "pending: [pending]"))
    assert "described differently" in desk.payouts("hold", status=2)


def test_where_nothing_can_be_kept_the_ddl_is_told(desk: Money) -> None:
    desk.db.sql(f"DROP TABLE {MARKERS}.payout_hold")
    said = desk.payouts("hold", status=5)
    assert "let one who may carry out what this has printed" in said
    desk.db.sql(desk.opskit("output", "last", "0:main:1", "db:main"))
    desk.payouts("hold")
    assert desk.held() == [2, 4]


def test_the_tables_for_it_are_made_or_printed_by_db_init(desk: Money) -> None:
    desk.db.sql(f"DROP SCHEMA {MARKERS} CASCADE")
    assert "opskit db init main" in desk.payouts("hold", status=5)
    assert "payout_hold" not in desk.opskit("db", "init", "main", "--print")
    printed = desk.opskit("db", "init", "main", "--payouts", "--role", "app", "--print")
    assert printed.count("CREATE SCHEMA") == 1
    desk.db.sql(printed + printed)
    desk.payouts("hold")
    desk.db.sql(f"DROP SCHEMA {MARKERS} CASCADE")
    grant = "format('GRANT CREATE ON DATABASE %I TO app', current_database())"
    desk.db.sql(f"DO $$ BEGIN EXECUTE {grant}; END $$")
    assert "payout_freeze" in desk.opskit("db", "init", "main", "--payouts")
    desk.db.sql("UPDATE payouts SET status = 'pending' WHERE id = 2")
    desk.db.sql("UPDATE payouts SET status = 'queued' WHERE id = 4")
    desk.payouts("hold")
    assert desk.held() == [2, 4]


@contextlib.contextmanager
def workers(desk: Money) -> Iterator[threading.Event]:
    """Pay all the time, as workers do that look at a switch in the database before each."""
    stop, paid = threading.Event(), threading.Event()

    def work() -> None:
        with psycopg.connect(desk.db.owner, autocommit=True) as connection:
            while not stop.wait(0.02):
                done = connection.execute(
                    "INSERT INTO payouts (merchant_id, payee_id, amount, currency, status,"
                    " idempotency_key, created_at) SELECT 1, 7, 1, 'EUR', 'pending',"
                    " gen_random_uuid()::text, now() FROM payout_switch WHERE enabled"
                )
                if done.rowcount:
                    paid.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert paid.wait(60)
        yield paid
    finally:
        stop.set()
        thread.join(20)


EAGER = (
    "  - {name: stop payouts, run: CELERY_TASK_ALWAYS_EAGER=True sh -c 'echo stopped',"
    " on: controller}\n"
)


def test_f7_the_usual_stop_stops_nothing_and_the_proof_says_so(desk: Money) -> None:
    """It sets a variable in a shell of its own: no worker hears of it."""
    desk.write(EAGER)
    with workers(desk):
        desk.run()
        proof = (
            "  - payouts: {do: quiet, ledger: ledger.yaml, period: 1s}\n"
            "    name: Nothing is paid any more\n"
        )
        desk.write(EAGER + proof)
        said = desk.run(status=1)
    assert re.search(r"\d+ rows? w(as|ere) written between", said)


def test_payouts_are_switched_off_with_proof_and_on_again(desk: Money) -> None:
    with workers(desk) as paid:
        said = desk.payouts("freeze", period="1s")
        assert "nothing of public.payouts was written between" in said
        assert desk.db.sql("SELECT enabled FROM payout_switch") == [(False,)]
        paid.clear()
        desk.opskit("undo", "last", "--yes")
        assert desk.db.sql("SELECT enabled FROM payout_switch") == [(True,)]
        assert paid.wait(60)


def test_a_guard_is_built_and_taken_back(desk: Money) -> None:
    desk.db.sql("ALTER TABLE payouts OWNER TO app")
    assert "4 keys are used more than once" in desk.payouts("guard", since="2026-01-01", status=5)
    assert "is no fixed time" in desk.payouts("guard", since="90d", status=2)
    desk.payouts("guard", since="2026-02-01")
    there = "SELECT count(*) FROM pg_class WHERE relname = 'payouts_once_20260201'"
    assert desk.db.sql(there) == [(1,)]
    desk.opskit("undo", "last", "--yes")
    assert desk.db.sql(there) == [(0,)]


def kill(desk: Money, at: str, number: int, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deadly", at, str(number), *words],
        env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode


POINTS = ("sql-before-commit", "sql-after-commit")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("do", ["hold", "reverse"])
def test_a_kill_around_the_commit_leaves_the_effect_once(desk: Money, do: str, point: str) -> None:
    how = {"ids": "6,8"} if do == "reverse" else {}
    assert kill(desk, point, 0, *desk.asked(do, **how)) == -signal.SIGKILL
    until(lambda: desk.db.sessions() == [])
    desk.opskit("resume", "last")
    checked(desk, do)
    desk.proved()


def checked(desk: Money, do: str) -> None:
    """Nothing was done twice, and no more than what was meant."""
    rows = len(desk.rows())
    if do == "reverse":
        assert (desk.reversed(), desk.held(), rows) == ([6, 8], [], 14)
    else:
        holds = desk.db.sql(f"SELECT payout FROM {MARKERS}.payout_hold ORDER BY 1")
        assert (desk.held(), holds, rows) == ([2, 4], [("2",), ("4",)], 12)


def anyhow(desk: Money, turn: int) -> None:
    """Kill a hold, its release, or a reversal at some time, and go on."""
    chance = random.Random(turn)
    do = ("hold", "reverse", "release")[turn % 3]
    before = desk.rows()
    how = {"ids": "6,8"} if do == "reverse" else {}
    first = "hold" if do == "release" else do
    words = desk.asked(first, **how)
    if do == "release":
        desk.payouts("hold")
        words = ["undo", "last", "--yes"]
    kill(desk, "sql-time", chance.randrange(0, 40), *words)
    until(lambda: desk.db.sessions() == [])
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    if do == "release":
        assert desk.rows() == before
        ended = f"SELECT DISTINCT ended FROM {MARKERS}.payout_hold"
        assert desk.db.sql(ended) == [("released",)]
    else:
        checked(desk, do)
    desk.proved()


@pytest.mark.parametrize("turn", range(3))
def test_a_kill_at_any_time_leaves_the_effect_once(desk: Money, turn: int) -> None:
    anyhow(desk, turn)


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(3, 33))
def test_a_kill_at_any_time_leaves_the_effect_once_always(desk: Money, turn: int) -> None:
    anyhow(desk, turn)
