"""What a provider says that it has paid: its CSV file, checked and sorted by reference."""

import csv
import hashlib
import heapq
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

from opskit.errors import InputError
from opskit.model.frozen import frozen, mutable
from opskit.model.ledger import Provider
from opskit.model.work import FileRef

_CHUNK = 50_000
"""So many rows are sorted at a time: what is in memory does not grow with the file."""
_WHOLE = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
     "VUV", "XAF", "XOF", "XPF"}
)  # fmt: skip
_THREE = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_AMOUNT = re.compile(r"(?a)-?\d{1,20}(\.\d{1,20})?")
_CONTROL = dict.fromkeys((*range(32), 127))


class ProviderError(InputError):
    """The file is not what the ledger's description says; nothing was compared."""


def digits(currency: str) -> int:
    """Return how many digits after the point a currency has (ISO 4217)."""
    return 0 if currency in _WHOLE else 3 if currency in _THREE else 2


@frozen
class Paid:
    """A row of the file. `line`: where it stands there."""

    reference: str
    amount: Decimal
    time: str
    line: int


@mutable
class File:
    """A file that was read: one currency, and from when to when its payments are."""

    currency: str = ""
    rows: int = 0
    first: str = ""
    last: str = ""
    runs: list[BinaryIO]

    def sorted(self) -> Iterator[Paid]:
        """Yield the rows by their references, as bytes."""
        for run in self.runs:
            run.seek(0)
        yield from map(_unpacked, heapq.merge(*self.runs))


def read(ref: FileRef, provider: Provider, stack: ExitStack) -> File:
    """Read all of it; ProviderError says what is wrong and in which line.

    What it is sorted with goes when `stack` does.
    """
    made, chunk = File(runs=[]), []
    for paid, currency in _rows(ref, provider):
        if made.currency not in ("", currency):
            told = f"it has payments in {made.currency} and in {currency}"
            raise _wrong(ref, paid.line, told, "one file for each currency, each a step")
        made.currency, made.rows = currency, made.rows + 1
        made.first = min(made.first or paid.time, paid.time)
        made.last = max(made.last, paid.time)
        chunk.append(_packed(paid))
        if len(chunk) >= _CHUNK:
            made.runs.append(_spilled(chunk, stack))
            chunk = []
    if chunk:
        made.runs.append(_spilled(chunk, stack))
    if not made.rows:
        raise ProviderError("no row of it counts", where=ref.path, hint="see `provider: where`")
    return made


def _spilled(chunk: list[bytes], stack: ExitStack) -> BinaryIO:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    file.writelines(sorted(chunk))
    return file


def _packed(paid: Paid) -> bytes:
    words = (paid.reference, paid.time, str(paid.line), str(paid.amount))
    return "\t".join(words).encode() + b"\n"


def _unpacked(line: bytes) -> Paid:
    reference, time, number, amount = line.decode().rstrip("\n").split("\t")
    return Paid(reference=reference, amount=Decimal(amount), time=time, line=int(number))


def _rows(ref: FileRef, provider: Provider) -> Iterator[tuple[Paid, str]]:
    digest = hashlib.sha256()
    try:
        with Path(ref.path).open("rb") as file:
            lines = csv.reader(_decoded(file, digest), strict=True)
            places = _places(ref, provider, next(lines, []))
            count = max(places.values()) + 1
            for cells in lines:
                if not cells:  # an empty line
                    continue
                if len(cells) < count:
                    raise _wrong(ref, lines.line_num, f"it has {len(cells)} columns only")
                row = {name: cells[at].strip() for name, at in places.items()}
                if all(row[match.field.column] in match.values for match in provider.where):
                    yield _row(ref, provider, row, lines.line_num)
    except OSError as error:
        raise ProviderError(f"it can't be read: {error.strerror}", where=ref.path) from None
    except (csv.Error, UnicodeDecodeError) as error:
        why = "lines end with CR alone" if "new-line" in str(error) else str(error)
        hint = "save it as UTF-8, with commas between and a line for each payment"
        told = f"it is no CSV file in UTF-8: {why}"
        raise ProviderError(told, where=ref.path, hint=hint) from None
    if digest.hexdigest() != ref.sha256:
        hint = "run it again: the plan is about the file as it was"
        raise ProviderError("it has changed since the plan was made", where=ref.path, hint=hint)


def _decoded(file: BinaryIO, digest: "hashlib._Hash") -> Iterator[str]:
    for number, line in enumerate(file):
        digest.update(line)
        yield line.decode("utf-8-sig" if number == 0 else "utf-8")


def _places(ref: FileRef, provider: Provider, heading: Sequence[str]) -> Mapping[str, int]:
    """Find the columns that are needed; each must be there once."""
    names = [cell.strip() for cell in heading]
    needed = [provider.reference, provider.amount, provider.currency, provider.time]
    needed += [match.field.column for match in provider.where]
    for name in needed:
        if names.count(name) != 1:
            told = f"its heading has {'no' if name not in names else 'more than one'} {name[:60]!r}"
            hint = f"it has {', '.join(names)[:300] or 'none'}"
            if other := next(
                (
                    c
                    for c in ";\t|"
                    if len(heading) == 1 and heading[0].count(c) >= len(set(needed)) - 1
                ),
                "",
            ):
                hint = f"it has {other!r} between its columns: save it with commas"
            raise ProviderError(told, where=f"{ref.path}:1", hint=hint)
    return {name: names.index(name) for name in needed}


def _row(ref: FileRef, provider: Provider, row: Mapping[str, str], line: int) -> tuple[Paid, str]:
    currency = row[provider.currency]
    reference, when = row[provider.reference], row[provider.time]
    if not currency or reference != reference.translate(_CONTROL):
        raise _wrong(ref, line, "it has no currency" if not currency else "no such reference")
    amount = _amount(ref, provider, row[provider.amount], currency, line)
    try:
        time = datetime.fromisoformat(when)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        moment = time.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):  # the other end of the calendar
        raise _wrong(ref, line, f"{when[:60]!r} is no time", "2026-01-31T12:00:00Z") from None
    return Paid(reference=reference, amount=amount, time=moment, line=line), currency


def _amount(ref: FileRef, provider: Provider, text: str, currency: str, line: int) -> Decimal:
    """Read an amount; one with more digits than its currency has is none."""
    most = digits(currency)
    if not _AMOUNT.fullmatch(text):
        raise _wrong(ref, line, f"{text[:60]!r} is no amount", "write 1234.50")
    amount = Decimal(text)
    if provider.unit == "minor":
        if amount != amount.to_integral_value():
            told = f"{text[:60]} is no whole number of minor units"
            raise _wrong(ref, line, told, "unit: major, if it is in major units")
        return amount.scaleb(-most)
    if amount != round(amount, most):
        raise _wrong(ref, line, f"{text[:60]} has more than {most} digits, and is in {currency}")
    return amount


def _wrong(ref: FileRef, line: int, what: str, hint: str = "") -> ProviderError:
    return ProviderError(what, where=f"{ref.path}:{line}", hint=hint)
