"""A file → an Inventory: hosts with the vars and connections of their groups merged in."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from opskit.load.databases import read_databases
from opskit.load.files import Kept, read
from opskit.load.groups import Groups, read_groups
from opskit.load.keys import ADDRESS, HOST, HOST_NAME, INVENTORY
from opskit.load.keys import VARIABLE as NAME
from opskit.load.reading import Reader
from opskit.load.runbook import check_format, set_of
from opskit.load.systems import BALANCERS, SERVICES, System, read_systems, systems_of, value_at
from opskit.load.yaml import Node, Scalar, Table, parse
from opskit.model.inventory import CONTROLLER, Connection, Host, Inventory, Redis
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.value import Json, SecretSource

_PATHS = ("key", "known_hosts", "ssh_config")
_SOURCE = r"(?s)(env|file|cmd):(.+)"


class _Entry(NamedTuple):
    """One host as written."""

    key: Scalar
    address: str
    connection: Mapping[str, Json] = {}
    vars: Mapping[str, Json] = {}
    node: Table | None = None


class _Around(NamedTuple):
    """What holds for all hosts of a file."""

    vars: Mapping[str, Json]
    connection: Mapping[str, Json]
    groups: Groups
    services: Mapping[str, System]
    balancers: Mapping[str, System]


def inventory(path: Path, kept: Kept | None = None) -> Inventory:
    """Read an inventory that is going to be used; raises ProblemsError with every error in it."""
    found, problems = check_inventory(path, kept)
    errors = [problem for problem in problems if problem.severity == "error"]
    if found is None and not errors:
        errors = [Problem(place=Place(file=str(path)), what="this can't be read")]
    if errors or found is None:
        raise ProblemsError(errors)
    return found


def check_inventory(path: Path, kept: Kept | None = None) -> tuple[Inventory | None, list[Problem]]:
    """Read an inventory for lint: with every error and every warning."""
    problems: list[Problem] = []
    raw = read(path, problems, kept)
    if raw is None:
        return None, problems
    parsed = parse(raw, str(path))
    reader = Reader(parsed.file, parsed.source, parsed.problems)
    found = None
    if parsed.root is not None:
        found = _Sheet(reader, path).read(parsed.root)
        for written in reader.written:
            told = "an inventory is not rendered: the braces would stay"
            reader.error(written.node, told, "write the value; put pieces together in the step")
    order = sorted(set_of(parsed.problems), key=lambda p: (p.place.line, p.place.column))
    return found, order


class _Sheet:
    """One inventory file being read."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self.reader = reader
        self.path = path

    def read(self, root: Node) -> Inventory | None:
        if not isinstance(root, Table):
            self.reader.error(root, "an inventory must be a mapping", "begin with opskit: 1")
            return None
        if not check_format(self.reader, root, "an inventory"):
            return None
        values = self.reader.table(self._top(root), INVENTORY, "an inventory")
        entries = self._hosts(root.entries.get("hosts"))
        groups = read_groups(self.reader, value_at(root, "groups"), tuple(entries))
        around = _Around(
            vars=_mapping(values.get("vars")),
            connection=self._placed(_mapping(values.get("connection"))),
            groups=groups,
            services=read_systems(self.reader, root, SERVICES, groups, tuple(entries)),
            balancers=read_systems(self.reader, root, BALANCERS, groups, tuple(entries)),
        )
        hosts = {name: self._host(entry, around) for name, entry in entries.items()}
        secrets = self._secrets(value_at(root, "secrets"))
        self._same_address(hosts, groups, entries)
        return Inventory(
            file=str(self.path),
            source=self.reader.source,
            digest=hashlib.sha256(self.reader.source.encode()).hexdigest(),
            hosts=hosts,
            groups={"all": tuple(hosts), **groups.hosts},
            services={name: system.values for name, system in around.services.items()},
            balancers={name: system.values for name, system in around.balancers.items()},
            databases=read_databases(self.reader, value_at(root, "databases"), hosts, secrets),
            redis=self._redis(value_at(root, "redis"), hosts, secrets),
            secrets=secrets,
            vars=around.vars,
        )

    def _redis(
        self, node: Node | None, hosts: Collection[str], secrets: Collection[str]
    ) -> Mapping[str, Redis]:
        if node is None:
            return {}
        from opskit.load.redis import read_redis  # few inventories have any

        return read_redis(self.reader, node, hosts, secrets)

    def _top(self, root: Table) -> Table:
        """Leave the parts that have readers of their own to them."""
        own = Table(root.line, root.column)
        parts = ("hosts", "groups", "services", "balancers", "databases", "redis", "secrets")
        for name, (key, value) in root.entries.items():
            node = Scalar("later", '"', key.line, key.column, key.line) if name in parts else value
            if name != "secrets":
                own.entries[name] = (key, node)
        self._variables(root)
        return own

    def _variables(self, node: Table) -> None:
        """Check the names under `vars`: templates must be able to say them."""
        value = value_at(node, "vars")
        if isinstance(value, Table):
            for name, (key, _) in value.entries.items():
                if not re.fullmatch(NAME, name):
                    told = f"templates can't say vars.{name[:60]}"
                    self.reader.error(key, told, re.sub(r"\W", "_", name))
        elif value is not None and not (isinstance(value, Scalar) and value.empty):
            self.reader.error(value, "`vars` must be a mapping", "write NAME: VALUE")

    def _hosts(self, entry: tuple[Scalar, Node] | None) -> dict[str, _Entry]:
        if entry is None:
            return {}
        if not isinstance(entry[1], Table) or not entry[1].entries:
            self.reader.error(entry[1], "`hosts` must be a mapping", "write NAME: ADDRESS")
            return {}
        found: dict[str, _Entry] = {}
        for name, (key, node) in entry[1].entries.items():
            if name in ("all", CONTROLLER):
                self.reader.error(key, f"`{name}` has a meaning of its own", "name it otherwise")
            elif not re.fullmatch(HOST_NAME, name):
                self.reader.error(key, f"{name[:80]!r} can't name a host", "letters, digits, . _ -")
            else:
                found[name] = self._entry(key, node)
        return found

    def _entry(self, key: Scalar, node: Node) -> _Entry:
        if isinstance(node, Scalar):
            return _Entry(key, key.text if node.empty else self._address(node))
        values = self.reader.table(node, HOST, f"the host `{key.text}`")
        if not isinstance(node, Table):
            return _Entry(key, key.text)
        self._variables(node)
        return _Entry(
            key,
            str(values.get("address") or key.text),
            self._placed(_mapping(values.get("connection"))),
            _mapping(values.get("vars")),
            node,
        )

    def _address(self, node: Scalar) -> str:
        if not re.fullmatch(ADDRESS, node.text):
            self.reader.error(
                node, f"{node.text[:80]!r} is no address", "a name or an IP address; the port goes "
                "under connection: {port: 22}"
            )  # fmt: skip
        return node.text

    def _placed(self, connection: Mapping[str, Json]) -> Mapping[str, Json]:
        """Make paths absolute: relative ones are beside the inventory."""
        found = dict(connection)
        for name in _PATHS:
            path = found.get(name)
            if isinstance(path, str) and not path.startswith("~"):
                found[name] = str((self.path.parent / path).absolute())
        return found

    def _host(self, entry: _Entry, around: _Around) -> Host:
        """Merge what the file, the groups (outer first) and the host say; the latter wins."""
        name = entry.key.text
        variables, connection = dict(around.vars), dict(around.connection)
        groups = around.groups.around(name)
        for group in groups:
            variables |= dict(group.vars)
            connection |= dict(self._placed(group.connection))
        return Host(
            name=name,
            address=entry.address,
            connection=_connection({**connection, **entry.connection}),
            vars={**variables, **entry.vars},
            groups=tuple(group.name for group in groups),
            services=systems_of(self.reader, name, entry.node, SERVICES, around.services),
            balancers=systems_of(self.reader, name, entry.node, BALANCERS, around.balancers),
        )

    def _same_address(
        self, hosts: Mapping[str, Host], groups: Groups, entries: Mapping[str, _Entry]
    ) -> None:
        """Warn of two hosts of a group that are probably one: they would be counted twice."""
        for group, names in groups.hosts.items():
            seen: dict[tuple[str, int | None], str] = {}
            for name in names:
                host = hosts[name]
                where = (host.address, host.connection.port)
                if where in seen:
                    told = f"{name} and {seen[where]} in the group {group} have the same address"
                    self.reader.warn(entries[name].key, told, "name each machine once")
                seen.setdefault(where, name)

    def _secrets(self, node: Node | None) -> dict[str, SecretSource]:
        if node is None or (isinstance(node, Scalar) and node.empty):
            return {}
        if not isinstance(node, Table):
            self.reader.error(node, "`secrets` must be a mapping", "write NAME: env:VARIABLE")
            return {}
        found: dict[str, SecretSource] = {}
        for name, (key, value) in node.entries.items():
            source = re.fullmatch(_SOURCE, value.text) if isinstance(value, Scalar) else None
            if not re.fullmatch(NAME, name):
                self.reader.error(key, f"{name[:60]!r} can't name a secret", "letters, digits, _")
            elif source is None:  # the value itself may be the secret: never show it
                told = f"the secret `{name}` does not say where its value is"
                self.reader.error(value, told, "env:VARIABLE, file:PATH or cmd:COMMAND")
            else:
                found[name] = SecretSource(name=name, source=self._source(source[1], source[2]))
        return found

    def _source(self, kind: str, rest: str) -> str:
        if kind == "file" and not rest.startswith("~"):
            rest = str((self.path.parent / rest).absolute())
        return f"{kind}:{rest}"


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _connection(values: Mapping[str, Json]) -> Connection:
    """The table of keys has seen to the types; what is not said keeps its default."""
    said: Mapping[str, Any] = {key: value for key, value in values.items() if value is not None}
    return Connection(**said)
