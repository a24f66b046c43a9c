"""What templates can name: parameters, the inventory, the host at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.model.inventory import CONTROLLER, Host, Inventory
from opskit.model.problem import Place
from opskit.model.runbook import Step
from opskit.model.value import Json
from opskit.render import host_view, value

LATE = frozenset({"run", "by_host"})
"""Names whose value only the run has, beside the names that its steps save."""


@frozen
class Frame:
    """The names that the steps of one runbook see: its parameters and what its steps save.

    `saved` maps each saved name to the one the run keeps it under (private to an include). For an
    include, `given` are the values written under `with`, to be rendered in the frame `outer`.
    """

    parameters: Mapping[str, Json]
    saved: Mapping[str, str]
    prefix: str = ""
    given: Mapping[str, Json] = field(default_factory=dict)
    outer: "Frame | None" = None
    hidden: frozenset[str] = frozenset()
    """Which of the saved names are secrets."""

    def secret(self, name: str) -> str | None:
        """Return the name under which the run keeps a secret that its steps save; None: none."""
        if name in self.hidden:
            return self.saved[name]
        return self.outer.secret(name) if self.outer is not None else None

    @property
    def late(self) -> frozenset[str]:
        return LATE | self.saved.keys()

    def names(self, base: Mapping[str, object]) -> dict[str, object]:
        """Return everything a template of this frame can name, over the `base` of host and run."""
        found = {**base, **self.parameters}
        if self.outer is not None:
            outside = self.outer.names(base)
            for name, written in self.given.items():
                found[name] = value(written, outside)
        return found


def general(inventory: Inventory, hosts: Sequence[str]) -> Mapping[str, object]:
    """Return the names that mean the same in every step of the run."""
    return {
        "vars": inventory.vars,
        "groups": {name: list(members) for name, members in inventory.groups.items()},
        "hosts": list(hosts),
        "services": inventory.services,
        "balancers": inventory.balancers,
    }


def local(host: Host) -> dict[str, object]:
    """Return the names that a host adds: itself, its variables, the service on it."""
    found: dict[str, object] = {
        "host": host_view(host),
        "vars": host.vars,
        "services": host.services,
        "balancers": host.balancers,
    }
    if len(host.services) == 1:
        found["service"] = next(iter(host.services.values()))
    elif isinstance(host.vars.get("service"), str):
        found["service"] = _named_service(host, str(host.vars["service"]))
    return found


def _named_service(host: Host, name: str) -> Mapping[str, Json]:
    if name not in host.services:
        raise InputError(
            f"{host.name} has vars.service: {name}, but no such service covers it",
            hint=f"its services: {', '.join(sorted(host.services)) or 'none'}",
        )
    return host.services[name]


def misses(message: str, names: Mapping[str, object], place: Place) -> InputError:
    """Return what is wrong with a template, at its place, and why there is no `service`."""
    what, _, write = message.partition(" → ")
    if what == "'service' is undefined":
        services = names.get("services")
        about = "a host of this step" if "host" in names else "this step, which is for no host,"
        if isinstance(services, Mapping) and len(services) > 1:
            what += f": {about} has several: {', '.join(sorted(services))}"
            write = "say in the inventory which one is meant: `vars: {service: NAME}` of the host"
        else:
            what += f": {about} has none"
            write = "take other hosts, or name these under `hosts` of a service in the inventory"
    return InputError(what, where=str(place), hint=write)


def host_of(inventory: Inventory, name: str) -> Host:
    """Return a host of the inventory, or the controller."""
    if name == CONTROLLER:
        return Host(name=CONTROLLER, address="127.0.0.1")
    return inventory.hosts[name]


def saved_secrets(steps: Sequence[Step]) -> frozenset[str]:
    """Return which of the names that steps and the exports of includes save are secrets."""
    names: set[str] = set()
    for step in steps:
        if step.save is not None and step.save.secret:
            names.add(step.save.name)
        if step.include is not None:
            within = saved_secrets([*step.include.steps, *step.include.always])
            names |= within & set(step.include.export)
    return frozenset(names)


def saved_names(steps: Sequence[Step], prefix: str) -> dict[str, str]:
    """Return the names that steps and the exports of includes save: as written → as kept."""
    names: dict[str, str] = {}
    for step in steps:
        if step.save:
            names[step.save.name] = prefix + step.save.name
        if step.include:
            for name in step.include.export:
                names[name] = prefix + name
    return names
