"""A provider's file: what is in it is checked, sorted, and compared with the ledger."""

import csv
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from opskit.drivers.postgres import provided
from opskit.drivers.postgres.provided import Paid, ProviderError, read
from opskit.drivers.postgres.query import Period
from opskit.drivers.postgres.reconciling import Booked, Merge
from opskit.model.ledger import Field, Match, Provider
from opskit.model.work import FileRef

PROVIDER = Provider(
    reference="ref", amount="value", currency="ccy", time="paid_at",
    where=(Match(field=Field(column="state"), values=("paid",)),),
)  # fmt: skip
HEAD = "ref,value,ccy,paid_at,state"
START = datetime(2026, 1, 1, tzinfo=UTC)


def ref(path: Path, text: str | bytes) -> FileRef:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(data)
    return FileRef(path=str(path), size=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def test_a_file_is_sorted_by_the_bytes_of_its_references_in_small_pieces(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provided, "_CHUNK", 7)
    chance = random.Random(1)
    names = [f"{chance.choice(['a', 'B', 'ä', 'a b', 'ab'])}{n}" for n in range(50)]
    lines = [f"{name},{n}.50,EUR,2026-01-02T00:00:{n:02},paid" for n, name in enumerate(names)]
    lines += ["x,1,EUR,2025-01-01,open", '"with, comma",1.00,EUR,2026-01-01,paid']
    found = read(ref(tmp_path / "f.csv", "\n".join([HEAD, *lines]) + "\n"), PROVIDER, stack)
    back = list(found.sorted())
    assert (found.rows, found.currency, len(found.runs)) == (51, "EUR", 8)
    assert [p.reference for p in back] == sorted([*names, "with, comma"], key=str.encode)
    assert {p.reference: p.amount for p in back}[names[7]] == Decimal("7.50")
    assert found.first.startswith("2026-01-01T00:00:00")
    assert [p.line for p in back if p.reference == "with, comma"] == [53]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its heading has no 'ref'"),
        ("ref,value,ccy,paid_at\n", "has no 'state'"),
        (f"{HEAD},ref\n", "more than one 'ref'"),
        (f"{HEAD}\n", "no row of it counts"),
        (f"{HEAD}\na,1,EUR,2026-01-01\n", "f.csv:2: it has 4 columns only"),
        (f"{HEAD}\na,1,EUR,2026-01-01,paid\nb,1,USD,2026-01-01,paid\n", "in EUR and in USD"),
        (f"{HEAD}\na,1.005,EUR,2026-01-01,paid\n", "more than 2 digits"),
        (f"{HEAD}\na,1.5,JPY,2026-01-01,paid\n", "more than 0 digits"),
        (f'{HEAD}\na,"1.234,50",EUR,2026-01-01,paid\n', "is no amount"),
        (f"{HEAD}\na,NaN,EUR,2026-01-01,paid\n", "is no amount"),
        (f"{HEAD}\na,1e3,EUR,2026-01-01,paid\n", "is no amount"),
        (f"{HEAD}\na,1,EUR,01/02/2026,paid\n", "is no time"),
        (f"{HEAD}\na,1,,2026-01-01,paid\n", "it has no currency"),
        (f'{HEAD}\n"a\tb",1,EUR,2026-01-01,paid\n', "no such reference"),
        (f"{HEAD}\n".encode() + b"\xff,1,EUR,2026-01-01,paid\n", "no CSV file in UTF-8"),
        (f'{HEAD}\n"a"b,1,EUR,2026-01-01,paid\n', "no CSV file in UTF-8"),
        (f"{HEAD}\na,1,EUR,2026-01-01,paid\n".encode("utf-16"), "→ save it as UTF-8"),
        (f"{HEAD}\na,1,EUR,2026-01-01,paid\n".replace("\n", "\r"), "end with CR alone"),
        (HEAD.replace(",", ";"), "it has ';' between its columns: save it with commas"),
        (f"{HEAD}\na,1,EUR,0001-01-01T00:00+05:00,paid\n", "is no time"),
    ],
)
def test_a_file_that_is_not_as_described_is_refused_with_its_line(
    tmp_path: Path, stack: ExitStack, text: str | bytes, told: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ref(tmp_path / "f.csv", text), PROVIDER, stack)
    assert told in caught.value.line


def test_a_mark_of_utf8_crlf_and_empty_lines_are_no_fault(tmp_path: Path, stack: ExitStack) -> None:
    text = f"\ufeff{HEAD}\n\na,1,EUR,2026-01-01,paid\n\n".replace("\n", "\r\n")
    (paid,) = read(ref(tmp_path / "f.csv", text), PROVIDER, stack).sorted()
    assert (paid.reference, paid.line) == ("a", 3)


def test_a_file_that_has_changed_since_the_plan_is_refused(
    tmp_path: Path, stack: ExitStack
) -> None:
    text = f"{HEAD}\na,1,EUR,2026-01-01,paid\n"
    old = ref(tmp_path / "f.csv", text)
    ref(tmp_path / "f.csv", text.replace("a,1", "a,2"))
    with pytest.raises(ProviderError, match="has changed since the plan"):
        read(old, PROVIDER, stack)


