"""YAML → nodes with their places. The only module that imports yaml.

A subset on purpose, so that a file means one thing: no tags, no merge keys, one document, text
keys, each key once. A bare scalar is a number only if that number prints back exactly as it was
written; `0755`, `1:30`, `1_000`, `1.10`, `0x1F`, `1e999` and dates stay the text that they are.
Only `true` and `false` are booleans; `yes`, `no`, `on` and `off` are text, and `Scalar.doubtful`
where an older YAML would have read a boolean.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from opskit.model.problem import Place, Problem
from opskit.model.value import Json

LARGEST = 1024 * 1024
DEEPEST = 32
MOST_ALIASED = 10_000
_SCALAR, _ALIAS = yaml.ScalarEvent, yaml.AliasEvent
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_DOUBTFUL = frozenset({"yes", "no", "on", "off"})


class Scalar:
    """A text as it stands in the file. `style` is "" (bare), "'", '"', "|" or ">"."""

    __slots__ = ("column", "end", "line", "style", "text")

    def __init__(self, text: str, style: str, line: int, column: int, end: int) -> None:
        self.text = text
        self.style = style
        self.line = line
        self.column = column
        self.end = end

    @property
    def data(self) -> bool | int | float | str | None:
        """The value that the text stands for."""
        if self.style:
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if _INT.fullmatch(self.text) and self.text != "-0":
            return int(self.text)
        if _FLOAT.fullmatch(self.text) and repr(float(self.text)) == self.text:
            return float(self.text)
        return self.text

    @property
    def empty(self) -> bool:
        return not self.style and _WORDS.get(self.text, 0) is None

    @property
    def doubtful(self) -> bool:
        return not self.style and self.text.lower() in _DOUBTFUL


class Items:
    """A list."""

    __slots__ = ("column", "line", "nodes")

    def __init__(self, line: int, column: int) -> None:
        self.nodes: list[Node] = []
        self.line = line
        self.column = column


class Table:
    """A mapping: key → where the key stands, and its value."""

    __slots__ = ("column", "entries", "line")

    def __init__(self, line: int, column: int) -> None:
        self.entries: dict[str, tuple[Scalar, Node]] = {}
        self.line = line
        self.column = column


Node = Scalar | Items | Table


class SyntaxProblemError(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class Parsed:
    """A file that was read: its text, its root (None when it makes no sense), its problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.source = ""
        self.root: Node | None = None
        self.problems: list[Problem] = []


def parse(raw: bytes, file: str, composer: "type[Composer] | None" = None) -> Parsed:
    """Read one YAML document; another composer may let more into it."""
    parsed = Parsed(file)
    try:
        parsed.source = decode(raw, file)
        parser: Any = _LOADER(parsed.source)
        try:
            made = (composer or Composer)(file, parsed.problems, parser.get_event)
            parsed.root = made.document()
        finally:
            parser.dispose()
    except SyntaxProblemError as error:
        parsed.problems.append(error.problem)
    except yaml.YAMLError as error:
        parsed.problems.append(_translate(error, file, parsed.source))
    return parsed


def decode(raw: bytes, file: str) -> str:
    """Return the text of a file, or say where it is none."""
    place = Place(file=file)
    if len(raw) > LARGEST:
        size = f"{len(raw) / LARGEST:.1f} MiB"
        raise SyntaxProblemError(
            Problem(place=place, what=f"the file has {size}", write="at most 1 MiB")
        )
    try:
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        place = Place(file=file, line=line, column=column)
        raise SyntaxProblemError(
            Problem(place=place, what="this is not UTF-8 text", write="save the file as UTF-8")
        ) from error
    if "\0" in source:
        place = _place_of(source, source.index("\0"), file)
        raise SyntaxProblemError(
            Problem(place=place, what="a NUL character", write="take it out; nothing can carry it")
        )
    return source


def _place_of(source: str, index: int, file: str) -> Place:
    line = source.count("\n", 0, index) + 1
    return Place(file=file, line=line, column=index - (source.rfind("\n", 0, index) + 1) + 1)


def _translate(error: yaml.YAMLError, file: str, source: str) -> Problem:
    """Say in our words what the parser found."""
    if isinstance(error, yaml.reader.ReaderError):
        place = _control_character(source, file)
        return Problem(
            place=place, what="a control character", write="take it out, or use \\x.. in quotes"
        )
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "this is not YAML"
    if mark is None:
        return Problem(place=Place(file=file), what=str(what))
    if "unexpected end" in str(what) and getattr(error, "context_mark", None):
        mark = getattr(error, "context_mark", mark)  # where it began says more than the file's end
    place = Place(file=file, line=mark.line + 1, column=mark.column + 1)
    lines = source.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    char = line[mark.column : mark.column + 1]
    if char == "\t":
        return Problem(place=place, what="a tab in the indentation", write="indent with spaces")
    begins = re.match(r"[\s-]*(?:[\w.-]+\s*:\s)?\s*(.?)", line)
    return Problem(
        place=place,
        what=f"not YAML: {what}",
        write=_cure(str(what), char, begins[1] if begins else ""),
    )


def _control_character(source: str, file: str) -> Place:
    match = re.search(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]", source)
    return _place_of(source, match.start(), file) if match else Place(file=file)


def _cure(what: str, char: str, begins: str) -> str:
    """Say what to write; `char` is where the parser gave up, `begins` how the line's value does."""
    if "mapping values are not allowed" in what:
        return "quote a value that has `: ` in it (or put it below `|`), and check the indentation"
    if "unexpected end of stream" in what:
        return "close the quote"
    if begins and begins in "|>" and "comment or line break" in what:
        return f"end the line after {begins} and indent the text below it, or quote the value"
    if begins and begins in "[{'\"" and char != begins:
        kind = "all of it" if begins in "'\"" else f"a value that begins with {begins}"
        return f"quote {kind}, or put it below `|`"
    if char and char in "@`%&*!|>":
        return f"quote a value that begins with {char}"
    if "expected ',' or" in what:
        return "close the bracket, or quote the value"
    if "expected '-'" in what or "expected key" in what or "block" in what:
        return "check the indentation: the keys of one step begin in the same column"
    return ""


