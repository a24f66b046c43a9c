"""Other parameters for a run that has begun: planned anew from its own record, if that can be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from opskit import load
from opskit.app import secrets as fetching
from opskit.app.prepare import describe, differences, given_words
from opskit.audit import Store
from opskit.errors import InputError
from opskit.load.files import Kept
from opskit.model.expected import Expected
from opskit.model.frozen import frozen
from opskit.model.inventory import Inventory
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord
from opskit.model.runbook import Runbook
from opskit.model.value import Json
from opskit.model.work import Recall, Verify
from opskit.plan import make, reads_only, seal
from opskit.plan.arguments import from_file
from opskit.plan.expand import top_frame
from opskit.plan.make import targeted

_MOST = 5
"""So many things that would be different are named."""


@frozen
class Amended:
    """A run's plan with other values for some parameters, which are named with them."""

    plan: Plan
    parameters: Mapping[str, Json]


@frozen
class _Origin:
    """What a run was planned from, as its record has it."""

    runbook: Runbook
    inventory: Inventory
    secrets: frozenset[str]
    history: Callable[[Recall], str | None]

    def hosts(self, parameters: Mapping[str, Json]) -> tuple[str, ...]:
        """Return the hosts that the runbook names with these parameters."""
        frame = top_frame(self.runbook, parameters)
        return targeted(self.runbook, self.inventory, None, frame)

    def plan(self, old: Plan, parameters: Mapping[str, Json], from_step: str | None) -> Plan:
        """Plan for the hosts of the old plan; these are known as they were."""
        hosts = ":".join(host for batch in old.batches for host in batch)
        made = make(
            self.runbook,
            self.inventory,
            parameters,
            secrets=self.secrets,
            limit=hosts,
            from_step=from_step,
            files=describe,
            expectations=_held(old),
            history=self.history,
        )
        known = {name: old.hosts.get(name, host) for name, host in made.hosts.items()}
        return seal(replace(made, hosts=known, sources=old.sources))


def amended(
    store: Store,
    run: str,
    words: Sequence[str],
    records: Mapping[str, ActionRecord],
    key: str,
) -> Amended | None:
    """Plan a run anew with other parameters (`words`: name=value); None where nothing changes.

    `key` is the action that is to be done again. InputError where anything else that was begun
    would be different, or where the record does not give the plan that is carried out now.
    """
    old = store.plan(run)
    origin = _origin(store, run, old)
    parameters = _parameters(origin.runbook, words)
    values = {**old.parameters, **parameters}
    new = origin.plan(old, values, _from(origin, old))
    if new.digest == old.digest:
        return None
    other = origin.hosts(values) != origin.hosts(old.parameters)
    change = _Change(old=old, new=new, records=records, key=key, words=" ".join(words))
    change.refuse(["its hosts would be others"] if other else [])
    return Amended(plan=new, parameters=parameters)


def _parameters(runbook: Runbook, words: Sequence[str]) -> Mapping[str, Json]:
    given = given_words(tuple(words))
    secret = [p.name for p in runbook.params if p.type == "secret" and p.name in given]
    if secret:
        raise InputError(
            f"{secret[0]!r} is a secret: a run keeps the secrets that it began with",
            hint="begin a new run with another one",
        )
    return load.changed(runbook, given)


def _origin(store: Store, run: str, old: Plan) -> _Origin:
    documents = store.documents(run)
    kept: Kept = {
        name.partition(" ")[2]: text for name, text in documents.items() if name != "plan"
    }
    runbook = load.runbook(Path(old.file), kept=kept)
    created = next(iter(store.entries(run))).event.data
    marks = created.get("secrets")
    had = set(marks) if isinstance(marks, Mapping) else set()
    return _Origin(
        runbook=runbook,
        inventory=load.inventory(Path(old.inventory), kept=kept),
        secrets=frozenset(p.name for p in runbook.params if p.type == "secret" and p.name in had),
        history=_history(store, old),
    )


def _history(store: Store, old: Plan) -> Callable[[Recall], str | None]:
    """Let recalled values be those that the run was planned with."""
    used = [action.work for action in old.actions if isinstance(action.work, Recall)]

    def recall(work: Recall) -> str | None:
        same = [one.planned for one in used if replace(one, planned=None) == work]
        return same[0] if same else store.recall(work)

    return recall


