"""The rules at a real server: on random rows they say what a plain program says in memory."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from opskit.model.ledger import Field, Ledger, Match, Repeat, Status
from tests.support import datasets, oracle, postgres
from tests.support.database import ROLES
from tests.support.oracle import Payment
from tests.support.searching import ids, kept, readable, said, searched

pytestmark = pytest.mark.acceptance
COLUMNS = (
    "scope integer, payee integer, amount numeric(12, 2), currency text, status text NOT NULL,"
    ' "Key" text, ref varchar(20), data jsonb, "order" text, at timestamptz NOT NULL'
)
LEDGER = Ledger(
    schema="public", table="Pay Outs", id="id", key=Field(column="Key"), created_at="at",
    scope=(Field(column="scope"),), payee=Field(column="payee"), amount="amount",
    currency=Field(column="currency"), provider_ref=Field(column="ref"),
    business_keys=((Field(column="order"),),), task=Field(column="data", path=("job", "task")),
    status=Status(
        column="status", settled=("paid",), sent=("processing",), pending=("pending",),
        void=("failed",),
    ),
)  # fmt: skip
START = datetime(2026, 1, 1, tzinfo=UTC)
SHORT, DAY = timedelta(minutes=10), timedelta(hours=25)
INDEXES = (
    'CREATE INDEX ON "Pay Outs" (scope, "Key")',
    'CREATE INDEX ON "Pay Outs" (at)',
    'CREATE INDEX ON "Pay Outs" (ref)',
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.server(**datasets.SETTINGS) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        yield server.database(empty=True)


def table(url: str, payments: list[Payment], *more: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute('DROP TABLE IF EXISTS "Pay Outs"')
        connection.execute(f'CREATE TABLE "Pay Outs" (id integer PRIMARY KEY, {COLUMNS})'.encode())
        for p in payments:
            data = None if p.task is None else Jsonb({"job": {"task": p.task}})
            values = [p.id, p.scope, p.payee, p.amount, p.currency, p.status, p.key, p.ref, data,
                      p.order, p.at]  # fmt: skip
            connection.execute(
                b'INSERT INTO "Pay Outs" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)',
                values,
            )
        for statement in more:
            connection.execute(statement.encode())
    readable(url)


def some(seed: int) -> list[Payment]:
    """Return rows of which many share something, near the edges of both windows."""
    chance = random.Random(seed)
    gaps = [0, 1, 599, 600, 601, 3600, 25 * 3600 - 1, 25 * 3600, 25 * 3600 + 1, 90_000]
    at = START
    rows = []
    for number in range(chance.choice([2, 10, 60, 150])):
        at += timedelta(seconds=chance.choice(gaps) * chance.choice([1, 1, 0.5]))
        rows.append(
            Payment(
                id=number * 7 % 1009, scope=chance.choice([1, 1, 2, None]),
                payee=chance.choice([1, 2, None]),
                amount=chance.choice([Decimal(5), Decimal("5.00"), Decimal("5.01"), None]),
                currency=chance.choice(["EUR", "EUR", "USD", None]),
                status=chance.choice([*oracle.RANK, "paid", "failed"]),
                key=chance.choice([None, "", " \t", "k1", "k2", "k1 ", f"own-{number}"]),
                ref=chance.choice([None, "", "r1", f"r-{number}", f"r-{number}"]),
                order=chance.choice([None, "  ", "o1", f"o-{number}"]),
                task=chance.choice([None, "", "t1", f"t-{number}"]), at=at,
            )
        )  # fmt: skip
    chance.shuffle(rows)
    return rows


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(s, marks=pytest.mark.soak) for s in range(8, 300))]
)
def test_random_rows_are_told_of_as_a_plain_program_does(
    url: str, seed: int, tmp_path: Path
) -> None:
    rows = some(seed)
    table(url, rows, *(INDEXES if seed % 2 else ()))
    output, printed = searched(url, LEDGER, tmp_path / "e")
    assert "manifest" in output.evidence, output.reason
    assert said(output, "same-key.csv") == oracle.same_key(rows), printed
    for name, of in (("business-key-1", "order"), ("provider-ref", "ref"), ("task", "task")):
        assert ids(said(output, f"{name}.csv")) == oracle.twice(rows, of), name
    assert ids(said(output, "near.csv")) == oracle.near(rows, SHORT)
    assert ids(said(output, "near-day.csv")) == oracle.near(rows, DAY)
    keyless = sum(row.live and not row.keyed for row in rows)
    assert kept(output).manifest.counts.get("keyless", 0) == keyless
    assert kept(output).manifest.rows == len(rows)
    inside = [row for row in rows if START + SHORT <= row.at < START + 3 * DAY]
    output, _ = searched(
        url, LEDGER, tmp_path / "e", since=str(START + SHORT), until=str(START + 3 * DAY)
    )
    assert said(output, "same-key.csv") == oracle.same_key(inside)
    assert kept(output).manifest.rows == len(inside)


def payment(id_: int, seconds: float = 0, **of: Any) -> Payment:  # noqa: ANN401 - its fields
    row = Payment(
        id=id_, scope=1, payee=1, amount=Decimal(5), currency="EUR", status="paid",
        key=f"k{id_}", ref=None, order=None, task=None, at=START + timedelta(seconds=seconds),
    )  # fmt: skip
    return replace(row, **of)


def parts(output: Any) -> list[tuple[str, ...]]:  # noqa: ANN401 - an Output
    names = ("id", "session", "rows", "span", "part", "part_rows")
    return [tuple(row[name] for name in names) for row in kept(output).rows("near.csv")]


def test_a_long_chain_is_shown_in_parts_that_are_no_longer_than_six_windows(
    url: str, tmp_path: Path
) -> None:
    table(url, [payment(n, 600 * n) for n in range(9)])
    output, printed = searched(url, LEDGER, tmp_path / "e", leave_out=("near_day",))
    assert parts(output) == [
        *((str(n), "1", "9", "01:20:00", "1", "6") for n in range(6)),
        *((str(n), "1", "9", "01:20:00", "2", "3") for n in range(6, 9)),
    ]
    assert "9 rows, 35.00 EUR: 1 groups" in printed  # the first of each part is not too many
    assert "the longest over 01:20:00" in printed


def test_a_wide_window_is_the_only_one(url: str, tmp_path: Path) -> None:
    table(url, [payment(1), payment(2, 40 * 3600), payment(3, 100 * 3600)])
    output, _ = searched(url, LEDGER, tmp_path / "e", window=2 * 86400.0)
    assert ids(said(output, "near.csv")) == {1, 2}
    names = {piece.name for piece in kept(output).manifest.pieces}
    assert "near-day.csv" not in names


def test_near_rows_without_a_key_are_told_of_and_those_of_one_key_are_not(
    url: str, tmp_path: Path
) -> None:
    rows = [payment(1, key=None), payment(2, 1, key=""), payment(3, key="k", payee=2),
            payment(4, 1, key="k", payee=2)]  # fmt: skip
    table(url, rows)
    output, _ = searched(url, LEDGER, tmp_path / "e")
    assert ids(said(output, "near.csv")) == {1, 2}
    assert ids(said(output, "same-key.csv")) == {3, 4}


def test_what_may_come_again_is_left_out_of_near_payments_only(url: str, tmp_path: Path) -> None:
    rows = [payment(1, order="pay-1"), payment(2, 1, order="pay-2"), payment(3, order="x", payee=2),
            payment(4, 1, order="y", payee=2), payment(5, key="k", order="pay-3"),
            payment(6, key="k", order="pay-4")]  # fmt: skip
    table(url, rows)
    allow = (
        Repeat(
            why="Salaries",
            where=(Match(field=Field(column="order"), values=("z",), prefixes=("pay-",)),
                   Match(field=Field(column="payee"), values=("1",))),
        ),
    )  # fmt: skip
    output, printed = searched(url, replace(LEDGER, allow=allow), tmp_path / "e")
    assert ids(said(output, "near.csv")) == {3, 4}
    assert ids(said(output, "same-key.csv")) == {5, 6}
    assert "4 may repeat" in printed


def test_cells_are_masked_and_no_formula(url: str, tmp_path: Path) -> None:
    rows = [payment(1, key="=cmd()", order="DE89370400440532013000"),
            payment(2, key="=cmd()", order="DE89370400440532013001")]  # fmt: skip
    table(url, rows)
    of = replace(LEDGER, mask=(Field(column="order"),), business_keys=())
    output, printed = searched(url, of, tmp_path / "e")
    text = (Path(kept(output).folder) / "same-key.csv").read_text()
    assert ",'=cmd()," in text
    assert "****3001" in text
    assert not any("0440532" in p.read_text() for p in Path(kept(output).folder).iterdir())
    assert "0440532" not in printed + output.reason + str(output.evidence)
    assert [row["Key"] for row in kept(output).rows("same-key.csv")] == ["=cmd()", "=cmd()"]


def test_a_key_of_another_type_and_a_partitioned_table_are_searched_too(
    url: str, tmp_path: Path
) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            b"""DROP TABLE IF EXISTS parted;
            CREATE TYPE state AS ENUM ('done', 'open');
            CREATE DOMAIN money_of AS numeric CHECK (value > 0);
            CREATE TABLE parted (n bigint, k uuid, a money_of, s state, at timestamp NOT NULL,
                flag boolean) PARTITION BY RANGE (at);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO
                ('2026-02-01');
            CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
            INSERT INTO parted SELECT g, md5((g % 2)::text)::uuid, 5, 'done',
                timestamp '2026-01-31 23:59:59' + g * interval '1 s', g > 1
            FROM generate_series(0, 2) g"""
        )
    readable(url)
    of = Ledger(
        schema="public", table="parted", id="n", key=Field(column="k"), created_at="at",
        amount="a", code="EUR", payload=(Field(column="flag"),),
        status=Status(column="s", settled=("done",), pending=("open",)),
    )  # fmt: skip
    output, _ = searched(url, of, tmp_path / "e")
    assert said(output, "same-key.csv") == {
        (0, "SURVIVOR"), (2, "KEY_REUSED_DIFFERENT_PAYLOAD"),
    }  # fmt: skip
    output, _ = searched(url, replace(of, payload=()), tmp_path / "e")
    assert (2, "MONEY_SENT_REVIEW") in said(output, "same-key.csv")
