"""Runs that have begun: go on with one, try hosts again, take back."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby

from opskit.app.deciding import answered, counted
from opskit.app.person import Person
from opskit.app.runs import end_again, ended_by_person, go_on, reopened
from opskit.app.session import Session
from opskit.audit.fold import SHARED
from opskit.errors import InputError, RefusedError
from opskit.execute import LEFT, Stop, Watcher, settle, take_back
from opskit.execute.fall import harmless
from opskit.execute.late import LateError, fill_work, holds
from opskit.model.event import Event
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord, Run
from opskit.model.value import Json
from opskit.plan import closing, concerned, failed_undos, repeated
from opskit.settings import Settings


def resume(
    settings: Settings,
    name: str,
    person: Person,
    watch: Watcher,
    *,
    stop: Stop | None = None,
    asking: bool = False,
    steal: str = "",
) -> Run:
    """Go on with a run that was interrupted or that waits for an answer.

    Of one that a person has ended only what is unknown is settled.

    `asking`: to answer it; then a run that only pauses is not gone on with unasked. `steal`, here
    and below: the run's id, where it is to be taken from whoever carries it out.
    """
    with reopened(settings, name, person, watch, stop, steal=steal) as current:
        found = current.store.load(current.run)
        over = found.state in ("succeeded", "undone", "aborted", "failed")
        if over and not left_unknown(current.plan, found):
            raise InputError(
                f"run {found.id} has ended ({found.state}); there is nothing to resume",
                hint=f"`opskit retry {found.id} --hosts failed,unknown,not-started` does again what"
                " failed or is not known"
                if found.state == "failed"
                else f"`opskit report {found.id}` shows what it did",
            )
        if any(entry.event.data.get("status") == "unknown" for entry in current.past()):
            current.plan = asked_of(current.plan)  # it has ended once without asking
        if found.state == "unknown":
            _follow(current, found)
        why = found.question.get("why") if found.question else "interrupted"
        first = why not in _NOT_ASKED_FIRST or (asking and why in ("pause", "window"))
        if first and not answered(current, found):
            return current.store.load(current.run)
        return go_on(current)


_NOT_ASKED_FIRST = ("interrupted", "pause", "unknown", "window", LEFT)
"""Where a run stands that a resume goes on with: of what is unknown the hosts are asked first, and
whether a change window is open the clock."""


def asked_of(plan: Plan) -> Plan:
    """Let a plan ask what became of unknown changes, also where it would go on without."""
    stages = {
        position: replace(stage, on_unknown="ask") if stage.on_unknown == "fail" else stage
        for position, stage in plan.stages.items()
    }
    return replace(plan, stages=stages)


def retry(
    settings: Settings,
    name: str,
    hosts: Sequence[str],
    person: Person,
    watch: Watcher,
    *,
    stop: Stop | None = None,
    steal: str = "",
) -> Run:
    """Do again, in the same run, what failed or was taken back on these hosts, and what is left.

    `hosts` are names, or the words failed, unreachable, unknown, undone, not-started, excluded.
    Other hosts are left as they are.
    """
    with reopened(settings, name, person, watch, stop, steal=steal) as current:
        chosen = select_hosts(current.store.load(current.run), hosts)  # as the person saw them
        found = _settled(current)
        keys = repeated(current.plan, found.actions, chosen)
        events = [
            Event(
                kind="decided",
                host=host,
                data={"who": person.who, "choice": "retry", "hosts": list(chosen)},
            )
            for host in chosen
        ]
        events += [
            Event(
                kind="decided",
                key=key,
                host=found.actions[key].host,
                step=found.actions[key].step,
                data={"who": person.who, "choice": "retry"},
            )
            for key in keys
        ]
        done = [key for key in closing(current.plan, found.actions, chosen) if key not in keys]
        events += _once_more(found, done, person)
        current.journal.append(*events)
        for event in counted(events):
            current.outside.watch(event)
        return go_on(current)


def _follow(current: Session, found: Run) -> None:
    """Let what comes at the end of a run come after what is done now, too."""
    done = closing(current.plan, found.actions)
    if done:
        events = [*_once_more(found, done, current.person)]
        current.journal.append(*events)
        for event in events:
            current.outside.watch(event)


def _once_more(found: Run, keys: Sequence[str], person: Person) -> Iterator[Event]:
    """Yield the decisions by which what comes at the end of a run comes after more work, too."""
    data: dict[str, Json] = {"who": person.who, "choice": "retry", "why": "always"}
    for key in keys:
        record = found.actions[key]
        yield Event(kind="decided", key=key, host=record.host, step=record.step, data=data)


def _settled(current: Session) -> Run:
    """Ask the hosts first what became of changes that were lost from sight; return the run then.

    What still runs there comes to its end before anything is repeated or taken back.
    """
    settle(current.plan, current.past(), current.outside, current.facts())
    return current.store.load(current.run)


def heard_of(
    settings: Settings,
    name: str,
    person: Person,
    watch: Watcher,
    *,
    stop: Stop | None = None,
    steal: str = "",
) -> Run:
    """Ask the hosts of a run what became of changes that were lost from sight, and no more."""
    with reopened(settings, name, person, watch, stop, steal=steal) as current:
        found = _settled(current)
        if ended_by_person(current.past()):
            end_again(current)
            found = current.store.load(current.run)
        return found


def select_hosts(found: Run, words: Sequence[str]) -> list[str]:
    """Return the hosts of a run that are named, or whose state is named; none is refused.

    Hosts that were begun are also meant by "not started": what they lack was not started. Those
    that could not be reached or taken back are also meant by "failed".
    """
    states = {word.replace("-", " ") for word in words}
    for word, more in _ALSO.items():
        states |= more if word in states else set()
    chosen = [h for h, state in found.hosts.items() if h in words or state in states]
    unknown = [w for w in words if w not in found.hosts and w.replace("-", " ") not in _STATES]
    if unknown or not chosen:
        standing = ", ".join(f"{host}: {state}" for host, state in found.hosts.items())
        what = f"run {found.id} has no host or state {unknown[0]!r}" if unknown else (
            f"no host of run {found.id} is {' or '.join(words)}"
        )  # fmt: skip
        raise InputError(what, hint=f"its hosts: {standing}")
    return chosen


_STATES = {
    "failed", "unreachable", "unknown", "undone", "undo failed", "not started", "begun", "done",
    "excluded",
}  # fmt: skip
_ALSO = {"failed": {"unreachable", "undo failed"}, "not started": {"begun"}}


def undo(
    settings: Settings,
    name: str,
    person: Person,
    watch: Watcher,
    hosts: Sequence[str] | None = None,
    *,
    stop: Stop | None = None,
    steal: str = "",
) -> Run:
    """Take back what a run did, on all its hosts or on some."""
    with reopened(settings, name, person, watch, stop, steal=steal) as current:
        found = _settled(current)
        chosen = select_hosts(found, hosts) if hosts else None
        refuse_undo(current.plan, found, chosen)
        for again in _tried_again(current.plan, found, chosen, person):
            current.journal.append(again)
            current.outside.watch(again)
        state = take_back(current.plan, current.past(), current.outside, current.facts(), chosen)
        if state == "waiting" and answered(current, current.store.load(current.run)):
            return go_on(current)
        return current.store.load(current.run)


def _tried_again(
    plan: Plan, found: Run, hosts: Sequence[str] | None, person: Person
) -> Iterator[Event]:
    """Yield the decisions that asking for an undo once more stands for.

    What could not be reached then may be there now, and an undo that failed may work.
    """
    data: dict[str, Json] = {"who": person.who, "choice": "retry"}
    for host in found.unreachable:
        yield Event(kind="decided", host=host, data=data)
    for key in failed_undos(plan, found.actions, hosts):
        record = found.actions[key]
        yield Event(kind="decided", key=key, host=record.host, step=record.step, data=data)


def foreseen(back: Plan, found: Run) -> Plan:
    """Write out an undo as far as the record of the run allows: saved values, and what is skipped.

    Only for showing it: the executor does the same when it comes to each action.
    """
    actions: list[Action] = []
    for action in back.actions:
        values = _known(back, action, found)
        with suppress(LateError):
            if action.when is not None and not holds(action.when, values):
                continue
            action = replace(action, when=None, work=fill_work(action.work, values))
        actions.append(action)
    order = {host: number for number, host in enumerate(back.hosts)}
    waves = groupby(actions, key=lambda a: (a.batch, a.position, a.since))
    shown = (a for _, wave in waves for a in sorted(wave, key=lambda a: order.get(a.host, -1)))
    return replace(back, actions=tuple(shown))


def _known(plan: Plan, action: Action, found: Run) -> Mapping[str, Json]:
    """Return what the texts of an action may use, as far as the run's record has it."""
    kept = {**found.saved.get(SHARED, {}), **found.saved.get(action.host, {})}
    names = plan.stage(action).names
    kept |= {name: kept[stored] for name, stored in names.items() if stored in kept}
    facts = {"id": found.id, "user": found.who, "reason": found.reason}
    return {**kept, "run": facts}


