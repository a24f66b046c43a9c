"""Runs: begin one, carry it out, ask what it asks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from opskit import audit
from opskit.app import secrets as fetching
from opskit.app.admission import acquainted, approved, beginning, in_hours, waiting_for_locks
from opskit.app.deciding import answered, ending
from opskit.app.person import Person
from opskit.app.prepare import Prepared
from opskit.app.session import (
    Session,
    as_recorded,
    session,
    show_newer,
    show_tokens,
    targets_of,
)
from opskit.audit import Journal, Store
from opskit.errors import InputError, RefusedError
from opskit.execute import ASKED, Stop, Watcher, clear, execute, take_back
from opskit.model.event import Entry, Event
from opskit.model.frozen import frozen
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.model.value import Json, Secret
from opskit.plan import reads_only
from opskit.settings import Settings


def run(
    settings: Settings,
    prepared: Prepared,
    person: Person,
    watch: Watcher,
    *,
    reason: str = "",
    pause_after_batch: bool = False,
    command: str = "",
    kind: str = "run",
    stop: Stop | None = None,
    steal: str = "",
    patience: float = 0.0,
    override: str = "",
) -> Run:
    """Carry out a plan; return the run as its record tells it.

    `steal`: a run whose locks are taken away from it; `patience`: how many seconds to wait for one.
    `override`: why it is carried out also where no change window is open, now or later.
    """
    plan = prepared.plan
    needed = in_hours(plan, override)
    known = fetching.fetch(plan, prepared.secrets, settings.environ)
    connector = acquainted(plan)
    approved(plan, person.who, settings.environ)
    with beginning():
        store = audit.open(settings.store)
        store.attend(lambda _: None, lambda: stop is not None and stop.pressed)
        begun = partial(_begun, store, settings, prepared, person, known)
        create = partial(
            begun, kind=kind, reason=reason, command=command, steal=steal, override=needed
        )
        journal = waiting_for_locks(create, patience, stop)
    with session(
        store,
        journal,
        plan,
        known=known,
        person=person,
        watch=watch,
        stop=stop,
        connector=connector,
        steal=steal,
    ) as current:
        current.pause_after_batch = pause_after_batch
        current.override = override.strip()
        show_tokens(current, steal)
        announce(current)
        return go_on(current)


def _begun(
    store: Store,
    settings: Settings,
    prepared: Prepared,
    person: Person,
    known: Mapping[str, Secret],
    *,
    kind: str,
    reason: str,
    command: str,
    steal: str,
    override: str,
) -> Journal:
    plan = prepared.plan
    return store.create(
        plan,
        kind=kind,
        who=person.who,
        origin=person.origin,
        reason=reason,
        command=command,
        documents=prepared.documents(),
        locks=() if reads_only(plan) else plan.locks,
        secrets=list(known.values()),
        steal=steal or None,
        instead_of=audit.location(settings.instead),
        override=override,
    )


def announce(current: Session) -> None:
    """Let the watcher see how the run began: its first line carries the id."""
    for entry in current.past():
        data: Mapping[str, Json] = {"run": current.run, **entry.event.data}
        current.outside.watch(replace(entry.event, data=data))


def go_on(current: Session) -> Run:
    """Execute until the run has ended or nobody is there to answer its question."""
    while True:
        past = current.past()
        back = undo_under_way(past)
        if back is None and ended_by_person(past):
            state = clear(current.plan, past, current.outside, current.facts())
            if state != "waiting":
                end_again(current)
        elif back is not None:
            state = take_back(current.plan, past, current.outside, current.facts(), back.hosts)
        else:
            state = execute(
                current.plan,
                past,
                current.outside,
                current.facts(),
                pause_after_batch=current.pause_after_batch,
            )
        found = current.store.load(current.run)
        if state != "waiting":
            return found
        if not answered(current, found):
            return current.store.load(current.run)


def ended_by_person(past: Sequence[Entry]) -> bool:
    """Tell whether a person has ended the run, and nobody wanted more of it since then."""
    for entry in reversed(past):
        kind = entry.event.kind
        if kind == "undo began" or (kind == "decided" and "hosts" in entry.event.data):
            return False
        if kind == "run ended":
            return entry.event.data.get("status") == "aborted"
    return False


def end_again(current: Session) -> None:
    """Record the end of a run that a person has ended before, by what is known of it now."""
    events = ending(current.store.load(current.run), current.plan)
    current.journal.append(*events)
    for event in events:
        current.outside.watch(event)


@frozen
class Back:
    """An undo that a person asked for; `hosts` None: of everything."""

    hosts: Sequence[str] | None


def undo_under_way(past: Sequence[Entry]) -> Back | None:
    """Return the undo that a person asked for and that has not come to its end."""
    for entry in reversed(past):
        data = entry.event.data
        if entry.event.kind == "run ended" or ("hosts" in data and entry.event.kind == "decided"):
            return None  # it came to its end, or a person wanted a retry instead
        if entry.event.kind == "undo began" and data.get("why") == ASKED:
            only = data.get("only")
            return Back(hosts=list(map(str, only)) if isinstance(only, (list, tuple)) else None)
    return None


@contextmanager
def reopened(
    settings: Settings,
    name: str,
    person: Person,
    watch: Watcher,
    stop: Stop | None,
    *,
    steal: str = "",
) -> Iterator[Session]:
    """Open an earlier run to go on with it; its plan is the one that the record has.

    `steal`: its id, where it is to be taken from the process that carries it out.
    """
    store = audit.open(settings.store)
    try:
        found = store.find(name)
        refuse_other(found, steal)
        store.attend(
            lambda text: watch(Event(kind="message", data={"text": text})),
            lambda: stop is not None and stop.pressed,
        )
        plan = store.plan(found)
        known = _secrets_again(settings, store, found, plan, person)
        with beginning():
            journal = store.reopen(
                found,
                who=person.who,
                origin=person.origin,
                secrets=list(known.values()),
                steal=steal or None,
            )
    except BaseException:
        store.close()
        raise
    # Until now somebody else may have had the run, and given it another plan.
    plan = as_recorded(store.plan(found), store.entries(found))
    with session(
        store, journal, plan, known=known, person=person, watch=watch, stop=stop
    ) as current:
        show_tokens(current)
        yield current


def refuse_other(run: str, steal: str) -> None:
    """Refuse to take a run whose id was not typed: `--steal` is no habit."""
    if steal and steal != run:
        raise InputError(
            f"this is run {run}, and --steal names {steal!r}",
            hint=f"only if nothing else helps: --steal {run}",
        )


def _secrets_again(
    settings: Settings, store: Store, found: str, plan: Plan, person: Person
) -> Mapping[str, Secret]:
    """Get the secrets of an earlier run once more; others than those it had are refused."""
    given: dict[str, Secret] = {}
    used = fetching.wanted(plan)
    for name in used:
        if name not in plan.secrets and person.interactive:
            value = person.secret(name)
            if value is not None:
                given[name] = Secret(name, value)
    known = fetching.fetch(plan, given, settings.environ)
    if not store.secrets_match(found, list(known.values()), used=used):
        raise RefusedError(
            f"run {found} had other values of its secrets",
            hint="give it the same ones, or begin a new run",
        )
    return known


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open the record, and close it again."""
    store = audit.open(settings.store)
    try:
        yield store
    finally:
        store.close()


