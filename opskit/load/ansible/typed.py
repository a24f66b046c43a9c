"""YAML as Ansible reads it (1.1): `yes` is true, `0755` is a number, `<<` merges, tags mean things.

A runbook's YAML is another one: see `opskit.load.yaml`.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from opskit.load.ansible.values import Sealed, Unsafe, ValueProblemError
from opskit.load.yaml import Composer, Event, Items, Node, Parsed, Scalar, Table, parse
from opskit.model.problem import Place, Problem

_STANDARD = "tag:yaml.org,2002:"
_TYPES = frozenset(_STANDARD + name for name in ("str", "int", "float", "bool", "null"))
_SEALED = ("!vault", "!vault-encrypted")
_UNSAFE = "!unsafe"


class _Tagged(Scalar):
    """A scalar with a tag."""

    __slots__ = ("tag",)

    def __init__(self, bare: Scalar, tag: str) -> None:
        super().__init__(bare.text, bare.style, bare.line, bare.column, bare.end)
        self.tag = tag


class _Composer(Composer):
    """Lets in what Ansible does; where a key stands twice, the latter holds."""

    def _empty(self) -> None:
        pass

    def _tagged(self, event: Event) -> None:
        scalar = isinstance(event, yaml.ScalarEvent)
        tag = event.tag
        if not (scalar and (tag in _TYPES or tag in _SEALED or tag == _UNSAFE)):
            write = "!vault and !unsafe before a text are known; take others out"
            self._stop(event, f"the tag {tag[:80]}", write)

    def _scalar(self, event: Event) -> Scalar:
        bare = super()._scalar(event)
        return _Tagged(bare, event.tag) if event.tag not in (None, "!") else bare

    def _accepted(self, key: Scalar) -> bool:
        return True

    def _again(self, entries: dict[str, tuple[Scalar, Node]], key: Scalar, value: Node) -> None:
        first = entries[key.text][0].line
        place = Place(file=self.file, line=key.line, column=key.column)
        told = f"the key {key.text[:80]!r} is on line {first} already; this one holds"
        self.problems.append(Problem(place=place, what=told, write="keep one", severity="warning"))
        entries[key.text] = (key, value)


def parse_typed(raw: bytes, file: str) -> Parsed:
    """Read one YAML document as Ansible does."""
    return parse(raw, file, _Composer)


def entries(table: Table) -> Iterator[tuple[Scalar, Node]]:
    """Yield the entries of a mapping, those merged into it first where it does not have them."""
    merged = table.entries.get("<<")
    own = {name: entry for name, entry in table.entries.items() if entry is not merged}
    if merged is not None and merged[0].style:
        own = dict(table.entries)
    elif merged is not None:
        for inner in _merged(merged[1]):
            own = {key.text: (key, value) for key, value in entries(inner)} | own
    yield from own.values()


def _merged(node: Node) -> list[Table]:
    nodes = node.nodes if isinstance(node, Items) else [node]
    if not all(isinstance(inner, Table) for inner in nodes):
        raise ValueProblemError("merges (`<<`) what is no mapping")
    return [inner for inner in nodes if isinstance(inner, Table)]


def data(node: Node) -> object:
    """Return what a node stands for; raises ValueProblemError."""
    if isinstance(node, Scalar):
        return _scalar(node)
    if isinstance(node, Items):
        return [data(inner) for inner in node.nodes]
    return {key_of(key): data(value) for key, value in entries(node)}


def key_of(key: Scalar) -> object:
    """Return what a key stands for: it need not be a text."""
    return _scalar(key)


def text_of(node: Scalar) -> str | None:
    """Return a text, None where the scalar stands for something else."""
    found = _scalar(node)
    return str(found) if isinstance(found, str) else None


def _scalar(node: Scalar) -> object:
    tag = node.tag if isinstance(node, _Tagged) else None
    if tag in _SEALED:
        return Sealed()
    if tag == _UNSAFE:
        return Unsafe(node.text)
    loader = _LOADER
    if tag is None and node.style:
        return node.text
    meant = tag or loader.resolve(yaml.ScalarNode, node.text, (True, False))
    make = loader.yaml_constructors.get(meant)
    if make is None:  # `<<` and `=` where they are values
        return node.text
    try:
        return make(loader, yaml.ScalarNode(meant, node.text))
    except (ValueError, KeyError, IndexError, OverflowError, yaml.YAMLError):
        raise ValueProblemError(
            f"can't be read as {meant.removeprefix(_STANDARD)}; quote it"
        ) from None


_LOADER: Any = yaml.SafeLoader("")
