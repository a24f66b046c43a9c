"""What the rules answer, written into the evidence row by row and counted on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from opskit.drivers.evidence import Folder
from opskit.drivers.postgres import rules
from opskit.drivers.postgres.connection import Row

NAMES = ("near", "near-day")
"""The tables of the two passes for near payments."""


class Tally:
    """Writes the rows of a rule, and counts them by what is said of them."""

    def __init__(
        self, folder: Folder, mask: Sequence[str], name: str, columns: Sequence[str]
    ) -> None:
        self._sheet = folder.sheet(name, columns, mask)
        self._amount, self._currency = _at(columns, "amount"), _at(columns, "currency")
        self.rows: Counter[str] = Counter()
        self.sums: dict[str, dict[str, Decimal]] = {}

    def row(self, row: Row) -> None:
        cells = texts(row)
        verdict = cells[0]
        self._sheet.row(cells)
        self.rows[verdict] += 1
        sums = self.sums.setdefault(verdict, {})
        if self._amount >= 0:
            currency = cells[self._currency]
            sums[currency] = sums.get(currency, Decimal(0)) + Decimal(cells[self._amount] or 0)


class Pass:
    """Writes what one of the two passes for near payments says."""

    def __init__(
        self,
        folder: Folder,
        mask: Sequence[str],
        columns: Sequence[str],
        *,
        number: int,
        window: float,
    ) -> None:
        name = NAMES[number]
        self.name, self.window = name, window
        self._sheet = folder.sheet(f"{name}.csv", [*rules.NEAR, *columns], mask)
        self._said = slice(number * len(rules.NEAR), (number + 1) * len(rules.NEAR))
        self._differ, self._shown = 2 * len(rules.NEAR) + number, 2 * len(rules.NEAR) + 2
        self._amount, self._currency = _at(columns, "amount"), _at(columns, "currency")
        self._last = ""
        self._part: tuple[str, str] = ("", "")
        self.rows = self.sessions = 0
        self.longest = ""
        self._longest = timedelta()
        self.sums: dict[str, Decimal] = {}

    def row(self, cells: Sequence[str]) -> None:
        session, count, span, part, _ = said = cells[self._said]
        if int(count) < 2 or cells[self._differ] != "t":
            return
        shown = cells[self._shown :]
        self._sheet.row([*said, *shown])
        self.rows += 1
        self.sessions += session != self._last
        if (session, part) == self._part:  # all but the first of a part may be one too many
            currency = shown[self._currency]
            more = Decimal(shown[self._amount] or 0)
            self.sums[currency] = self.sums.get(currency, Decimal(0)) + more
        elif (length := _length(span)) >= self._longest:
            self._longest, self.longest = length, span
        self._last, self._part = session, (session, part)


def _length(span: str) -> timedelta:
    """Read an interval as the server writes it: `2 days 00:10:00.5`."""
    days, _, rest = span.rpartition(" ")
    hours, minutes, seconds = rest.split(":")
    time = timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return time + timedelta(days=int(days.split()[0]) if days else 0)


def _at(columns: Sequence[str], name: str) -> int:
    return columns.index(name) if name in columns else -1


def texts(row: Row) -> list[str]:
    return ["" if cell is None else cell.decode() for cell in row]


def money(sums: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{amount} {currency}".strip() for currency, amount in sorted(sums.items()))


def moment(text: str) -> datetime:
    """Read a time as the server or a file writes it."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def iso(text: str) -> str:
    return written(moment(text)) if text else ""


def added(
    before: tuple[int, Decimal | None] | None, rows: int, amount: Decimal | None
) -> tuple[int, Decimal | None]:
    """Add rows and their amount to what there is; without an amount there is none."""
    count, there = before or (0, None)
    return count + rows, there if amount is None else (there or 0) + amount
