"""Ansible's INI inventories: lines of hosts, `[group]`, `[group:children]`, `[group:vars]`."""

import ast
import re
import shlex
import warnings
from typing import Literal, NamedTuple, cast

from opskit.load.ansible.gathered import Gathered, Var
from opskit.load.ansible.texts import Text
from opskit.load.ansible.values import ValueProblemError, value_of
from opskit.load.suggest import nearest
from opskit.model.problem import Place

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_STATES = ("hosts", "children", "vars")
_State = Literal["hosts", "children", "vars"]


class _Child(NamedTuple):
    parent: str
    name: str
    place: Place


def read_ini(text: Text, into: Gathered) -> None:
    """Read a whole file. Lines with a problem are left out; each problem is collected."""
    _Ini(text, into).read()


class _Ini:
    def __init__(self, text: Text, into: Gathered) -> None:
        self.text = text
        self.into = into
        self.group = "ungrouped"
        self.state: _State | None = "hosts"
        self.children: list[_Child] = []
        self.declared = set(into.groups)
        self.only_vars: dict[str, Place] = {}

    def read(self) -> None:
        for number, line in enumerate(self.text.source.splitlines(), 1):
            bare = line.strip()
            if bare and bare[0] not in "#;":
                column = line.index(bare[0]) + 1
                place = Place(file=self.text.file, line=number, column=column)
                if not self._section(bare, place):
                    self._line(bare, place)
        self._settle()

    def _section(self, line: str, place: Place) -> bool:
        match = _SECTION.fullmatch(line)
        if match is None:
            if line.startswith("[") and line.endswith("]") and "::" not in line:
                self.state = None
                told = "this can't be the head of a group"
                self.into.error(place, told, "[NAME], [NAME:children] or [NAME:vars], no spaces")
                return True
            return False
        name, state = match[1], match[2] or "hosts"
        if state not in _STATES:
            self.state = None
            near = nearest(state, _STATES) or "children or vars"
            self.into.error(place, f"[{name}:{state}] has no meaning", near)
            return True
        self.group, self.state = name, cast(_State, state)
        self.into.group(name, place)
        if state == "vars":
            self.only_vars.setdefault(name, place)
        else:
            self.declared.add(name)
        return True

    def _line(self, line: str, place: Place) -> None:
        match self.state:
            case "hosts":
                self._hosts(line, place)
            case "vars":
                self._var(line, place)
            case "children":
                child = _GROUP.fullmatch(line)
                if child is None:
                    self.into.error(place, "this is no name of a group", "one name a line")
                else:
                    self.children.append(_Child(self.group, child[1], place))
            case None:
                pass  # below a head that was reported

    def _hosts(self, line: str, place: Place) -> None:
        try:
            pattern, *words = shlex.split(line, comments=True)
        except ValueError:
            self.into.error(place, "a quote that is not closed", "close it, or quote it")
            return
        if pattern.endswith(":") or pattern == "---":
            told = "this looks like YAML, and the file is read as INI"
            self.into.error(place, told, "end the name of the file with .yml")
            return
        names = self.into.add(pattern, self.group, place)
        for word in words:
            key, equals, written = word.partition("=")
            if not equals:  # the word may be a piece of a secret: it is not shown
                told = "a word without `=` after the host"
                self.into.error(place, told, 'NAME=VALUE; with spaces NAME="A VALUE"')
                return
            self._set(names, key, written, place)

    def _var(self, line: str, place: Place) -> None:
        key, equals, written = line.partition("=")
        if not equals:
            self.into.error(place, "a line without `=` below [GROUP:vars]", "write NAME=VALUE")
            return
        self._set((self.group,), key.strip(), written.strip(), place)

    def _set(self, entities: tuple[str, ...], key: str, written: str, place: Place) -> None:
        try:
            value, unknown = value_of(literal(written))
        except ValueProblemError as error:
            self.into.error(place, f"the value of `{key[:60]}` {error}", "write a simpler one")
            return
        for entity in entities:
            self.into.set(entity, key, Var(value, place, unknown))

    def _settle(self) -> None:
        """Put groups into groups when all heads are known: they may stand in any order."""
        for child in self.children:
            if child.name in self.declared:
                self.into.child(child.parent, child.name, child.place)
            else:
                self._absent(child.name, child.place, f"there is no group {child.name[:80]!r}")
        for name, place in self.only_vars.items():
            if name not in self.declared:
                self._absent(name, place, f"[{name[:80]}:vars] is of a group that is not there")

    def _absent(self, name: str, place: Place, told: str) -> None:
        near = nearest(name, tuple(self.declared)) or f"write [{name[:80]}] too"
        self.into.error(place, told, near)


def literal(written: str) -> object:
    """Return what a value stands for: a Python literal where it is one, else the text itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: object = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError):
        return written
    except (MemoryError, RecursionError):
        raise ValueProblemError("is nested too deep") from None
    return found
