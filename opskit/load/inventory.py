"""A file → an Inventory: hosts with the vars and connections of their groups merged in.

Hosts and groups may come from an inventory of Ansible: that is named itself, or `ansible` does.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from opskit.load.ansible.kind import sort_of
from opskit.load.ansible.result import Host as TakenHost
from opskit.load.ansible.result import Taken, Wanted
from opskit.load.databases import read_databases
from opskit.load.files import Kept, read
from opskit.load.groups import Group, Groups, read_groups
from opskit.load.keys import ADDRESS, HOST, HOST_NAME, INVENTORY
from opskit.load.keys import VARIABLE as NAME
from opskit.load.reading import Reader
from opskit.load.runbook import check_format, set_of
from opskit.load.secrets import read_secrets
from opskit.load.suggest import nearest
from opskit.load.systems import (
    BALANCERS,
    SERVICES,
    Part,
    System,
    read_systems,
    systems_of,
    value_at,
)
from opskit.load.windows import read_freezes, read_windows
from opskit.load.yaml import Node, Scalar, Table, parse
from opskit.model.channel import Channel
from opskit.model.inventory import CONTROLLER, Connection, Host, Inventory, Redis
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.value import Json
from opskit.settings import shipped

_PATHS = ("key", "known_hosts", "ssh_config")
_PARTS = ("hosts", "groups", "services", "balancers", "databases", "redis", "secrets",
          "channels", "change_windows", "freezes")  # fmt: skip


class _Entry(NamedTuple):
    """One host as written."""

    key: Scalar
    address: str
    connection: Mapping[str, Json] = {}
    vars: Mapping[str, Json] = {}
    node: Table | None = None
    taken: TakenHost | None = None


class _Around(NamedTuple):
    """What holds for all hosts of a file."""

    vars: Mapping[str, Json]
    connection: Mapping[str, Json]
    groups: Groups
    services: Mapping[str, System]
    balancers: Mapping[str, System]


def inventory(path: Path, kept: Kept | None = None, *, run: bool = True) -> Inventory:
    """Read an inventory that is going to be used; raises ProblemsError with every error in it.

    With `kept` all of it comes from there. `run`: whether a program that prints one may be run.
    """
    found, problems = check_inventory(path, kept, run=run)
    errors = [problem for problem in problems if problem.severity == "error"]
    if found is None and not errors:
        errors = [Problem(place=Place(file=str(path)), what="this can't be read")]
    if errors or found is None:
        raise ProblemsError(errors)
    return found


def check_inventory(
    path: Path, kept: Kept | None = None, *, run: bool = True
) -> tuple[Inventory | None, list[Problem]]:
    """Read an inventory for lint: with every error and every warning."""
    problems: list[Problem] = []
    if sort_of(path, kept) != "opskit":
        sheet = _Sheet(Reader(str(path), "", problems), path, kept, run=run)
        return sheet.foreign(), sorted(set_of(problems), key=_order)
    raw = read(path, problems, kept)
    if raw is None:
        return None, problems
    parsed = parse(raw, str(path))
    reader = Reader(parsed.file, parsed.source, parsed.problems)
    found = None
    if parsed.root is not None:
        found = _Sheet(reader, path, kept, run=run).read(parsed.root)
        for written in reader.written:
            told = "an inventory is not rendered: the braces would stay"
            reader.error(written.node, told, "write the value; put pieces together in the step")
    return found, sorted(set_of(parsed.problems), key=_order)


def _order(problem: Problem) -> tuple[str, int, int]:
    return problem.place.file, problem.place.line, problem.place.column


class _Sheet:
    """One inventory file being read."""

    def __init__(
        self, reader: Reader, path: Path, kept: Kept | None = None, *, run: bool = True
    ) -> None:
        self.reader = reader
        self.path = path
        self.kept = kept
        self.run = run
        self.taken: Taken | None = None
        self.texts: Mapping[str, str] = {}
        """The files of checks that were read, by path."""

    def _checks(self, reader: Reader, node: Node) -> Json:
        from opskit.load.checks import Shelf  # not every service says what is checked

        shelf = Shelf((self.path.parent, shipped() / "inventories"), self.kept)
        found = shelf.read(reader, node)
        self.texts = {**self.texts, **shelf.texts}
        return found

    def read(self, root: Node) -> Inventory | None:
        if not isinstance(root, Table):
            self.reader.error(root, "an inventory must be a mapping", "begin with opskit: 1")
            return None
        if not check_format(self.reader, root, "an inventory"):
            return None
        values = self.reader.table(self._top(root), INVENTORY, "an inventory")
        if "ansible" not in root.entries and "hosts" not in root.entries:
            self.reader.error(root, "an inventory has no `hosts`", "add hosts: HOSTS")
        said = _mapping(values.get("ansible"))
        if "inventory" in said:
            self.taken = self._take(root.entries["ansible"][0], said)
        return self._made(root, values)

    def foreign(self) -> Inventory:
        """Read an inventory of Ansible that stands for itself."""
        from opskit.load.ansible.taken import take  # few inventories are such

        place = Place(file=str(self.path))
        wanted = Wanted(path=self.path, place=place, run=self.run)
        self.taken = take(wanted, self.reader.problems, self.kept)
        self.reader.source = self.taken.texts.get(str(self.path), "")
        return self._made(Table(0, 0), {})

    def _take(self, key: Scalar, said: Mapping[str, Json]) -> Taken:
        from opskit.load.ansible.taken import take

        wanted: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        path = self.path.parent / Path(wanted.pop("inventory")).expanduser()
        place = self.reader.place(key)
        return take(
            Wanted(path=path, place=place, run=self.run, **wanted), self.reader.problems, self.kept
        )

    def _made(self, root: Table, values: Mapping[str, Json]) -> Inventory:
        entries = self._hosts(root.entries.get("hosts"))
        if self.taken is None:
            groups = read_groups(self.reader, value_at(root, "groups"), tuple(entries))
        else:
            entries, groups = self._over(entries, self.taken), _groups(self.taken)
            if "groups" in root.entries:
                told = "`groups` beside `ansible`: groups come from there"
                self.reader.error(root.entries["groups"][0], told, "write them into that inventory")
        around = _Around(
            vars=_mapping(values.get("vars")),
            connection=self._placed(_mapping(values.get("connection"))),
            groups=groups,
            services=read_systems(self.reader, root, self._services(), groups, tuple(entries)),
            balancers=read_systems(self.reader, root, BALANCERS, groups, tuple(entries)),
        )
        hosts = {name: self._host(entry, around) for name, entry in entries.items()}
        secrets = read_secrets(self.reader, value_at(root, "secrets"), self.path.parent)
        self._same_address(hosts, groups, entries)
        return Inventory(
            file=str(self.path),
            source=self.reader.source,
            digest=self._digest(),
            hosts=hosts,
            groups={"all": tuple(hosts), **groups.hosts},
            services={name: system.values for name, system in around.services.items()},
            balancers={name: system.values for name, system in around.balancers.items()},
            databases=read_databases(self.reader, value_at(root, "databases"), hosts, secrets),
            redis=self._redis(value_at(root, "redis"), hosts, secrets),
            channels=(channels := self._channels(root, secrets)),
            notify=self._notify(root, values, channels),
            change_windows=read_windows(self.reader, value_at(root, "change_windows")),
            freezes=read_freezes(self.reader, value_at(root, "freezes")),
            secrets=secrets,
            vars=_over(around.vars, self.taken),
            others=self._others(),
            withheld=self.taken.withheld if self.taken is not None else {},
        )

    def _services(self) -> Part:
        return SERVICES._replace(checks=self._checks)

    def _others(self) -> Mapping[str, str]:
        texts = {**(self.taken.texts if self.taken is not None else {}), **self.texts}
        return {name: text for name, text in texts.items() if name != str(self.path)}

    def _digest(self) -> str:
        """Return the digest of all that was read; of one file, that of its text."""
        text, others = self.reader.source, self._others()
        if others:
            text = json.dumps([text, others], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _over(self, own: Mapping[str, _Entry], taken: Taken) -> dict[str, _Entry]:
        """Put what the file says of hosts over what Ansible's inventory does."""
        for name, entry in own.items():
            if name not in taken.hosts:
                told = f"the Ansible inventory has no host {name!r}"
                near = nearest(name, tuple(taken.hosts)) or "write it into that inventory"
                self.reader.error(entry.key, told, near)
            elif entry.node is None or "address" in entry.node.entries:
                told = f"the address of {name} comes from the Ansible inventory"
                self.reader.error(entry.key, told, "write {services: …, vars: …, connection: …}")
        found: dict[str, _Entry] = {}
        for name, host in taken.hosts.items():
            said = own.get(name, _Entry(Scalar(name, "", 0, 0, 0), ""))
            found[name] = said._replace(
                address=host.address,
                connection={**host.connection, **said.connection},
                taken=host,
            )
        return found

    def _redis(
        self, node: Node | None, hosts: Collection[str], secrets: Collection[str]
    ) -> Mapping[str, Redis]:
        if node is None:
            return {}
        from opskit.load.redis import read_redis  # few inventories have any

        return read_redis(self.reader, node, hosts, secrets)

    def _channels(self, root: Table, secrets: Collection[str]) -> Mapping[str, Channel]:
        if "channels" not in root.entries:
            return {}
        from opskit.load.channels import read_channels  # few inventories have any

        return read_channels(self.reader, value_at(root, "channels"), secrets)

    def _notify(
        self, root: Table, values: Mapping[str, Json], channels: Collection[str]
    ) -> tuple[str, ...]:
        """Return the channels of messages that name none."""
        said = values.get("notify") or ()
        names = (said,) if isinstance(said, str) else tuple(map(str, said))  # type: ignore[arg-type]
        for name in names:
            if name not in channels:
                told = f"the inventory has no channel {name[:60]!r}"
                near = nearest(name, channels) or "write it under `channels:`"
                self.reader.error(root.entries["notify"][0], told, near)
        return names

    def _top(self, root: Table) -> Table:
        """Leave the parts that have readers of their own to them."""
        own = Table(root.line, root.column)
        for name, (key, value) in root.entries.items():
            node = Scalar("later", '"', key.line, key.column, key.line) if name in _PARTS else value
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
        groups: tuple[str, ...]
        if entry.taken is not None:
            variables, groups = _over(variables, entry.taken), entry.taken.groups
        else:
            within = around.groups.around(name)
            groups = tuple(group.name for group in within)
            for group in within:
                variables |= dict(group.vars)
                connection |= dict(self._placed(group.connection))
        return Host(
            name=name,
            address=entry.address,
            connection=_connection({**connection, **entry.connection}),
            vars={**variables, **entry.vars},
            groups=groups,
            services=systems_of(self.reader, name, entry.node, self._services(), around.services),
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
                    entry = entries[name]
                    place = entry.taken.place if entry.taken else self.reader.place(entry.key)
                    self.reader.problems.append(
                        Problem(
                            place=place, what=told, write="name each machine once",
                            severity="warning",
                        )
                    )  # fmt: skip
                seen.setdefault(where, name)


def _over(variables: Mapping[str, Json], taken: Taken | TakenHost | None) -> dict[str, Json]:
    """Put the vars of an Ansible inventory over others; those without a value hide these, too."""
    if taken is None:
        return dict(variables)
    return {n: v for n, v in variables.items() if n not in taken.unknown} | dict(taken.vars)


def _groups(taken: Taken) -> Groups:
    """Return the groups of an Ansible inventory; their vars are in the hosts already."""
    groups = {name: Group(name, Scalar(name, "", 0, 0, 0)) for name in taken.groups}
    return Groups(groups, taken.groups, dict.fromkeys(groups, 0))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _connection(values: Mapping[str, Json]) -> Connection:
    """The table of keys has seen to the types; what is not said keeps its default."""
    said: Mapping[str, Any] = {key: value for key, value in values.items() if value is not None}
    return Connection(**said)
