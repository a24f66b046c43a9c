"""Runs: begin one, carry it out, ask what it asks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from opskit import audit
from opskit.app import secrets as fetching
from opskit.app.admission import acquainted, beginning, waiting_for_locks
from opskit.app.answers import meanings
from opskit.app.person import Person, Question
from opskit.app.prepare import Prepared
from opskit.app.session import Session, as_recorded, session, show_tokens
from opskit.audit import Store
from opskit.errors import Exit, InputError, RefusedError
from opskit.execute import ASKED, Stop, Watcher, execute, take_back
from opskit.model.event import Entry, Event
from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan
from opskit.model.run import Run
from opskit.model.value import Json, Secret
from opskit.plan import changes, reads_only
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
) -> Run:
    """Carry out a plan; return the run as its record tells it.

    `steal`: a run whose locks are taken away from it; `patience`: how many seconds to wait for one.
    """
    plan = prepared.plan
    known = fetching.fetch(plan, prepared.secrets, settings.environ)
    connector = acquainted(plan)
    with beginning():
        store = audit.open(settings.store)
        journal = waiting_for_locks(
            lambda: store.create(
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
            ),
            patience,
            stop,
        )
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
        announce(current)
        return go_on(current)


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
        if back is not None:
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


def answered(current: Session, found: Run) -> bool:
    """Ask the person what the run asks; True when it can go on."""
    question = found.question
    if question is None or question.get("why") == "interrupted" or not current.person.interactive:
        return False
    choices = question.get("choices")
    words = tuple(str(c) for c in choices) if isinstance(choices, (list, tuple)) else ()
    asked = Question(
        text=str(question.get("question", "")),
        choices=words,
        evidence=_evidence(current, str(question.get("key", ""))),
        meanings=meanings(str(question.get("why")), words),
    )
    choice = current.person.ask(asked)
    if choice is None:
        return False
    _decided(current, question, choice, evidence=asked.evidence)
    return choice != "abort"


REASONED = ("done", "failed", "skip", "no")
"""Answers that somebody will want to know the reason of."""


def decide(
    settings: Settings,
    name: str,
    choice: str,
    person: Person,
    watch: Watcher,
    *,
    reason: str = "",
    stop: Stop | None = None,
) -> Run:
    """Answer what a run waits for, and go on with it. Whoever comes second is refused."""
    with reopened(settings, name, person, watch, stop) as current:
        found = current.store.load(current.run)
        question = found.question or {}
        offered = question.get("choices")
        choices = [str(c) for c in offered] if isinstance(offered, (list, tuple)) else []
        if not choices:
            raise InputError(
                f"run {found.id} asks nothing ({found.state})",
                hint=f"`opskit status {found.id}` shows where it is",
            )
        if choice not in choices:
            raise InputError(
                f"{choice!r} is no answer to: {question.get('question')}",
                hint=f"one of: {', '.join(choices)}",
            )
        evidence = _evidence(current, str(question.get("key", "")))
        _decided(current, question, choice, evidence=evidence, reason=reason)
        return go_on(current) if choice != "abort" else current.store.load(current.run)


def _decided(
    current: Session,
    question: Mapping[str, Json],
    choice: str,
    *,
    evidence: Sequence[str],
    reason: str = "",
) -> None:
    """Record an answer; an abort ends the run as it stands."""
    event = Event(
        kind="decided",
        key=str(question.get("key", "")),
        host=str(question.get("host", "")) if question.get("key") else "",
        step=str(question.get("step", "")),
        data={
            "who": current.person.who,
            "choice": choice,
            "why": question.get("why"),
            **({"reason": reason} if reason else {}),
            **({"evidence": list(evidence)} if evidence else {}),
            **_undoes(current.plan, str(question.get("key", ""))),
        },
    )
    events = [event]
    if choice == "abort":
        events += ending(current.store.load(current.run), current.plan)
    current.journal.append(*events)
    for one in events:
        current.outside.watch(one)


def _undoes(plan: Plan, key: str) -> Mapping[str, Json]:
    """Say of the answer about an undo step what it is the undo of."""
    for action in plan.actions:
        for undo in action.undo:
            if undo.key == key:
                return {"undoes": action.key, "last": undo.last}
    return {}


def _evidence(current: Session, key: str) -> tuple[str, ...]:
    """Return the last lines of what the action in question printed."""
    record = current.store.load(current.run).actions.get(key)
    if record is None:
        return ()
    lines: list[str] = []
    for stream in ("stdout", "stderr"):
        tail = b""
        for piece in current.store.output(current.run, key, record.attempt, stream):
            tail = (tail + piece)[-4096:]
        lines += tail.decode(errors="replace").splitlines()[-5:]
    return tuple(lines)


@contextmanager
def reopened(
    settings: Settings,
    name: str,
    person: Person,
    watch: Watcher,
    stop: Stop | None,
) -> Iterator[Session]:
    """Open an earlier run to go on with it; its plan is the one that the record has."""
    store = audit.open(settings.store)
    try:
        found = store.find(name)
        plan = store.plan(found)
        known = _secrets_again(settings, store, found, plan, person)
        with beginning():
            journal = store.reopen(
                found, who=person.who, origin=person.origin, secrets=list(known.values())
            )
    except BaseException:
        store.close()
        raise
    plan = as_recorded(plan, store.entries(found))
    with session(
        store, journal, plan, known=known, person=person, watch=watch, stop=stop
    ) as current:
        show_tokens(current)
        yield current


def _secrets_again(
    settings: Settings, store: Store, found: str, plan: Plan, person: Person
) -> Mapping[str, Secret]:
    """Get the secrets of an earlier run once more; others than those it had are refused."""
    given: dict[str, Secret] = {}
    for name in fetching.wanted(plan):
        if name not in plan.secrets and person.interactive:
            value = person.secret(name)
            if value is not None:
                given[name] = Secret(name, value)
    known = fetching.fetch(plan, given, settings.environ)
    if not store.secrets_match(found, list(known.values())):
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
    with opened(settings) as store:
        store.append(store.find(name), Event(kind="note", data={"who": person.who, "text": text}))


def abort(settings: Settings, name: str, person: Person) -> Run:
    """End a run that nobody carries out at the moment, as it stands; its locks are free then."""
    with opened(settings) as store:
        found = store.load(store.find(name))
        if found.exit is not None and found.state != "unknown":
            raise InputError(
                f"run {found.id} has ended ({found.state}); there is nothing to abort",
                hint=f"`opskit undo {found.id}` takes back what it did",
            )
        journal = store.reopen(found.id, who=person.who, origin=person.origin, secrets=[])
        with journal:
            decided: Mapping[str, Json] = {"who": person.who, "choice": "abort", "why": "asked"}
            journal.append(
                Event(kind="decided", data=decided), *ending(found, store.plan(found.id))
            )
        return store.load(found.id)


def ending(found: Run, plan: Plan) -> list[Event]:
    """Return what is recorded last when a person ends a run as it stands."""
    hosts: dict[str, Json] = dict(found.hosts)
    touched = any(changes(plan, action) and _sent(found, action) for action in plan.actions)
    code = Exit.FAILED if touched else Exit.REFUSED
    code = Exit.UNKNOWN if "unknown" in hosts.values() else code
    data: dict[str, Json] = {"status": "aborted", "hosts": hosts, "exit": int(code)}
    return [Event(kind="run ended", data=data)]


def _sent(found: Run, action: Action) -> bool:
    """Tell whether an action was begun on its target, however that ended."""
    record = found.actions.get(action.key)
    begun = record is not None and record.state not in ("planned", "skipped")
    return begun and record is not None and record.data.get("sent") is not False
