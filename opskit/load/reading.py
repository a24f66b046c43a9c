"""Nodes → typed values, by the tables of keys; every problem is collected, none stops the rest."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from opskit.load.examples import example, fitting
from opskit.load.suggest import advice
from opskit.load.yaml import Items, Node, Scalar, Table, plain
from opskit.model.problem import Place, Problem
from opskit.model.value import Json
from opskit.steps import Key
from opskit.steps.base import is_template
from opskit.steps.units import bytes_of, figure, instead_of, seconds_of

INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MODE = re.compile(r"0?[0-7]{3,4}")
_TYPES = "text shell sql predicate words glob url file expectations ledger report"
_PLAIN = frozenset({"int", "number", "bool", "duration", "size", "enum", "mode"})
"""Types that are rendered only for a kind's own keys, and where a key says so."""
_TEMPLATED = frozenset([*_TYPES.split(), *_PLAIN])
Kind = Literal["text", "shell", "sql", "predicate", "argument", "url", "expression", "verbatim"]
"""What a text is read as."""


class Written(NamedTuple):
    """A template or an expression as it stands in the file."""

    key: str
    type: Kind
    text: str
    node: Scalar
    file: str | None = None
    """The template file that the text stands in, where that is not the runbook."""


class _Columns(NamedTuple):
    """A table of keys, made ready for reading."""

    keys: Sequence[Key]
    known: Mapping[str, Key]
    defaults: Mapping[str, Json]
    required: tuple[Key, ...]


_ready: dict[int, _Columns] = {}
_MOST_READY = 512


def _columns(keys: Sequence[Key]) -> _Columns:
    """Return what reading needs of a table of keys: worked out once for each of the few there are.

    Known by its identity, for which the entry keeps it alive.
    """
    found = _ready.get(id(keys))
    if found is None:
        if len(_ready) >= _MOST_READY:
            _ready.clear()
        found = _ready[id(keys)] = _Columns(
            keys,
            {key.name: key for key in keys},
            {key.name: key.default for key in keys if key.default is not None},
            tuple(key for key in keys if key.required),
        )
    return found


