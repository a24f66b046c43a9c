"""A file of what a database is expected to have → Expected, with every problem in it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from opskit.load.expectationkeys import (
    EXPECTATIONS,
    EXPECTED_FOREIGN_KEY,
    EXPECTED_FUNCTION,
    EXPECTED_INDEX,
    EXPECTED_LOOKUP,
    EXPECTED_TABLE,
    EXPECTED_VIEW,
)
from opskit.load.files import read
from opskit.load.reading import Reader
from opskit.load.runbook import check_format
from opskit.load.whole import whole
from opskit.load.yaml import Items, Node, Scalar, Table, parse
from opskit.model.expected import Expected, ForeignKey, Function, Index, Lookup, Relation
from opskit.model.problem import Problem
from opskit.render.definitions import (
    DefinitionError,
    arguments,
    canonical,
    index_key,
    relation_name,
    signature,
)
from opskit.render.sql import places, statements, writes
from opskit.steps import Key
from opskit.steps.base import is_template

T = TypeVar("T")


def expectations(path: Path) -> Expected:
    """Read a file; ProblemsError with every error in it."""
    return whole(path, *check_expectations(path))


def check_expectations(path: Path) -> tuple[Expected | None, list[Problem]]:
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
        reader.error(root, "expectations must be a mapping", "begin with opskit: 1")
        return None, parsed.problems
    if not check_format(reader, root, "a file of expectations"):
        return None, parsed.problems
    return _File(reader).expected(root), list(dict.fromkeys(parsed.problems))


class _File:
    """One file being read."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.seen: dict[tuple[str, str], Scalar] = {}

    def expected(self, root: Table) -> Expected:
        values = self._values(root, EXPECTATIONS, "a file of expectations")
        tables = self._relations(root, "tables", view=False)
        views = self._relations(root, "views", view=True)
        functions, extensions = self._functions(root), _many(values, "extensions")
        self._names(root, ("extensions",))
        for template in self.reader.written:
            told = f"`{template.key}` is not rendered"
            self.reader.error(template.node, told, "write it without {{ }}")
        if not (tables or views or functions or extensions) and not self.reader.problems:
            told = "nothing is expected, so that everything would be as expected"
            self.reader.error(root, told, "add tables: {NAME: {indexes: […]}}")
        return Expected(
            relations=tables + views,
            functions=tuple(one.signature for one in functions),
            extensions=extensions,
            traits=tuple(one for one in functions if one != Function(signature=one.signature)),
        )

    def _relations(self, root: Table, part: str, *, view: bool) -> tuple[Relation, ...]:
        node = root.entries[part][1] if part in root.entries else None
        if node is None:
            return ()
        if not isinstance(node, Table) or not node.entries:
            self.reader.error(node, f"`{part}` must be a mapping", "write NAME: {indexes: […]}")
            return ()
        return tuple(
            self._relation(name, key, value, view=view)
            for name, (key, value) in node.entries.items()
        )

    def _relation(self, name: str, key: Scalar, node: Node, *, view: bool) -> Relation:
        full = self._checked(key, name, relation_name)
        if full is not None and self.seen.setdefault(full, key) is not key:
            told = f"{name} stands in line {self.seen[full].line} already"
            self.reader.error(key, told, "put all of it in one place")
        if isinstance(node, Scalar) and node.empty:
            return Relation(name=name, view=view)
        known = EXPECTED_VIEW if view else EXPECTED_TABLE
        if not isinstance(node, Table):
            self.reader.error(node, f"`{name}` must be a mapping", "write {indexes: […]}")
            return Relation(name=name, view=view)
        values = self._values(node, known, f"`{name}`")
        self._names(node, ("columns", "accept"))
        return Relation(
            name=name,
            view=view,
            columns=_many(values, "columns"),
            indexes=tuple(self._list(node, "indexes", self._index)),
            foreign_keys=() if view else tuple(self._list(node, "foreign_keys", self._foreign)),
            populated=values.get("populated", True),
            accept=_many(values, "accept"),
            within=values.get("within"),
            fresh_within=values.get("fresh_within"),
        )

    def _values(self, node: Table, known: tuple[Key, ...], owner: str) -> dict[str, Any]:
        """Read the keys that are plain values; what has a shape of its own is read elsewhere."""
        self.reader.unknown(node, {key.name: key for key in known}, owner)
        plain = tuple(key for key in known if key.type != "data")
        own = Table(node.line, node.column)
        names = {key.name for key in plain}
        own.entries = {name: entry for name, entry in node.entries.items() if name in names}
        return self.reader.table(own, plain, owner)

    def _list(self, node: Table, key: str, make: Callable[[Node], T | None]) -> list[T]:
        found = node.entries[key][1] if key in node.entries else None
        if found is None or isinstance(found, Items):
            return self._several(node, key, make)
        self.reader.error(found, f"`{key}` must be a list", "begin each with `- `")
        return []

    def _several(self, node: Table, key: str, make: Callable[[Node], T | None]) -> list[T]:
        """Read a list; a thing alone is one of one."""
        if key not in node.entries:
            return []
        found = node.entries[key][1]
        nodes = found.nodes if isinstance(found, Items) else [found]
        return [made for one in nodes if (made := make(one)) is not None]

    def _index(self, node: Node) -> Index | None:
        """Read an index; a list or a text stands for its keys."""
        if not isinstance(node, Table):
            node = _under("keys", node)
        values = self._values(node, EXPECTED_INDEX, "an index")
        self._each(node, "keys", index_key)
        self._each(node, "where", canonical)
        self._names(node, ("include", "name"))
        if not _many(values, "keys"):
            return None
        if "where" in node.entries and not values.get("where"):
            return None
        if not values["nulls_distinct"] and not values["unique"]:
            told = "`nulls_distinct` is for unique indexes"
            self.reader.error(node.entries["nulls_distinct"][0], told, "add unique: true")
        several = {"keys": _many(values, "keys"), "include": _many(values, "include")}
        used_by = tuple(self._several(node, "used_by", self._lookup))
        return Index(**{**values, **several, "used_by": used_by})

    def _lookup(self, node: Node) -> Lookup | None:
        """Read a query that an index is for: one SELECT, a value for each place or for none."""
        if not isinstance(node, Table):
            node = _under("query", node)
        values: dict[str, Any] = self.reader.table(node, EXPECTED_LOOKUP, "a query")
        query, given = values.get("query"), _many(values, "values")
        if not query:
            return None
        found = node.entries["query"][1]
        wrong = writes(query)
        if wrong is None and statements(query)[0].verb in ("explain", "show"):
            wrong = 0, "only a SELECT can be planned", ""
        if wrong is not None:
            self.reader.error(found, wrong[1], "write one SELECT, as it is asked")
            return None
        wanted = places(query)
        if wanted != {f"${number}" for number in range(1, len(wanted) + 1)}:
            self.reader.error(found, "the places for values have gaps", "number them from $1 on")
        elif given and len(given) != len(wanted):
            told = f"`values` has {len(given)} for {len(wanted)} places in the query"
            self.reader.error(node.entries["values"][1], told, "write one for each, in their order")
        within = values.get("within")
        if within is not None and wanted and not given:
            told = "it can't be timed without values"
            self.reader.error(node.entries["within"][1], told, "add values: one for each place")
        return Lookup(query=query, values=given, within=within)

    def _functions(self, root: Table) -> list[Function]:
        found = self._several(root, "functions", self._function)
        return [one for one in found if one.signature]

    def _function(self, node: Node) -> Function:
        """Read what a function must be; a text is its signature."""
        if not isinstance(node, Table):
            node = _under("signature", node)
        values: dict[str, Any] = self.reader.table(node, EXPECTED_FUNCTION, "a function")
        self._each(node, "signature", signature)
        self._names(node, ("owner",))
        made = Function(**{"signature": "", **values, "call": _many(values, "call")})
        if made.signature and (made.call or made.within is not None):
            self._callable(node, made)
        return made

    def _callable(self, node: Table, made: Function) -> None:
        try:
            wanted = len(arguments(made.signature))
        except DefinitionError:
            return  # has been told
        given = node.entries["call" if made.call else "within"][1]
        if made.within is None:
            self.reader.error(given, "a call without a limit is of no use", "add within: 20ms")
        elif len(made.call) != wanted:
            told = f"`call` has {len(made.call)} for {wanted} arguments"
            self.reader.error(given, told, "add call: a value for each argument")

    def _foreign(self, node: Node) -> ForeignKey | None:
        values: dict[str, Any] = self.reader.table(node, EXPECTED_FOREIGN_KEY, "a foreign key")
        if not isinstance(node, Table) or not values.get("columns") or not values.get("references"):
            return None
        self._names(node, ("columns",))
        self._each(node, "references", relation_name)
        return ForeignKey(columns=_many(values, "columns"), references=values["references"])

    def _names(self, node: Table, keys: Sequence[str]) -> None:
        """Check what must be a name as the server keeps it; quotes are not part of it."""
        for key in keys:
            self._each(node, key, _name)

    def _each(self, node: Table, key: str, look: Callable[[str], object]) -> None:
        found = node.entries[key][1] if key in node.entries else None
        for one in found.nodes if isinstance(found, Items) else [found]:
            if isinstance(one, Scalar) and not one.empty and not is_template(one.text):
                self._checked(one, one.text, look)

    def _checked(self, node: Scalar, text: str, look: Callable[[str], T]) -> T | None:
        try:
            return look(text)
        except DefinitionError as error:
            self.reader.error(node, f"{text[:80]!r} can't be read: {error}", "write it as SQL does")
            return None


def _name(text: str) -> str:
    if not text.strip() or '"' in text or "\0" in text or len(text.encode()) > 63:
        raise DefinitionError("it is no name of at most 63 bytes, written without quotes")
    return text


def _under(name: str, node: Node) -> Table:
    table = Table(node.line, node.column)
    table.entries[name] = (Scalar(name, "", node.line, node.column, node.line), node)
    return table


def _many(values: dict[str, Any], key: str) -> tuple[str, ...]:
    found = values.get(key) or ()
    return found if isinstance(found, tuple) else (found,)
