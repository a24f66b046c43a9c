"""An incident as the record has it."""

from typing import Literal, get_args

from opskit.model.event import Entry
from opskit.model.frozen import frozen
from opskit.model.plan import Plan
from opskit.model.run import Run


@frozen
class Change:
    """A run that changed something, or would have."""

    run: Run
    plan: Plan

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for host, state in self.run.hosts.items() if state != "not started")


Said = Literal["investigating", "update", "due", "resolved"]
"""What a word about an incident was: the first, another, that one is due, or the last."""
SAID: tuple[Said, ...] = get_args(Said)


@frozen
class Word:
    """Something that was said about an incident, and when. With `due` nobody has said anything."""

    at: float
    said: Said


@frozen
class Incident:
    """A look at an outage, with what the record has around it.

    `before`: the runs that changed something in the `within` seconds before it began, newest
    first; `since`: runs since then, oldest first, with what people noted in them. `whole`: all
    runs of that time were looked at. `words`: what was said about it, oldest first. `latest`: the
    same look made again, the newest one, where there is one; `over`: the newest look whether it is
    over that found nothing wrong.
    """

    run: Run
    plan: Plan
    within: float
    whole: bool
    before: tuple[Change, ...]
    since: tuple[tuple[Run, tuple[Entry, ...]], ...]
    words: tuple[Word, ...] = ()
    latest: Change | None = None
    over: Run | None = None

    @property
    def newest(self) -> Change:
        """How it was looked at last."""
        return self.latest or Change(run=self.run, plan=self.plan)

    @property
    def told(self) -> Word | None:
        """The last that somebody has said about it; that a word is due says nobody."""
        return next((word for word in reversed(self.words) if word.said != "due"), None)

    @property
    def open(self) -> bool:
        """Whether it was told of, and not yet that it is resolved."""
        return self.told is not None and self.told.said != "resolved"
