"""What is known where a statement of a migration stands. Pure."""

from collections.abc import Iterator
from dataclasses import field

from opskit.model.frozen import mutable
from opskit.render.columns import Column
from opskit.render.effect import Effect, lock


@mutable
class Scene:
    """What is known where a statement stands: `made` and what else its migration did before."""

    atomic: bool = True
    made: set[str] = field(default_factory=set)
    """Tables of this migration."""
    touched: set[str] = field(default_factory=set)
    """Tables that were there before."""
    columns: dict[tuple[str, str], Column] = field(default_factory=dict)
    """By table and name: columns that this migration has added to them."""
    promised: set[tuple[str, str]] = field(default_factory=set)
    """By table and name: constraints that this migration has added NOT VALID."""
    checks: dict[tuple[str, str], str] = field(default_factory=dict)
    """By table and name: the column that a CHECK, also of an earlier migration, has not null."""
    lengths: dict[tuple[str, str], int] = field(default_factory=dict)
    """By table and name: how long a column that is a varchar may be."""
    proved: set[tuple[str, str]] = field(default_factory=set)
    """Table and column: what a validated CHECK has not null."""

    held: set[str] = field(default_factory=set)
    """Tables of before that nobody gets at until the transaction ends."""

    def old(self, table: str) -> bool:
        """Tell whether a table was there before this migration; then it is touched."""
        if table in self.made:
            return False
        self.touched.add(table)
        return True

    def hold(self, table: str) -> Iterator[Effect]:
        """Remember a lock that others wait behind; outside of a transaction it has no limit."""
        self.held.add(table)
        if not self.atomic:
            yield lock(
                f"the lock of {table} is waited for without a limit, as the migration is in no"
                " transaction: everybody queues behind it",
                "put it into a migration of its own, with a transaction",
            )
