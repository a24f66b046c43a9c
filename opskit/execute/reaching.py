"""Connecting to what an action needs, once in a run, and what is recorded of that."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from threading import Lock

from opskit.errors import UnreachableError
from opskit.execute.book import Book
from opskit.execute.search import become_of
from opskit.execute.send import Outside
from opskit.model.event import Event
from opskit.model.plan import Action, Plan
from opskit.model.value import Json
from opskit.model.work import Notify
from opskit.plan import reads_only

Spot = tuple[str, str | None]
"""A target, and who commands are run as there by sudo (None: whoever logs in)."""


class Reach:
    """Knows which targets of a run are connected to. Called from many threads."""

    def __init__(
        self, plan: Plan, book: Book, outside: Outside, opened: set[Spot] | None = None
    ) -> None:
        self.plan = plan
        self.book = book
        self.outside = outside
        self.opened: set[Spot] = set() if opened is None else opened
        self._writes = not reads_only(plan)
        self._doors: dict[str, Lock] = {}

    def is_open(self, action: Action) -> bool:
        """Tell whether what an action needs to be connected to has been."""
        return self._spots(action) <= self.opened

    def _spots(self, action: Action) -> set[Spot]:
        if isinstance(action.work, Notify):
            return set()  # nothing is done there
        become = become_of(action.work) if self.plan.stage(action).effect == "change" else None
        return {(action.target, None), (action.target, become)}

    def open(self, action: Action) -> list[Event]:
        """Connect where an action needs it, if that has not been done; return what says so.

        What was heard is recorded before anything is sent: it tells a resume whether the traces
        that it finds, or does not find, are of this run.
        """
        events = []
        for target, become in sorted(self._spots(action) - self.opened, key=lambda s: s[1] or ""):
            with suppress(UnreachableError) if become else nullcontext():  # it is said on sending
                events.append(self._opened(target, become))
        return events

    def _opened(self, target: str, become: str | None) -> Event:
        contact = self.outside.targets.open(target, writes=self._writes, become=become)
        self.opened.add((target, become))
        data: dict[str, Json] = {
            "nonce": contact.nonce,
            "boot_id": contact.boot_id,
            "state_dir": contact.state_dir,
            "user": contact.user,
            "address": contact.address,
            **({"become": become} if become else {}),
        }
        return Event(kind="host opened", host=target, data=data)

    def first(self, action: Action, post: Callable[..., None]) -> list[Event] | None:
        """Connect where that is needed; return what says so, None where nobody is reached.

        Of several that are begun at once on a target the first one connects, and it is recorded
        before the others send anything.
        """
        several = self.plan.stage(action).at_once > 1
        with self._doors.setdefault(action.target, Lock()) if several else nullcontext():
            if several and action.target in self.book.unreachable:
                return None
            try:
                opening = self.open(action)
            except UnreachableError as error:
                if not self.outside.stop.pressed:  # else it was perhaps given up: a resume tries
                    why: Mapping[str, Json] = {"reason": error.line}
                    post(Event(kind="host unreachable", host=action.target, data=why))
                return None
            if several:
                post(*opening)
                return []
            return opening