Event = Any  # the stubs have marks and tags optional that the parser always sets


class Composer:
    """Builds nodes from the parser's events, and refuses what has no place in our files."""

    def __init__(self, file: str, problems: list[Problem], event: Callable[[], Event]) -> None:
        self.file = file
        self.problems = problems
        self.event = event
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.aliased = 0
        self.count = 0

    def document(self) -> Node | None:
        self.event()
        event = self.event()
        if isinstance(event, yaml.StreamEndEvent):
            self._empty()
            return None
        node = self._node(self.event(), 0)
        self.event()
        event = self.event()
        if not isinstance(event, yaml.StreamEndEvent):
            self._stop(event, "a second document", "keep one document in a file")
        return node

    def _empty(self) -> None:
        self.problems.append(Problem(place=Place(file=self.file), what="the file is empty"))

    def _stop(self, event: Event, what: str, write: str) -> None:
        raise SyntaxProblemError(Problem(place=self._at(event), what=what, write=write))

    def _at(self, event: Event) -> Place:
        mark = event.start_mark
        return Place(file=self.file, line=mark.line + 1, column=mark.column + 1)

    def _node(self, event: Event, depth: int) -> Node:
        self.count += 1
        kind = event.__class__
        if kind is _SCALAR and event.tag is None and event.anchor is None and depth <= DEEPEST:
            return self._scalar(event)  # nearly all are like this
        if kind is _ALIAS:
            return self._alias(event)
        if event.tag is not None and event.tag != "!":
            self._tagged(event)
        if depth > DEEPEST:
            self._stop(event, f"nested more than {DEEPEST} deep", "keep it flatter")
        began = self.count
        node: Node
        if kind is _SCALAR:
            node = self._scalar(event)
        elif kind is yaml.SequenceStartEvent:
            node = self._items(event, depth)
        else:
            node = self._table(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.count - began + 1)
        return node

    def _tagged(self, event: Event) -> None:
        self._stop(event, f"the tag {event.tag}", "take it out; quote what must be text")

    def _scalar(self, event: Event) -> Scalar:
        text, style, mark = event.value, event.style or "", event.start_mark
        if style == '"' and "\0" in text:  # elsewhere none can be: there are no escapes
            self._stop(event, "a NUL character", "take it out; nothing can carry it")
        return Scalar(text, style, mark.line + 1, mark.column + 1, event.end_mark.line + 1)

    def _alias(self, event: Event) -> Node:
        """Share the node; what an alias stands for counts each time, so that bombs go off here."""
        if event.anchor not in self.anchors:
            self._stop(
                event,
                f"nothing before this is marked &{event.anchor}",
                "quote a value that begins with *",
            )
        node, size = self.anchors[event.anchor]
        self.aliased += size
        self.count += size
        if self.aliased > MOST_ALIASED:
            self._stop(
                event, f"aliases stand for more than {MOST_ALIASED} values", "write them out"
            )
        return node

    def _items(self, event: Event, depth: int) -> Items:
        node = Items(event.start_mark.line + 1, event.start_mark.column + 1)
        while (inner := self.event()).__class__ is not yaml.SequenceEndEvent:
            node.nodes.append(self._node(inner, depth + 1))
        return node

    def _table(self, event: Event, depth: int) -> Table:
        node = Table(event.start_mark.line + 1, event.start_mark.column + 1)
        entries = node.entries
        while (inner := self.event()).__class__ is not yaml.MappingEndEvent:
            key = self._key(inner, depth)
            value = self._node(self.event(), depth + 1)
            name = key.text
            if name in ("", "<<") and not self._accepted(key):
                continue
            if name in entries:
                self._again(entries, key, value)
            else:
                entries[name] = (key, value)
        return node

    def _again(self, entries: dict[str, tuple[Scalar, Node]], key: Scalar, _: Node) -> None:
        first = entries[key.text][0].line
        self._report(key, f"the key {key.text!r} is on line {first} already", "keep one")

    def _key(self, event: Event, depth: int) -> Scalar:
        if event.__class__ is _SCALAR and event.tag is None and event.anchor is None:
            if depth < DEEPEST:
                self.count += 1
                return self._scalar(event)
        elif event.__class__ is yaml.MappingStartEvent and event.flow_style:
            self._stop(
                event,
                "a value that begins with { and is not quoted",
                "quote a value that begins with {{: '{{ name }}'",
            )
        key = self._node(event, depth + 1)
        if not isinstance(key, Scalar):
            self._stop(event, "a key that is not a text", "write a plain word before the colon")
        assert isinstance(key, Scalar)
        return key

    def _accepted(self, key: Scalar) -> bool:
        if key.text == "<<" and not key.style:
            self._report(key, "merge keys are not supported", "write the keys out")
        elif not key.text and not key.style:
            self._report(key, "an empty key", "write a name before the colon")
        else:
            return True
        return False

    def _report(self, node: Node, what: str, write: str) -> None:
        place = Place(file=self.file, line=node.line, column=node.column)
        self.problems.append(Problem(place=place, what=what, write=write))


def plain(node: Node) -> Json:
    """Return the data of a node."""
    if isinstance(node, Scalar):
        return node.data
    if isinstance(node, Items):
        return tuple(plain(item) for item in node.nodes)
    return {name: plain(value) for name, (_, value) in node.entries.items()}
