"""What the rules for duplicates come to, worked out row by row in memory."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

RANK = {"paid": 0, "processing": 1, "pending": 2}
"""Statuses of rows that are payments; the rest are none."""


@dataclass(frozen=True)
class Payment:
    id: int
    scope: int | None
    payee: int | None
    amount: Decimal | None
    currency: str | None
    status: str
    key: str | None
    ref: str | None
    order: str | None
    task: str | None
    at: datetime

    @property
    def live(self) -> bool:
        return self.status in RANK

    @property
    def keyed(self) -> bool:
        return bool((self.key or "").strip())

    @property
    def order_of_worth(self) -> tuple[int, datetime, int]:
        return RANK[self.status], self.at, self.id

    @property
    def payload(self) -> tuple[Hashable, ...]:
        return self.payee, self.amount, self.currency


def same_key(rows: Iterable[Payment]) -> set[tuple[int, str]]:
    """Rule A: what is said of each row that shares its key."""
    found = set()
    for group in _groups(rows, lambda r: (r.scope, r.key), lambda r: r.keyed):
        first, *others = sorted(group, key=lambda r: r.order_of_worth)
        conflict = len({r.payload for r in group}) > 1
        found.add((first.id, "SURVIVOR"))
        for row in others:
            gone = "HOLD" if row.status == "pending" else "MONEY_SENT_REVIEW"
            found.add((row.id, "KEY_REUSED_DIFFERENT_PAYLOAD" if conflict else gone))
    return found


def twice(rows: Iterable[Payment], name: str) -> set[int]:
    """Rules D, E, G: rows that have the same."""
    groups = _groups(rows, lambda r: getattr(r, name), lambda r: (getattr(r, name) or "").strip())
    return {row.id for group in groups for row in group}


def near(rows: Iterable[Payment], window: timedelta) -> set[int]:
    """Rule C: rows that are close to one like them, where not all have one key."""
    alike = _groups(
        rows,
        lambda r: (r.scope, *r.payload),
        lambda r: r.payee is not None and r.amount is not None,
    )
    found = set()
    for group in alike:
        for chain in _chains(sorted(group, key=lambda r: (r.at, r.id)), window):
            keys = {row.key if row.keyed else f"none {row.id}" for row in chain}
            if len(chain) > 1 and len(keys) > 1:
                found |= {row.id for row in chain}
    return found


def _chains(rows: Sequence[Payment], window: timedelta) -> list[list[Payment]]:
    chains: list[list[Payment]] = []
    for row in rows:
        if chains and row.at - chains[-1][-1].at <= window:
            chains[-1].append(row)
        else:
            chains.append([row])
    return chains


def _groups(
    rows: Iterable[Payment],
    by: Callable[[Payment], Hashable],
    counts: Callable[[Payment], object],
) -> list[list[Payment]]:
    found: dict[Hashable, list[Payment]] = defaultdict(list)
    for row in rows:
        if row.live and counts(row):
            found[by(row)].append(row)
    return [group for group in found.values() if len(group) > 1]
