"""What a database has: tables with their indexes, functions and the rest, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from opskit.model.frozen import frozen

BIG = 1280
"""So many pages, 10 MiB, make an index of which it is worth to know how much of it is air."""


class Actual(NamedTuple):
    """An index as the catalog has it, in the order of the query below."""

    oid: int
    relation: int
    name: str
    text: str | None
    """What pg_get_indexdef says, where the rest does not tell all: to write it takes long."""
    valid: bool
    unique: bool
    constraint: bool
    """Whether a primary key, a unique or an exclusion constraint stands on it."""
    identity: bool
    """Whether logical replication tells rows apart by it."""
    child: bool
    """Whether it is a part of a partitioned index."""
    pages: int
    columns: str
    classes: str
    collations: str
    options: str
    width: int
    """How many of its columns are keys."""
    expressions: str | None
    where: str | None
    method: str
    nulls_distinct: bool
    rows: float = -1.0
    """How many entries it had when that was counted last; less than 0: never."""

    @property
    def big(self) -> bool:
        """Whether it is worth to look into: of the usual kind, whole, and not small."""
        return self.method == "btree" and self.valid and self.pages >= BIG


Signature = tuple[tuple[Any, ...], ...]
"""Of each column of a table: name, type, its modifier, collation."""


class ForeignKey(NamedTuple):
    """A foreign key as the catalog has it."""

    relation: int
    name: str
    columns: Sequence[int]
    references: str
    schema: str
    validated: bool


@frozen
class Relation:
    """A table, view or the like that has an expected name."""

    oid: int
    schema: str
    name: str
    kind: str
    populated: bool
    columns: Sequence[Sequence[Any]]
    """Of each: name, number, type, its modifier, collation."""
    rows: float = -1.0
    """How many it had when that was counted last; less than 0: never."""
    indexes: Sequence[Actual] = ()
    foreign_keys: Sequence[ForeignKey] = ()

    @property
    def signature(self) -> "Signature":
        """What decides how an expression over its columns is read."""
        return tuple([(name, *rest) for name, _, *rest in self.columns])

    def names(self) -> Mapping[int, str]:
        return {number: name for name, number, *_ in self.columns}


class Routine(NamedTuple):
    """A function as the catalog has it."""

    there: bool
    others: Sequence[str]
    """What else has its name."""
    schema: str = ""
    name: str = ""
    arguments: Sequence[str] = ()
    """Their types, as the server writes them."""
    returns: str = ""
    owner: str = ""
    definer: bool = False
    volatility: str = ""


class Width(NamedTuple):
    """What an entry of an index takes, as far as the role may see the statistics."""

    oid: int
    bytes: float
    unseen: int
    """Columns whose width is not known."""
    fill: int
    """How full a page is made, in hundredths."""
    stale: float
    """How many rows were changed since they were counted, as a part of all."""


class Numbers(NamedTuple):
    """What gives a column its numbers, and how far it has come."""

    relation: int
    column: str
    name: str
    type: str
    """Of the column."""
    seen: bool
    """Whether the role may see how far it is."""
    last: int | None
    """None also where it has given no number yet."""
    first: int
    most: int
    """The last number that it may give, and that the column takes."""

    @property
    def used(self) -> float:
        """How much of its numbers is gone, as a part of all."""
        if self.last is None or self.most == self.first:
            return 0.0
        return (self.last - self.first) / (self.most - self.first)


class Collation(NamedTuple):
    """A collation: its name, the version that was noted, and the one that is there now."""

    name: str
    noted: str | None = None
    now: str | None = None


@frozen
class Facts:
    """All that was fetched."""

    relations: Mapping[str, Sequence[Relation]]
    """By name."""
    building: frozenset[int]
    """Tables on which an index is being built, as far as the role may see."""
    hidden: int
    """Builds of which the role may not see where."""
    functions: Mapping[str, Routine] = field(default_factory=dict)
    """By signature."""
    extensions: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """Operator classes by number: name, and whether it is the default of its type."""
    collations: Mapping[str, Collation] = field(default_factory=dict)
    """By number."""
    widths: Mapping[int, Width] = field(default_factory=dict)
    """Of the entries of big indexes, by the number of the index."""
    numbers: Mapping[int, Sequence[Numbers]] = field(default_factory=dict)
    """By the number of the table."""
    version: int = 0
    counted: float = 0.0
    """For how many seconds the server has counted who uses an index."""
    idle: frozenset[int] = frozenset()
    """Indexes that nobody has used for as long as was asked about, and that enforce nothing."""
