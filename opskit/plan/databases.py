"""What the inventory says of the database that an SQL step works on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from opskit.errors import InputError
from opskit.model.activity import Sessions
from opskit.model.inventory import Database, Inventory, database_target
from opskit.model.payouts import Payouts
from opskit.model.plan import Action, Stage
from opskit.model.rows import Rows
from opskit.model.runbook import Step
from opskit.model.text import text as known
from opskit.model.warm import Warm
from opskit.model.work import AtDatabase, Query, Repair, Survey, Verify
from opskit.plan.spread import PREFLIGHT
from opskit.plan.survey import SURVEY, every, foreseen
from opskit.steps.base import Value, a_word
from opskit.steps.indexes import standbys


def database(inventory: Inventory, step: Step, args: Mapping[str, Value]) -> dict[str, Value]:
    """Return the step's database: the one that it names, or the only one."""
    names = ", ".join(sorted(inventory.databases))
    place = str(step.places.get(f"{step.kind}.database") or step.place)
    name = a_word(args["database"], step, "database") if args.get("database") is not None else ""
    if not inventory.databases:
        told = "the step works on a database, and the inventory has none"
        cure = "add databases: {NAME: {url: 'postgresql://…'}} to it, or name another one (-i)"
        raise InputError(told, where=place, hint=cure)
    if name:
        if name not in inventory.databases:
            told = f"the inventory has no database {name[:60]!r}"
            raise InputError(told, where=place, hint=f"its databases: {names}")
    elif len(inventory.databases) == 1:
        name = next(iter(inventory.databases))
    else:
        told = "the step does not say on which database it works"
        cure = "add database: NAME, or -p database=NAME where the runbook takes that"
        raise InputError(told, where=place, hint=f"{cure}; there are: {names}")
    if inventory.databases[name].standby and step.effect == "change":
        told = f"the database {name} is a standby, and this step changes something"
        raise InputError(told, where=place, hint="name the primary, or say effect: read")
    if step.kind == "indexes":
        _copies(inventory, step, args)
    return {"database": known(name)}


def _copies(inventory: Inventory, step: Step, args: Mapping[str, Value]) -> None:
    """Refuse standbys that the inventory does not have, or that are none."""
    for name in standbys(args, step):
        place = str(step.places.get("indexes.standbys") or step.place)
        if name not in inventory.databases:
            names = ", ".join(sorted(inventory.databases))
            told = f"the inventory has no database {name[:60]!r}"
            raise InputError(told, where=place, hint=f"its databases: {names}")
        if not inventory.databases[name].standby:
            told = f"the database {name} is no standby"
            raise InputError(told, where=place, hint="write standby: true where it is one")


def databases_of(inventory: Inventory, actions: Iterable[Action]) -> Mapping[str, Database]:
    """Return the databases that actions work on, with their probes and undos."""
    names = dict.fromkeys(name for action in actions for name in _names(action))
    return {name: inventory.databases[name] for name in names}


def surveys(
    inventory: Inventory, actions: Iterable[Action], stages: dict[str, Stage]
) -> Iterator[Action]:
    """Yield a look at each database that is changed, to be taken before anything is."""
    needs: dict[str, bool] = {}
    deeds: list[tuple[Action, Payouts | Rows | Sessions]] = []
    for action, effect in every(actions, stages):
        if effect != "change":
            continue
        if isinstance(action.work, (Payouts, Rows, Sessions)) and action.undoes is None:
            deeds.append((action, replace(action.work, probe=True)))
        if isinstance(action.work, (Query, Repair, Payouts, Rows, Sessions)):
            work = action.work
            marks = isinstance(work, (Repair, Payouts, Rows))
            if isinstance(work, Query):
                marks = work.transaction and not work.told
            needs[work.database] = marks or needs.get(work.database, False)
            place = stages[action.position].place
    for name, marks in needs.items():
        position = f"{SURVEY}{name}"
        stages[position] = Stage(
            position=position,
            name=f"Database {name}",
            kind="sql",
            place=place,
            phase="preflight",
            effect="read",
            scope="controller",
            timeout=60.0,
        )
        target = database_target(name)
        yield Action(
            key=f"{position}/",
            position=position,
            batch=PREFLIGHT,
            host="",
            target=target,
            work=Survey(database=name, marks=marks),
        )
    for action, look in deeds:
        yield foreseen(action, look, look.database, stages)


def _names(action: Action) -> Iterator[str]:
    for work in (action.work, action.skip_if, action.done_when):
        if isinstance(work, AtDatabase):
            yield work.database
        if isinstance(work, Warm) and work.source is not None and work.source.database:
            yield work.source.database
        if isinstance(work, Verify):
            yield from work.standbys
    for undo in action.undo:
        yield from _names(undo)
