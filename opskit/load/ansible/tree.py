"""Ansible's YAML inventories: groups with `hosts`, `children` and `vars`, and files of vars."""

from opskit.load.ansible.gathered import Gathered, Var
from opskit.load.ansible.texts import VAULT, Text
from opskit.load.ansible.typed import data, entries, parse_typed, text_of
from opskit.load.ansible.values import ValueProblemError, value_of
from opskit.load.suggest import nearest
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.problem import Place

_PARTS = ("hosts", "children", "vars")
_PLUGIN = (
    "let a program print what Ansible makes of it, and name that: "
    '#!/bin/sh, exec ansible-inventory -i FILE "$@"'
)


def read_tree(text: Text, into: Gathered) -> None:
    """Read an inventory; every problem is collected."""
    root = _root(text, into)
    if root is None:
        return
    if not isinstance(root, Table) or not root.entries:
        told = "an Ansible inventory in YAML is a mapping of groups"
        into.error(_at(text, root), told, "all: {hosts: {NAME: }}")
        return
    tree = _Tree(text, into)
    if "plugin" in root.entries:
        key = root.entries["plugin"][0]
        into.error(_at(text, key), "this configures a plugin of Ansible, which opskit can't run",
                   _PLUGIN)  # fmt: skip
        return
    for key, node in tree.entries(root):
        tree.group(key, node)


def read_vars(text: Text, into: Gathered) -> dict[str, Var]:
    """Read a file of vars, as those in `group_vars/` are."""
    if text.source.startswith(VAULT):
        told = "this file is encrypted (Ansible Vault): what it says can't be known"
        write = "leave it out by name: `without_files` under `ansible` in an opskit inventory"
        into.error(Place(file=text.file, line=1, column=1), told, write)
        return {}
    root = _root(text, into)
    if root is None or (isinstance(root, Scalar) and root.empty):
        return {}
    if not isinstance(root, Table):
        into.error(_at(text, root), "a file of vars is a mapping", "write NAME: VALUE")
        return {}
    return _Tree(text, into).vars(root)


def _root(text: Text, into: Gathered) -> Node | None:
    parsed = parse_typed(text.source.encode("utf-8", "surrogatepass"), text.file)
    into.problems += parsed.problems
    return parsed.root


def _at(text: Text, node: Node | None) -> Place:
    if node is None:
        return Place(file=text.file)
    return Place(file=text.file, line=node.line, column=node.column)


class _Tree:
    def __init__(self, text: Text, into: Gathered) -> None:
        self.text = text
        self.into = into

    def group(self, key: Scalar, node: Node) -> str | None:
        """Read a group and what is in it; return its name."""
        name = self._name(key, "a group")
        if name is None:
            return None
        self.into.group(name, self._at(key))
        if isinstance(node, Scalar) and node.empty:
            return name
        if not isinstance(node, Table):
            told = f"the group `{name[:80]}` is no mapping"
            self.into.error(self._at(node), told, "write {hosts: …, children: …, vars: …}")
            return name
        for part, inner in self.entries(node):
            self._part(name, part, inner)
        return name

    def _part(self, group: str, key: Scalar, node: Node) -> None:
        if key.text not in _PARTS:
            self._unknown(group, key)
        elif isinstance(node, Scalar) and node.empty:
            pass
        elif isinstance(node, Scalar) and key.text != "vars":
            empty = Scalar("", "", node.line, node.column, node.line)
            self._each(group, key.text, node, empty)
        elif not isinstance(node, Table):
            told = f"`{key.text}` of `{group[:80]}` must be a mapping"
            self.into.error(self._at(node), told, "write NAME: below it, without a dash")
        elif key.text == "vars":
            for name, var in self.vars(node).items():
                self.into.set(group, name, var)
        else:
            for inner, value in self.entries(node):
                self._each(group, key.text, inner, value)

    def _each(self, group: str, part: str, key: Scalar, node: Node) -> None:
        if part == "hosts":
            self._host(group, key, node)
        else:
            name = self.group(key, node)
            if name is not None:
                self.into.child(group, name, self._at(key))

    def _unknown(self, group: str, key: Scalar) -> None:
        near = nearest(key.text, _PARTS)
        told = f"`{key.text[:80]}` has no meaning in the group `{group[:80]}`"
        if near is not None:
            self.into.error(self._at(key), told, near)
        else:
            self.into.warn(self._at(key), told, "groups go under children, values under vars")

    def _host(self, group: str, key: Scalar, node: Node) -> None:
        pattern = self._name(key, "a host")
        if pattern is None:
            return
        names = self.into.add(pattern, group, self._at(key))
        if isinstance(node, Scalar) and node.empty:
            return
        if not isinstance(node, Table):
            told = f"the vars of the host `{pattern[:80]}` are no mapping"
            self.into.error(self._at(node), told, "write {NAME: VALUE}")
            return
        for var, value in self.vars(node).items():
            for name in names:
                self.into.set(name, var, value)

    def vars(self, table: Table) -> dict[str, Var]:
        found: dict[str, Var] = {}
        for key, node in self.entries(table):
            name = self._name(key, "a var")
            if name is not None:
                try:
                    value, unknown = value_of(data(node))
                except ValueProblemError as error:
                    told = f"the value of `{name[:60]}` {error}"
                    self.into.error(self._at(node), told, "write a simpler one")
                else:
                    found[name] = Var(value, self._at(key), unknown)
        return found

    def entries(self, table: Table) -> list[tuple[Scalar, Node]]:
        try:
            return list(entries(table))
        except ValueProblemError as error:
            self.into.error(self._at(table), f"this mapping {error}", "merge mappings only")
            return []

    def _name(self, key: Scalar, what: str) -> str | None:
        try:
            name = text_of(key)
        except ValueProblemError:
            name = None
        if not name:
            self.into.error(self._at(key), f"the name of {what} must be a text", "quote it")
            return None
        return name

    def _at(self, node: Node) -> Place:
        return _at(self.text, node)
