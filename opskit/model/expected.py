"""What a database is expected to have: tables with their indexes, views, functions, extensions."""

from typing import Literal

from opskit.model.frozen import frozen


@frozen
class Lookup:
    """A query with sample values for its $1, $2 …; without any the plan is one for all values.

    `within`: in what time it must be through, in seconds; then it is carried out, too.
    """

    query: str
    values: tuple[str, ...] = ()
    within: float | None = None


@frozen
class Index:
    """An index by what it is, as CREATE INDEX would say it. `keys` with their order and classes.

    `used_by`: queries that must be planned with it, or with one that is equal to it.
    """

    keys: tuple[str, ...]
    include: tuple[str, ...] = ()
    where: str = ""
    unique: bool = False
    nulls_distinct: bool = True
    method: str = "btree"
    name: str = ""
    used_by: tuple[Lookup, ...] = ()

    def __str__(self) -> str:
        words = "UNIQUE " if self.unique else ""
        words += f"{self.method} " if self.method != "btree" else ""
        words += f"({', '.join(self.keys)})"
        words += f" INCLUDE ({', '.join(self.include)})" if self.include else ""
        words += "" if self.nulls_distinct else " NULLS NOT DISTINCT"
        return words + (f" WHERE {self.where}" if self.where else "")


@frozen
class ForeignKey:
    """A foreign key by its columns, in their order, and the table that they lead to."""

    columns: tuple[str, ...]
    references: str


@frozen
class Relation:
    """A table or a materialized view; `name` as in the file, with its schema or without.

    `accept`: names of indexes and foreign keys that may be as they are. `within`: in how many
    seconds a view must be read as a whole; `fresh_within`: how long ago it may have been refreshed.
    """

    name: str
    view: bool = False
    columns: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    populated: bool = True
    accept: tuple[str, ...] = ()
    within: float | None = None
    fresh_within: float | None = None


@frozen
class Function:
    """What a function must be like besides being there; what is empty may be anything.

    `within`: how many seconds 95 of 100 calls with the values `call` may take. `writes`: it can't
    be called by who only reads.
    """

    signature: str
    returns: str = ""
    owner: str = ""
    security: Literal["", "definer", "invoker"] = ""
    volatility: Literal["", "immutable", "stable", "volatile"] = ""
    call: tuple[str, ...] = ()
    within: float | None = None
    writes: bool = False


@frozen
class Expected:
    """All that one file expects. `functions`: all signatures; `traits`: what some must be like."""

    relations: tuple[Relation, ...] = ()
    functions: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    traits: tuple[Function, ...] = ()
