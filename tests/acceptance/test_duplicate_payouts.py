"""The shipped duplicate-payouts from the command line, and the usual queries that do harm."""

import contextlib
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.drivers.evidence import opened
from opskit.lab import release
from opskit.lab.fixtures import Amount
from tests.support import datasets, postgres
from tests.support.bystander import writing
from tests.support.database import ROLES, until
from tests.support.searching import ids, planted, readable

pytestmark = pytest.mark.acceptance


@dataclass
class Desk:
    """A folder with an inventory that names `sound`, `ill` (payouts) and `coins` (teams)."""

    folder: Path
    owner: dict[str, str]
    planted: dict[str, Any]

    @property
    def settings(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "PG"))}
        kept |= {"OPSKIT_STORE": str(self.folder / "store.db"), "HOME": str(self.folder)}
        kept.pop("XDG_STATE_HOME", None)
        return kept | {"OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "NO_COLOR": "1"}

    def opskit(self, *words: str, status: int) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "opskit", *words], env=self.settings, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def search(self, database: str, *words: str, status: int, ledger: str = "payouts") -> str:
        given = ["-p", f"ledger={self.folder / ledger}.yaml", "-p", f"database={database}"]
        return self.opskit("run", "duplicate-payouts", *given, *words, status=status)

    def evidence(self) -> tuple[dict[str, Any], Path]:
        """Return what the record has of the last search, and where its evidence is."""
        lines = self.opskit("status", "last", "--json", status=1).splitlines()
        found = json.loads(lines[-1])
        (one,) = [a["evidence"] for a in found["actions"] if "manifest" in a.get("evidence", {})]
        return one, Path(one["manifest"]).parent


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    sets = {
        "sound": ("payouts", Amount(rows=500)),
        "ill": ("payouts", Amount(rows=500, planted=True)),
        "coins": ("teams", Amount(rows=500, planted=True, cases=2)),
        "keys": ("sync", Amount(rows=200, planted=True)),
    }
    with postgres.server(**datasets.SETTINGS) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        made = {name: datasets.load(server, *of) for name, of in sets.items()}
        for url, _ in made.values():
            readable(url)
        owner = {name: url for name, (url, _) in made.items()}
        entries = "".join(
            f"  {name}: {{url: '{url.replace('//owner@', '//reader@')}'}}\n"
            for name, url in owner.items()
        )
        entries += "  away: {url: 'postgresql://reader@127.0.0.1:9/x', connect_timeout: 1s}\n"
        text = f"opskit: 1\nhosts: {{nowhere: 127.0.0.1}}\ndatabases:\n{entries}"
        (folder / "i.yaml").write_text(text)
        for name in ("payouts", "teams", "sync"):
            (folder / f"{name}.yaml").write_bytes(release.data(f"ledger/{name}.yaml"))
        yield Desk(folder, owner, {name: manifest for name, (_, manifest) in made.items()})


def rows(desk: Desk, database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(desk.owner[database]) as connection:
        return connection.execute(statement.encode()).fetchall()


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_plan_says_what_is_searched_and_where_the_evidence_goes(desk: Desk) -> None:
    given = ["-p", f"ledger={desk.folder}/payouts.yaml", "-p", "database=ill", "-p", "since=90d"]
    said = desk.opskit("plan", "duplicate-payouts", "--no-reads", *given, status=0)
    assert "search public.payouts" in said
    assert "since 90d ago, alike within 10m" in said
    assert "evidence in the state directory" in said


def test_what_is_found_is_told_recorded_and_kept(desk: Desk) -> None:
    desk.search("sound", status=0)
    said = desk.search("ill", status=1)
    assert "CRIT ill:" in said
    of, folder = desk.evidence()
    assert folder.parent == desk.folder / ".local/state/opskit/evidence"
    raw = (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == of["sha256"]
    shown = desk.opskit("output", "last", "Search", "db:ill", status=0)
    assert f"sha256 {of['sha256']}" in shown
    assert of["sha256"] in desk.opskit("audit", "log", "last", "--json", status=0)
    assert of["rows"]["same_key.HOLD"] == 4
    desk.opskit("audit", "verify", status=0)


def test_a_monitoring_system_hears_one_line(desk: Desk) -> None:
    assert desk.search("sound", "--nagios", status=0).startswith("DUPLICATE-PAYOUTS OK")
    assert desk.search("ill", "--nagios", status=2).startswith("DUPLICATE-PAYOUTS CRITICAL")
    assert desk.search("away", "--nagios", status=3).startswith("DUPLICATE-PAYOUTS UNKNOWN")
    refused = desk.search("ill", "-p", "since=2999-01-01", "--nagios", status=3)
    assert "that has not come" in refused


def test_what_can_not_be_asked_is_refused_and_what_can_not_be_known_is_unknown(desk: Desk) -> None:
    desk.search("away", status=6)
    assert "that has not come" in desk.search("ill", "-p", "since=2999-01-01", status=5)
    assert "there is no table public.payouts" in desk.search("coins", status=5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("window=0", "a window of nothing"),
        ("window=8d", "more than 7 days"),
        ("since=yesterday", "came to 'yesterday'"),
        ("evidence=here", "no whole path"),
        ("provider=gone.csv", "is not there"),
    ],
)
def test_bad_input_is_refused_before_anybody_is_asked(desk: Desk, given: str, told: str) -> None:
    assert told in desk.search("away", "-p", given, status=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("key: \"a->>'b' OR true\"\n", "is no field"),
        ("key: a\nstatus: {column: s, settled: [x, y], void: y}\n", "'y' is in `settled` and in"),
        ("key: a\nfloat: true\n", "unknown key 'float'"),
    ],
)
def test_a_bad_description_is_refused_with_its_place(desk: Desk, text: str, told: str) -> None:
    (desk.folder / "bad.yaml").write_text(
        f"opskit: 1\nledger: public.payouts\nid: id\ncreated_at: created_at\n{text}"
    )
    said = desk.search("away", status=2, ledger="bad")
    assert told in said
    assert re.search(r"bad\.yaml:\d+:\d+: ", said)


