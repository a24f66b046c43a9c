"""Rows of a table that are removed in batches, or put back."""

from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.text import Text

UNLIMITED = 10**9
"""Of what a run that was planned by an older opskit knows nothing."""


@frozen
class Selection:
    """Which rows of `table`: those whose `time` is older than `older` seconds before the work
    began, newer than `newer`, and of which the condition `where` holds.

    `order`: columns whose least values go first; those of an index. `live`: which rows somebody
    still needs; at most `Limits.needed` of them may be removed.
    """

    table: str
    time: str = ""
    older: float | None = None
    newer: float | None = None
    where: Text | None = None
    order: tuple[str, ...] = ()
    live: Text | None = None


@frozen
class Limits:
    """How much may be removed at all, and how.

    `rows`, `share` (of the table) and `needed` (rows that are live): more is refused before
    anything is removed. `first`: rows of the first batch; `batch`: of any, at most; `aim`: how long
    one shall take, in seconds. `pause`: how long nothing is done after each, as a share of what it
    took. `deadline`: after how many seconds no batch begins.

    For others it is waited between batches, at most `wait` seconds in a row, while a standby is
    more than `lag` seconds behind, the server writes more than `wal` bytes of WAL a second (0: as
    many as it likes), or more than `waiters` sessions wait for a lock.
    """

    rows: int
    share: float
    needed: int = 0
    first: int = 1000
    batch: int = 50_000
    aim: float = 0.1
    pause: float = 0.5
    deadline: float = 600.0
    lag: float = 10.0
    wal: int = 0
    waiters: int = UNLIMITED
    wait: float = UNLIMITED


@frozen
class Rows:
    """Remove rows, or put back what the action `of` has removed.

    `archive`: what is removed is kept in a table of opskit's in the same database. `none`, `rest`:
    whether it is a failure that there is nothing to remove, or that something is left. `touches`:
    triggers and foreign keys that may do more than remove the rows. `vacuum`: make the room of what
    is gone of use again where it was much. `probe`: only look.
    """

    do: Literal["remove", "restore"]
    database: str
    chosen: Selection
    limits: Limits
    archive: bool
    none: Literal["ok", "fail"] = "ok"
    rest: Literal["ok", "fail"] = "fail"
    touches: tuple[str, ...] = ()
    of: str = ""
    vacuum: bool = False
    probe: bool = False
