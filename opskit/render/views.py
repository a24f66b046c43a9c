"""What templates see of a host."""

from collections.abc import Mapping

from opskit.model.inventory import Host
from opskit.model.value import Json


class HostView(str):  # noqa: SLOT000 - a str subclass with attributes can have no slots
    """A host in a template: prints as its name; `.name .address .vars .groups` say the rest."""

    name: str
    address: str
    vars: Mapping[str, Json]
    groups: tuple[str, ...]

    def as_json(self) -> Json:
        """Return what a late text keeps of it, so that the plan is whole without the inventory."""
        return {
            "$host": str(self),
            "address": self.address,
            "vars": self.vars,
            "groups": list(self.groups),
        }


def host_view(host: Host) -> HostView:
    """Show a host to templates."""
    return _view(host.name, host.address, host.vars, host.groups)


def _view(
    name: str, address: str, variables: Mapping[str, Json], groups: tuple[str, ...]
) -> HostView:
    view = HostView(name)
    view.name, view.address, view.vars, view.groups = name, address, variables, groups
    return view


def revive(value: Json) -> object:
    """Undo `as_json` where a value is a host; others stay as they are."""
    if isinstance(value, Mapping) and isinstance(value.get("$host"), str):
        variables, groups = value["vars"], value["groups"]
        assert isinstance(variables, Mapping)
        assert isinstance(groups, (list, tuple))
        return _view(
            str(value["$host"]), str(value["address"]), variables, tuple(str(g) for g in groups)
        )
    return value


def retire(value: object) -> Json:
    """Make a template value fit for the record."""
    return value.as_json() if isinstance(value, HostView) else value  # type: ignore[return-value]
