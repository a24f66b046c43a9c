"""A question that a run waits with: put to a person with what is known, and the answer recorded."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from opskit.app.answers import REASONED, meanings
from opskit.app.person import Question
from opskit.app.session import Session
from opskit.errors import Exit, InputError
from opskit.model.codec import to_json
from opskit.model.event import Event
from opskit.model.finding import Finding
from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan
from opskit.model.run import Run
from opskit.model.value import Json
from opskit.plan import EXCLUDE, acts, repeated, standing

TRIES = 3
"""How often a reason is asked for."""


@frozen
class Amended:
    """A run's plan with other values for some parameters, which are named with them.

    `hosts`: those that have the other values from here on, `kept`: those that were begun with the
    ones before and come to their end with them, `steps`: position → where its text is a new one.
    """

    plan: Plan
    parameters: Mapping[str, Json]
    hosts: Sequence[str] = ()
    kept: Sequence[str] = ()
    steps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    again: Sequence[str] = ()
    """The keys of looks that are made again, with the other values."""

    def recorded(self) -> Mapping[str, Json]:
        """Return what the record says of it, besides who decided it and which plan it is."""
        return {
            "parameters": dict(self.parameters),
            "hosts": list(self.hosts),
            "kept": list(self.kept),
            "steps": {position: list(hosts) for position, hosts in self.steps.items()},
        }


@frozen
class Answer:
    """What a person has decided, why, and by which evidence.

    `amended`: what the run is to carry out from then on, where parameters have other values.
    """

    choice: str
    reason: str = ""
    evidence: Sequence[Finding] = ()
    amended: Amended | None = None


def put(found: Run, plan: Plan, evidence: Sequence[Finding]) -> Question:
    """Put the question of a run into words: what is asked, what is known, what can be answered."""
    asked = found.question or {}
    choices = offered(found)
    why = str(asked.get("why"))
    return Question(
        text=str(asked.get("question", "")),
        why=why,
        choices=choices,
        evidence=tuple(evidence),
        meanings=meanings(
            why, choices, parameters=bool(plan.parameters), left=_last_change(found, plan)
        ),
    )


def _last_change(found: Run, plan: Plan) -> str:
    """Return the last step that has changed the host that a question is about; "" for none."""
    host = (found.question or {}).get("host")
    steps = [a.position for a in standing(plan, found.actions) if host and a.host == host]
    return plan.stages[steps[-1]].name if steps else ""


def offered(found: Run) -> tuple[str, ...]:
    """Return what can be answered to what a run asks; nothing where it asks nothing."""
    choices = (found.question or {}).get("choices")
    return tuple(str(c) for c in choices) if isinstance(choices, (list, tuple)) else ()


def answered(current: Session, found: Run) -> bool:
    """Ask the person what the run asks; True when it can go on."""
    question = found.question
    if question is None or question.get("why") == "interrupted":
        return False
    if question.get("why") == "window" and current.override:
        record(current, found, Answer(choice="override", reason=current.override))
        return True
    if not current.person.interactive:
        return False
    asked = put(found, current.plan, evidence(current, found))
    choice = current.person.ask(asked)
    if choice is None:
        return False
    reason = _reason(current, choice)
    if reason is None:
        return False
    record(current, found, Answer(choice=choice, reason=reason, evidence=asked.evidence))
    return choice != "abort"


def _reason(current: Session, choice: str) -> str | None:
    """Ask for the reason of a choice that wants one; None where none is given."""
    if choice not in REASONED:
        return ""
    for _ in range(TRIES):
        reason = (current.person.text("reason", "why? for the record") or "").strip()
        if reason:
            return reason
    current.person.tell(f"{choice} needs a reason; the question stays open")
    return None


def evidence(current: Session, found: Run) -> tuple[Finding, ...]:
    """Return what is known of what a run asks; its hosts are asked now."""
    from opskit.app.evidence import Matter, gather  # loads what asks hosts, which may be not needed

    return gather(
        Matter(
            store=current.store,
            found=found,
            plan=current.plan,
            past=current.past(),
            known=current.outside.secrets,
        )
    )


def refuse_without_reason(choice: str, reason: str) -> None:
    """Refuse an answer that has to have a reason and has none."""
    if choice in REASONED and not reason.strip():
        raise InputError(
            f"{choice!r} needs a reason: whoever reads the record will want it",
            hint="add --reason TEXT",
        )


def record(current: Session, found: Run, answer: Answer) -> None:
    """Record an answer with all that it brings with it, in one; an abort ends the run."""
    events = _events(current, found, answer)
    if answer.choice == "abort":
        events += ending(found, current.plan)
    if answer.amended is not None:
        data: Mapping[str, Json] = {"who": current.person.who, **answer.amended.recorded()}
        events += _looks(current, found, answer.amended.again)
        events = [current.journal.amend(answer.amended.plan, data, *events), *events]
    else:
        current.journal.append(*events)
    for one in counted(events):
        current.outside.watch(one)


def counted(events: Sequence[Event]) -> Iterator[Event]:
    """Yield decisions as they are shown: that of a host says of how many of its steps."""
    steps = Counter(event.host for event in events if event.kind == "decided" and event.key)
    for event in events:
        if event.kind != "decided" or event.key or not steps[event.host]:
            yield event
        else:
            yield replace(event, data={**event.data, "steps": steps[event.host]})


def _events(current: Session, found: Run, answer: Answer) -> list[Event]:
    asked = found.question or {}
    key = str(asked.get("key", ""))
    data: dict[str, Json] = {
        "who": current.person.who,
        "choice": answer.choice,
        "why": asked.get("why"),
        **({"reason": answer.reason} if answer.reason else {}),
        **({"evidence": [to_json(one) for one in answer.evidence]} if answer.evidence else {}),
        **_undoes(current.plan, key),
    }
    if asked.get("why") == "budget" and answer.choice in ("retry", EXCLUDE):
        return [*_hosts(current, found, data)]
    host = str(asked.get("host", "")) if key else ""
    step = str(asked.get("step", ""))
    return [Event(kind="decided", key=key, host=host, step=step, data=data)]


def _hosts(current: Session, found: Run, data: Mapping[str, Json]) -> list[Event]:
    """Return the answer for each host that fell out; what failed there may be done again.

    What nobody knows of is not repeated: that needs a decision of its own.
    """
    names = (found.question or {}).get("hosts")
    hosts = [str(name) for name in names] if isinstance(names, (list, tuple)) else []
    brief = {name: value for name, value in data.items() if name != "evidence"}
    events: list[Event] = []
    for number, host in enumerate(hosts):
        events.append(Event(kind="decided", host=host, data=brief if number else data))
    if data["choice"] == EXCLUDE:
        return events
    for key in repeated(current.plan, found.actions, hosts):
        record = found.actions[key]
        if record.state != "unknown":
            events.append(
                Event(kind="decided", key=key, host=record.host, step=record.step, data=brief)
            )
    return events


def _looks(current: Session, found: Run, keys: Sequence[str]) -> Iterator[Event]:
    """Yield the decisions by which looks are made again, with other values of parameters."""
    data: dict[str, Json] = {"who": current.person.who, "choice": "retry", "why": "parameters"}
    for key in keys:
        record = found.actions[key]
        yield Event(kind="decided", key=key, host=record.host, step=record.step, data=data)


def _undoes(plan: Plan, key: str) -> Mapping[str, Json]:
    """Say of the answer about an undo step what it is the undo of."""
    for action in plan.actions:
        for undo in action.undo:
            if undo.key == key:
                return {"undoes": action.key, "last": undo.last}
    return {}


def ending(found: Run, plan: Plan) -> list[Event]:
    """Return what is recorded last when a person ends a run as it stands."""
    hosts: dict[str, Json] = dict(found.hosts)
    due = [action for action in plan.actions if acts(plan, action)]
    touched = any(_sent(found, action) for action in due)
    code = Exit.FAILED if touched else Exit.REFUSED
    if "unknown" in hosts.values() and (touched or not due):
        code = Exit.UNKNOWN
    data: dict[str, Json] = {"status": "aborted", "hosts": hosts, "exit": int(code)}
    data["plan"] = plan.digest
    return [Event(kind="run ended", data=data)]


def _sent(found: Run, action: Action) -> bool:
    """Tell whether an action was begun on its target, however that ended."""
    record = found.actions.get(action.key)
    return record is not None and record.begun