class Reader:
    """Reads one file; `written` collects the templates of the step being read."""

    def __init__(self, file: str, source: str, problems: list[Problem]) -> None:
        self.file = file
        self.source = source
        self.problems = problems
        self.written: list[Written] = []
        self._arguments = False

    def place(self, node: Node) -> Place:
        return Place(file=self.file, line=node.line, column=node.column)

    def error(self, node: Node, what: str, write: str = "") -> None:
        self.problems.append(Problem(place=self.place(node), what=what, write=write))

    def warn(self, node: Node, what: str, write: str = "") -> None:
        found = Problem(place=self.place(node), what=what, write=write, severity="warning")
        self.problems.append(found)

    def table(self, node: Node, keys: Sequence[Key], owner: str) -> dict[str, Json]:
        """Read a mapping by its table of keys; keys with a problem are left out."""
        if not isinstance(node, Table):
            self.error(node, f"{owner} must be a mapping", "write KEY: VALUE")
            return {}
        columns = _columns(keys)
        known = columns.known
        values = dict(columns.defaults)
        for name, (at, value) in node.entries.items():
            if name in known:
                values.pop(name, None)
                self.entry(values, known[name], value)
            else:
                self.error(at, f"unknown key {name!r} in {owner}", advice(name, known, most=16))
        for key in columns.required:
            if key.name not in node.entries:
                self.error(node, f"{owner} has no `{key.name}`", f"add {key.name}: {example(key)}")
        return values

    def arguments(self, node: Node, keys: Sequence[Key], owner: str) -> dict[str, Json]:
        """Read a kind's own keys: any of them may be a template."""
        self._arguments = True
        try:
            return self.table(node, keys, owner)
        finally:
            self._arguments = False

    def entry(self, values: dict[str, Json], key: Key, node: Node) -> None:
        """Read one value into `values`, unless there is something wrong with it."""
        before = len(self.problems)
        value = self.value(node, key) if key.many else self._one(node, key, key.name)
        if len(self.problems) == before or value is not None:
            values[key.name] = value

    def unknown(self, node: Table, known: Mapping[str, object], owner: str) -> None:
        for name, (key, _) in node.entries.items():
            if name not in known:
                self.error(key, f"unknown key {name!r} in {owner}", advice(name, known, most=16))

    def value(self, node: Node, key: Key, path: str = "") -> Json:
        """Read a value of a key's type; None (and a problem) when it is not one."""
        path = path or key.name
        if key.many and isinstance(node, Items):
            values = [self._one(item, key, path) for item in node.nodes]
            if not values:
                self.error(node, f"`{path}` is an empty list", f"write {example(key)}")
            return tuple(value for value in values if value is not None)
        return self._one(node, key, path)

    def _one(self, node: Node, key: Key, path: str) -> Json:
        if node.__class__ is Scalar and key.type in _SCALARS:
            return self._scalar(node, key, path)  # nearly all are like this
        if key.type == "table" and key.main and not isinstance(node, Table):
            main = next(k for k in key.keys if k.name == key.main)
            value = self.value(node, main, path)
            return None if value is None else {key.main: value}
        if key.type in _STRUCTURES:
            return _STRUCTURES[key.type](self, node, key, path)
        return self._scalar(node, key, path)

    def _scalar(self, node: Node, key: Key, path: str) -> Json:
        if not isinstance(node, Scalar):
            self.error(node, f"`{path}` must be a single value", f"write {example(key)}")
            return None
        if node.empty:
            self.error(node, f"`{path}` is empty", f"write {example(key)}")
            return None
        if self._rendered(key) and is_template(node.text):
            self.written.append(Written(path, _context(key), node.text, node))
            return node.text
        if key.type in _PLAIN and is_template(node.text):
            self.error(node, f"`{path}` is not rendered", "write it without {{ }}")
            return None
        return _SCALARS[key.type](self, node, key, path)

    def _rendered(self, key: Key) -> bool:
        plain = key.type in _PLAIN and not self._arguments and not key.rendered
        return key.type in _TEMPLATED and not plain

    def text(self, node: Scalar, key: Key, path: str) -> Json:
        """Take a scalar as it was written, whatever an untyped reader would make of it."""
        if key.type in ("shell", "sql", "predicate", "expression", "verbatim", "url"):
            self.written.append(Written(path, _context(key), node.text, node))
        elif is_template(node.text):
            self.error(node, f"`{path}` is not rendered", "write it without {{ }}")
            return None
        if key.pattern and not re.fullmatch(key.pattern, node.text):
            self.error(node, f"{node.text[:80]!r} can't be `{path}`", fitting(key))
            return None
        return node.text

    def wrong(self, node: Scalar, path: str, write: str) -> None:
        self.error(node, f"`{path}` can't be {node.text[:80]!r}", f"write {write}")

    def data(self, node: Node, path: str) -> Json:
        """Read anything; each text in it may be a template."""
        if isinstance(node, Items):
            return tuple(self.data(item, path) for item in node.nodes)
        if isinstance(node, Table):
            return {
                name: self.data(value, f"{path}.{name}")
                for name, (_, value) in node.entries.items()
            }
        self.doubt(node)
        if is_template(node.text):
            self.written.append(Written(path, "text", node.text, node))
            return node.text
        return node.data

    def doubt(self, node: Scalar) -> None:
        if node.doubtful:
            truth = "true" if node.text.lower() in ("yes", "on") else "false"
            self.error(
                node,
                f"a bare {node.text} is a text here, and true or false to other readers of YAML",
                f'{truth}, or "{node.text}" if the text is meant',
            )


def _context(key: Key) -> Kind:
    match key.type:
        case "words" | "glob":
            return "argument"
        case "shell" | "sql" | "predicate" | "url" | "expression" | "verbatim":
            return key.type
        case _:
            return "text"


