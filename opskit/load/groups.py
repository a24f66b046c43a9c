"""Groups of hosts: who belongs to which, and which is inside which."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opskit.load.keys import GROUP, GROUP_NAME
from opskit.load.reading import Reader
from opskit.load.suggest import nearest
from opskit.load.yaml import Items, Node, Scalar, Table
from opskit.model.inventory import CONTROLLER
from opskit.model.value import Json


class Group(NamedTuple):
    """One group as written. `members` and `inner` are the nodes of its hosts and groups."""

    name: str
    node: Scalar
    members: Mapping[str, Scalar] = {}
    inner: Mapping[str, Scalar] = {}
    vars: Mapping[str, Json] = {}
    connection: Mapping[str, Json] = {}


class Groups(NamedTuple):
    """All groups: their hosts, inner groups included, and how deep each lies."""

    groups: Mapping[str, Group]
    hosts: Mapping[str, tuple[str, ...]]
    depth: Mapping[str, int]

    def around(self, host: str) -> list[Group]:
        """Return the groups of a host, outer ones first, equally deep ones as in the file."""
        found = [group for name, group in self.groups.items() if host in self.hosts[name]]
        return sorted(found, key=lambda group: self.depth[group.name])


def read_groups(reader: Reader, node: Node | None, hosts: Sequence[str]) -> Groups:
    """Read `groups:`; hosts and groups that are not there, and circles, are problems."""
    groups: dict[str, Group] = {}
    if isinstance(node, Table):
        for name, (key, value) in node.entries.items():
            group = _group(reader, key, value)
            if _named(reader, key, hosts):
                groups[name] = group
    elif node is not None and not (isinstance(node, Scalar) and node.empty):
        reader.error(node, "`groups` must be a mapping", "write NAME: [HOST, HOST]")
    for group in groups.values():
        _known(reader, group.members, hosts, "host")
        _known(reader, group.inner, tuple(groups), "group")
    circled = _circles(reader, groups)
    depth = {name: 0 if name in circled else _depth(name, groups, circled) for name in groups}
    members = {name: _members(name, groups, hosts) for name in groups}
    return Groups(groups, members, depth)


def _named(reader: Reader, key: Scalar, hosts: Sequence[str]) -> bool:
    if key.text in ("all", CONTROLLER):
        told = f"`{key.text}` is there without being written"
        reader.error(key, told, "put vars for all hosts at the top" if key.text == "all" else "")
    elif not re.fullmatch(GROUP_NAME, key.text):
        reader.error(key, f"{key.text[:80]!r} can't name a group", "letters, digits, . _ -")
    elif key.text in hosts:
        reader.error(key, f"`{key.text}` is a host", "give the group another name")
    else:
        return True
    return False


def _group(reader: Reader, key: Scalar, node: Node) -> Group:
    if isinstance(node, Items):
        return Group(key.text, key, _names(reader, node, f"the group `{key.text}`"))
    if isinstance(node, Scalar) and node.empty:
        return Group(key.text, key)
    if not isinstance(node, Table):
        reader.error(node, f"the group `{key.text}` must be a list", "write [HOST, HOST]")
        return Group(key.text, key)
    values = reader.table(node, GROUP, f"the group `{key.text}`")
    variables, connection = values.get("vars"), values.get("connection")
    return Group(
        key.text,
        key,
        _names(reader, node.entries.get("hosts", (key, None))[1], "`hosts`"),
        _names(reader, node.entries.get("groups", (key, None))[1], "`groups`"),
        variables if isinstance(variables, Mapping) else {},
        connection if isinstance(connection, Mapping) else {},
    )


def _names(reader: Reader, node: Node | None, owner: str) -> dict[str, Scalar]:
    """Read a list of names; one that stands twice is a problem."""
    found: dict[str, Scalar] = {}
    for item in node.nodes if isinstance(node, Items) else ():
        if not isinstance(item, Scalar):
            reader.error(item, f"{owner} is a list of names", "write NAME")
        elif item.text in found:
            reader.error(item, f"{item.text} stands in {owner} twice", "keep one")
        else:
            found[item.text] = item
    return found


def _known(reader: Reader, names: Mapping[str, Scalar], there: Sequence[str], what: str) -> None:
    for name, node in names.items():
        if name not in there:
            near = nearest(name, there) or f"add it to `{what}s`"
            reader.error(node, f"there is no {what} {name!r}", near)


def _circles(reader: Reader, groups: Mapping[str, Group]) -> set[str]:
    """Report each group that contains itself; return them all."""
    found: set[str] = set()
    for name, group in groups.items():
        if name in _below(name, groups):
            found.add(name)
            reader.error(group.node, f"the group `{name}` contains itself", "break the circle")
    return found


def _below(name: str, groups: Mapping[str, Group]) -> set[str]:
    """Return every group inside a group, at any depth."""
    seen: set[str] = set()
    todo = list(groups[name].inner)
    while todo:
        inner = todo.pop()
        if inner in groups and inner not in seen:
            seen.add(inner)
            todo += groups[inner].inner
    return seen


def _depth(name: str, groups: Mapping[str, Group], circled: set[str]) -> int:
    outer = [o for o, group in groups.items() if name in group.inner and o not in circled]
    return max((_depth(o, groups, circled) + 1 for o in outer), default=0)


def _members(name: str, groups: Mapping[str, Group], hosts: Sequence[str]) -> tuple[str, ...]:
    named = {name, *_below(name, groups)}
    inside = {host for group in named for host in groups[group].members}
    return tuple(host for host in hosts if host in inside)
