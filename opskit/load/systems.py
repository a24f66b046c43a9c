"""Services and balancers of an inventory: where they run, and what differs on a host."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from opskit.load.groups import Groups
from opskit.load.hosts import ExpressionError, resolve
from opskit.load.keys import BALANCER, SERVICE
from opskit.load.keys import VARIABLE as NAME
from opskit.load.reading import Reader
from opskit.load.suggest import nearest
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.value import Json
from opskit.steps import Key


class Part(NamedTuple):
    """A part of an inventory that lists systems. `free`: keys of one's own are welcome.

    `checks` reads what is under that key, which may name files.
    """

    name: str
    keys: tuple[Key, ...]
    free: bool = False
    checks: Callable[[Reader, Node], Json] | None = None


_CHECKS = ("checks", "before", "after")
"""What of a service is a list of checks, or names files of them."""
SERVICES = Part("services", SERVICE, free=True)
BALANCERS = Part("balancers", BALANCER)


class System(NamedTuple):
    """A service or balancer: the hosts that it runs on, and what holds on all of them."""

    hosts: tuple[str, ...]
    values: Mapping[str, Json]


def read_systems(
    reader: Reader, root: Table, part: Part, groups: Groups, hosts: Sequence[str]
) -> dict[str, System]:
    """Read `services:` or `balancers:`."""
    node = value_at(root, part.name)
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Table):
        reader.error(node, f"`{part.name}` must be a mapping", "write NAME: {hosts: …}")
        return {}
    found: dict[str, System] = {}
    for name, (key, value) in node.entries.items():
        if not re.fullmatch(NAME, name):
            told = f"templates can't say {part.name}.{name[:60]}"
            reader.error(key, told, re.sub(r"\W", "_", name))
        values = _values(reader, value, part, f"`{part.name}.{name}`")
        _expressions(reader, value, values, groups, hosts)
        where = values.get("hosts")
        found[name] = System(where if isinstance(where, tuple) else (), _given(part, values))
    return found


def systems_of(
    reader: Reader, host: str, entry: Table | None, part: Part, systems: Mapping[str, System]
) -> dict[str, Mapping[str, Json]]:
    """Return the systems of a host, with what its own entry says differently."""
    found = {name: system.values for name, system in systems.items() if host in system.hosts}
    node = value_at(entry, part.name) if entry is not None else None
    if not isinstance(node, Table):
        return found
    keys = tuple(replace(key, required=False) for key in part.keys if key.name != "hosts")
    for name, (key, value) in node.entries.items():
        if name in found:
            own = _values(
                reader, value, part._replace(keys=keys), f"`{part.name}.{name}` of {host}"
            )
            found[name] = _given(part, {**found[name], **own})
        else:
            told = f"{part.name}.{name} does not cover {host}"
            near = nearest(name, found) or f"add {host} to the `hosts` of {part.name}.{name}"
            reader.error(key, told, near)
    return found


def _given(part: Part, values: Mapping[str, Json]) -> Mapping[str, Json]:
    """Leave out of a service what is null, as if it had never been said.

    In a balancer null is an answer: it has no such file, nobody is to ask.
    """
    if not part.free:
        return values
    return {key: value for key, value in values.items() if value is not None}


def value_at(table: Table, name: str) -> Node | None:
    entry = table.entries.get(name)
    return entry[1] if entry else None


def _expressions(
    reader: Reader, node: Node, values: dict[str, Json], groups: Groups, hosts: Sequence[str]
) -> None:
    """Put the hosts that they name in the place of host expressions."""
    for key in ("hosts", "members"):
        expression = values.get(key)
        if isinstance(expression, str) and isinstance(node, Table):
            try:
                values[key] = resolve(hosts, groups.hosts, expression)
            except ExpressionError as error:
                values[key] = ()
                reader.error(node.entries[key][1], error.what, error.write)


def _values(reader: Reader, node: Node, part: Part, owner: str) -> dict[str, Json]:
    """Read the known keys by their type, and the others as they are where they are welcome.

    A key that is null is kept: on a host it takes back what holds elsewhere.
    """
    if not isinstance(node, Table):
        reader.error(node, f"{owner} must be a mapping", "write {KEY: VALUE}")
        return {}
    known = {key.name: key.required for key in part.keys}
    typed, free = Table(node.line, node.column), Table(node.line, node.column)
    empty: dict[str, Json] = {}
    for name, (key, value) in node.entries.items():
        if name in _CHECKS and part.checks is not None:
            free.entries[name] = (key, value)
        elif name not in known and part.free:
            free.entries[name] = (key, value)
            _meant(reader, key, known)
        elif known.get(name) is False and isinstance(value, Scalar) and value.empty:
            empty[name] = None
        else:
            typed.entries[name] = (key, value)
    keys = tuple(key for key in part.keys if key.name not in empty)
    values = reader.table(typed, keys, owner) | empty
    for name, (_, value) in free.entries.items():
        own = part.checks if name in _CHECKS else None
        values[name] = own(reader, value) if own is not None else reader.data(value, name)
    return values


def _meant(reader: Reader, key: Scalar, known: Mapping[str, bool]) -> None:
    near = nearest(key.text, known) if len(key.text) > 3 else None
    if near is not None:
        reader.warn(key, f"{key.text!r} has no meaning of its own", f"is it {near}?")