def refuse_driven(found: Run) -> None:
    """Refuse what another process is carrying out: nothing that is said of it holds for long."""
    if found.driver:
        raise RefusedError(
            f"run {found.id} is being carried out right now by {found.driver}",
            hint=f"wait for it; `opskit status {found.id}` shows where it is; if that process"
            f" hangs or is cut off, `--steal {found.id}` takes its place",
        )


def refuse_undo(plan: Plan, found: Run, hosts: Collection[str] | None) -> None:
    """Refuse to take back what nobody knows enough about yet."""
    refuse_driven(found)
    open_ = unsettled(plan, found, hosts)
    if open_:
        raise RefusedError(
            f"nobody knows yet what became of a change on {', '.join(open_)}",
            hint=_to_settle(found),
        )


def _to_settle(found: Run) -> str:
    """Say how a person settles what the hosts can't tell, where all is to be taken back."""
    first = "settle that first: "
    if found.state != "aborted":
        first += f"`opskit abort {found.id}` lets nothing more of the run be done, then "
    return f"{first}`opskit resume {found.id}` only asks the hosts, then you"


def left_unknown(plan: Plan, found: Run) -> bool:
    """Tell whether a person has ended a run without knowing what became of something of it."""
    if found.state != "aborted":
        return False
    every = (one for action in plan.actions for one in (action, *action.undo))
    return any(_in_doubt(plan, found, action) for action in every)


