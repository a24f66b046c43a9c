"""One statement about a ledger being written: its pieces, and the values that it binds.

Pure. A name gets in only as one of the catalog, quoted.
"""

from collections.abc import Sequence

from opskit.drivers.postgres.ledgers import TEXTUAL, Known
from opskit.model.frozen import frozen
from opskit.model.ledger import Field, Match
from opskit.render.ledgers import expression, name, table

OF = "t"
BLANKS = r"E' \t\n\r\f\x0b'"


@frozen
class Statement:
    """A statement with what goes beside it, and what its columns are called in the evidence."""

    text: str
    values: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@frozen
class Period:
    """From when (inclusive) to when (exclusive) rows were made; "" for no bound."""

    since: str = ""
    until: str = ""


class Query:
    """One statement being written, with the values that it binds."""

    def __init__(self, known: Known, period: Period) -> None:
        self.known = known
        self.ledger = known.ledger
        self.period = period
        self.values: list[str] = []

    def made(self, text: str, columns: Sequence[str] = ()) -> Statement:
        return Statement(text=text, values=tuple(self.values), columns=tuple(columns))

    def value(self, text: str) -> str:
        self.values.append(text)
        return f"${len(self.values)}"

    def among(self, words: Sequence[str], cast: str = "") -> str:
        return f"ANY ({self.value(array(words))}{cast})"

    # --- pieces

    @property
    def table(self) -> str:
        return f"{table(self.ledger)} AS {OF}"

    @property
    def id(self) -> str:
        return f"{OF}.{name(self.ledger.id)}"

    @property
    def at(self) -> str:
        return f"{OF}.{name(self.ledger.created_at)}"

    @property
    def amount(self) -> str:
        """The amount as one number, whatever type it is stored as."""
        return (
            f"{OF}.{name(self.ledger.amount)}::numeric" if self.ledger.amount else "NULL::numeric"
        )

    @property
    def currency(self) -> str:
        if self.ledger.currency is not None:
            return self.plain(self.ledger.currency)
        return f"{self.value(self.ledger.code)}::text" if self.ledger.code else "NULL::text"

    @property
    def status(self) -> str:
        """The word for how a row stands; where the table has none, each is settled."""
        status = self.ledger.status
        return "'settled'::text" if status is None else self.plain(Field(column=status.column))

    def plain(self, field: Field) -> str:
        """Write a field to be shown: blanks that only fill up a character(n) are none of it."""
        written = expression(field, OF)
        padded = not field.path and self.known.columns[field.column].base == "bpchar"
        return f"{written}::text" if padded else written

    def present(self, field: Field) -> str:
        """Say that a field has a value; blanks are none."""
        written = expression(field, OF)
        if field.path or self.known.columns[field.column].base in TEXTUAL:
            return f"pg_catalog.btrim({written}::text, {BLANKS}) <> ''"
        return f"{written} IS NOT NULL"

    def group(self, field: Field) -> str:
        """Write a field to group by; texts are sorted as bytes, which is quicker."""
        written = expression(field, OF)
        textual = field.path or self.known.columns[field.column].base in ("text", "varchar")
        return f'{written} COLLATE "C"' if textual and not self.known.loose(field) else written

    def matching(self, match: Match) -> str:
        """Say that a field is one of some values; as a text where it may begin with one."""
        written = expression(match.field, OF)
        if not match.prefixes:
            return f"{written} = {self.among(match.values)}"
        either = [f"{written}::text ^@ {self.among(match.prefixes, '::text[]')}"]
        if match.values:
            either.append(f"{written}::text = {self.among(match.values, '::text[]')}")
        return f"({' OR '.join(either)})"

    # --- conditions

    def own(self) -> list[str]:
        """Return the conditions that say which rows the ledger is about.

        A row that reverses another is no payment, whatever its status.
        """
        found = [self.matching(match) for match in self.ledger.where]
        if self.ledger.reversal is not None:
            found.append(f"{OF}.{name(self.ledger.reversal.reverses)} IS NULL")
        return found

    def within(self, other: Period | None = None) -> list[str]:
        """Return the conditions that say which rows are of the period, or of another one."""
        period = other or self.period
        found = [f"{self.at} >= {self.value(period.since)}"] if period.since else []
        if period.until:
            found.append(f"{self.at} < {self.value(period.until)}")
        return found

    def live(self) -> list[str]:
        """Return the conditions that say which rows are payments of the period."""
        status = self.ledger.status
        found = [*self.own(), *self.within()]
        if status is not None:
            found.append(f"{OF}.{name(status.column)} = {self.among(status.live)}")
        return found

    def standing(self) -> list[str]:
        """Return the conditions that say which payments of the period no row reverses."""
        again = self.reversing()
        return [*self.live(), *([f"NOT {again}"] if again else [])]

    def reversing(self) -> str:
        """Say of which rows there is one that reverses them; "" where none can be."""
        ledger = self.ledger
        if ledger.reversal is None:
            return ""
        at, columns = ledger.reversal.reverses, self.known.columns
        other, own = f"other.{name(at)}", self.id
        if columns[at].base != columns[ledger.id].base:
            other, own = f"{other}::text", f"{own}::text"
        return (
            f"EXISTS (SELECT FROM {table(ledger)} AS other"
            f" WHERE other.{name(at)} IS NOT NULL AND {other} = {own})"
        )

    def rank(self) -> str:
        """Say which of some rows counts most: settled, then sent, then what is still pending."""
        status = self.ledger.status
        if status is None:
            return "0"
        column = f"{OF}.{name(status.column)}"
        return (
            f"CASE WHEN {column} = {self.among(status.settled)} THEN 0"
            f" WHEN {column} = {self.among(status.sent)} THEN 1 ELSE 2 END"
        )

    def allowed(self) -> str:
        """Say of which rows it is said that they may come again; "" where of none."""
        entries = [
            "(" + " AND ".join(self.matching(match) for match in repeat.where) + ")"
            for repeat in self.ledger.allow
        ]
        return f"coalesce({' OR '.join(entries)}, false)" if entries else ""

    def shown(self, *, near: bool = False) -> list[tuple[str, str]]:
        """Return what of a row goes into the evidence: heading, expression."""
        ledger = self.ledger
        found = {"id": self.plain(Field(column=ledger.id)), "created_at": self.at}
        if ledger.status is not None:
            found["status"] = self.status
        plain = [*ledger.scope, *([ledger.payee] if ledger.payee else [])]
        last = [ledger.key, *([ledger.provider_ref] if ledger.provider_ref else [])]
        if not near:
            last += [field for key in ledger.business_keys for field in key]
            last += [*([ledger.task] if ledger.task else []), *ledger.payload]
        found |= {str(field): self.plain(field) for field in plain}
        if ledger.amount:
            found |= {"amount": self.amount, "currency": self.currency}
        more = [*last, *ledger.show, *ledger.mask]
        found |= {str(field): self.plain(field) for field in more if str(field) not in found}
        return list(found.items())


def array(words: Sequence[str]) -> str:
    """Write texts as the server reads an array."""
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    return "{" + ",".join(f'"{word}"' for word in escaped) + "}"


def conjunction(conditions: Sequence[str]) -> str:
    return "\n  AND ".join(conditions) or "true"
