"""What a `notify` step comes to: said on the screen, recorded, handed on to channels."""

import time
from collections.abc import Callable

from opskit.execute.book import Book
from opskit.execute.send import Outside, Ready
from opskit.execute.told import Letter
from opskit.model.channel import Severity, concerns, severity_of
from opskit.model.job import Output
from opskit.model.plan import Plan
from opskit.model.work import Notify
from opskit.plan import ALWAYS


def say(
    plan: Plan, book: Book, outside: Outside, ready: Ready, post: Callable[..., None]
) -> Output | None:
    """Record a message and hand it on; wait for the channels where the step wants that.

    None: the run was stopped while it waited.
    """
    work, action = ready.job.work, ready.action
    assert isinstance(work, Notify)
    severity = _severity(book, ready, work)
    letter = Letter(
        key=action.key,
        attempt=ready.number,
        host=action.host,
        step=ready.stage.name,
        text=work.message.fixed(),
        severity=severity,
        to=tuple(name for name in work.to if concerns(plan.channels[name], severity)),
        first=book.told.first(action.key, ready.number),
        at=time.time(),
    )
    post(letter.event)  # before it is sent: a resume sends what has no outcome
    left = [name for name in letter.to if name not in book.told.came(action.key)]
    parcels = outside.messenger.send(outside, plan, book.facts, letter, left)
    if not work.required:
        return Output(outcome="succeeded")
    waited = outside.messenger.wait(outside, parcels)
    for parcel in parcels:
        book.take(parcel.outcome)
    if not waited:
        return None if outside.stop.pressed else Output(outcome="failed", reason="it took too long")
    lost = [p for p in parcels if not p.delivery.delivered and not p.delivery.held]
    wrong = [f"{p.channel.name}: {p.delivery.reason}" for p in lost]
    return Output(outcome="failed" if wrong else "succeeded", reason="; ".join(wrong))


def say_again(plan: Plan, book: Book, outside: Outside) -> None:
    """Send what an earlier process has recorded and perhaps not sent."""
    for letter, left in book.told.open():
        if book.of(letter.key) == "succeeded":  # all else is carried out anew
            outside.messenger.send(outside, plan, book.facts, letter, left)


def _severity(book: Book, ready: Ready, work: Notify) -> Severity:
    """Return how severe a message is; a word that nobody knows is not taken lightly."""
    if work.severity is not None:
        return severity_of(work.severity.fixed()) or "critical"
    if ready.action.batch == ALWAYS:
        return severity_of(str(book.facts.get("status"))) or "critical"
    return "info"
