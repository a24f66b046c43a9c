# ruff: noqa: S608 (names are of the catalog and quoted, values are bound)
"""What rows are meant → SQL. Names are quoted, values are bound, a condition stands in brackets."""

import re
from collections.abc import Iterator, Sequence

from opskit.model.frozen import frozen
from opskit.model.rows import Selection
from opskit.model.text import Bound, Fixed, Text
from opskit.render.sql import Slip, denied, tokens

ROW = "opskit_row"
"""What the table is called in each statement."""
_CLOCKS = frozenset(
    {"now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday"}
    | {"current_timestamp", "current_date", "current_time", "localtime", "localtimestamp"}
    | {"random", "gen_random_uuid"}
)
"""What gives another value in each batch."""


def condition_problem(text: str, *, clocks: bool) -> Slip | None:
    """Return what keeps a text from being one condition; None where it is one.

    `clocks`: it may ask for the time.
    """
    depth = words = 0
    for token in tokens(text):
        if token.kind in ("comment", "block"):
            return token.start, "a comment has no place in a condition", "take it out"
        if token.text == ";":
            return token.start, "a condition is no statement", "take the `;` out"
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            return token.start, "a bracket is closed that was not opened", "balance them"
        if token.key in _CLOCKS and not clocks:
            told = f"{token.text} is another time in each batch"
            return token.start, told, "write time: COLUMN with older_than or newer_than"
        words += token.kind == "quoted" or (token.kind == "word" and token.key not in _NO_COLUMNS)
    if depth:
        return len(text) - 1, "a bracket is opened and not closed", "balance them"
    if not words:
        return 0, "it says nothing of a column: it holds for all rows, or for none", "COLUMN = …"
    if slip := denied(text):
        return slip[0], slip[1].replace("a read", "a condition"), "write the condition without it"
    return None


_NO_COLUMNS = frozenset(
    {"true", "false", "null", "not", "and", "or", "is", "in", "between", "like", "any", "all"}
)


@frozen
class Sql:
    """A statement with the values that go beside it."""

    text: str
    values: tuple[str | None, ...] = ()


@frozen
class Span:
    """Blocks of a table: from one on to another, without that one."""

    start: int
    end: int


class Statement:
    """A statement about a selection, being written."""

    def __init__(self, chosen: Selection, table: str, began: str) -> None:
        """`table`: its full name, quoted; `began`: when the work began, by the server's clock."""
        self._chosen = chosen
        self.table = table
        self._began = began
        self._values: list[str | None] = []

    def made(self, text: str) -> Sql:
        return Sql(text=text, values=tuple(self._values))

    def value(self, value: str | None) -> str:
        self._values.append(value)
        return f"${len(self._values)}"

    @property
    def source(self) -> str:
        return f"{self.table} AS {ROW}"

    @property
    def time(self) -> str:
        return f"{ROW}.{quoted(self._chosen.time)}" if self._chosen.time else ""

    def which(self, floor: str | None = None) -> str:
        """Say which rows are meant; from `floor` of their time on, where there is one."""
        return "\n  AND ".join(self._conditions(floor))

    def lying(self, span: "Span") -> str:
        """Say which rows are meant of those that lie in a part of the table.

        `IS TRUE` keeps the server from finding them by an index: they come as they lie.
        """
        start, end = self.value(f"({span.start},0)"), self.value(f"({span.end},0)")
        return (
            f"{ROW}.ctid >= {start}::tid AND {ROW}.ctid < {end}::tid\n"
            f"  AND ({self.which()}\n) IS TRUE"
        )

    def _conditions(self, floor: str | None) -> Iterator[str]:
        chosen = self._chosen
        if chosen.older is not None:
            yield f"{self.time} < {self._before(chosen.older)}"
        if chosen.newer is not None:
            yield f"{self.time} >= {self._before(chosen.newer)}"
            if chosen.older is None:
                yield f"{self.time} <= {self.value(self._began)}::timestamptz"
        if floor is not None:
            yield f"{self.time} >= {self.value(floor)}::timestamptz"
        if chosen.where is not None:
            yield self._said(chosen.where)

    def _before(self, seconds: float) -> str:
        began, ago = self.value(self._began), self.value(f"{seconds:.6f} seconds")
        return f"({began}::timestamptz - {ago}::interval)"

    def live(self) -> str:
        """Say which rows somebody still needs."""
        return self._said(self._chosen.live) if self._chosen.live is not None else "false"

    def _said(self, text: Text) -> str:
        pieces = []
        for part in text.parts:
            if isinstance(part, Bound):
                pieces.append(f" {self.value(part.value)} ")
            else:
                assert isinstance(part, Fixed)
                pieces.append(part.text)
        return f"({''.join(pieces)}\n)"

    def order(self) -> str:
        names = [quoted(name) for name in self._chosen.order]
        columns = [self.time] if self.time else []
        columns += [full for name in names if (full := f"{ROW}.{name}") not in columns]
        return f" ORDER BY {', '.join(columns)}" if columns else ""


