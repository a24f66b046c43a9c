"""Searching a ledger at a real server: what was planted is found, and nothing else."""

import contextlib
import hashlib
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opskit.drivers.postgres import search
from opskit.lab.fixtures import Amount
from opskit.model.ledger import Field, Match
from opskit.model.work import FileRef
from tests.support import datasets, postgres
from tests.support.database import ROLES
from tests.support.searching import (
    described,
    ids,
    kept,
    planted,
    readable,
    said,
    searched,
)

pytestmark = pytest.mark.acceptance
SHORT, LONG = "10 minutes", "25 hours"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        with psycopg.connect(found.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        yield found


def made(server: postgres.Server, name: str, amount: Amount) -> tuple[str, dict[str, Any]]:
    url, manifest = datasets.load(server, name, amount)
    readable(url)
    return url, manifest


@pytest.mark.parametrize(
    "amount",
    [
        Amount(rows=20_000, cases=5, planted=True),
        pytest.param(Amount(rows=1_000_000, cases=100, planted=True), marks=pytest.mark.soak),
    ],
    ids=["20,000 rows", "1,000,000 rows"],
)
def test_all_that_was_planted_is_found_and_nothing_else(
    server: postgres.Server, amount: Amount, tmp_path: Path
) -> None:
    url, manifest = made(server, "payouts", amount)
    output, printed = searched(url, described("payouts", tmp_path), tmp_path / "e", full=True)
    assert (output.outcome, output.evidence["level"]) == ("failed", "CRIT"), output.reason
    assert said(output, "same-key.csv") == planted(manifest, "A")
    for name, rule in (("business-key-1", "D"), ("provider-ref", "E"), ("task", "G")):
        assert ids(said(output, f"{name}.csv")) == ids(planted(manifest, rule)), printed
    for name, window in (("near", SHORT), ("near-day", LONG)):
        assert said(output, f"{name}.csv") == planted(manifest, "C", window)
    assert kept(output).manifest.counts["keyless"] == len(planted(manifest, "B"))
    assert kept(output).manifest.rows == amount.rows_of("payouts") + sum(
        len(group["rows"]) for group in manifest["groups"]
    )


@pytest.fixture(scope="module")
def payouts(server: postgres.Server) -> str:
    """A database with clean payouts, for what a test changes and takes back."""
    return made(server, "payouts", Amount(rows=500))[0]


def test_clean_payouts_are_ok_and_the_evidence_is_whole(payouts: str, tmp_path: Path) -> None:
    output, printed = searched(payouts, described("payouts", tmp_path), tmp_path / "e")
    assert (output.outcome, output.evidence["level"]) == ("succeeded", "OK"), printed
    found = kept(output)
    assert (found.manifest.rows, found.manifest.counts) == (500, {})
    assert re.fullmatch(r"\d\d\.\d+", found.manifest.source.server)
    assert found.manifest.source.system.isdigit()
    assert found.manifest.source.snapshot.count(":") == 2
    assert sum(total.rows for total in found.manifest.totals) == 500
    assert f"sha256 {found.digest}" in printed
    assert output.stdout.decode() == found.digest
    folder = Path(found.folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@contextlib.contextmanager
def changed(url: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Change the payouts, and put them back."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS TABLE payouts")
        try:
            for statement in statements:
                connection.execute(statement.encode())
            yield connection
        finally:
            connection.execute("TRUNCATE payouts")
            connection.execute("ALTER TABLE payouts ALTER amount TYPE numeric(12, 2)")
            connection.execute("INSERT INTO payouts TABLE kept")
            connection.execute("DROP TABLE kept")


FIRST = "(SELECT min(id) FROM payouts WHERE status = 'paid')"


def test_a_status_that_nobody_has_described_is_refused(payouts: str, tmp_path: Path) -> None:
    of = described("payouts", tmp_path)
    assert of.status is not None
    of = replace(of, status=replace(of.status, held=()))
    output, _ = searched(payouts, of, tmp_path / "e")
    assert output.outcome == "succeeded"
    with changed(payouts, f"UPDATE payouts SET status = 'held' WHERE id = {FIRST}"):
        output, printed = searched(payouts, of, tmp_path / "refused")
    assert (output.outcome, output.sent) == ("failed", False)
    assert "status 'held' is in none of the sets" in output.reason
    assert printed == ""
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"since": "2999-01-01T00:00:00+00:00"}, "that has not come"),
        ({"as_of": "2999-01-01T00:00:00+00:00"}, "that has not come"),
        ({"since": "60", "until": "3600"}, "nothing lies between"),
    ],
)
def test_a_period_that_is_none_is_refused(
    payouts: str, tmp_path: Path, how: dict[str, Any], told: str
) -> None:
    output, _ = searched(payouts, described("payouts", tmp_path), tmp_path / "e", **how)
    assert (output.outcome, output.sent, output.evidence) == (
        "failed",
        False,
        {"refused": True, "level": "UNKNOWN"},
    )
    assert told in output.reason
    assert not (tmp_path / "e").exists()


