"""What is done about payments that a report says were made twice."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.evidence import Total
from opskit.model.frozen import frozen
from opskit.model.ledger import Ledger

Deed = Literal[
    "freeze", "thaw", "hold", "reverse", "release", "guard", "unguard", "quiet", "held", "reversed"
]
"""`freeze`: switch payouts off, `thaw`: on again where nobody else has; `hold` what is pending,
`release` what was held, `reverse` what was sent; `guard`: build the unique index that keeps a key
from being used again, `unguard`: drop it; `quiet`: prove that no payment is made; `held`,
`reversed`: read back that it was done, and nothing else."""


@frozen
class Report:
    """What a folder of evidence says: of which server, when, and of the rows that are acted on.

    `columns` are the headings of `rows`; a cell is as the server writes it, "" for NULL. `totals`
    are of all rows made from `since` to `until`. `sha256` is the manifest's.
    """

    manifest: str
    sha256: str
    system: str
    catalog: str
    lsn: str
    snapshot: str
    now: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    since: str = ""
    until: str = ""
    totals: tuple[Total, ...] = ()
    run: str = ""
    """The run that made it, as it says."""
    recorded: bool = False
    """The record of that run was there when it was planned, and has the same `sha256`."""

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells under a heading."""
        at = self.columns.index(name)
        return tuple(row[at] for row in self.rows)


@frozen
class Caps:
    """How much may be acted on at most; `amounts`: currency → amount, as it was written."""

    rows: int
    amounts: Mapping[str, str] = field(default_factory=dict)
    age: float = 3600.0
    """How old the report may be by the database's clock; seconds."""


@frozen
class Switch:
    """A row at which workers look before they pay: its table has columns `name` and `enabled`."""

    schema: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table} {self.name}"


@frozen
class Payouts:
    """One deed on a ledger. `probe`: only see whether it could be done.

    `of`: the key of the action that is taken back. `approved`: who has approved of it besides
    whoever begins the run. `triggers`: those that may run when a status changes. `period`: for how
    long nothing may move; seconds. `since`: from when on rows are guarded.
    """

    do: Deed
    database: str
    ledger: Ledger
    file: str
    report: Report | None = None
    caps: Caps = field(default_factory=lambda: Caps(rows=0))
    approved: str = ""
    triggers: tuple[str, ...] = ()
    period: float = 60.0
    since: str = ""
    switch: Switch | None = None
    of: str = ""
    probe: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The rows that are acted on."""
        return self.report.column("id") if self.report is not None else ()
