"""An Ansible inventory, whole: what is read for a path, and what opskit takes of it."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from opskit.load.ansible.beside import read_beside
from opskit.load.ansible.gathered import Gathered, Group, Var
from opskit.load.ansible.ini import read_ini
from opskit.load.ansible.kind import begins, sort_of
from opskit.load.ansible.listed import asked, read_listed
from opskit.load.ansible.patterns import is_ipv6
from opskit.load.ansible.program import Program
from opskit.load.ansible.reached import USED, reached
from opskit.load.ansible.result import Host, Taken, Wanted
from opskit.load.ansible.texts import FOLDER, LISTED, Texts
from opskit.load.ansible.tree import read_tree
from opskit.load.files import Kept
from opskit.load.hosts import ExpressionError, resolve
from opskit.load.keys import GROUP_NAME, HOST_NAME
from opskit.model.inventory import CONTROLLER
from opskit.model.problem import Place, Problem
from opskit.model.value import Json

_IGNORED = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg",
            ".retry")  # fmt: skip
_FOLDERS = ("group_vars", "host_vars", "vars_plugins")
_DEEPEST = 8


def take(wanted: Wanted, problems: list[Problem], kept: Kept | None = None) -> Taken:
    """Read an inventory of Ansible and everything beside it; every problem is collected."""
    texts = Texts(problems, kept)
    into = Gathered(str(wanted.path), problems)
    _Sources(wanted, texts, into).read(wanted.path, 0)
    into.settle()
    folder = wanted.path if texts.is_folder(wanted.path) else wanted.path.parent
    used = read_beside(folder, texts, into, wanted.without_files)
    for pattern in wanted.without_files:
        if kept is None and pattern not in used:
            told = f"`without_files` leaves out {pattern[:80]!r}, and there is no such file"
            into.error(
                wanted.place, told, f"a path below {folder}, such as group_vars/all/vault.yml"
            )
    if not into.hosts and not any(p.severity == "error" for p in problems):
        into.error(Place(file=str(wanted.path)), "there is no host in it", "write one")
    return _Taking(wanted, into).take(texts.read)


class _Sources:
    """Reads what a path leads to, by what it is."""

    def __init__(self, wanted: Wanted, texts: Texts, into: Gathered) -> None:
        self.wanted = wanted
        self.texts = texts
        self.into = into

    def read(self, path: Path, depth: int) -> None:
        sort = sort_of(path, self.texts.kept)
        if sort == "folder":
            self._folder(path, depth)
        elif sort == "program":
            self._program(path)
        elif path.suffix == ".toml":
            self._error(path, "inventories in TOML are not read", "write it as YAML")
        elif self.texts.kept is None and begins(path):
            told = "it begins as a program does, and can't be run"
            self._error(path, told, f"chmod +x {path.name}")
        else:
            self._file(path, sort)

    def _file(self, path: Path, sort: str) -> None:
        text = self.texts.text(path)
        if text is None:
            return
        if sort == "opskit" and text.source.strip():
            told = "this is opskit's own inventory, or a runbook, and none of Ansible's"
            self._error(path, told, "name it with -i by itself")
        elif sort == "ini":
            read_ini(text, self.into)
        elif text.source.strip():
            read_tree(text, self.into)

    def _program(self, path: Path) -> None:
        text = self.texts.recorded(path)
        if text is None and not self.wanted.run:
            self._error(path, "it is a program, and nothing is to be run now", "")
        elif text is None:
            program = Program(path, self.wanted.timeout, self.into.problems)
            printed = asked(program, self.into) if program.trusted() else None
            text = LISTED + printed if printed is not None else None
            if text is not None:
                self.texts.read[str(path)] = text
        if text is not None:
            read_listed(path, text.removeprefix(LISTED), self.into)

    def _folder(self, path: Path, depth: int) -> None:
        recorded = self.texts.recorded(path)
        names = recorded.splitlines()[1:] if recorded else self.texts.names(path) or []
        names = [name for name in names if not _ignored(name)]
        if depth > _DEEPEST:
            self._error(path, "folders nested too deep", "keep it flatter")
            return
        self.texts.read[str(path)] = FOLDER + "".join(f"{name}\n" for name in names)
        for name in names:
            self.read(path / name, depth + 1)

    def _error(self, path: Path, what: str, write: str) -> None:
        self.into.error(Place(file=str(path)), what, write)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _FOLDERS or name.endswith(_IGNORED)


class _Taking:
    """Takes hosts, groups and vars out of what was gathered."""

    def __init__(self, wanted: Wanted, into: Gathered) -> None:
        self.wanted = wanted
        self.into = into
        self.withheld: dict[str, str] = {}
        self.names = {name: own_name(name) for name in into.hosts}

    def take(self, texts: Mapping[str, str]) -> Taken:
        members = self.into.members()
        place = {name: number for number, name in enumerate(self.into.hosts)}
        groups = {
            name: tuple(self.names[host] for host in sorted(members[name], key=place.__getitem__))
            for name in self.into.groups
        }
        chosen = self._chosen(groups)
        order = self.into.order()
        around: dict[str, list[Group]] = {name: [] for name in self.into.hosts}
        for group in order:
            for name in members[group.name]:
                around[name].append(group)
        hosts = {
            self.names[name]: self._host(name, around[name])
            for name in self.into.hosts
            if self.names[name] in chosen and self._named(name, members)
        }
        known = {
            group.name: tuple(host for host in groups[group.name] if host in hosts)
            for group in order
            if group.name != "all" and self._sayable(group)
        }
        top = self.into.groups["all"]
        general = self._wanted({**top.vars, **top.beside})
        return Taken(hosts, known, self._vars("", general), _unknown(general), self.withheld, texts)

    def _chosen(self, groups: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        try:
            return frozenset(resolve(tuple(self.names.values()), groups, self.wanted.hosts))
        except ExpressionError as error:
            self.into.error(self.wanted.place, f"`hosts`: {error.what}", error.write)
            return frozenset()

    def _named(self, name: str, members: Mapping[str, frozenset[str]]) -> bool:
        """Whether a host can be named in a host expression, and names one thing only."""
        own, place = self.names[name], self.into.hosts[name].place
        if own in ("all", CONTROLLER):
            self.into.error(place, f"`{own}` has a meaning of its own", "name it otherwise")
        elif not re.fullmatch(HOST_NAME, own):
            told = f"{name[:80]!r} can't name a host in opskit"
            self.into.error(place, told, "letters, digits, . _ -: NAME ansible_host=ADDRESS")
        elif own in members and members[own] != {name}:
            told = f"`{own}` is a host and a group of others"
            self.into.error(place, told, "give one of them another name")
        elif own != name and (own in self.into.hosts or list(self.names.values()).count(own) > 1):
            self.into.error(place, f"two hosts would be called {own}", "NAME ansible_host=ADDRESS")
        else:
            return True
        return False

    def _sayable(self, group: Group) -> bool:
        if group.name == CONTROLLER:
            told = f"the group `{CONTROLLER}`: this has a meaning of its own"
            self.into.error(group.place, told, "name it otherwise")
        elif not re.fullmatch(GROUP_NAME, group.name):
            told = f"no host expression can name the group {group.name[:80]!r}; its vars hold"
            self.into.warn(group.place, told, "letters, digits, . _ -, at most 64")
        else:
            return True
        return False

    def _host(self, name: str, around: list[Group]) -> Host:
        host = self.into.hosts[name]
        found = self._wanted(self.into.merged(host, around))
        address, connection = reached(name, found, self.into)
        groups = tuple(group.name for group in around[1:])
        return Host(
            name=self.names[name],
            address=address,
            connection=connection,
            vars=self._vars(name, found),
            unknown=_unknown(found),
            groups=groups,
            place=host.place,
        )

    def _wanted(self, found: Mapping[str, Var]) -> dict[str, Var]:
        """Leave out the vars that are not wanted."""
        patterns = self.wanted.without_vars
        return {
            name: var
            for name, var in found.items()
            if not any(fnmatchcase(name, pattern) for pattern in patterns)
        }

    def _vars(self, host: str, found: Mapping[str, Var]) -> dict[str, Json]:
        """Return the vars that are known; remember and tell of the others."""
        for name, var in found.items():
            if var.unknown and name not in USED and host:
                self.withheld.setdefault(name, f"{var.unknown}, {var.place}")
                told = f"`{name[:60]}` is not known here: {var.unknown}"
                self.into.warn(var.place, told, "no step may use it; write the value, or a secret")
        return {name: var.value for name, var in found.items() if not var.unknown}


def _unknown(found: Mapping[str, Var]) -> frozenset[str]:
    return frozenset(name for name, var in found.items() if var.unknown)


def own_name(name: str) -> str:
    """Return what opskit calls a host: an IPv6 address with - for :, others as they are."""
    if not is_ipv6(name):
        return name
    own = name.replace(":", "-")
    return f"0{own}" if own.startswith("-") else own