def _in_doubt(plan: Plan, found: Run, action: Action) -> bool:
    """Tell whether nobody knows how an action went; a read that was cut short is no matter."""
    record = found.actions.get(action.key)
    if record is None:
        return False
    return record.state == "unknown" or (record.state == "started" and not harmless(plan, action))


def unsettled(plan: Plan, found: Run, hosts: Collection[str] | None) -> list[str]:
    """Return the hosts (of these; None: of all) with a change that may or may not have happened."""
    return _where(plan, found, hosts, lambda record: record.state in ("unknown", "started"))


def unheard_of(plan: Plan, found: Run, hosts: Collection[str] | None) -> list[str]:
    """Return those of them where the target itself may know how that change went.

    None of a run that ended like that: it has let go of its locks, and stays ended until a resume.
    """
    if found.exit is not None and found.state != "aborted":
        return []
    return _where(plan, found, hosts, _lost)


def _lost(record: ActionRecord) -> bool:
    return record.state == "started" or (
        record.state == "unknown" and record.data.get("lost") is True
    )


def _where(
    plan: Plan, found: Run, hosts: Collection[str] | None, what: Callable[[ActionRecord], bool]
) -> list[str]:
    where: set[str] = set()
    for action in plan.actions:
        record = found.actions.get(action.key)
        if record is not None and what(record) and plan.stage(action).effect == "change":
            where |= set(concerned(plan, action))
    return sorted(where if hosts is None else where & set(hosts))