def counted(statement: Statement) -> Sql:
    """How many rows are meant, from when to when, and how many of them are still needed."""
    times = ("min({0})::text, max({0})::text" if statement.time else "NULL, NULL").format(
        statement.time
    )
    live = statement.live()
    return statement.made(
        f"SELECT count(*), {times}, count(*) FILTER (WHERE {live})\n"
        f"FROM {statement.source}\nWHERE {statement.which()}"
    )


def left(statement: Statement, most: int) -> Sql:
    """How many rows are meant still, as far as `most`."""
    which = statement.which()
    return statement.made(
        f"SELECT count(*) FROM (SELECT FROM {statement.source} WHERE {which}"
        f" LIMIT {statement.value(str(most))}::bigint) AS left_over"
    )


def referenced(
    statement: Statement, other: tuple[str, str], pairs: Sequence[tuple[str, str]], most: int
) -> Sql:
    """How many rows that are meant another table refers to, as far as `most`.

    `pairs`: a column of the other table, and the one here that it refers to.
    """
    table = f"{quoted(other[0])}.{quoted(other[1])}"
    same = " AND ".join(f"opskit_other.{quoted(a)} = {ROW}.{quoted(b)}" for a, b in pairs)
    return statement.made(
        f"SELECT count(*) FROM (SELECT FROM {statement.source} WHERE {statement.which()}\n"
        f"  AND EXISTS (SELECT FROM {table} AS opskit_other WHERE {same})"
        f" LIMIT {statement.value(str(most))}::bigint) AS held"
    )


def referred(
    statement: Statement, pairs: Sequence[tuple[str, str]], most: int, *, apart: bool
) -> Sql:
    """How many rows that are meant others of the same table refer to, as far as `most`.

    `pairs` as for `referenced`. `apart`: also others that are meant count, which may be removed
    later than what they refer to; if not, those alone that stay.
    """
    ours = ", ".join(f"{ROW}.{quoted(b)} AS opskit_{n}" for n, (_, b) in enumerate(pairs))
    same = " AND ".join(
        f"opskit_other.{quoted(a)} = opskit_meant.opskit_{n}" for n, (a, _) in enumerate(pairs)
    )
    stays = "SELECT FROM opskit_meant AS opskit_also WHERE opskit_also.at = opskit_other.ctid"
    which = "opskit_other.ctid <> opskit_meant.at" if apart else f"NOT EXISTS ({stays})"
    return statement.made(
        f"WITH opskit_meant AS (SELECT {ROW}.ctid AS at, {ours} FROM {statement.source}\n"
        f"  WHERE {statement.which()})\n"
        f"SELECT count(*) FROM (SELECT FROM opskit_meant WHERE EXISTS (\n"
        f"  SELECT FROM {statement.table} AS opskit_other WHERE {same} AND {which})\n"
        f"  LIMIT {statement.value(str(most))}::bigint) AS held"
    )


def all_left(statement: Statement) -> Sql:
    """How many rows are meant still, and how many are there, where very many have just gone.

    To pass over those is most of the work: so it is done once for both, and without a LIMIT the
    server shares it out (Gather).
    """
    meant = f"count(*) FILTER (WHERE {statement.which()})"
    return statement.made(f"SELECT {meant}, count(*) FROM {statement.source}")


@frozen
class Kept:
    """Where what is removed is kept, and under what."""

    table: str
    run: str
    action: str
    attempt: int


