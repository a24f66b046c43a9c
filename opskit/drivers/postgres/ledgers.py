"""A ledger as it is described, looked up in the catalog before anything of it is read."""

from collections.abc import Mapping

from opskit.drivers.postgres.connection import Connection, Row, Taker
from opskit.errors import OpskitError
from opskit.model.frozen import frozen
from opskit.model.ledger import Field, Ledger
from opskit.render.ledgers import fields

_EXACT = frozenset({"numeric", "int2", "int4", "int8", "money"})
_FLOATS = frozenset({"float4", "float8"})
_TIMES = frozenset({"timestamptz", "timestamp"})
_JSON = frozenset({"json", "jsonb"})
TEXTUAL = frozenset({"text", "varchar", "bpchar", "citext", "name"})
_KINDS = frozenset("rpfmv")
_COLUMNS = """
    SELECT c.oid::text, c.relkind::text, a.attname, b.typname, a.attnotnull,
           pg_catalog.format_type(a.atttypid, a.atttypmod), coalesce(l.collisdeterministic, true),
           (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(s.nspname), ',')
            FROM pg_catalog.pg_namespace s WHERE s.oid IN (t.typnamespace, b.typnamespace))
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE n.nspname = $1 AND c.relname = $2
    ORDER BY a.attnum
"""


class LedgerError(OpskitError):
    """The table is not what the ledger's description says; nothing of it was read."""


@frozen
class Column:
    """A column of the table. `base`: its type's name without modifiers, a domain's as its base."""

    base: str
    type: str
    required: bool
    """It has no NULL."""
    exact: bool = True
    """Texts are equal only where their bytes are."""


@frozen
class Known:
    """A ledger whose table and columns are there."""

    ledger: Ledger
    oid: str
    columns: Mapping[str, Column]

    @property
    def floating(self) -> bool:
        """Tell whether its amounts are floating-point numbers, taken all the same."""
        amount = self.columns.get(self.ledger.amount)
        return amount is not None and amount.base in _FLOATS

    def loose(self, field: Field) -> bool:
        """Tell whether two texts of a field may be equal that differ in their bytes."""
        return not field.path and not self.columns[field.column].exact


def known(connection: Connection, ledger: Ledger) -> Known:
    """Look the table up; LedgerError says what is not as described.

    From then on the session has no other names without a schema than the server's own and those
    that go with the types of the columns: so nobody's function is taken for one of the server's.
    """
    found: dict[str, Column] = {}
    path = dict.fromkeys(("pg_catalog",))
    about: set[tuple[str, str]] = set()

    def take(row: Row) -> None:
        cells = ((cell or b"").decode() for cell in row)
        oid, kind, column, base, required, type_, exact, schemas = cells
        path.update(dict.fromkeys(schemas.split(",")))
        about.add((oid, kind))
        found[column] = Column(base=base, type=type_, required=required == "t", exact=exact == "t")

    connection.run(_COLUMNS, (ledger.schema, ledger.table), Taker(row=take))
    if not about:
        raise LedgerError(f"there is no table {ledger.name}", hint="see `ledger` in its file")
    ((oid, kind),) = about
    if kind not in _KINDS:
        raise LedgerError(f"{ledger.name} is no table", hint="see `ledger` in its file")
    _fitting(ledger, found)
    if kind != "v":  # what a view calls may need the path of its role
        connection.own(f"SET search_path = {', '.join(path)}, pg_temp")
    return Known(ledger=ledger, oid=oid, columns=found)


def _fitting(ledger: Ledger, found: Mapping[str, Column]) -> None:
    for key, field in fields(ledger):
        column = found.get(field.column)
        if column is None:
            there = ", ".join(found)
            told = f"{ledger.name} has no column {field.column} (`{key}`)"
            raise LedgerError(told, hint=f"it has {there[:400]}")
        if field.path and column.base not in _JSON:
            told = f"{field} (`{key}`): {field.column} is {column.type}, and no JSON"
            raise LedgerError(told, hint="name a column of type json or jsonb")
    _times(ledger, found[ledger.created_at])
    if ledger.amount:
        _money(ledger, found[ledger.amount])


def _times(ledger: Ledger, column: Column) -> None:
    if column.base not in _TIMES:
        told = f"{ledger.created_at} (`created_at`) is {column.type}, and no time"
        raise LedgerError(told, hint="name a column of type timestamptz or timestamp")


def _money(ledger: Ledger, column: Column) -> None:
    if column.base in _EXACT or (column.base in _FLOATS and ledger.float_money):
        return
    told = f"{ledger.amount} (`amount`) is {column.type}"
    if column.base in _FLOATS:
        told += ": two such amounts that look alike may differ"
        raise LedgerError(
            told, hint="make it numeric, or add float_money: true to take it as it is"
        )
    raise LedgerError(f"{told}, and no amount", hint="name a numeric or integer column")
