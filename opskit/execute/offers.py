"""What a person is offered where a run has come to a question: what is possible there, no more."""

from collections.abc import Collection, Iterable, Mapping

from opskit.execute.book import Book
from opskit.execute.fall import Fall
from opskit.model.plan import Action, Plan
from opskit.plan import ALWAYS, EXCLUDE, UNDO, concerned, reverse

LEFT = "left unknown"
"""Why a run asks of an unknown change that a person has ended: nothing follows from the answer."""

OFFERS: Mapping[str, tuple[str, ...]] = {
    "failed": ("retry", "done", "skip", "failed", EXCLUDE, UNDO, "abort"),
    "unknown": ("done", "failed", "retry", EXCLUDE, UNDO, "abort"),
    "inconclusive": ("retry", "done", "failed", EXCLUDE, UNDO, "abort"),
    LEFT: ("done", "failed", "abort"),
    "manual": ("done", "failed", EXCLUDE, UNDO, "abort"),
    "confirm": ("yes", "no", EXCLUDE, UNDO, "abort"),
    "budget": ("retry", EXCLUDE, UNDO, "stop", "abort"),
    "pause": ("go on", "abort"),
    "window": ("override", UNDO, "abort"),
}
"""By why a run asks: all that can be answered, if it is possible."""


def about(plan: Plan, book: Book, action: Action, why: str) -> tuple[str, ...]:
    """Return what can be answered to a question about an action."""
    held = set()
    if why == "failed" and not _may_be_done(plan, action):
        held.add("done")
    forward = action.undoes is None and action.batch != ALWAYS
    alone = bool(action.host) and list(concerned(plan, action)) == [action.host]
    if not (forward and alone and _others(plan, book, [action.host])):
        held.add(EXCLUDE)
    if not (forward and _undoable(plan, book)):
        held.add(UNDO)
    return tuple(choice for choice in OFFERS[why] if choice not in held)


def after_falls(plan: Plan, book: Book, fallen: Mapping[str, Fall]) -> tuple[str, ...]:
    """Return what can be answered where too many hosts fell out."""
    held = set()
    if not any(fall.state in ("failed", "unreachable") for fall in fallen.values()):
        held.add("retry")
    if not _others(plan, book, fallen):
        held.add(EXCLUDE)
    if not _undoable(plan, book):
        held.add(UNDO)
    return tuple(choice for choice in OFFERS["budget"] if choice not in held)


def in_window(plan: Plan, book: Book) -> tuple[str, ...]:
    """Return what can be answered where changes may not be made at this time."""
    return tuple(c for c in OFFERS["window"] if c != UNDO or _undoable(plan, book))


def _may_be_done(plan: Plan, action: Action) -> bool:
    """Tell whether a person can have done what failed: not so where its output is needed."""
    stage = plan.stage(action)
    return stage.effect == "change" and stage.save is None


def _others(plan: Plan, book: Book, hosts: Iterable[str]) -> bool:
    """Tell whether the run has hosts to go on with besides these."""
    everyone = (host for batch in plan.batches for host in batch)
    left = set(everyone) if book.scope is None else set(book.scope)
    return bool(left - book.excluded - set(hosts))


def _undoable(plan: Plan, book: Book) -> bool:
    """Tell whether there is anything that would be taken back."""
    scope: Collection[str] | None = book.scope
    return bool(reverse(plan, book.records, scope, without=book.excluded).actions)