def removed(
    statement: Statement,
    size: int,
    *,
    floor: str | None = None,
    within: Span | None = None,
    kept: Kept | None = None,
) -> Sql:
    """Remove a batch: the rows are found by the index, then taken by where they lie.

    Returns how many, the last time of them, how many were still needed, and how many are kept. A
    row that somebody else has locked is left for later. `within`: only those that lie there.
    """
    if within is None:
        which, order = statement.which(floor), statement.order()
    else:
        which, order = statement.lying(within), ""
    most = statement.value(str(size))
    columns = [f"{statement.time or 'NULL::timestamptz'} AS last", f"{statement.live()} AS live"]
    columns += [_LINE] if kept is not None else []
    gone = (
        f"DELETE FROM {statement.source} WHERE {ROW}.ctid = ANY (ARRAY(\n"
        f"    SELECT {ROW}.ctid FROM {statement.source}\n    WHERE {which}{order}\n"
        f"    LIMIT {most}::bigint FOR UPDATE SKIP LOCKED))\n  RETURNING {', '.join(columns)}"
    )
    also, number = _keeping(statement, kept) if kept is not None else ("", "count(*)")
    return statement.made(
        f"WITH gone AS (\n  {gone}){also}\n"
        f"SELECT count(*), max(last)::text, count(*) FILTER (WHERE live), {number} FROM gone"
    )


def swept(statement: Statement, span: Span, kept: Kept | None = None) -> Sql:
    """Remove what lies in a span and is not needed; whoever has locked a row is waited for.

    Where they are kept, it returns how many were removed, and how many are kept.
    """
    gone = (
        f"DELETE FROM {statement.source}\n"
        f"WHERE {statement.lying(span)}\n  AND ({statement.live()}) IS NOT TRUE"
    )
    if kept is None:
        return statement.made(gone)  # the server says how many: RETURNING would cost half as much
    also, number = _keeping(statement, kept)
    return statement.made(
        f"WITH gone AS (\n  {gone}\n  RETURNING {_LINE}){also}\nSELECT count(*), {number} FROM gone"
    )


_LINE = f"{ROW}::text AS line"


def _keeping(statement: Statement, kept: Kept) -> tuple[str, str]:
    """Keep what is gone: a part of the statement, and what tells how many are kept."""
    key = ", ".join(
        [
            f"{statement.value(kept.run)}::text",
            f"{statement.value(kept.action)}::text",
            f"{statement.value(str(kept.attempt))}::integer",
        ]
    )
    also = (
        f",\nkept AS (INSERT INTO {kept.table} (run, action, attempt, line)"
        f" SELECT {key}, line FROM gone RETURNING 1)"
    )
    return also, "(SELECT count(*) FROM kept)"


def plain(chosen: Selection) -> bool:
    """Tell whether the condition looks at nothing but the row itself."""
    said = (
        [part.text for part in chosen.where.parts if isinstance(part, Fixed)]
        if chosen.where
        else []
    )
    return all(token.key not in ("select", "table", "with") for token in tokens(" ".join(said)))


def restored(
    table: str, archive: str, columns: tuple[str, ...], key: tuple[str, ...], *, always: bool
) -> str:
    """Put a batch of what was kept back; what stands there by now is left as it is.

    $1 run, $2 action, $3 the last of the batch before, $4 how many. Returns the last, how many, how
    many were put back, and the keys of some that were not, as JSON. `always`: an identity column.
    """
    names = ", ".join(quoted(column) for column in columns)
    values = ", ".join(f"(one).{quoted(column)}" for column in columns)
    named = told("line", table, key)
    overriding = " OVERRIDING SYSTEM VALUE" if always else ""
    return (
        f"WITH kept AS (SELECT id, line FROM {archive} WHERE run = $1 AND action = $2\n"
        f"  AND id > $3::bigint ORDER BY id LIMIT $4::bigint),\n"
        f"put AS (INSERT INTO {table} AS {ROW} ({names}){overriding}\n"
        f"  SELECT {values} FROM\n"
        f"   (SELECT line::{table} AS one FROM kept ORDER BY id OFFSET 0) AS rows\n"
        f"  ON CONFLICT DO NOTHING RETURNING {ROW}::text AS line)\n"
        "SELECT max(id), count(*), (SELECT count(*) FROM put),\n"
        f"  (SELECT json_agg({named}) FROM (SELECT line FROM kept\n"
        "   EXCEPT SELECT line FROM put LIMIT 20) AS stayed) FROM kept"
    )


def told(line: str, table: str, key: tuple[str, ...]) -> str:
    """Name a row that was kept by its primary key; what else is in it is nobody's business."""
    if not key:
        return "'a row of a table without a primary key'::text"
    columns = ", ".join(f"({line}::{table}).{quoted(column)}::text" for column in key)
    return f"pg_catalog.concat_ws(', ', {columns})"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_NAME = re.compile(r'(?:[A-Za-z_][\w$]*|"(?:[^"]|"")+")(?:\.(?:[A-Za-z_][\w$]*|"(?:[^"]|"")+"))?')


def is_name(written: str) -> bool:
    """Tell whether this is a table's name, perhaps with its schema."""
    return bool(_NAME.fullmatch(written))