def test_records_without_money_are_searched_too(desk: Desk) -> None:
    desk.search("keys", status=1, ledger="sync")
    _, folder = desk.evidence()
    found = {(int(r["id"]), r["verdict"]) for r in table(folder, "same-key.csv")}
    assert found == planted(desk.planted["keys"], "A")


USUAL = """
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY metadata->>'dedup_key' ORDER BY created_at {})
        FROM economy_cointransaction WHERE transaction_type = 'tournament_payout') AS ranked
    WHERE row_number > 1
"""
"""How payouts that were made twice are usually listed: all but one of each key."""


def test_f4_rows_without_a_key_are_no_duplicates_of_each_other(desk: Desk) -> None:
    keyless = ids(planted(desk.planted["coins"], "B"))
    missing = "SELECT id FROM economy_cointransaction WHERE transaction_type ="
    missing += " 'tournament_payout' AND metadata->>'dedup_key' IS NULL"
    nulls = {id_ for (id_,) in rows(desk, "coins", missing)}
    harmed = {id_ for (id_,) in rows(desk, "coins", USUAL.format(""))} & nulls
    assert len(nulls) == 6
    assert len(harmed) == 5  # all but one payout of different people would be taken back
    desk.search("coins", status=1, ledger="teams")
    of, folder = desk.evidence()
    found = {(int(r["id"]), r["verdict"]) for r in table(folder, "same-key.csv")}
    assert ids(found) & keyless == set()
    assert found == planted(desk.planted["coins"], "A")
    assert of["rows"]["keyless"] == len(keyless)


def test_f5_the_row_that_stays_is_the_same_in_the_report_and_for_the_action(desk: Desk) -> None:
    oldest_stay = {id_ for (id_,) in rows(desk, "coins", USUAL.format("ASC"))}
    newest_stay = {id_ for (id_,) in rows(desk, "coins", USUAL.format("DESC"))}
    desk.search("coins", status=1, ledger="teams")
    _, folder = desk.evidence()
    found = table(folder, "same-key.csv")
    stays = {int(row["id"]) for row in found if row["verdict"] == "SURVIVOR"}
    again = {int(row["id"]) for row in found if row["verdict"] != "SURVIVOR"}
    assert stays & oldest_stay == set()
    assert stays & newest_stay == stays  # the usual reversal would take back every original
    assert again <= oldest_stay
    assert {int(row["survivor"]) for row in found} == stays


