"""Runbook + inventory + parameters → Plan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from opskit.errors import InputError
from opskit.load import select
from opskit.model.codec import digest, to_json
from opskit.model.inventory import (
    CONTROLLER,
    Database,
    Host,
    Inventory,
    Redis,
    database_of,
    redis_of,
)
from opskit.model.plan import Action, Plan, Stage
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.runbook import Runbook
from opskit.model.value import Json
from opskit.model.windows import Freeze, Window
from opskit.plan.arguments import Expectations, Files, History, from_file
from opskit.plan.batches import amount, split
from opskit.plan.build import Builder
from opskit.plan.channels import channels_of
from opskit.plan.databases import databases_of, surveys
from opskit.plan.expand import Placed, expand, included, top_frame
from opskit.plan.locks import locks
from opskit.plan.spread import rounds, spread
from opskit.plan.unsaved import unsaved
from opskit.plan.values import Frame, general, host_of
from opskit.plan.withheld import refuse_withheld
from opskit.render import TemplateError, text


def make(
    runbook: Runbook,
    inventory: Inventory,
    parameters: Mapping[str, Json],
    *,
    secrets: frozenset[str] = frozenset(),
    limit: str | None = None,
    from_step: str | None = None,
    files: Files,
    expectations: Expectations = from_file,
    history: History | None = None,
) -> Plan:
    """Plan a runbook: every action in its order, on its host, as far as it can be known.

    `parameters` are the public ones, `secrets` the names of the secret ones; nothing outside is
    asked but `files`, `expectations` and `history` (without it only the run recalls values).
    Raises InputError for what can't be planned as asked, ProblemsError for texts that don't render.
    """
    refuse_withheld(runbook, inventory)
    frame = top_frame(runbook, parameters)
    hosts = targeted(runbook, inventory, limit, frame)
    batches = split(hosts, runbook.batches)
    builder = Builder(
        inventory=inventory, general=general(inventory, hosts), batches=batches, files=files,
        secrets=secrets | inventory.secrets.keys(), expectations=expectations, history=history,
    )  # fmt: skip
    every = list(expand(runbook, frame))
    actions, redis = _all_actions(builder, every, starting_at(every, from_step, runbook), hosts)
    databases = databases_of(inventory, actions)
    return seal(Plan(
        runbook=runbook.name,
        version=runbook.version,
        file=runbook.file,
        inventory=inventory.file,
        parameters=parameters,
        hosts=_involved(inventory, hosts, actions, (*databases.values(), *redis.values())),
        batches=batches,
        max_failures=amount(runbook.max_failures, len(hosts), least=0),
        on_failure=runbook.on_failure,
        locks=locks(runbook, frame, inventory, general(inventory, hosts)),
        stages=builder.stages,
        actions=actions,
        databases=databases,
        redis=redis,
        channels=channels_of(inventory, actions),
        windows=_windows(runbook, inventory),
        freezes=_freezes(runbook, inventory),
        secrets=inventory.secrets,
        sources={name: digest(source) for name, source in _sources(runbook, inventory).items()},
    ))  # fmt: skip


def _with_redis(
    inventory: Inventory, actions: tuple[Action, ...], stages: dict[str, Stage]
) -> tuple[tuple[Action, ...], Mapping[str, Redis]]:
    """Put a look at each Redis server that is changed before all else; return the servers, too."""
    if not inventory.redis:
        return actions, {}
    from opskit.plan.redis import looks, raise_stampede, servers_of  # few inventories have any

    raise_stampede(actions, stages)
    every = (*looks(inventory, actions, stages), *actions)
    return every, servers_of(inventory, every)


def _all_actions(
    builder: Builder, every: Sequence[Placed], steps: Sequence[Placed], hosts: Sequence[str]
) -> tuple[tuple[Action, ...], Mapping[str, Redis]]:
    """Return the actions of `steps` after the looks that they need; and which Redis they are at."""
    builder.ambiguous = _saved_twice(steps)
    actions = _actions(builder, steps, hosts)
    actions = (*surveys(builder.inventory, actions, builder.stages), *actions)
    actions, redis = _with_redis(builder.inventory, actions, builder.stages)
    if problems := unsaved(actions, builder.stages, steps, every):
        raise ProblemsError(problems)
    return actions, redis


def _saved_twice(steps: Sequence[Placed]) -> frozenset[str]:
    """Return the names that more than one step saves: no one step says what they are."""
    kept = [p.frame.saved.get(p.step.save.name, "") for p in steps if p.step.save is not None]
    return frozenset(name for name in kept if kept.count(name) > 1)


def _windows(runbook: Runbook, inventory: Inventory) -> tuple[Window, ...]:
    """Return the windows that hold for a runbook; none does for an urgent one."""
    found = () if runbook.urgent else inventory.change_windows
    return tuple(one for one in found if _is_about(one, runbook))


def _freezes(runbook: Runbook, inventory: Inventory) -> tuple[Freeze, ...]:
    """Return the freezes that hold for a runbook; none does for an urgent one."""
    found = () if runbook.urgent else inventory.freezes
    return tuple(one for one in found if _is_about(one, runbook))


def _is_about(hours: Window | Freeze, runbook: Runbook) -> bool:
    """Tell whether hours hold for a runbook: as a lock, those of one that it includes do, too."""
    return not hours.runbooks or not {runbook.name, *included(runbook)}.isdisjoint(hours.runbooks)


def seal(plan: Plan) -> Plan:
    """Give a plan its digest, over the canonical JSON of everything else in it."""
    return replace(plan, digest=digest(to_json(replace(plan, digest=""))))


def targeted(
    runbook: Runbook, inventory: Inventory, limit: str | None, frame: Frame
) -> tuple[str, ...]:
    """Return the hosts of a run in the order of the inventory; none at all is refused."""
    try:
        expression = text(runbook.hosts, frame.names(general(inventory, ()))).fixed()
    except TemplateError as error:
        raise InputError(f"`hosts`: {error}", where=runbook.file) from error
    hosts = select(inventory, expression)
    if limit is not None:
        wanted = set(select(inventory, limit))
        hosts = tuple(host for host in hosts if host in wanted)
    if not hosts:
        within = f" within --limit {limit}" if limit else ""
        raise InputError(
            f"no host of {inventory.file} matches {expression!r}{within}",
            where=runbook.file,
            hint=f"groups: {', '.join(sorted(inventory.groups)) or 'none'}",
        )
    _distinct(inventory, hosts)
    return hosts


def _distinct(inventory: Inventory, hosts: Sequence[str]) -> None:
    """Refuse hosts that are one machine under two names: all would be done there twice at once."""
    seen: dict[tuple[object, ...], str] = {}
    for name in hosts:
        host = inventory.hosts[name]
        how = host.connection
        first = seen.setdefault((host.address, how.port, how.jump, how.ssh_config), name)
        if first != name:
            raise InputError(
                f"{first} and {name} have the same address, {host.address}: everything would be"
                " done there twice at once",
                where=inventory.file,
                hint=f"name each machine once, or leave one out with --limit {first}",
            )


def starting_at(steps: list[Placed], name: str | None, runbook: Runbook) -> list[Placed]:
    """Leave out the main steps before the one named; preflight and always stay."""
    if name is None:
        return steps
    main = [p.step for p in steps if p.phase == "main"]
    meant = [n for n, step in enumerate(main) if name in (step.position, step.name)]
    if len(meant) != 1:
        raise InputError(
            f"{runbook.name} has {'several steps' if meant else 'no step'} {name!r} to begin at",
            where=runbook.file,
            hint="--from wants one of: " + "; ".join(f"{s.position} {s.name}" for s in main),
        )
    before = set(range(meant[0]))
    numbers = iter(range(len(main)))
    return [p for p in steps if p.phase != "main" or next(numbers) not in before]


def _actions(builder: Builder, steps: Sequence[Placed], hosts: Sequence[str]) -> tuple[Action, ...]:
    problems: dict[tuple[str, str, str], Problem] = {}
    found: list[Action] = []
    for phase in ("preflight", "main", "always"):
        within = [p for p in steps if p.phase == phase]
        for turn, batch in rounds(phase, builder.batches, hosts):
            for placed in within:
                try:
                    found += _of_step(builder, placed, turn, batch)
                except (InputError, TemplateError) as error:
                    problem = _problem(error, placed)
                    # What several steps of a kind are given is wrong once; the first is named.
                    about = placed.step.kind if isinstance(error, InputError) else problem.place
                    problems.setdefault((str(about), problem.what, problem.write), problem)
    if problems:
        raise ProblemsError(list(problems.values()))
    return tuple(found)


def _of_step(builder: Builder, placed: Placed, turn: int, batch: Sequence[str]) -> list[Action]:
    step = placed.step
    return [
        action
        for spot in spread(step.on, turn, batch, builder.inventory, step.place)
        for action in builder.actions(placed, spot)
    ]


def _problem(error: Exception, placed: Placed) -> Problem:
    if not isinstance(error, InputError):
        what, _, write = str(error).partition(" → ")
        return Problem(place=placed.step.place, what=what, write=write)
    if isinstance(error, ProblemsError):
        return error.problems[0]
    return Problem(place=_parsed(error.where, placed), what=error.what, write=error.hint)


def _parsed(where: str, placed: Placed) -> Place:
    file, _, rest = where.rpartition(":")
    file, _, line = file.rpartition(":")
    if file and line.isdigit() and rest.isdigit():
        return Place(file=file, line=int(line), column=int(rest))
    return placed.step.place


def _involved(
    inventory: Inventory,
    hosts: Sequence[str],
    actions: Sequence[Action],
    servers: Iterable[Database | Redis],
) -> Mapping[str, Host]:
    names = dict.fromkeys([*hosts, *(a.target for a in actions)])
    for action in actions:
        names |= dict.fromkeys(undo.target for undo in action.undo)
    names |= dict.fromkeys(one.via for one in servers if one.via)
    others = (
        n for n in names if n != CONTROLLER and database_of(n) is None and redis_of(n) is None
    )
    return {n: host_of(inventory, n) for n in others}


def _sources(runbook: Runbook, inventory: Inventory) -> Mapping[str, str]:
    return {**runbook.sources, **inventory.others, inventory.file: inventory.source}
