"""Other parameters for a run that has begun: planned anew from its own record, if that can be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from opskit import load
from opskit.app import secrets as fetching
from opskit.app.deciding import Amended
from opskit.app.prepare import describe, differences, given_words
from opskit.app.reports import Knows, as_before, compared
from opskit.audit import Store
from opskit.errors import InputError
from opskit.load.files import Kept
from opskit.model.expected import Expected
from opskit.model.frozen import frozen
from opskit.model.inventory import Inventory
from opskit.model.plan import Plan
from opskit.model.run import ActionRecord
from opskit.model.runbook import Runbook
from opskit.model.value import Json
from opskit.model.work import Recall, Verify
from opskit.plan import reads_only
from opskit.plan.amend import UnsoundError, merge
from opskit.plan.arguments import from_file
from opskit.plan.expand import top_frame
from opskit.plan.make import make, seal, targeted


@frozen
class _Origin:
    """What a run was planned from, as its record has it."""

    runbook: Runbook
    inventory: Inventory
    secrets: frozenset[str]
    history: Callable[[Recall], str | None]
    knows: Knows

    def hosts(self, parameters: Mapping[str, Json]) -> tuple[str, ...]:
        """Return the hosts that the runbook names with these parameters."""
        frame = top_frame(self.runbook, parameters)
        return targeted(self.runbook, self.inventory, None, frame)

    def plan(self, first: Plan, parameters: Mapping[str, Json], from_step: str | None) -> Plan:
        """Plan for the hosts of the first plan; these are known as they were."""
        hosts = ":".join(host for batch in first.batches for host in batch)
        made = make(
            self.runbook,
            self.inventory,
            parameters,
            secrets=self.secrets,
            limit=hosts,
            from_step=from_step,
            files=describe,
            expectations=_held(first),
            history=self.history,
        )
        made = compared(made, self.knows)
        known = {name: first.hosts.get(name, host) for name, host in made.hosts.items()}
        return seal(replace(made, hosts=known, sources=first.sources))


def amended(
    store: Store,
    run: str,
    words: Sequence[str],
    records: Mapping[str, ActionRecord],
    key: str,
) -> Amended | None:
    """Plan a run anew with other parameters (`words`: name=value); None where nothing changes.

    `key` is the action that is to be done again. What was done stays in the plan as it was done.
    InputError where that does not go together with what would follow, or where the record does not
    give the plan that the run began with.
    """
    old, first = store.plan(run), store.plan(run, first=True)
    origin = _origin(store, run, first, old)
    parameters = _parameters(origin.runbook, words)
    values = {**old.parameters, **parameters}
    new = origin.plan(first, values, _from(origin, first))
    said = " ".join(words)
    other = origin.hosts(values) != origin.hosts(old.parameters)
    if rest := [*(["its hosts would be others"] if other else []), *_rest(old, new)]:
        raise _refusing(old, said, f"the run would be another one: {'; '.join(rest)}")
    try:
        merged = merge(old, new, records, key)
    except UnsoundError as error:
        raise _refusing(old, said, str(error)) from error
    if merged.plan.digest == old.digest:
        return None
    return Amended(
        plan=merged.plan,
        parameters=parameters,
        hosts=merged.hosts,
        kept=merged.kept,
        steps=merged.steps,
        again=merged.again,
    )


def _parameters(runbook: Runbook, words: Sequence[str]) -> Mapping[str, Json]:
    given = given_words(tuple(words))
    secret = [p.name for p in runbook.params if p.type == "secret" and p.name in given]
    if secret:
        raise InputError(
            f"{secret[0]!r} is a secret: a run keeps the secrets that it began with",
            hint="begin a new run with another one",
        )
    return load.changed(runbook, given)


def _origin(store: Store, run: str, first: Plan, old: Plan) -> _Origin:
    documents = store.documents(run)
    kept: Kept = {
        name.partition(" ")[2]: text for name, text in documents.items() if name != "plan"
    }
    runbook = load.runbook(Path(first.file), kept=kept)
    created = next(iter(store.entries(run))).event.data
    marks = created.get("secrets")
    had = set(marks) if isinstance(marks, Mapping) else set()
    return _Origin(
        runbook=runbook,
        inventory=load.inventory(Path(first.inventory), kept=kept),
        secrets=frozenset(p.name for p in runbook.params if p.type == "secret" and p.name in had),
        history=_history(store, first, old),
        knows=as_before(store, first, old),
    )


def _history(store: Store, *plans: Plan) -> Callable[[Recall], str | None]:
    """Let recalled values be those that the run was planned with."""
    used = [a.work for plan in plans for a in plan.actions if isinstance(a.work, Recall)]

    def recall(work: Recall) -> str | None:
        same = [one.planned for one in used if replace(one, planned=None) == work]
        return same[0] if same else store.recall(work)

    return recall


def _held(plan: Plan) -> Callable[[str, Path], Expected]:
    """Let a file of expectations say what it said when the run was planned."""
    held: dict[str, list[Expected]] = {}
    for action in plan.actions:
        if isinstance(action.work, Verify):
            several = held.setdefault(action.work.file, [])
            several += [] if action.work.expected in several else [action.work.expected]

    def read(name: str, path: Path) -> Expected:
        same = held.get(name, ())
        # One name in two folders is two files: which is meant, only the folders tell.
        return same[0] if len(same) == 1 else from_file(name, path)

    return read


def _from(origin: _Origin, first: Plan) -> str | None:
    """Return the step that the run was told to begin at; refuse a plan that can't be made again."""
    position = next((action.position for action in first.actions if action.batch >= 0), None)
    made = first
    for step in (None, position):
        made = origin.plan(first, first.parameters, step)
        if made.digest == first.digest:
            return step
    raise InputError(
        "the plan of this run can't be made again from its record: "
        + "; ".join(differences(first, made)),
        hint="decide without -p, or begin a new run; files that are uploaded must be as they were,"
        " and relative paths count from where the run was begun",
    )


def _refusing(old: Plan, words: str, what: str) -> InputError:
    hint = f"begin a new run: opskit run {old.runbook} -p {words}"
    return InputError(f"with {words} {what}", hint=hint)


def _rest(old: Plan, new: Plan) -> Iterator[str]:
    """Yield what a run can't change once it has begun."""
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
