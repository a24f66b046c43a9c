"""`checks` of a service → what is checked, with the checks of the files that it names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.load.checkkeys import CHECK, FILE, INCLUDED
from opskit.load.commands import split
from opskit.load.files import Kept, find, read
from opskit.load.reading import Reader
from opskit.load.runbook import check_format
from opskit.load.yaml import Items, Node, Scalar, Table, parse
from opskit.model.problem import Problem
from opskit.model.value import Json
from opskit.render import TemplateError
from opskit.steps.health import ONCE
from opskit.steps.weighing import limit

Check = dict[str, Any]
_WAYS = ("path", "url", "run", *ONCE)
_EXAMPLE = "write {label: disk, run: …, crit: '< 10'}, or the path of a file of checks"


class Shelf:
    """Reads `checks`; `texts` has the files that were read for them, by path."""

    def __init__(self, folders: Sequence[Path], kept: Kept | None = None) -> None:
        self.folders = folders
        self.kept = kept
        self.texts: dict[str, str] = {}

    def read(self, reader: Reader, node: Node) -> Json:
        """Read a list of checks and files of them; a check that is named again changes that one."""
        if isinstance(node, Scalar) and node.empty:
            return None
        found: list[Check] = []
        for one in node.nodes if isinstance(node, Items) else [node]:
            if isinstance(one, Scalar) or (isinstance(one, Table) and "file" in one.entries):
                found += self._included(reader, one)
            else:
                self._own(reader, one, found)
        return tuple({name: value for name, value in one.items() if name != _FROM} for one in found)

    def _own(self, reader: Reader, node: Node, found: list[Check]) -> None:
        """Add a check, or put what it says over the one of a file that is labelled so."""
        values = _values(reader, node)
        said = values.get("label")
        same = next((one for one in found if one[_FROM] and one.get("label") == said), None)
        if same is not None and said is not None:
            same |= {**values, _FROM: True}
        elif _whole(reader, node, values):
            found.append({**values, _FROM: False})

    def _included(self, reader: Reader, node: Node) -> list[Check]:
        if isinstance(node, Table):
            said: dict[str, Any] = reader.table(node, INCLUDED, "a file of checks")
            at = node.entries["file"][1]
        else:
            said, at = {}, node
        if not isinstance(at, Scalar):
            return []
        path = find(reader, at, [at.text], self.folders, "file of checks", kept=self.kept)
        if path is None:
            return []
        checks = self._file(path, reader.problems)
        left_out = said.get("without") or ()
        left_out = (left_out,) if isinstance(left_out, str) else left_out
        for label in left_out:
            if all(one.get("label") != label for one in checks):
                assert isinstance(node, Table)
                told = f"{at.text} has no check {label[:60]!r}"
                labels = ", ".join(str(one.get("label")) for one in checks)
                reader.error(node.entries["without"][1], told, f"its checks: {labels}")
        given = {key: said[key] for key in ("database", "server") if said.get(key)}
        return [
            {**_meant(one, given), _FROM: True} for one in checks if one["label"] not in left_out
        ]

    def _file(self, path: Path, problems: list[Problem]) -> list[Check]:
        raw = read(path, problems, self.kept)
        if raw is None:
            return []
        checks, source = check_file(path, raw, problems)
        self.texts[str(path)] = source
        return checks


_FROM = "from a file"
"""Marks, while reading, what stands in a file: what is written after it may change it."""


def check_file(path: Path, raw: bytes, problems: list[Problem]) -> tuple[list[Check], str]:
    """Read a file of checks; return them, and its text."""
    parsed = parse(raw, str(path))
    reader = Reader(parsed.file, parsed.source, problems)
    problems += parsed.problems
    root = parsed.root
    if root is None:
        return [], parsed.source
    if not isinstance(root, Table):
        reader.error(root, "a file of checks must be a mapping", "begin with opskit: 1")
    elif check_format(reader, root, "a file of checks"):
        return _listed(reader, root), parsed.source
    return [], parsed.source


def lint(path: Path) -> list[Problem]:
    """Check a file of checks alone."""
    problems: list[Problem] = []
    raw = read(path, problems)
    if raw is not None:
        check_file(path, raw, problems)
    return list(dict.fromkeys(problems))


def _listed(reader: Reader, root: Table) -> list[Check]:
    reader.unknown(root, {key.name: key for key in FILE}, "a file of checks")
    node = root.entries["checks"][1] if "checks" in root.entries else root
    if not isinstance(node, Items) or not node.nodes:
        reader.error(node, "`checks` must be a list", _EXAMPLE)
        return []
    found: dict[str, Check] = {}
    for one in node.nodes:
        values = _values(reader, one)
        if not _whole(reader, one, values):
            continue
        label = values.get("label")
        if label is None:
            reader.error(one, "a check in a file has no `label`", "add label: what is checked")
        elif label in found:
            reader.error(one, f"{label!r} is there already", "give each a label of its own")
        else:
            found[label] = values
    for written in reader.written:
        told = "a file of checks is not rendered: the braces would stay"
        reader.error(written.node, told, "write the value")
    return list(found.values())


def _values(reader: Reader, node: Node) -> Check:
    """Read what a check says, each by its type."""
    if not isinstance(node, Table):
        reader.error(node, "this is no check", _EXAMPLE)
        return {}
    values: Check = dict(reader.table(node, CHECK, "a check"))
    if "redis" in node.entries:
        values["redis"] = _commands(reader, node.entries["redis"][1])
    for key in ("warn", "crit"):
        if key in values and limit(str(values[key])) is None:
            at = node.entries[key][1]
            reader.error(at, f"{values[key]!r} is no limit", "write for example '< 10'")
    return {name: value for name, value in values.items() if value is not None}


def _commands(reader: Reader, node: Node) -> Json:
    """Read commands: a text is one or, by lines, several; a list has one in each place."""
    rows: list[Json] = []
    for one in node.nodes if isinstance(node, Items) else [node]:
        if isinstance(one, Items):
            rows.append(tuple(word.text for word in one.nodes if isinstance(word, Scalar)))
        elif isinstance(one, Scalar) and not one.empty:
            try:
                rows += split(one.text)
            except (TemplateError, ValueError) as error:
                what = str(error).partition(" → ")[0]
                reader.error(one, f"this can't be cut into words: {what}", "close each quote")
    if not all(rows):
        reader.error(node, "`redis` has no command here", "write for example LLEN celery")
    return tuple(rows)


def _whole(reader: Reader, node: Node, values: Mapping[str, Json]) -> bool:
    """Tell whether a check says in one way what is looked at."""
    if not isinstance(node, Table):
        return False
    ways = [way for way in _WAYS if way in node.entries]
    if len(ways) != 1:
        said = f"not {' and '.join(ways)}" if ways else "not none"
        told = f"one of {', '.join(_WAYS)} is needed, {said}"
        near = "write one; a check of a file is changed by its label, after the file"
        reader.error(node, told, near)
        return False
    limited = "warn" in values or "crit" in values
    if ways[0] in ONCE and not limited:
        reader.error(node, "nothing says which number would be wrong", "add warn or crit")
    if ways[0] in ("path", "url") and limited:
        reader.error(node, "`warn` and `crit` are for numbers", "use latency, warn_latency, json")
    return bool(values)


def _meant(check: Check, given: Mapping[str, str]) -> Check:
    """Say which server a check of a file asks."""
    own = dict(check)
    if "sql" in own and "database" in given:
        own.setdefault("database", given["database"])
    if ("redis" in own or "info" in own) and "server" in given:
        own.setdefault("server", given["server"])
    return own