def note(settings: Settings, name: str, text: str, person: Person) -> None:
    """Add a remark to the record of a run, also while it is under way."""
    if not text.strip():
        raise InputError("the note is empty", hint="write what is to be remembered")
    with opened(settings) as store:
        store.append(store.find(name), Event(kind="note", data={"who": person.who, "text": text}))


def abort(settings: Settings, name: str, person: Person, *, steal: str = "") -> Run:
    """End a run that nobody carries out at the moment, as it stands; its locks are free then.

    `steal`: its id, where it is to be taken from the process that carries it out.
    """
    with opened(settings) as store:
        found = store.load(store.find(name))
        refuse_other(found.id, steal)
        _refuse_ended(found)
        with store.reopen(
            found.id, who=person.who, origin=person.origin, steal=steal or None
        ) as journal:
            # Until now somebody else may have had the run: ended it, or given it another plan.
            found, plan = store.load(found.id), store.plan(found.id)
            _refuse_ended(found)
            if journal.displaced:
                _overtake(store, journal, plan, person)
            decided: Mapping[str, Json] = {"who": person.who, "choice": "abort", "why": "asked"}
            journal.append(Event(kind="decided", data=decided), *ending(found, plan))
        return store.load(found.id)


def _refuse_ended(found: Run) -> None:
    if found.exit is not None and found.state != "unknown":
        raise InputError(
            f"run {found.id} has ended ({found.state}); there is nothing to abort",
            hint=f"`opskit undo {found.id}` takes back what it did",
        )


def _overtake(store: Store, journal: Journal, plan: Plan, person: Person) -> None:
    """Let a process that was cut off begin nothing more on the hosts of its run."""
    if reads_only(plan) or not plan.locks:
        return
    past = list(store.entries(journal.run))
    plan = as_recorded(plan, past)
    targets = targets_of(store, journal, plan, {}, about=person.who)
    try:
        show_newer(targets, past)
    finally:
        targets.close(keep=plan.hosts, unread=plan.hosts)