def test_evidence_that_can_not_be_kept_is_told_before_anything_is_asked(
    payouts: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    of = described("payouts", tmp_path)
    output, printed = searched(payouts, of, tmp_path / "file" / "e")
    assert (output.evidence, printed) == ({"refused": True, "level": "UNKNOWN"}, "")
    assert "no evidence can be kept" in output.reason


def test_no_rows_and_no_keys_are_unknown(payouts: str, tmp_path: Path) -> None:
    of = described("payouts", tmp_path)
    output, _ = searched(payouts, of, tmp_path / "e", until="2001-01-01T00:00:00+00:00")
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "no row to look at" in output.reason
    with changed(payouts, "UPDATE payouts SET idempotency_key = NULL WHERE id % 2 = 0"):
        assert searched(payouts, of, tmp_path / "e")[0].evidence["level"] == "WARN"
    with changed(payouts, "UPDATE payouts SET idempotency_key = ' ' WHERE status <> 'failed'"):
        assert searched(payouts, of, tmp_path / "e")[0].evidence["level"] == "UNKNOWN"


def test_a_superuser_does_not_search(payouts: str, tmp_path: Path) -> None:
    of = described("payouts", tmp_path)
    output, _ = searched(payouts, of, tmp_path / "e", user="owner")
    assert (output.sent, "which is a superuser" in output.reason) == (False, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": "payments"}, "there is no table public.payments"),
        ({"table": "payouts_created_idx"}, "payouts_created_idx is no table"),
        ({"task": Field(column="job")}, "has no column job (`task`) → it has id"),
        ({"key": Field(column="order_id", path=("a",))}, "and no JSON"),
        ({"created_at": "order_id"}, "order_id (`created_at`) is text, and no time"),
        ({"amount": "order_id"}, "order_id (`amount`) is text, and no amount"),
        ({"where": (Match(field=Field(column="id"), values=("x",)),)}, "invalid input syntax"),
        ({"table": 'payouts"; DROP TABLE payouts; --'}, "there is no table"),
    ],
)
def test_what_is_not_as_described_is_refused(
    payouts: str, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    of = replace(described("payouts", tmp_path), **change)
    output, _ = searched(payouts, of, tmp_path / "e")
    assert (output.outcome, output.evidence.get("refused")) == ("failed", True), output
    assert told in output.reason
    assert not (tmp_path / "e").exists()


def test_amounts_that_are_floats_are_refused_unless_the_description_takes_them(
    payouts: str, tmp_path: Path
) -> None:
    of = described("payouts", tmp_path)
    near = (
        "UPDATE payouts SET (payee_id, merchant_id, currency, amount, created_at) ="
        " (SELECT payee_id, merchant_id, currency, amount, created_at FROM payouts"
        f"  WHERE id = {FIRST}) WHERE id = {FIRST} + 1"
    )
    with changed(payouts, "ALTER TABLE payouts ALTER amount TYPE float8", near):
        output, _ = searched(payouts, of, tmp_path / "e")
        assert output.evidence == {"refused": True, "level": "UNKNOWN"}
        assert "two such amounts that look alike may differ" in output.reason
        output, printed = searched(payouts, replace(of, float_money=True), tmp_path / "e")
    assert output.evidence["level"] == "WARN"
    assert "float_money" in printed
    assert len(said(output, "near.csv")) == 2


def test_a_large_table_is_searched_only_where_somebody_has_said_how_far(
    payouts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = described("payouts", tmp_path)
    monkeypatch.setattr(search, "MOST", 499)
    output, _ = searched(payouts, of, tmp_path / "e")
    assert output.evidence == {"refused": True, "level": "UNKNOWN"}
    assert "more than 499 rows; " not in output.reason
    assert "has more than 499 rows → say since when" in output.reason
    for how in ({"full": True}, {"since": "2026-01-01T00:00:00+00:00"}):
        assert searched(payouts, of, tmp_path / "e", **how)[0].outcome == "succeeded"


def test_rows_that_a_policy_hides_are_not_passed_over(payouts: str, tmp_path: Path) -> None:
    of = described("payouts", tmp_path)
    with psycopg.connect(payouts, autocommit=True) as connection:
        connection.execute("ALTER TABLE payouts ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY half ON payouts USING (id % 2 = 0)")
        try:
            output, _ = searched(payouts, of, tmp_path / "e")
        finally:
            connection.execute("DROP POLICY half ON payouts")
            connection.execute("ALTER TABLE payouts DISABLE ROW LEVEL SECURITY")
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "row-level security" in output.reason


def test_a_search_that_takes_too_long_is_unknown_and_leaves_nothing(
    payouts: str, tmp_path: Path
) -> None:
    with psycopg.connect(payouts) as other:
        other.execute("LOCK TABLE payouts IN ACCESS EXCLUSIVE MODE")
        of = described("payouts", tmp_path)
        output, _ = searched(payouts, of, tmp_path / "e", patience=0.5)
        assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
        assert "statement timeout" in output.reason
        output, _ = searched(payouts, of, tmp_path / "e")
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    assert "somebody holds a lock" in output.reason
    assert not (tmp_path / "e").exists()


def settled(url: str, path: Path, *changes: str, currency: str = "EUR") -> FileRef:
    """Write what a provider says that it has paid: what is booked, after some changes to it."""
    with psycopg.connect(url) as connection:
        connection.execute(
            b"CREATE TEMPORARY TABLE settled AS SELECT provider_ref AS reference, amount, currency,"
            b" created_at + interval '5 minutes' AS paid_at, text 'paid' AS status FROM payouts"
            b" WHERE status IN ('paid', 'processing') AND currency = %s",
            [currency],
        )
        for change in changes:
            connection.execute(change.encode())
        with connection.cursor().copy(b"COPY settled TO STDOUT (FORMAT csv, HEADER)") as copy:
            path.write_bytes(b"".join(map(bytes, copy)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileRef(path=str(path), size=path.stat().st_size, sha256=digest)


def test_a_ledger_is_compared_with_what_its_provider_has_paid(payouts: str, tmp_path: Path) -> None:
    of = described("payouts", tmp_path)
    path = tmp_path / "settled.csv"
    output, printed = searched(payouts, of, tmp_path / "e", provider=settled(payouts, path))
    assert output.evidence["level"] == "WARN", printed  # long ago: the file ends before today
    assert "provider_period" in printed
    found = kept(output)
    assert found.manifest.asked["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(found.rows("provider.csv")) == []
    assert found.manifest.counts["provider.OK"] > 100
    ref = settled(
        payouts, path,
        "INSERT INTO settled VALUES ('stranger', 7, 'EUR', '2026-02-01', 'paid'),"
        " ('not-paid', 7, 'USD', '2026-02-01', 'rejected')",
        "UPDATE settled SET amount = amount + 1 WHERE reference = 'ref-103'",
        "DELETE FROM settled WHERE reference = 'ref-107'",
    )  # fmt: skip
    late = "2026-03-31T00:00:00+00:00"
    with changed(payouts, "UPDATE payouts SET provider_ref = 'ref-111' WHERE id = 131"):
        output, printed = searched(payouts, of, tmp_path / "e", provider=ref, until=late)
    verdicts = {(r["verdict"], r["reference"]) for r in kept(output).rows("provider.csv")}
    assert verdicts == {
        ("PROVIDER_ONLY", "stranger"), ("AMOUNT_DIFFERS", "ref-103"), ("LEDGER_ONLY", "ref-107"),
        ("LEDGER_DUPLICATE", "ref-111"), ("PROVIDER_ONLY", "ref-131"),
    }, printed  # fmt: skip
    assert output.evidence["level"] == "CRIT"
    assert "provider_period" not in printed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE settled SET amount = amount * 100", "the file's amounts are 10^2 times"),
        ("INSERT INTO settled SELECT 'x', 1, 'USD', now(), 'paid'", "in EUR and in USD"),
        ("ALTER TABLE settled RENAME paid_at TO at", "no 'paid_at'"),
        ("UPDATE settled SET amount = amount / 3", "digits"),
        ("UPDATE settled SET currency = 'eur'", "the file's currency is 'eur', and the ledger"),
    ],
)
def test_a_provider_s_file_that_says_something_else_is_refused(
    payouts: str, tmp_path: Path, change: str, told: str
) -> None:
    change = change.replace("amount / 3", "amount / 3.0")
    ref = settled(
        payouts, tmp_path / "f.csv", "ALTER TABLE settled ALTER amount TYPE numeric", change
    )
    output, printed = searched(
        payouts, described("payouts", tmp_path), tmp_path / "e", provider=ref
    )
    assert (output.evidence, printed) == ({"refused": True, "level": "UNKNOWN"}, "")
    assert told in output.reason
    assert not list((tmp_path / "e").glob("*"))
