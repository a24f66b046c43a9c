"""Removing a large part of a table in the order in which the rows lie, without an index."""

import json
from collections.abc import Callable

from opskit.drivers.postgres.connection import Connection, ServerError, Taker
from opskit.drivers.postgres.subject import Subject, nodes
from opskit.model.frozen import frozen, mutable
from opskit.model.rows import Rows
from opskit.render.removals import Kept, Span, Sql, Statement, plain, removed, swept

OLDEST = 140000
"""The oldest server that can begin to read in the middle of a table: 14."""
_WIDE = 0.05
"""From this part of the rows on an index costs more than to read all that lies between them."""
_SPAN = 2048
"""So many blocks are looked through by one batch at most: 16 MB."""
_PATIENCE = "SET LOCAL lock_timeout = '50ms'"
"""For so long a row that is locked is waited for: others wait for what the batch has by then."""
_LOCKED = frozenset({"55P03", "40P01"})
_SHY = 3
"""After so many batches in a row that met a lock, none waits for one any more."""


@frozen
class Gone:
    """What a batch removed: rows, how many of them were still needed, how many are kept.

    `last`: the last time of them; `full`: it looked at as much as it was to.
    """

    rows: int
    kept: int
    live: int = 0
    last: str | None = None
    full: bool = False


def blocks(connection: Connection, made: Subject, work: Rows, began: str, part: float) -> int:
    """Return how many blocks there are to walk through; 0 where the index is the better way.

    `part`: the part of the table's rows that is meant. An order that somebody asked for is kept.
    """
    chosen = work.chosen
    if connection.version < OLDEST or part < _WIDE or chosen.order or not plain(chosen):
        return 0
    if chosen.live is not None and work.limits.needed:
        return 0  # which of them go can't be told without looking at each that went
    (found,) = connection.one(
        "SELECT (pg_catalog.pg_relation_size($1::regclass)"
        " / pg_catalog.current_setting('block_size')::bigint)::text",
        made.full,
    )
    number = int(found or 0)
    sweep = swept(Statement(chosen, made.full, began), Span(start=0, end=min(number, _SPAN)))
    (told,) = connection.one(f"EXPLAIN (FORMAT JSON) {sweep.text}", *sweep.values)
    kinds = {one["Node Type"] for one in nodes(json.loads(told or "[]")[0]["Plan"])}
    return number if "Tid Range Scan" in kinds else 0


@mutable
class Walk:
    """A way through a table, from its first block to the one that was its last at the beginning.

    `rows`: how many a block has, about; so no more blocks are taken at once than hold a batch, all
    of whose rows may be meant. `at`: the next block, `next`: the one after this batch.
    """

    connection: Connection
    statement: Callable[[], Statement]
    blocks: int
    rows: float
    at: int = 0
    next: int = 0
    waits: bool = True
    """Whether a row that somebody else has locked is waited for; if not, it is left for later."""
    met: int = 0
    """How many batches in a row have met a lock."""

    @property
    def patience(self) -> str:
        """What holds in the next batch."""
        return _PATIENCE if self.waits else ""

    @property
    def over(self) -> bool:
        return self.at >= self.blocks

    def batch(self, size: int, kept: Kept | None) -> Gone:
        """Remove the next rows, in the transaction that is open."""
        number = max(1, min(_SPAN, int(size / self.rows)))
        self.next = min(self.at + number, self.blocks)
        span = Span(start=self.at, end=self.next)
        if self.waits and size >= self.rows:
            gone = self._swept(span, kept)
            if gone.rows <= size:
                return gone
            self.connection.own("ROLLBACK; BEGIN")
            self.rows = max(self.rows, gone.rows / number)
        made = removed(self.statement(), size, within=span, kept=kept)
        rows, _, live, archived = self._one(made)
        if int(rows or 0) == size:
            self.next = self.at  # there may be more
        return Gone(rows=int(rows or 0), live=int(live or 0), kept=int(archived or 0))

    def _swept(self, span: Span, kept: Kept | None) -> Gone:
        made = swept(self.statement(), span, kept)
        if kept is None:
            tag = self.connection.run(made.text, made.values, Taker()).tag
            number = int(tag.rpartition(" ")[2])
            return Gone(rows=number, kept=number, full=True)
        rows, archived = (int(one or 0) for one in self._one(made))
        return Gone(rows=rows, kept=archived, full=True)

    def _one(self, made: Sql) -> tuple[str | None, ...]:
        return self.connection.one(made.text, *made.values)

    def go_on(self) -> None:
        """Leave behind what the last batch has looked at."""
        self.at = self.next
        self.met = 0 if self.waits else self.met
        self.waits = self.met < _SHY

    def locked(self, error: ServerError) -> bool:
        """Tell whether a batch met a lock; the same place is tried without what is locked."""
        if error.code not in _LOCKED or not self.waits:
            return False
        self.waits = False
        self.met += 1
        return True