def test_a_search_that_was_killed_is_made_again_and_leaves_whole_evidence(desk: Desk) -> None:
    base = desk.folder / "kept"
    given = ["-p", f"ledger={desk.folder}/payouts.yaml", "-p", "database=ill"]
    given += ["-p", f"evidence={base}"]
    with psycopg.connect(desk.owner["ill"]) as other:
        other.execute("LOCK TABLE payouts IN ACCESS EXCLUSIVE MODE")
        words = [sys.executable, "-m", "opskit", "run", "duplicate-payouts", *given]
        killed = subprocess.Popen(
            words, env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'payouts'::regclass"
        until(lambda: other.execute(waiting).fetchone())
        killed.kill()
        killed.wait(60)
    assert "CRIT ill:" in desk.opskit("resume", "last", status=1)
    (folder,) = base.iterdir()
    assert opened(folder / "manifest.json").manifest.level == "CRIT"
    desk.opskit("audit", "verify", status=0)


def test_a_provider_s_file_is_part_of_the_plan(desk: Desk) -> None:
    columns = "reference,amount,currency,paid_at,status"
    path = desk.folder / "settled.csv"
    path.write_text(f"{columns}\nnobody,12.00,EUR,2026-01-15T00:00:00Z,paid\n")
    given = ["-p", "provider=settled.csv", "-p", "since=2026-01-14", "-p", "until=2026-01-16"]
    said = desk.search("sound", *given, status=1)
    assert "PROVIDER_ONLY" in desk.opskit("output", "last", "Search", "db:sound", status=0)
    assert "CRIT sound:" in said
    of, folder = desk.evidence()
    assert of["rows"]["provider_only.PROVIDER_ONLY"] == 1
    assert table(folder, "provider.csv")[0]["reference"] == "nobody"
    asked = json.loads((folder / "manifest.json").read_text())["asked"]
    assert asked["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(f"{columns}\nnobody,12.005,EUR,2026-01-15T00:00:00Z,paid\n")
    assert "settled.csv:2: " in desk.search("sound", *given, status=5)


@pytest.mark.soak
def test_the_client_s_memory_does_not_grow_with_what_is_found(desk: Desk) -> None:
    """Each payment is one of two of its key, and of two that look alike; none is in the file."""
    columns = "reference,amount,currency,paid_at,status"
    lines = (f"paid-{n},12.00,EUR,2026-01-15T00:00:00Z,paid\n" for n in range(200_000))
    (desk.folder / "many.csv").write_text("".join([f"{columns}\n", *lines]))
    with psycopg.connect(desk.owner["sound"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS TABLE payouts")
        connection.execute(
            "INSERT INTO payouts SELECT 1000 + g, 1, g / 2, 5, 'EUR', 'paid', 'k' || g % 100000,"
            " 'r' || g, 'o' || g / 2, 't' || g, timestamptz '2026-01-15 00:00+00' + g % 2"
            " * interval '1 s' FROM generate_series(1, 200000) g"
        )
        try:
            given = ["-p", f"ledger={desk.folder}/payouts.yaml", "-p", "database=sound"]
            given += ["-p", "provider=many.csv"]
            words = [sys.executable, "-m", "opskit", "run", "duplicate-payouts", *given]
            process = subprocess.Popen(
                words, env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            peak = 0
            while process.poll() is None:
                with contextlib.suppress(TypeError, OSError):
                    said = Path(f"/proc/{process.pid}/status").read_text()
                    peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", said)[1]))  # type: ignore[index]
                time.sleep(0.02)
        finally:
            connection.execute("TRUNCATE payouts")
            connection.execute("INSERT INTO payouts TABLE kept")
            connection.execute("DROP TABLE kept")
    assert process.returncode == 1
    of, _ = desk.evidence()
    assert of["rows"]["provider_only.PROVIDER_ONLY"] == 200_000
    assert of["rows"]["key_reused.KEY_REUSED_DIFFERENT_PAYLOAD"] == 100_000
    assert of["rows"]["business_key.MONEY_SENT_REVIEW"] >= 99_999
    assert of["rows"]["near"] >= 199_998
    assert peak < 64 * 1024, peak


PAY = (
    b"INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, idempotency_key,"
    b" order_id, task_id, created_at)"
    b" SELECT 1, %s, 5, 'EUR', 'pending', n, n, n, now() FROM (SELECT %s) AS row (n) RETURNING id"
)


def pay(connection: "psycopg.Connection[Any]", number: int) -> None:
    """What a worker does: it makes a payment, sends it, and looks at what is pending."""
    row = connection.execute(PAY, (number, f"worker-{number}")).fetchone()
    connection.execute(b"UPDATE payouts SET status = 'paid' WHERE id = %s", row)
    connection.execute(b"SELECT id FROM payouts WHERE status = 'pending' ORDER BY created_at "
                       b"LIMIT 5").fetchall()  # fmt: skip


@pytest.mark.soak
def test_workers_go_on_while_a_million_rows_are_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for a lock for 2 s, no payment fails; their 99th percentile is printed."""
    with postgres.server(**datasets.SETTINGS) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        url, manifest = datasets.load(server, "payouts", Amount(rows=1_000_000, planted=True))
        readable(url)
        reader = url.replace("//owner@", "//reader@")
        text = (
            f"opskit: 1\nhosts: {{nowhere: 127.0.0.1}}\ndatabases: {{big: {{url: '{reader}'}}}}\n"
        )
        (tmp_path / "i.yaml").write_text(text)
        (tmp_path / "payouts.yaml").write_bytes(release.data("ledger/payouts.yaml"))
        desk = Desk(tmp_path, {"big": url}, {"big": manifest})
        said = []
        with writing(url, pay) as writer:
            for what in ("alone", "searched", "alone", "searched"):
                since, began = len(writer.times), time.monotonic()
                if what == "alone":
                    time.sleep(8)
                else:
                    desk.search("big", "-p", "full=true", status=1)
                took = time.monotonic() - began
                longest = 1000 * max(writer.times[since:])
                turns = writer.after(since)
                said.append(f"{what} for {took:.1f} s: {turns}, the longest {longest:.1f} ms")
                assert len(writer.times) - since > 50
        with capsys.disabled():
            sys.stdout.write("".join(f"\nbystander, {line}" for line in said) + "\n")
        assert writer.errors == []
        assert max(writer.times) < 2.0
