"""What the parts of an Ansible inventory say, put together: hosts, groups, and whose value wins."""

from collections.abc import Iterator
from typing import NamedTuple

from opskit.load.ansible.patterns import MOST, PatternError, expand, is_ipv6
from opskit.model.problem import Place, Problem
from opskit.model.value import Json

_PRIORITY = "ansible_group_priority"


class Var(NamedTuple):
    """A value and where it stands. `unknown`: why opskit can't know it, "" where it can."""

    value: Json
    place: Place
    unknown: str = ""


class Group:
    """A group: the hosts and groups that are named in it, and its vars by where they stand."""

    __slots__ = ("beside", "children", "depth", "hosts", "name", "place", "priority", "vars")

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.hosts: dict[str, None] = {}
        self.children: dict[str, None] = {}
        self.vars: dict[str, Var] = {}
        self.beside: dict[str, Var] = {}
        self.depth = 0
        self.priority = 1


class Named:
    """A host: its vars from the inventory itself, and from `host_vars/`."""

    __slots__ = ("beside", "name", "place", "vars")

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.vars: dict[str, Var] = {}
        self.beside: dict[str, Var] = {}


class Gathered:
    """An inventory in the making. Problems are collected, none stops the rest."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.problems = problems
        self.hosts: dict[str, Named] = {}
        self.groups: dict[str, Group] = {}
        self._below: dict[str, tuple[str, ...]] = {}
        for name in ("all", "ungrouped"):
            self.group(name, Place(file=file))
        self.groups["all"].children["ungrouped"] = None

    def error(self, place: Place, what: str, write: str = "") -> None:
        self.problems.append(Problem(place=place, what=what, write=write))

    def warn(self, place: Place, what: str, write: str = "") -> None:
        self.problems.append(Problem(place=place, what=what, write=write, severity="warning"))

    def group(self, name: str, place: Place) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(name, place)
        return self.groups[name]

    def add(self, pattern: str, group: str, place: Place) -> tuple[str, ...]:
        """Add the hosts that a pattern stands for to a group; the first port that is said holds."""
        try:
            names, port = expand(pattern)
        except PatternError as error:
            self.error(place, f"no host can be read here: {error.what}", error.write)
            return ()
        if len(self.hosts) + sum(name not in self.hosts for name in names) > MOST:
            self.error(place, f"more than {MOST} hosts", "split the inventory")
            return ()
        for name in names:
            if ":" in name and not is_ipv6(name):
                told = "a colon in the name of a host that is no IPv6 address"
                self.error(place, told, "HOST:PORT, or NAME ansible_host=ADDRESS")
                return ()
            self._host(name, port, place)
            self.groups[group].hosts[name] = None
        return names

    def _host(self, name: str, port: int | None, place: Place) -> None:
        if name not in self.hosts:
            self.hosts[name] = Named(name, place)
            if port is not None:
                self.hosts[name].vars["ansible_port"] = Var(port, place)
        elif port is not None:
            said = self.hosts[name].vars.get("ansible_port")
            if said is None or said.value != port:
                first = self.hosts[name].place.line
                told = f"{name} is on line {first} already: for Ansible this port has no meaning"
                self.warn(place, told, "say the port where the host is named first")

    def named(self, name: str, group: str, place: Place) -> bool:
        """Add a host that is called exactly so to a group; False where there are too many."""
        if name not in self.hosts and len(self.hosts) >= MOST:
            self.error(place, f"more than {MOST} hosts", "split the inventory")
            return False
        self._host(name, None, place)
        self.groups[group].hosts[name] = None
        return True

    def set(self, entity: str, name: str, var: Var) -> None:
        """Set a var of a group or host; what is called like a group means that, as for Ansible."""
        group = self.groups.get(entity)
        if group is None:
            self.hosts[entity].vars[name] = var
        elif name != _PRIORITY:
            group.vars[name] = var
        elif isinstance(var.value, (int, str)) and str(var.value).isdigit() and not var.unknown:
            group.priority = int(var.value)
        else:
            self.error(var.place, f"`{_PRIORITY}` must be a whole number", "write 1 or more")

    def child(self, parent: str, name: str, place: Place) -> None:
        """Put a group into another one; a circle is a problem. Every group is inside `all`."""
        if name in ("all", parent) or parent in self.below(name):
            told = f"the group `{name}` would be inside itself"
            self.error(place, told, "break the circle")
        else:
            self.groups[parent].children[name] = None

    def below(self, name: str) -> Iterator[str]:
        """Yield every group inside a group, outer ones first."""
        seen: set[str] = set()
        todo = [*self.groups[name].children]
        while todo:
            inner = todo.pop(0)
            if inner not in seen and inner in self.groups:
                seen.add(inner)
                yield inner
                todo += self.groups[inner].children

    def settle(self) -> None:
        """Do what Ansible does when all is read: groups go into `all`, lone hosts are ungrouped."""
        inside = {child for group in self.groups.values() for child in group.children}
        for name in self.groups:
            if name != "all" and name not in inside:
                self.groups["all"].children[name] = None
        self._depths()
        grouped = {
            host
            for name, group in self.groups.items()
            if name not in ("all", "ungrouped")
            for host in group.hosts
        }
        lone = self.groups["ungrouped"].hosts
        self.groups["ungrouped"].hosts = {
            name: None for name in dict.fromkeys([*lone, *self.hosts]) if name not in grouped
        }

    def _depths(self) -> None:
        """Give each group the length of the longest way to it; there are no circles."""
        todo = ["all"]
        while todo:
            outer = self.groups[todo.pop()]
            for name in outer.children:
                inner = self.groups[name]
                if inner.depth <= outer.depth:
                    inner.depth = outer.depth + 1
                    todo.append(name)

    def members(self) -> dict[str, frozenset[str]]:
        """Return the hosts of every group, those of inner groups included."""
        found: dict[str, frozenset[str]] = {}
        for name in sorted(self.groups, key=lambda name: -self.groups[name].depth):
            hosts = set(self.groups[name].hosts)
            for child in self.groups[name].children:
                hosts |= found[child]
            found[name] = frozenset(hosts)
        found["all"] = frozenset(self.hosts)
        return found

    def order(self) -> list[Group]:
        """Return the groups, those first whose vars give way; `all` is the first."""
        return sorted(self.groups.values(), key=lambda g: (g.depth, g.priority, g.name))

    def merged(self, host: Named, around: list[Group]) -> dict[str, Var]:
        """Return what holds for a host. `around`: its groups in their order, `all` first.

        What stands in files beside the inventory wins over what stands in it, for groups; then
        comes what is said of the host, again first in the inventory and then beside it.
        """
        found: dict[str, Var] = {}
        outer, inner = around[:1], around[1:]
        for layer in (
            *(group.vars for group in (*outer, *inner)),
            *(group.beside for group in (*outer, *inner)),
            host.vars,
            host.beside,
        ):
            found.update(layer)
        return found
