"""Gates that are watched on several targets at once: when one has failed, the others may end."""

from collections.abc import Iterable

from opskit.execute.book import Book
from opskit.execute.fall import is_gate, verdict_of
from opskit.execute.send import Outside
from opskit.execute.stop import GRACE
from opskit.model.plan import Action


class Gates:
    """The gates of one wave, and where they have failed."""

    def __init__(self, book: Book, outside: Outside) -> None:
        self.over = False
        """Whether one has failed, so that nothing depends any more on what the others say."""
        self._book = book
        self._outside = outside
        self._gates: list[Action] = []
        self._failed: set[str] = set()

    def watch(self, actions: Iterable[Action]) -> None:
        """Take the gates among these for those that belong together."""
        self.over = False
        self._failed = set()
        self._gates = [action for action in actions if is_gate(action.work)]

    def took(self, action: Action) -> bool:
        """Take note of an action that has ended; tell whether it was a gate that has failed."""
        failed = verdict_of(self._book.records.get(action.key)) == "fail"
        if failed:
            self._failed.add(action.target)
        return failed

    def end(self) -> None:
        """Have those end that still watch, where one has failed: what waits for them goes back."""
        if not self._failed:
            return
        self.over = True
        why = f"ended, as the gate failed on {', '.join(sorted(self._failed))}"
        records = [self._book.records.get(action.key) for action in self._gates]
        running = [one for one in records if one is not None and one.state == "started"]
        if running:
            self._outside.targets.end({(r.key, r.attempt): why for r in running}, GRACE)
