"""A file that describes a table of payments → Ledger, with every problem in it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from opskit.load.files import read
from opskit.load.ledgerkeys import LEDGER, PROVIDER, REPEAT, STATUS
from opskit.load.reading import Reader
from opskit.load.runbook import check_format
from opskit.load.whole import whole
from opskit.load.yaml import Items, Node, Scalar, Table, parse
from opskit.model.ledger import Field, Ledger, Match, Provider, Repeat, Reversal, Status
from opskit.model.problem import Problem
from opskit.render.definitions import DefinitionError, relation_name
from opskit.steps.base import is_template

COLUMN = r"[^\W\d]\w{0,62}"
FIELD = re.compile(
    rf"(?P<column>{COLUMN})(?P<way>(?:\s*->\s*'[\w.:-]{{1,63}}')*\s*->>\s*'[\w.:-]{{1,63}}')?"
)
"""What may stand for a field. Nothing else of a file gets into SQL, and this only quoted."""
_STEP = re.compile(r"'([^']*)'")
_SETS = tuple(key.name for key in STATUS if key.name != "column")
_CURE = "a column, or one key of a JSON column: metadata->>'dedup_key'"
_COLUMNS = ("id", "created_at", "amount")


def ledger(path: Path) -> Ledger:
    """Read a file; ProblemsError with every error in it."""
    return whole(path, *check_ledger(path))


def check_ledger(path: Path) -> tuple[Ledger | None, list[Problem]]:
    """Read a file for lint."""
    problems: list[Problem] = []
    raw = read(path, problems)
    if raw is None:
        return None, problems
    parsed = parse(raw, str(path))
    reader = Reader(parsed.file, parsed.source, parsed.problems)
    root = parsed.root
    if root is None:
        return None, parsed.problems
    if not isinstance(root, Table):
        reader.error(root, "a ledger must be a mapping", "begin with opskit: 1")
        return None, parsed.problems
    if not check_format(reader, root, "a ledger"):
        return None, parsed.problems
    made = _File(reader, root).ledger()
    return None if parsed.problems else made, list(dict.fromkeys(parsed.problems))


def field(text: str) -> Field | None:
    """Read a field as it stands in a file; None where it is none."""
    match = FIELD.fullmatch(text.strip())
    if match is None or len(match["column"].encode()) > 63:
        return None
    return Field(column=match["column"], path=tuple(_STEP.findall(match["way"] or "")))


class _File:
    """One file being read."""

    def __init__(self, reader: Reader, root: Table) -> None:
        self.reader = reader
        self.root = root

    def ledger(self) -> Ledger | None:
        values: dict[str, Any] = self.reader.table(self.root, LEDGER, "a ledger")
        made: dict[str, Any] = {
            **self._table(),
            **{name: self._column(self.root, name) for name in _COLUMNS if name in values},
            **{name: self._one(name) for name in ("key", "payee", "provider_ref", "task")},
            **{name: self._fields(name) for name in ("scope", "payload", "show", "mask")},
            **self._currency(values),
            "float_money": values.get("float_money", False),
            "status": self._status(values),
            "business_keys": tuple(self._list("business_keys", self._business)),
            "where": tuple(self._matches(self.root, prefixes=False)),
            "allow": tuple(self._list("allow", self._repeat)),
            "provider": self._provider(values),
            "reversal": self._reversal(values),
        }
        self._lacking(values)
        if self.reader.problems:
            return None
        return Ledger(**made)

    def _table(self) -> dict[str, Any]:
        node = self._node("ledger")
        if not isinstance(node, Scalar) or node.empty:
            return {}
        try:
            schema, name = relation_name(node.text)
        except DefinitionError as error:
            self.reader.error(node, f"{node.text[:80]!r} can't be read: {error}", "SCHEMA.NAME")
            return {}
        if not schema:
            told = f"{node.text[:80]!r} does not say in which schema it is"
            self.reader.error(node, told, f"public.{node.text[:80]}")
        return {"schema": schema, "table": name}

    def _node(self, key: str, table: Table | None = None) -> Node | None:
        entries = (table or self.root).entries
        return entries[key][1] if key in entries else None

    def _lacking(self, values: dict[str, Any]) -> None:
        """Report what says nothing without another key."""
        for key, *needed in (
            ("amount", "currency"),
            ("currency", "amount"),
            ("allow", "payee", "amount"),
            ("provider", "provider_ref", "amount"),
        ):
            for other in needed:
                if key in self.root.entries and other not in self.root.entries:
                    told = f"`{key}` says nothing without `{other}`"
                    self.reader.error(self.root.entries[key][0], told, f"add {other}: …")
        if values.get("float_money") and "amount" not in self.root.entries:
            told = "`float_money` says nothing without `amount`"
            self.reader.error(self.root.entries["float_money"][0], told, "take it out")

    # --- fields

    def _field(self, node: Node | None) -> Field | None:
        if not isinstance(node, Scalar) or node.empty:
            return None  # reported already, or not there
        found = field(node.text)
        if found is None and not is_template(node.text):  # of which was told already
            self.reader.error(node, f"{node.text[:80]!r} is no field", _CURE)
        return found

    def _one(self, key: str) -> Field | None:
        return self._field(self._node(key))

    def _fields(self, key: str) -> tuple[Field, ...]:
        return tuple(self._each(self._node(key)))

    def _each(self, node: Node | None) -> Iterator[Field]:
        nodes = node.nodes if isinstance(node, Items) else [node]
        seen: set[Field] = set()
        for one in nodes:
            made = self._field(one)
            if made is not None and one is not None:
                if made in seen:
                    self.reader.error(one, f"{made} stands here twice", "take one out")
                seen.add(made)
                yield made

    def _column(self, table: Table, key: str) -> str:
        """Read what must be a column, without a way into it."""
        node = self._node(key, table)
        made = self._field(node)
        if made is not None and made.path and node is not None:
            self.reader.error(node, f"`{key}` must be a column, not {made}", made.column)
        return made.column if made is not None else ""

    # --- parts with a shape of their own

    def _currency(self, values: dict[str, Any]) -> dict[str, Any]:
        node = self._node("currency")
        if isinstance(node, Table):
            column, code = self._node("column", node), self._node("is", node)
            if (column is None) == (code is None):
                told = "`currency` is either a column or one for all rows"
                self.reader.error(node, told, "write currency: COLUMN or currency: {is: EUR}")
            node = column
        given = values.get("currency")
        code_given = given.get("is") if isinstance(given, dict) else None
        return {"currency": self._field(node), "code": code_given or ""}

    def _status(self, values: dict[str, Any]) -> Status | None:
        node = self._node("status")
        given = values.get("status")
        if not isinstance(node, Table) or not isinstance(given, dict):
            return None
        sets = {name: _many(given.get(name)) for name in _SETS}
        first: dict[str, str] = {}
        for name in _SETS:
            entry = self._node(name, node)
            for at, word in zip(_scalars(entry), sets[name], strict=False):
                other = first.setdefault(word, name)
                if other != name:
                    told = f"{word!r} is in `{other}` and in `{name}`"
                    self.reader.error(at, told, "each status has one meaning")
        if not (sets["settled"] or sets["sent"] or sets["pending"]):
            told = "no status is a payment: there is neither settled, sent nor pending"
            self.reader.error(node, told, "add settled: […]")
        return Status(column=self._column(node, "column"), **sets)

    def _business(self, node: Node) -> tuple[Field, ...]:
        if isinstance(node, Table) or (isinstance(node, Items) and not node.nodes):
            self.reader.error(node, "a business key is a list of fields", "[order_id]")
        return tuple(self._each(node))

    def _repeat(self, node: Node) -> Repeat:
        values = self.reader.table(node, REPEAT, "an entry of `allow`")
        found = tuple(self._matches(node, prefixes=True)) if isinstance(node, Table) else ()
        return Repeat(why=str(values.get("why", "")), where=found)

    def _provider(self, values: dict[str, Any]) -> Provider | None:
        node, given = self._node("provider"), values.get("provider")
        if not isinstance(node, Table) or not isinstance(given, dict):
            return None
        words = {key.name: str(given.get(key.name, "")) for key in PROVIDER if key.name != "where"}
        unit: Literal["major", "minor"] = "minor" if words.pop("unit") == "minor" else "major"
        where = tuple(self._matches(node, prefixes=False, file=True))
        return Provider(**words, unit=unit, where=where)

    def _reversal(self, values: dict[str, Any]) -> Reversal | None:
        node, given = self._node("reversal"), values.get("reversal")
        if not isinstance(node, Table) or not isinstance(given, dict):
            return None
        status = str(given.get("status") or "")
        words = self._status(values)
        if words is not None and status not in words.known:
            told = f"a row that reverses needs a status, and {status!r} is in none of the sets"
            self.reader.error(node, told, f"add status: one of {', '.join(words.known)[:200]}")
        if words is None and status:
            self.reader.error(node, "rows have no status here", "take `status` out of `reversal`")
        if "amount" not in self.root.entries:
            self.reader.error(node, "`reversal` says nothing without `amount`", "add amount: …")
        sets = given.get("set") or {}
        return Reversal(
            reverses=self._column(node, "reverses"),
            status=status,
            copy=tuple(one.column for one in self._each(self._node("copy", node))),
            values={name: str(text) for name, text in sets.items() if self._plain(node, name)},
            negative=bool(given.get("negative", False)),
        )

    def _plain(self, table: Table, text: str) -> bool:
        """Tell whether a text is a column, and report where it is none."""
        made = field(text)
        if made is None or made.path:
            self.reader.error(table, f"{text[:80]!r} is no column", "write set: {COLUMN: TEXT}")
        return made is not None and not made.path

    def _matches(self, table: Table, *, prefixes: bool, file: bool = False) -> Iterator[Match]:
        """Read `where`. Columns of a file have any name, and are no fields of the table."""
        node = self._node("where", table)
        if node is None:
            return
        if not isinstance(node, Table) or not node.entries:
            self.reader.error(node, "`where` must be a mapping", "write COLUMN: VALUE")
            return
        for name, (key, value) in node.entries.items():
            made = Field(column=name) if file else self._field(key)
            there = value.nodes if isinstance(value, Items) else [value]
            words = [one.text for one in there if isinstance(one, Scalar) and not one.empty]
            if not words or len(words) < len(there):
                self.reader.error(value, f"`{name}` needs a value", "one, or a list of them")
            elif made is not None:
                yield _match(made, words, prefixes=prefixes)

    def _list(self, key: str, make: Any) -> list[Any]:  # noqa: ANN401 - what a list is of
        node = self._node(key)
        if node is None:
            return []
        if not isinstance(node, Items) or not node.nodes:
            self.reader.error(node, f"`{key}` must be a list", "begin each with `- `")
            return []
        return [make(one) for one in node.nodes]


def _match(made: Field, words: Sequence[str], *, prefixes: bool) -> Match:
    cut = [word for word in words if prefixes and len(word) > 1 and word.endswith("*")]
    return Match(
        field=made,
        values=tuple(word for word in words if word not in cut),
        prefixes=tuple(word[:-1] for word in cut),
    )


def _scalars(node: Node | None) -> list[Scalar]:
    nodes = node.nodes if isinstance(node, Items) else [node]
    return [one for one in nodes if isinstance(one, Scalar)]


def _many(found: object) -> tuple[str, ...]:
    if found is None:
        return ()
    return tuple(map(str, found)) if isinstance(found, (tuple, list)) else (str(found),)
