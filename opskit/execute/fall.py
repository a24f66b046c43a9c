"""How hosts fall out of a run: what the state of an action means for the hosts that it is for."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from opskit.execute.book import Book
from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord, HostState
from opskit.model.runbook import OnFailure
from opskit.model.work import Command, Wait, Work
from opskit.plan import concerned


@frozen
class Fall:
    """How a host fell out of the run, and what its rules say about that."""

    state: HostState
    policy: OnFailure


def policy(plan: Plan, action: Action) -> OnFailure:
    """Return what follows when an action fails."""
    return plan.stage(action).on_failure or plan.on_failure


def harmless(plan: Plan, action: Action) -> bool:
    """Tell whether an action whose outcome is missing may simply be done again."""
    return isinstance(action.work, Wait) or plan.stage(action).effect == "read"


def is_lost(plan: Plan, book: Book, action: Action) -> bool:
    """Tell whether the host may know how a change went, although the record does not."""
    record = book.records.get(action.key)
    if record is None or harmless(plan, action):
        return False
    return record.state == "started" or (
        record.state == "unknown" and record.data.get("lost") is True
    )


def unsent(record: ActionRecord | None) -> bool:
    """Tell whether an attempt never reached its target, for want of a connection."""
    if record is None or record.state != "failed":
        return False
    return record.data.get("unreachable") is True and record.data.get("sent") is False


def is_gate(work: Work) -> bool:
    """Tell whether a work only watches, though it is carried like a change: it says a verdict."""
    return isinstance(work, Command) and work.verdict


def verdict_of(record: ActionRecord | None) -> str:
    """Return how a gate ended: pass, fail, inconclusive; "" for what is none."""
    evidence = record.data.get("evidence") if record is not None else None
    return str(evidence.get("verdict", "")) if isinstance(evidence, Mapping) else ""


def stopped(record: ActionRecord) -> bool:
    """Tell whether a person stopped what failed."""
    evidence = record.data.get("evidence")
    return isinstance(evidence, Mapping) and "stopped" in evidence


def unfinished(plan: Plan, action: Action, record: ActionRecord) -> bool:
    """Tell whether what failed may be tried again: a stop came before its next try, or ended it."""
    if record.state != "failed":
        return False
    return bool(record.data.get("tries_left")) or (stopped(record) and harmless(plan, action))


def verdict(plan: Plan, book: Book, action: Action) -> HostState | None:
    """Return how hosts fall out by where one of their actions stands; None: they don't."""
    state = book.state(action)
    match state:
        case "succeeded" | "skipped":
            return None
        case "planned":
            return "unreachable" if action.target in book.unreachable else None
        case "started":
            return None if harmless(plan, action) else "unknown"
        case "unknown" | "undone" | "undo failed":
            return state
        case "failed":
            record = book.records[action.key]
            again = unfinished(plan, action, record) and not book.tripped
            if policy(plan, action) == "continue" or again:
                return None
            return "unreachable" if record.data.get("unreachable") is True else "failed"
        case _:
            assert_never(state)


def struck(plan: Plan, book: Book, action: Action) -> Sequence[str]:
    """Return the hosts that an action takes with it; only its own where it was never sent."""
    lost = action.target in book.unreachable and book.state(action) == "planned"
    if action.host and (lost or unsent(book.records.get(action.key))):
        return [action.host]
    return concerned(plan, action)
