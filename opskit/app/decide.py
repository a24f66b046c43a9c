"""Decide what a run waits for: look at it first, then answer, then go on with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from opskit.app import secrets as fetching
from opskit.app.admission import approved
from opskit.app.again import left_unknown, refuse_driven
from opskit.app.amend import amended
from opskit.app.deciding import (
    Amended,
    Answer,
    evidence,
    offered,
    put,
    record,
    refuse_without_reason,
)
from opskit.app.person import Person, Question
from opskit.app.record import once_clear
from opskit.app.runs import go_on, opened, reopened
from opskit.app.session import Session, as_recorded
from opskit.audit import Store
from opskit.errors import InputError, OpskitError
from opskit.execute import Stop, Watcher
from opskit.model.frozen import frozen
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.model.value import Secret
from opskit.settings import Settings
from opskit.view import amounts


@frozen
class Open:
    """A run with the question that it waits for."""

    run: Run
    question: Question


def question(settings: Settings, name: str) -> Open:
    """Return what a run waits for and what is known of it, and leave it as it is.

    Its hosts are only looked at. It is refused where somebody else is about to answer.
    """
    from opskit.app.evidence import Matter, gather  # loads what asks hosts

    with opened(settings) as store:
        found = once_clear(store, store.find(name))
        _refuse_driven(store, found)
        _refuse_unasked(store, found)
        past = list(store.entries(found.id))
        plan = as_recorded(store.plan(found.id), past)
        known = _secrets(settings, plan)
        matter = Matter(store=store, found=found, plan=plan, past=past, known=known)
        return Open(run=found, question=put(found, plan, gather(matter)))


def refuse_unasked(settings: Settings, name: str, *, steal: str = "") -> None:
    """Refuse to answer a run that asks nothing, or that another process carries out.

    `steal`: its id, where it is to be taken from that process.
    """
    with opened(settings) as store:
        run = store.find(name)
        if steal != run:
            _refuse_driven(store, once_clear(store, run))
        _refuse_unasked(store, store.load(run))


def _refuse_driven(store: Store, found: Run) -> None:
    """Refuse what another process has taken, also where it has recorded nothing of that yet."""
    driver = store.driver(found.id)
    refuse_driven(replace(found, driver=driver.words) if driver is not None else found)


def _secrets(settings: Settings, plan: Plan) -> Mapping[str, Secret]:
    """Get secrets that a look may need; where they can't be had the look says so."""
    try:
        return fetching.fetch(plan, {}, settings.environ)
    except OpskitError:
        return {}


def decide(
    settings: Settings,
    seen: Run,
    answer: Answer,
    person: Person,
    watch: Watcher,
    *,
    show: Callable[[Open], None],
    words: Sequence[str] = (),
    stop: Stop | None = None,
    steal: str = "",
) -> Run:
    """Answer what a run waits for, and go on with it. Whoever comes second is refused.

    `seen`: the run as it stood when the answer was given: another question than it asked then is
    not answered, whoever may have the run in between. `words`: parameters that a retry is to have
    other values of, as name=value. What is known of the matter is passed to `show` before the
    answer is recorded. `steal`: as in `resume`.
    """
    with opened(settings) as store:
        found = store.load(seen.id)
        if not found.driver:  # else that is said first
            _refuse_unasked(store, found)
    refuse_without_reason(answer.choice, answer.reason)
    with reopened(settings, seen.id, person, watch, stop, steal=steal) as current:
        found = current.store.load(current.run)
        _refuse_unasked(current.store, found)
        _refuse_unseen(current.store, found, seen)
        _refuse_unoffered(found, answer.choice)
        new = _amended(current, found, answer.choice, words, settings)
        known = evidence(current, found)
        show(Open(run=found, question=put(found, current.plan, known)))
        whole = Answer(
            choice=answer.choice,
            reason=answer.reason,
            evidence=known,
            amended=new,
        )
        record(current, found, whole)
        if new is not None:
            current.plan = as_recorded(new.plan, current.past())
        return go_on(current) if answer.choice != "abort" else current.store.load(current.run)


def _amended(
    current: Session, found: Run, choice: str, words: Sequence[str], settings: Settings
) -> Amended | None:
    """Return the plan of the run with other parameters, where some are given."""
    if not words:
        return None
    asked = found.question or {}
    key = str(asked.get("key", ""))
    if choice != "retry" or not key or "!" in key:
        raise InputError(
            "-p is for the retry of a step: nothing else is done with other parameters",
            hint="leave it out, or begin a new run with it",
        )
    new = amended(current.store, current.run, words, found.actions, key)
    if new is not None:
        approved(new.plan, current.person.who, settings.environ)
    return new


def _refuse_unasked(store: Store, found: Run) -> None:
    """Refuse to answer where nothing is asked; say who has answered, if somebody has."""
    if offered(found):
        return
    said = "".join(f"; {words}" for words in _answers(store, found)[-1:])
    goes_on = found.exit is None or found.state == "unknown"
    hint = f"`opskit resume {found.id}` goes on with it" if goes_on else (
        f"`opskit status {found.id}` shows where it is"
    )  # fmt: skip
    if left_unknown(store.plan(found.id), found):
        hint = f"`opskit resume {found.id}` asks what became of the unknown changes, no more"
    raise InputError(f"run {found.id} asks nothing ({found.state}){said}", hint=hint)


def _refuse_unseen(store: Store, found: Run, seen: Run) -> None:
    """Refuse to give an answer to another question than it is for; say who answered that one."""
    answers = _answers(store, found, after=seen.asked or seen.entries)
    if not answers and found.question == seen.question:
        return
    said = f"run {found.id} asked nothing when this answer was given"
    if offered(seen):
        said = "the question that this is for "
        said += f"was answered before: {answers[0]}" if answers else "is not asked any more"
    raise InputError(
        f"{said}; run {found.id} asks now: {(found.question or {}).get('question')}",
        hint=f"nothing was answered; `opskit decide {found.id}` shows what is known of it",
    )


def _answers(store: Store, found: Run, after: int = 0) -> list[str]:
    """Return who has answered what, in their order; only what came `after` that entry."""
    return [
        f"{entry.event.data.get('who')} answered {entry.event.data.get('choice')!r}"
        f" at {amounts.moment(entry.at)}"
        for entry in store.entries(found.id)
        if entry.event.kind == "decided" and entry.number > after
    ]


def _refuse_unoffered(found: Run, choice: str) -> None:
    choices = offered(found)
    if choice not in choices:
        asked = found.question or {}
        raise InputError(
            f"{choice!r} is no answer to: {asked.get('question')}",
            hint=f"one of: {', '.join(choices)}",
        )
