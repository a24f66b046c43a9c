"""Where each action stands, folded from the record."""

from collections.abc import Iterable, Mapping
from typing import assert_never

from opskit.model.event import Entry, Event
from opskit.model.frozen import replaced
from opskit.model.run import ActionRecord
from opskit.model.states import ActionState
from opskit.model.value import Json

DECIDED: Mapping[str, ActionState] = {
    "yes": "succeeded",
    "done": "succeeded",
    "no": "failed",
    "failed": "failed",
    "skip": "skipped",
}
"""What an answer makes of an action. "retry" gives it a new attempt, "abort" ends the run."""

EXCLUDE, UNDO = "exclude", "undo"
"""Answers by which the run goes on without a host, or takes back what it did."""


OUTCOMES: Mapping[str, ActionState] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "unknown": "unknown",
}


class Progress:
    """The state of every action, kept up to date one event at a time."""

    def __init__(self) -> None:
        self.records: dict[str, ActionRecord] = {}
        self.excluded: set[str] = set()
        """Hosts that a person has the run go on without."""

    def take(self, event: Event, at: float) -> None:
        """Take in the next event of the run; `at` in UTC seconds."""
        self._exclude(event)
        if not event.key:
            return
        record = self.records.get(event.key) or ActionRecord(
            key=event.key, host=event.host, step=event.step, state="planned"
        )
        changed = _moved(record, event, at)
        if changed is not record:
            self.records[event.key] = changed
            self._undone(changed, event)
        if event.kind == "step started" and event.attempt > 1:
            self._afresh(event.key)

    def _exclude(self, event: Event) -> None:
        """Keep who is left out: by a decision, until one to try the host again.

        One with an unknown change is that in the end: a resume asks what became of it.
        """
        if event.kind == "decided" and event.data.get("choice") == EXCLUDE:
            self.excluded.add(event.host)
        elif event.kind == "decided" and event.host and not event.key:
            self.excluded.discard(event.host)
        elif event.kind == "run ended" and isinstance(hosts := event.data.get("hosts"), Mapping):
            self.excluded -= {host for host, state in hosts.items() if state == "unknown"}

    def _afresh(self, key: str) -> None:
        """Let the undo of a change that is done once more count as not done yet."""
        for record in list(self.records.values()):
            if record.key.startswith(f"{key}!"):
                again = replaced(record, state="planned", ended=None, data={})
                self.records[record.key] = again

    def _undone(self, record: ActionRecord, event: Event) -> None:
        """Carry the end of an undo over to the action that it takes back."""
        original = self.records.get(str(event.data.get("undoes", "")))
        if original is None or record.state not in ("succeeded", "failed", "skipped"):
            return
        if record.state == "failed":
            self.records[original.key] = replaced(original, state="undo failed", before=None)
        elif event.data.get("last"):
            self.records[original.key] = replaced(original, state="undone", before=None)


def _moved(record: ActionRecord, event: Event, at: float) -> ActionRecord:
    match event.kind:
        case "step started":
            left = event.data.get("tries_left")
            data: Mapping[str, Json] = {"tries_left": left} if left else {}
            return replaced(
                record,
                state="started",
                attempt=event.attempt,
                started=at,
                first=_first(record, at),
                before=_before(record),
                ended=None,
                silent=None,
                data=data,
            )
        case "step silent":
            # It may be told of an attempt that has ended just then.
            goes_on = record.state == "started" and record.attempt == event.attempt
            return replaced(record, silent=_silent(event, at)) if goes_on else record
        case "step ended":
            ended = OUTCOMES[str(event.data["outcome"])]
            part = event.data.get("part") is True
            if event.data.get("again"):
                ended = "planned"  # it never began, or the next attempt goes on with the rest
            idle = (event.data.get("again") and not part) or event.data.get("sent") is False
            reached = record.reached if idle else event.attempt
            return replaced(
                record,
                state=ended,
                attempt=event.attempt,
                ended=at,
                silent=None,
                data=event.data,
                reached=reached,
                before="failed" if part and ended == "planned" else record.before,
            )
        case "step skipped":
            return replaced(record, state="skipped", ended=at, data=event.data)
        case "decided":
            return _decided(record, str(event.data.get("choice")), event, at)
        case (
            "run created" | "run resumed" | "run imported" | "host opened" | "host unreachable"
            | "message" | "waiting" | "note" | "plan amended" | "budget tripped" | "undo began"
            | "run ended"
        ):  # fmt: skip
            return record
        case _:
            assert_never(event.kind)


def _first(record: ActionRecord, at: float) -> float:
    """Return since when what is begun at `at` has been tried: one that was cut short counts."""
    cut_short = record.state == "started" or record.data.get("again") is True
    return record.first if cut_short and record.first is not None else at


def _before(record: ActionRecord) -> ActionState | None:
    """Return how an action stands on its target, where another attempt is to follow."""
    begun = record.stands in ("succeeded", "failed", "unknown", "undo failed") and record.sent
    return record.stands if begun else None


def _silent(event: Event, at: float) -> float | None:
    """Return since when an action prints nothing; None where it prints again."""
    seconds = event.data.get("seconds")
    if event.data.get("over") or not isinstance(seconds, (int, float)):
        return None
    return at - seconds


def _decided(record: ActionRecord, choice: str, event: Event, at: float) -> ActionRecord:
    if choice == "retry":
        return replaced(record, state="planned", ended=None, before=_before(record))
    state = DECIDED.get(choice)
    if state is None:
        return record
    reached = record.attempt if state == "succeeded" else record.reached
    return replaced(record, state=state, ended=at, data=event.data, reached=reached)


def progress(entries: Iterable[Entry]) -> Mapping[str, ActionRecord]:
    """Fold the record of a run: action key → where it stands."""
    fold = Progress()
    for entry in entries:
        fold.take(entry.event, entry.at)
    return fold.records
