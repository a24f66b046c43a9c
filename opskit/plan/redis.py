"""What the inventory says of the Redis server that a step works on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from opskit.errors import InputError
from opskit.model.inventory import Inventory, Redis, redis_target
from opskit.model.keys import Keys
from opskit.model.plan import Action, Plan, Stage
from opskit.model.queues import Messages, Queues
from opskit.model.runbook import Step
from opskit.model.text import text as known
from opskit.model.warm import Warm
from opskit.model.work import AtRedis, RedisCall, RedisLook
from opskit.plan.spread import PREFLIGHT
from opskit.plan.survey import SURVEY, every, foreseen
from opskit.steps.base import Value, a_word
from opskit.steps.globs import head
from opskit.steps.warm import FIELD


def server(inventory: Inventory, step: Step, args: Mapping[str, Value]) -> dict[str, Value]:
    """Return the step's server: the one that it names, or the only one."""
    names = ", ".join(sorted(inventory.redis))
    place = str(step.places.get(f"{step.kind}.server") or step.place)
    name = a_word(args["server"], step, "server") if args.get("server") is not None else ""
    if not inventory.redis:
        told = "the step works on a Redis server, and the inventory has none"
        cure = "add redis: {NAME: {url: 'redis://…'}} to it, or name another one (-i)"
        raise InputError(told, where=place, hint=cure)
    if name:
        if name not in inventory.redis:
            told = f"the inventory has no Redis server {name[:60]!r}"
            raise InputError(told, where=place, hint=f"its Redis servers: {names}")
    elif len(inventory.redis) == 1:
        name = next(iter(inventory.redis))
    else:
        told = "the step does not say on which Redis server it works"
        cure = "add server: NAME, or -p server=NAME where the runbook takes that"
        raise InputError(told, where=place, hint=f"{cure}; there are: {names}")
    if inventory.redis[name].role == "replica" and step.effect == "change":
        told = f"the Redis server {name} is a replica, and this step changes something"
        raise InputError(told, where=place, hint="name the master, or say effect: read")
    return {"server": known(name)}


def servers_of(inventory: Inventory, actions: Iterable[Action]) -> Mapping[str, Redis]:
    """Return the servers that actions work on, with their probes and undos."""
    names = dict.fromkeys(name for action in actions for name in _names(action))
    return {name: inventory.redis[name] for name in names}


def looks(
    inventory: Inventory, actions: Iterable[Action], stages: dict[str, Stage]
) -> Iterator[Action]:
    """Yield a look at each server that is changed, to be taken before anything is."""
    actions = tuple(actions)
    places = {work.server: stages[position].place for work, position in _changes(actions, stages)}
    narrow = {
        work.server
        for work, _ in _changes(actions, stages)
        if not (isinstance(work, Keys) or (isinstance(work, RedisCall) and not work.transaction))
    }
    for name, place in places.items():
        position = f"{SURVEY}redis:{name}"
        stages[position] = Stage(
            position=position,
            name=f"Redis {name}",
            kind="redis",
            place=place,
            phase="preflight",
            effect="read",
            scope="controller",
            timeout=60.0,
        )
        yield Action(
            key=f"{position}/",
            position=position,
            batch=PREFLIGHT,
            host="",
            target=redis_target(name),
            work=RedisLook(server=name, spread=name not in narrow),
        )
    for action in actions:
        if isinstance(action.work, Messages) and action.undoes is None:
            look = replace(action.work, probe=True)
            yield foreseen(action, look, f"redis:{look.server}", stages)


def marked(plan: Plan) -> frozenset[str]:
    """Return the servers on which changes of a plan leave marks."""
    found = _changes(plan.actions, plan.stages)
    return frozenset(
        work.server for work, _ in found if not isinstance(work, RedisCall) or work.transaction
    )


def _changes(
    actions: Iterable[Action], stages: Mapping[str, Stage]
) -> Iterator[tuple[AtRedis, str]]:
    for action, effect in every(actions, stages):
        if isinstance(action.work, AtRedis) and effect == "change":
            yield action.work, action.position


_FEW = 100
"""So many keys may be missed by everybody until they are written anew."""


def raise_stampede(actions: Iterable[Action], stages: Mapping[str, Stage]) -> None:
    """Refuse to empty a cache by a pattern and to fill it then: until it is full again, everybody
    who looks something up makes it himself, all at once.
    """
    emptied: list[tuple[Keys, str]] = []
    for action, _ in every(actions, stages):
        match action.work:
            case Keys(do="remove") as gone if gone.pattern and action.undoes is None:
                if gone.most > _FEW and not gone.override:
                    emptied.append((gone, action.position))
            case Warm(do="fill" | "refresh") as work if action.undoes is None:
                for gone, position in emptied:
                    if gone.server == work.server and _alike(head(gone.pattern), work):
                        place = str(stages[action.position].place)
                        raise _stampede(gone, stages[position].name, place)
            case _:
                pass


def _alike(start: str, work: Warm) -> bool:
    """Tell whether keys may be written that begin so: as `allow` says, and as all of them do."""
    first = FIELD.split(work.source.key)[0] if work.source is not None else ""
    return _meet(start, first) and any(_meet(start, one) for one in work.allow)


def _meet(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _stampede(gone: Keys, name: str, place: str) -> InputError:
    told = f"{name!r} removes {gone.pattern} first, up to {gone.most} keys: until they are written"
    return InputError(
        f"{told}, everybody who looks one up makes it himself, all at once (a stampede)",
        where=place,
        hint="write them with do: refresh, which overwrites, and remove nothing; or let at most"
        f" {_FEW} go (max_keys); or give the removal an override, a reason",
    )


def _names(action: Action) -> Iterator[str]:
    for work in (action.work, action.skip_if, action.done_when):
        if isinstance(work, AtRedis):
            yield work.server
        if isinstance(work, Queues) and work.results:
            yield work.results
    for undo in action.undo:
        yield from _names(undo)
