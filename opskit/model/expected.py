"""What a database is expected to have: tables with their indexes, views, functions, extensions."""

from opskit.model.frozen import frozen


@frozen
class Index:
    """An index by what it is, as CREATE INDEX would say it. `keys` with their order and classes."""

    keys: tuple[str, ...]
    include: tuple[str, ...] = ()
    where: str = ""
    unique: bool = False
    nulls_distinct: bool = True
    method: str = "btree"
    name: str = ""

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

    `accept`: names of indexes and foreign keys that may be as they are.
    """

    name: str
    view: bool = False
    columns: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    populated: bool = True
    accept: tuple[str, ...] = ()


@frozen
class Expected:
    """All that one file expects."""

    relations: tuple[Relation, ...] = ()
    functions: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