@pytest.mark.parametrize(
    ("currency", "written", "amount"), [("EUR", "150", "1.50"), ("JPY", "150", "150"),
                                        ("KWD", "1500", "1.500")],
)  # fmt: skip
def test_minor_units_are_those_of_the_currency(
    tmp_path: Path, stack: ExitStack, currency: str, written: str, amount: str
) -> None:
    minor = Provider(reference="ref", amount="value", currency="ccy", time="paid_at", unit="minor")
    text = f"{HEAD}\na,{written},{currency},2026-01-01,paid\n"
    (paid,) = read(ref(tmp_path / "f.csv", text), minor, stack).sorted()
    assert paid.amount == Decimal(amount)
    with pytest.raises(ProviderError, match="no whole number of minor units"):
        read(ref(tmp_path / "f.csv", text.replace(written, "1.5")), minor, stack)


Row = tuple[str, str, str, bool]
"""A row of the ledger: reference, amount, currency, whether the file must have it."""


def merged(
    tmp_path: Path, paid: Sequence[tuple[str, str]], booked: Sequence[Row], period: Period
) -> tuple[Merge, list[tuple[str, str]]]:
    """Compare; return what was said of which reference."""
    lines = [f"{r},{a},EUR,{START + timedelta(hours=n)},paid" for n, (r, a) in enumerate(paid)]
    told: list[tuple[str, str]] = []
    with ExitStack() as stack:
        file = read(ref(tmp_path / "f.csv", "\n".join([HEAD, *lines])), PROVIDER, stack)
        merge = Merge(file, period, lambda row: told.append((row[0], row[1])))
        for number, (name, amount, currency, inside) in enumerate(
            sorted(booked, key=lambda b: b[0].encode())
        ):
            merge.row(
                Booked(
                    reference=name, id=str(number), amount=Decimal(amount), currency=currency,
                    status="paid", time="2026-01-01", inside=inside,
                )
            )  # fmt: skip
        merge.end()
    return merge, told


def test_each_reference_gets_its_verdict(tmp_path: Path) -> None:
    merge, told = merged(
        tmp_path,
        [("both", "1"), ("gone", "2"), ("less", "3"), ("twice", "4"), ("paid2", "5"),
         ("paid2", "5"), ("usd", "6"), ("zz", "7"), ("", "8")],
        [("both", "1.00", "EUR", True), ("less", "3.01", "EUR", True), ("twice", "4", "EUR", True),
         ("twice", "4", "EUR", True), ("paid2", "5", "EUR", True), ("usd", "6", "USD", True),
         ("mine", "9", "EUR", True), ("edge", "9", "EUR", False), ("other", "9", "USD", True)],
        Period(),
    )  # fmt: skip
    assert sorted(told) == [
        ("AMOUNT_DIFFERS", "less"), ("AMOUNT_DIFFERS", "usd"), ("LEDGER_DUPLICATE", "twice"),
        ("LEDGER_ONLY", "mine"), ("PROVIDER_ONLY", ""), ("PROVIDER_ONLY", "gone"),
        ("PROVIDER_ONLY", "paid2"), ("PROVIDER_ONLY", "zz"),
    ]  # fmt: skip
    assert merge.counts["OK"] == 3
    assert merge.sums["PROVIDER_ONLY"] == Decimal(22)


def test_what_was_paid_outside_the_period_is_not_missed(tmp_path: Path) -> None:
    paid = [(f"r{n}", "1") for n in range(6)]  # one each hour
    at = [(START + timedelta(hours=n)).isoformat(timespec="microseconds") for n in range(6)]
    _, told = merged(tmp_path, paid, [], Period(since=at[2], until=at[4]))
    assert told == [("PROVIDER_ONLY", "r2"), ("PROVIDER_ONLY", "r3")]


@pytest.mark.parametrize(("times", "power"), [(100, 2), (Decimal("0.01"), -2), (10, 0), (1, 0)])
def test_amounts_in_other_units_are_noticed(
    tmp_path: Path, times: Decimal | int, power: int
) -> None:
    paid = [(f"r{n}", str((n + 1) * 100 * times)) for n in range(20)]
    booked = [(f"r{n}", str((n + 1) * 100), "EUR", True) for n in range(20)]
    merge, _ = merged(tmp_path, paid, booked, Period())
    assert merge.factor() == power


def test_one_amount_that_is_a_hundred_times_too_much_is_no_other_unit(tmp_path: Path) -> None:
    paid = [(f"r{n}", "1") for n in range(19)] + [("s", "100"), ("t", "100")]
    booked = [(name, "1", "EUR", True) for name, _ in paid]
    merge, told = merged(tmp_path, paid, booked, Period())
    assert (merge.factor(), len(told)) == (0, 2)


def test_a_row_of_a_file_comes_back_from_the_disk_as_it_was(
    tmp_path: Path, stack: ExitStack
) -> None:
    with (tmp_path / "f.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD.split(","))
        writer.writerow(
            [" ä,b\u2028c ", "-1.50", "EUR", "2026-01-01T00:00:00.123456-05:00", "paid"]
        )
    data = (tmp_path / "f.csv").read_bytes()
    (paid,) = read(ref(tmp_path / "f.csv", data), PROVIDER, stack).sorted()
    when = "2026-01-01T05:00:00.123456+00:00"
    assert paid == Paid(reference="ä,b\u2028c", amount=Decimal("-1.50"), time=when, line=2)
