"""An incident as the record has it."""

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


@frozen
class Incident:
    """A look at an outage, with what the record has around it.

    `before`: the runs that changed something in the `within` seconds before it began, newest
    first; `since`: runs since then, oldest first, with what people noted in them. `whole`: all
    runs of that time were looked at.
    """

    run: Run
    plan: Plan
    within: float
    whole: bool
    before: tuple[Change, ...]
    since: tuple[tuple[Run, tuple[Entry, ...]], ...]
