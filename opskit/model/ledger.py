"""A table of payments, described so that it can be searched for what was paid twice."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen


@frozen
class Field:
    """A column, or what a JSON column has under a path of keys, as text."""

    column: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.path:
            return self.column
        *way, last = (f"'{key}'" for key in self.path)
        return "->".join([self.column, *way]) + f"->>{last}"


@frozen
class Match:
    """A field that is one of some values, or begins with one of `prefixes`."""

    field: Field
    values: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@frozen
class Repeat:
    """Payments that may rightly come again: all of `where` holds for each of them."""

    why: str
    where: tuple[Match, ...]


@frozen
class Status:
    """What the words in the status column mean. No word is in two of the sets.

    `settled`: the money has arrived, `sent`: it is on its way, `pending`: it can still be stopped,
    `void`: it never went, `held`: it waits for a person. The last two are no payments.
    """

    column: str
    settled: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    void: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def live(self) -> tuple[str, ...]:
        """The words of rows that are payments, those that count most first."""
        return self.settled + self.sent + self.pending

    @property
    def known(self) -> tuple[str, ...]:
        return self.live + self.void + self.held


@frozen
class Provider:
    """The columns of a CSV file in which a provider lists what it has paid.

    `unit`: whether its amounts are in major units (1.00) or minor ones (100). `where`: rows that
    count, by a column of the file.
    """

    reference: str
    amount: str
    currency: str
    time: str
    unit: Literal["major", "minor"] = "major"
    where: tuple[Match, ...] = ()


@frozen
class Reversal:
    """How a row is written that takes back another one, which stays as it is.

    `reverses`: the column that says of which row; `status` the new row's. `copy`: columns that it
    has from the other, besides payee, amount, currency and scope; `values`: what others get.
    `negative`: its amount is the other's with the sign changed.
    """

    reverses: str
    status: str = ""
    copy: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    negative: bool = False


@frozen
class Ledger:
    """One table. What is empty it does not have; `status` None: every row is settled.

    `code` is the one currency of a table that has no column for it. `payload`: what must be equal,
    besides payee, amount and currency, in rows of one key. `where`: the rows that it is about.
    Names are as the server keeps them.
    """

    schema: str
    table: str
    id: str
    key: Field
    created_at: str
    scope: tuple[Field, ...] = ()
    payee: Field | None = None
    amount: str = ""
    float_money: bool = False
    """An amount that is a floating-point number is taken all the same."""
    currency: Field | None = None
    code: str = ""
    payload: tuple[Field, ...] = ()
    status: Status | None = None
    provider_ref: Field | None = None
    business_keys: tuple[tuple[Field, ...], ...] = ()
    task: Field | None = None
    where: tuple[Match, ...] = ()
    allow: tuple[Repeat, ...] = ()
    show: tuple[Field, ...] = ()
    mask: tuple[Field, ...] = ()
    provider: Provider | None = None
    reversal: Reversal | None = None

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"
