"""What was asked for → what will be done: files, parameters, plan."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

from opskit import audit, load
from opskit.app import find
from opskit.app.admission import beginning
from opskit.app.person import Person
from opskit.app.reports import by_record, compared
from opskit.errors import InputError, RefusedError, writing
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.frozen import frozen
from opskit.model.inventory import Inventory
from opskit.model.payouts import Report
from opskit.model.plan import Plan
from opskit.model.runbook import Param, Runbook
from opskit.model.value import Json, Secret
from opskit.model.work import FileRef, Recall, Upload
from opskit.plan.make import make, seal
from opskit.settings import Settings


@frozen
class Ask:
    """What a person typed: runbook, inventory, parameters as `name=value`, what to leave out."""

    runbook: str
    inventory: str | None = None
    params: tuple[str, ...] = ()
    params_file: Path | None = None
    limit: str | None = None
    from_step: str | None = None


@frozen
class Prepared:
    """A plan with what it was made from. `secrets` are the secret parameters."""

    runbook: Runbook
    inventory: Inventory
    plan: Plan
    secrets: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def durations(self) -> frozenset[str]:
        """The parameters that are durations: a plan has their seconds."""
        return frozenset(param.name for param in self.runbook.params if param.type == "duration")

    def documents(self) -> Mapping[str, str]:
        """Return the texts that the record of a run keeps beside its events."""
        return {
            **{f"runbook {name}": text for name, text in self.runbook.sources.items()},
            f"inventory {self.inventory.file}": self.inventory.source,
            **{f"inventory {name}": text for name, text in self.inventory.others.items()},
        }


def prepare(settings: Settings, ask: Ask, person: Person) -> Prepared:
    """Load what was named, take the parameters, make the plan. Touches no host."""
    runbook = find.show(settings, ask.runbook)
    inventory = find.inventory(settings, ask.inventory)
    parameters = load.parameters(
        runbook,
        given_words(ask.params),
        ask.params_file,
        settings.environ,
        _asker(person) if person.interactive else None,
    )
    with _recorded(settings) as record:

        def recall(work: Recall) -> str | None:
            store = record()
            return store.recall(work) if store is not None else None

        def knows(report: Report) -> bool:
            store = record()
            return store is not None and by_record(store)(report)

        plan = make(
            runbook,
            inventory,
            parameters.public,
            secrets=frozenset(parameters.secrets),
            limit=ask.limit,
            from_step=ask.from_step,
            files=describe,
            history=recall,
        )
        plan = compared(plan, knows)
    return Prepared(runbook=runbook, inventory=inventory, plan=plan, secrets=parameters.secrets)


@contextmanager
def _recorded(settings: Settings) -> Iterator[Callable[[], audit.Store | None]]:
    """Give what opens the record when it is first wanted; None where there is none yet."""
    opened: list[audit.Store] = []

    def record() -> audit.Store | None:
        if not opened and audit.exists(settings.store):
            with beginning():
                opened.append(audit.open(settings.store))
        return opened[0] if opened else None

    try:
        yield record
    finally:
        for store in opened:
            store.close()


def given_words(words: tuple[str, ...]) -> Mapping[str, str]:
    """Split `name=value` words; a name given twice is refused, since one of them is a mistake."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"-p {name!r} has no value", hint="write -p name=value")
        if name in given:
            raise InputError(f"-p {name} is given twice", hint="give it once")
        given[name] = value
    return given


def _asker(person: Person) -> Callable[[Param, str], str]:
    def ask(param: Param, wrong: str) -> str:
        if wrong:
            person.tell(wrong)
        secret = param.type == "secret"
        given = person.secret(param.name) if secret else person.text(param.name, param.help)
        if given is None:
            raise InputError(f"the parameter {param.name!r} was not given", hint="use -p or a file")
        return given

    return ask


def describe(path: Path) -> FileRef:
    """Look at a file beside the person who runs: size and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRef(path=str(path.resolve()), size=file.tell(), sha256=digest)


def save_plan(prepared: Prepared, path: Path) -> None:
    """Write a plan to a file, for `run --plan`."""
    with writing(path):
        path.write_bytes(canonical(to_json(prepared.plan)) + b"\n")


def check_plan(prepared: Prepared, path: Path) -> None:
    """Refuse unless the plan in a file is exactly the one at hand; name what is different."""
    saved = _read_plan(path)
    if seal(saved).digest != saved.digest:
        raise InputError(
            "this plan was edited: its digest is not that of its content",
            where=str(path),
            hint="change the runbook or the parameters instead, and save the plan again with -o",
        )
    if saved.digest != prepared.plan.digest:
        changes = "; ".join(differences(saved, prepared.plan))
        raise RefusedError(
            f"the plan has changed since it was saved: {changes}",
            where=str(path),
            hint="look at it with `opskit plan` and save it again with -o",
        )


def _read_plan(path: Path) -> Plan:
    try:
        return from_json(Plan, parse(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        said = (error.strerror if isinstance(error, OSError) else str(error)) or "it is damaged"
        raise InputError(
            f"no plan can be read from it: {said}",
            where=str(path),
            hint="save one with `opskit plan … -o FILE`",
        ) from error


def differences(old: Plan, new: Plan) -> list[str]:
    """Name what differs between two plans, most telling first."""
    found = []
    for name in ("runbook", "version", "max_failures", "on_failure", "locks"):
        if getattr(old, name) != getattr(new, name):
            found.append(f"{name} {getattr(old, name)!r} is now {getattr(new, name)!r}")
    if old.batches != new.batches:
        sizes = [", ".join(str(len(batch)) for batch in plan.batches) for plan in (old, new)]
        found.append(f"batches of {sizes[0]} hosts are now of {sizes[1]}, or of other hosts")
    found += _keys("parameter", old.parameters, new.parameters)
    found += _keys("host", _plain(old.hosts), _plain(new.hosts))
    found += _keys("secret", _plain(old.secrets), _plain(new.secrets))
    found += _keys("file", old.sources, new.sources)
    found += _keys("file", _uploads(old), _uploads(new))
    return [*found, *_actions(old, new)] or ["how its steps are carried out"]


def _actions(old: Plan, new: Plan) -> Iterator[str]:
    """Count the actions that are not the same, and name the first of each sort."""
    before, after = ({a.key: a for a in plan.actions} for plan in (old, new))
    sorts = {
        "gone": [a for a in old.actions if a.key not in after],
        "new": [a for a in new.actions if a.key not in before],
        "changed": [a for a in new.actions if before.get(a.key, a) != a],
    }
    for sort, actions in sorts.items():
        if actions:
            first = (old if sort == "gone" else new).stage(actions[0]).name
            count = f"{len(actions)} actions are" if len(actions) > 1 else "1 action is"
            yield f"{count} {sort} ({first!r} on {actions[0].target})"
    if not any(sorts.values()) and [*before] != [*after]:
        yield "the actions come in another order"


def _uploads(plan: Plan) -> Mapping[str, Json]:
    """Return the digest of every file that a plan brings to a host."""
    works = [a.work for a in plan.actions if isinstance(a.work, Upload)]
    return {w.content.path: w.content.sha256 for w in works if isinstance(w.content, FileRef)}


def _plain(values: Mapping[str, object]) -> Mapping[str, Json]:
    return {name: to_json(value) for name, value in values.items()}


def _keys(what: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> list[str]:
    found = []
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            found.append(f"{what} {name} is gone")
        elif name not in old:
            found.append(f"{what} {name} is new")
        elif old[name] != new[name]:
            found.append(f"{what} {name} has changed")
    return found
