"""What lies in a folder of evidence: the manifest, which holds it together."""

from collections.abc import Mapping

from opskit.model.frozen import frozen
from opskit.model.value import Json

FORMAT = 1
MANIFEST = "manifest.json"


@frozen
class Piece:
    """A file of the folder. `rows`: of a table, less its heading; -1 where it is none."""

    name: str
    sha256: str
    size: int
    rows: int


@frozen
class Total:
    """What there is of one status and currency. `amount` is "" where rows have none."""

    status: str
    currency: str
    rows: int
    amount: str


@frozen
class Source:
    """From where it was read, and at which moment: one snapshot of one server.

    `system` is the server's system_identifier ("" where it does not tell it), `ledger` the table,
    `description` the SHA-256 of what it was described as. Times as the server writes them, in UTC.
    """

    run: str
    database: str
    system: str
    server: str
    role: str
    standby: bool
    ledger: str
    description: str
    snapshot: str
    lsn: str
    now: str
    catalog: str = ""
    """The database, as the server calls it."""


@frozen
class Manifest:
    """All of it. `asked`: what was looked for; `counts`: finding → rows; `level`: OK to CRIT."""

    format: int
    source: Source
    asked: Mapping[str, str]
    rows: int
    totals: tuple[Total, ...]
    level: str
    counts: Mapping[str, int]
    findings: Json
    pieces: tuple[Piece, ...]