def _held(old: Plan) -> Callable[[str, Path], Expected]:
    """Let a file of expectations say what it said when the run was planned."""
    held: dict[str, list[Expected]] = {}
    for action in old.actions:
        if isinstance(action.work, Verify):
            several = held.setdefault(action.work.file, [])
            several += [] if action.work.expected in several else [action.work.expected]

    def read(name: str, path: Path) -> Expected:
        same = held.get(name, ())
        # One name in two folders is two files: which is meant, only the folders tell.
        return same[0] if len(same) == 1 else from_file(name, path)

    return read


def _from(origin: _Origin, old: Plan) -> str | None:
    """Return the step that the run was told to begin at; refuse a plan that can't be made again."""
    first = next((action.position for action in old.actions if action.batch >= 0), None)
    made = old
    for step in (None, first):
        made = origin.plan(old, old.parameters, step)
        if made.digest == old.digest:
            return step
    raise InputError(
        "the plan of this run can't be made again from its record: "
        + "; ".join(differences(old, made)),
        hint="decide without -p, or begin a new run; files that are uploaded must be as they were,"
        " and relative paths count from where the run was begun",
    )


@frozen
class _Change:
    """A plan and the one that is to come in its place; `words` are the parameters as given."""

    old: Plan
    new: Plan
    records: Mapping[str, ActionRecord]
    key: str
    words: str

    def refuse(self, known: Sequence[str]) -> None:
        """Refuse where something is different that has been done, or that the run rests on."""
        after = {action.key: action for action in self.new.actions}
        if rest := [*known, *self._rest()]:
            self._refused(f"the run would be another one: {'; '.join(rest)}")
        changed = [a for a in self.old.actions if a.key != self.key and self._begun(a)]
        changed = [action for action in changed if self._differs(action, after)]
        if changed:
            names = self._named(self.old, changed)
            self._refused(f"there would be other texts for what was begun already: {names}")
        if self.key not in after:
            self._refused("the step that this is about would not be in the plan")
        before, keys = {action.key for action in self.old.actions}, [*after]
        added = [after[k] for k in keys[: keys.index(self.key)] if k not in before]
        if added:
            more = self._named(self.new, added)
            self._refused(f"there would be more to do before this: {more}")

    def _refused(self, what: str) -> NoReturn:
        hint = f"begin a new run: opskit run {self.old.runbook} -p {self.words}"
        raise InputError(f"with {self.words} {what}", hint=hint)

    def _rest(self) -> Iterator[str]:
        """Yield what a run can't change once it has begun."""
        old, new = self.old, self.new
        for name in ("max_failures", "on_failure", "locks"):
            if getattr(old, name) != getattr(new, name):
                yield f"{name} {getattr(old, name)!r} would be {getattr(new, name)!r}"
        if old.batches != new.batches:
            yield "its batches would be others"
        if strange := sorted(new.hosts.keys() - old.hosts.keys()):
            yield f"it would reach {', '.join(strange)} too"
        if reads_only(old) and not reads_only(new):
            yield "it would change something"
        if wanted := sorted(set(fetching.wanted(new)) - set(fetching.wanted(old))):
            yield f"it would need the secret {', '.join(wanted)}"

    def _differs(self, action: Action, after: Mapping[str, Action]) -> bool:
        """Tell whether an action, its undo or the rules of either would be other ones."""
        if after.get(action.key) != action:
            return True
        parts = (action, *action.undo)
        stages = self.old.stages, self.new.stages
        return any(stages[0][one.position] != stages[1][one.position] for one in parts)

    def _begun(self, action: Action) -> bool:
        return any(one.key in self.records for one in (action, *action.undo))

    def _named(self, plan: Plan, actions: Sequence[Action]) -> str:
        more = [f"and {len(actions) - _MOST} more"] if len(actions) > _MOST else []
        return ", ".join([*(self._one(plan, action) for action in actions[:_MOST]), *more])

    def _one(self, plan: Plan, action: Action) -> str:
        record = self.records.get(action.key)
        state = f" ({record.state})" if record is not None else ""
        return f"{plan.stage(action).name!r} on {action.host or action.target}{state}"
