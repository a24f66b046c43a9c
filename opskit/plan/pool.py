"""What the inventory says of a balancer's pool, for the steps that steer it."""

from collections.abc import Iterable, Mapping, Sequence

from opskit.errors import InputError
from opskit.load import select
from opskit.model.inventory import Host, Inventory
from opskit.model.runbook import Step
from opskit.model.text import Text
from opskit.model.text import text as known
from opskit.model.value import Json
from opskit.plan.values import host_of
from opskit.steps.base import Value


def pool(
    inventory: Inventory,
    step: Step,
    args: Mapping[str, Value],
    target: str,
    about: Sequence[str],
) -> dict[str, Value]:
    """Return what a traffic step on `target` needs to know besides what is written in it.

    `about`: the hosts that the run is about.
    """
    entry = _entry(inventory, step, args, target)
    members = entry.get("members")
    if isinstance(members, str):
        members = list(select(inventory, members))
    names = [str(name) for name in members] if isinstance(members, (list, tuple)) else []
    page, site = _health(entry, [inventory.hosts[name] for name in names])
    return {
        "balancer": _as_value(entry),
        "addresses": {n: known(h.address) for n, h in inventory.hosts.items()},
        "members": _as_value(members),
        "about": tuple(map(known, about)),
        "page": page,
        "site": site,
    }


def _entry(
    inventory: Inventory, step: Step, args: Mapping[str, Value], target: str
) -> Mapping[str, Json]:
    """Return the target's own entry for the pool, otherwise the general one."""
    written = args.get("pool")
    name = written.fixed() if isinstance(written, Text) and not written.late else ""
    entry = host_of(inventory, target).balancers.get(name) or inventory.balancers.get(name)
    if entry is None:
        raise InputError(
            f"the inventory has no balancer {name!r} for {target}",
            where=str(step.places.get(f"{step.kind}.pool", step.place)),
            hint=f"its balancers: {', '.join(sorted(inventory.balancers)) or 'none'}",
        )
    return entry


def _health(entry: Mapping[str, Json], members: Iterable[Host]) -> tuple[Text | None, Text | None]:
    """Return the page on which the members say how they are, and the site they are asked as.

    The first member whose service has the pool's port speaks for all: a pool is of equals.
    """
    for member in members:
        for service in member.services.values():
            page, site = service.get("health"), member.vars.get("site")
            if isinstance(page, str) and service.get("port") == entry.get("port", 80):
                return known(page), known(site) if isinstance(site, str) else None
    return None, None


def _as_value(data: object) -> Value:
    """Turn plain data of the inventory into arguments: strings become texts."""
    if isinstance(data, str):
        return known(data)
    if isinstance(data, Mapping):
        return {str(name): _as_value(inner) for name, inner in data.items()}
    if isinstance(data, (list, tuple)):
        return tuple(_as_value(inner) for inner in data)
    return data  # type: ignore[return-value]
