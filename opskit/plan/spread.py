"""Where a step runs: its batches, hosts and targets."""

from collections.abc import Iterator, Sequence

from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.model.inventory import CONTROLLER, Inventory, database_target, redis_target
from opskit.model.problem import Place
from opskit.model.runbook import On, Phase
from opskit.model.work import AtDatabase, AtRedis, Work

PREFLIGHT, ALWAYS = -1, -2
"""Batch numbers of the phases in which all hosts are one batch."""


@frozen
class Spot:
    """One place where a step runs. `host` is "" where the step belongs to no host in particular."""

    batch: int
    host: str
    target: str


def rounds(
    phase: Phase, batches: Sequence[Sequence[str]], hosts: Sequence[str]
) -> list[tuple[int, Sequence[str]]]:
    """Return the batches that a phase goes through, with their numbers."""
    if phase == "main":
        return list(enumerate(batches))
    return [(PREFLIGHT if phase == "preflight" else ALWAYS, hosts)]


def spread(
    on: On, turn: int, batch: Sequence[str], inventory: Inventory, place: Place
) -> Iterator[Spot]:
    """Yield the spots of a step in one batch.

    `once` and `batch` yield a candidate for each host: the executor takes the first that lives.
    """
    first = turn <= 0
    match on.scope:
        case "each" | "batch":
            yield from (Spot(batch=turn, host=host, target=host) for host in batch)
        case "once":
            if first:
                yield from (Spot(batch=turn, host=host, target=host) for host in batch)
        case "controller":
            if first:
                yield Spot(batch=turn, host="", target=CONTROLLER)
        case "group":
            yield from _group(on, turn, batch, members(on, inventory, place))


def _group(on: On, turn: int, batch: Sequence[str], group: Sequence[str]) -> Iterator[Spot]:
    match on.per:
        case "host":
            for host in batch:
                yield from (Spot(batch=turn, host=host, target=target) for target in group)
        case "batch":
            yield from (Spot(batch=turn, host="", target=target) for target in group)
        case "run":
            if turn <= 0:
                yield from (Spot(batch=turn, host="", target=target) for target in group)


def members(on: On, inventory: Inventory, place: Place) -> Sequence[str]:
    """Return the targets of `on: {group: …}`."""
    name = on.group or ""
    if name == CONTROLLER:
        return (CONTROLLER,)
    if name in inventory.groups:
        return inventory.groups[name]
    if name in inventory.hosts:
        return (name,)
    raise InputError(
        f"the inventory has no group {name!r}",
        where=str(place),
        hint=f"its groups: {', '.join(sorted(inventory.groups)) or 'none'}",
    )


def server_of(work: Work) -> str | None:
    """Return the target of what is done at a server by its name; None for all else."""
    if isinstance(work, AtDatabase):
        return database_target(work.database)
    return redis_target(work.server) if isinstance(work, AtRedis) else None