def _name(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if not _NAME.fullmatch(node.text):
        reader.wrong(node, path, "letters, digits and _, not beginning with a digit")
        return None
    return node.text


def _int(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if not INT.fullmatch(node.text):
        reader.wrong(node, path, "a whole number such as 3")
        return None
    return _bounded(reader, node, key, path, int(node.text))


def _number(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if not NUMBER.fullmatch(node.text):
        reader.wrong(node, path, "a number such as 2.5")
        return None
    return _bounded(reader, node, key, path, float(node.text))


def _bounded(reader: Reader, node: Scalar, key: Key, path: str, value: float) -> Json:
    if key.minimum is not None and value < key.minimum:
        reader.wrong(node, path, f"{figure(key.minimum)} or more")
        return None
    return value


def _bool(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if not isinstance(node.data, bool):
        reader.wrong(node, path, "true or false")
        return None
    return node.data


def _duration(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    seconds = seconds_of(node.text)
    if seconds is None:
        usual = "a duration such as 10s, 5m, 1h30m or 250ms"
        reader.wrong(node, path, instead_of(node.text, usual))
    elif seconds == 0 and path != "backoff" and key.minimum != 0:
        reader.wrong(node, path, "more than 0")
        return None
    return seconds


def _size(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    size = bytes_of(node.text)
    if size is None:
        reader.wrong(node, path, "a size such as 64MiB")
        return None
    return _bounded(reader, node, key, path, size)


def _enum(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if node.text not in key.choices:
        reader.wrong(node, path, advice(node.text, key.choices, cutoff=0.85))
        return None
    return node.text


def _mode(reader: Reader, node: Scalar, key: Key, path: str) -> Json:
    if not _MODE.fullmatch(node.text):
        reader.wrong(node, path, "octal permissions such as 0644")
        return None
    return node.text.zfill(4)


def _list(reader: Reader, node: Node, key: Key, path: str) -> Json:
    if not isinstance(node, Items):
        reader.error(node, f"`{path}` must be a list", f"write {example(key)}")
        return None
    kind: Literal["words", "text"] = "words" if key.type == "words" else "text"
    item = Key(key.name, kind, help="", pattern=key.pattern)
    values = [reader._scalar(one, item, path) for one in node.nodes]  # noqa: SLF001 - one module
    return tuple(value for value in values if value is not None)


def _commands(reader: Reader, node: Node, key: Key, path: str) -> Json:
    from opskit.load.commands import read_commands  # few runbooks have any

    return read_commands(reader, node, path)


def _map(reader: Reader, node: Node, key: Key, path: str) -> Json:
    if not isinstance(node, Table):
        reader.error(node, f"`{path}` must be a mapping", f"write {example(key)}")
        return None
    item = Key(key.name, "text", help="")
    values = {
        name: reader._scalar(value, item, f"{path}.{name}")  # noqa: SLF001 - one module
        for name, (_, value) in node.entries.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def _data(reader: Reader, node: Node, key: Key, path: str) -> Json:
    return reader.data(node, path)


def _value(reader: Reader, node: Node, key: Key, path: str) -> Json:
    if not isinstance(node, Scalar):
        reader.error(node, f"`{path}` must be a single value", f"write {example(key)}")
        return None
    return node.text


def _table(reader: Reader, node: Node, key: Key, path: str) -> Json:
    return reader.table(node, key.keys, f"`{path}`")


def _raw(reader: Reader, node: Node, key: Key, path: str) -> Json:
    """Leave what another reader takes up (steps)."""
    return plain(node) if isinstance(node, Scalar) else ()


_STRUCTURES: Mapping[str, Callable[[Reader, Node, Key, str], Json]] = {
    "list": _list,
    "words": _list,
    "commands": _commands,
    "map": _map,
    "data": _data,
    "value": _value,
    "table": _table,
    "step": _raw,
    "steps": _raw,
}
_SCALARS: Mapping[str, Callable[[Reader, Scalar, Key, str], Json]] = {
    "text": Reader.text,
    "shell": Reader.text,
    "sql": Reader.text,
    "predicate": Reader.text,
    "words": Reader.text,
    "glob": Reader.text,
    "sqlfile": Reader.text,
    "expectations": Reader.text,
    "ledger": Reader.text,
    "report": Reader.text,
    "url": Reader.text,
    "expression": Reader.text,
    "verbatim": Reader.text,
    "file": Reader.text,
    "script": Reader.text,
    "template": Reader.text,
    "runbook": Reader.text,
    "literal": Reader.text,
    "name": _name,
    "int": _int,
    "number": _number,
    "bool": _bool,
    "duration": _duration,
    "size": _size,
    "enum": _enum,
    "mode": _mode,
}
