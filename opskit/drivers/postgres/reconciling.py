"""A ledger beside what its provider says that it has paid, both sorted by reference."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from opskit.drivers.postgres.provided import File, Paid, digits
from opskit.drivers.postgres.query import Period
from opskit.model.frozen import frozen

OK, LEDGER_ONLY, PROVIDER_ONLY = "OK", "LEDGER_ONLY", "PROVIDER_ONLY"
DIFFERS, TWICE = "AMOUNT_DIFFERS", "LEDGER_DUPLICATE"
COLUMNS = (
    "verdict", "reference", "id", "status", "created_at", "ledger_amount", "ledger_currency",
    "provider_amount", "provider_currency", "provider_time", "provider_line",
)  # fmt: skip
_FEW = 3
_MOST = 0.9


@frozen
class Booked:
    """A row of the ledger. `inside`: the provider's file must have it."""

    reference: str
    id: str
    amount: Decimal | None
    currency: str
    status: str
    time: str
    inside: bool


class Merge:
    """Takes the ledger's rows in the order of their references, and tells of each what it is."""

    def __init__(self, file: File, period: Period, tell: Callable[[Sequence[str]], None]) -> None:
        """`period`: when a payment was made that the ledger must have."""
        self._file = file
        self._period = period
        self._tell = tell
        self._paid: Iterator[Paid] = file.sorted()
        self._next = next(self._paid, None)
        self._last = ""
        self._factors: Counter[int] = Counter()
        self.spelt = ""
        """How the ledger writes the file's currency, where that is in other letters."""
        self.counts: Counter[str] = Counter()
        self.sums: dict[str, Decimal] = {}

    def row(self, booked: Booked) -> None:
        """Take the next row of the ledger."""
        code = self._file.currency
        if booked.currency != code and booked.currency.strip().casefold() == code.casefold():
            self.spelt = booked.currency
        if booked.reference == self._last:
            self._say(TWICE, booked, None)
            return
        self._pass(booked.reference.encode())
        self._last = booked.reference
        paid = self._next
        if paid is not None and paid.reference == booked.reference:
            self._next = next(self._paid, None)
            self._say(OK if self._equal(booked, paid) else DIFFERS, booked, paid)
        elif booked.inside and booked.currency == self._file.currency:
            self._say(LEDGER_ONLY, booked, None)

    def end(self) -> None:
        self._pass(None)

    def factor(self) -> int:
        """Return by which power of ten nearly all amounts differ: 0, unless units were mixed up."""
        matched = self.counts[OK] + self.counts[DIFFERS]
        power, count = max(self._factors.items(), key=lambda f: f[1], default=(0, 0))
        return power if count >= _FEW and count >= _MOST * matched else 0

    def _pass(self, reference: bytes | None) -> None:
        """Tell of what was paid before a reference, and has no row in the ledger."""
        while self._next is not None:
            if reference is not None and self._next.reference.encode() >= reference:
                return
            time = self._next.time
            since, until = self._period.since, self._period.until
            if (not since or time >= since) and (not until or time < until):
                self._say(PROVIDER_ONLY, None, self._next)
            self._next = next(self._paid, None)

    def _equal(self, booked: Booked, paid: Paid) -> bool:
        if booked.amount is None or booked.currency != self._file.currency:
            return False
        power = digits(self._file.currency)
        if booked.amount != paid.amount and power:
            for sign in (power, -power):
                if booked.amount.scaleb(sign) == paid.amount:
                    self._factors[sign] += 1
        return booked.amount == paid.amount

    def _say(self, verdict: str, booked: Booked | None, paid: Paid | None) -> None:
        self.counts[verdict] += 1
        if verdict == OK:
            return
        amount = paid.amount if paid is not None else booked.amount if booked is not None else None
        self.sums[verdict] = self.sums.get(verdict, Decimal(0)) + (amount or 0)
        ledger = ["", "", "", "", ""]
        if booked is not None:
            amount_text = "" if booked.amount is None else str(booked.amount)
            ledger = [booked.id, booked.status, booked.time, amount_text, booked.currency]
        provider = ["", "", "", ""]
        if paid is not None:
            provider = [str(paid.amount), self._file.currency, paid.time, str(paid.line)]
        reference = booked.reference if booked is not None else paid.reference if paid else ""
        self._tell([verdict, reference, *ledger, *provider])
