"""Change windows while a run goes: where it looks at the clock, and what it asks when they close.

It looks before a batch and after each wait and gate, where what comes next changes something and
nothing of that was begun. A batch that takes hosts out of their pool (`traffic`) is never split: no
host stays out until the morning, or in it without having been watched to the end.
"""

import time
from collections.abc import Iterator, Sequence

from opskit.execute.book import Book
from opskit.execute.fall import is_gate
from opskit.execute.offers import in_window
from opskit.execute.question import Question
from opskit.execute.waves import waves
from opskit.model.plan import Action, Plan
from opskit.model.work import Wait
from opskit.plan import acts
from opskit.plan.windows import shut

clock = time.time
"""What tells the time, in seconds since the epoch."""


def stretches(plan: Plan, actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Split the actions of a batch behind each wait and each gate, if it may be left there."""
    if any(plan.stage(one).kind == "traffic" and acts(plan, one) for one in actions):
        yield list(actions)
        return
    found: list[Action] = []
    for wave in waves(actions):
        found += wave
        if any(isinstance(action.work, Wait) or is_gate(action.work) for action in wave):
            yield found
            found = []
    if found:
        yield found


def held(plan: Plan, book: Book, actions: Sequence[Action]) -> Question | None:
    """Return the question that a run comes to where its changes may not be made now."""
    coming = [action for action in actions if acts(plan, action) and not is_gate(action.work)]
    begun = any(book.state(action) != "planned" for action in coming)
    if not coming or begun or book.overridden:
        return None
    now = shut(plan, clock())
    if now is None:
        return None
    return Question(
        action=None,
        why="window",
        text=f"{now.why} ({now.where}); {now.again}. Nothing new was begun",
        choices=in_window(plan, book),
    )
