"""What was said in channels, by the record: what has come there, and what has no outcome."""

from collections.abc import Iterator, Mapping, Sequence

from opskit.model.event import Event
from opskit.model.frozen import frozen
from opskit.model.states import ActionState
from opskit.model.value import Json


@frozen
class Letter:
    """A message as it is recorded before it is sent; `to`: the channels that are to have it.

    `first` is the attempt that first had it, of those that go on with one another.
    """

    key: str
    attempt: int
    host: str
    step: str
    text: str
    severity: str
    to: tuple[str, ...]
    first: int
    at: float

    @property
    def event(self) -> Event:
        data: Mapping[str, Json] = {
            "text": self.text,
            "severity": self.severity,
            "to": list(self.to),
            "first": self.first,
        }
        return Event(
            kind="message", key=self.key, host=self.host, step=self.step, attempt=self.attempt,
            data=data,
        )  # fmt: skip


class Told:
    """Folds what a record has of messages. A retry says them anew, a resume does not."""

    def __init__(self) -> None:
        self._letters: dict[str, Letter] = {}
        self._done: dict[str, dict[str, bool]] = {}

    def take(self, event: Event, before: ActionState | None, at: float) -> None:
        """Take in an event; `before`: how its action stood until then."""
        if event.kind == "run ended":
            self._letters.clear()
            self._done.clear()
        elif event.kind == "step started" and event.key in self._letters:
            if before not in ("started", "failed"):
                del self._letters[event.key], self._done[event.key]
        elif event.kind == "message" and event.key and "channel" in event.data:
            done = self._done.setdefault(event.key, {})
            done[str(event.data["channel"])] = event.data.get("delivered") is True
        elif event.kind == "message" and event.key:
            self._letters[event.key] = _letter(event, at)
            came = {n: True for n, delivered in self._done.get(event.key, {}).items() if delivered}
            self._done[event.key] = came

    def first(self, key: str, attempt: int) -> int:
        """Return the attempt that first had the message that is said now."""
        return self._letters[key].first if key in self._letters else attempt

    def came(self, key: str) -> frozenset[str]:
        """Return the channels that have the message of an action already."""
        return frozenset(name for name, came in self._done.get(key, {}).items() if came)

    def open(self) -> Iterator[tuple[Letter, Sequence[str]]]:
        """Yield messages of which nobody knows whether they came, with the channels in doubt."""
        for key, letter in self._letters.items():
            left = [name for name in letter.to if name not in self._done[key]]
            if left:
                yield letter, left


def _letter(event: Event, at: float) -> Letter:
    data = event.data
    to, first = data.get("to"), data.get("first")
    return Letter(
        key=event.key,
        attempt=event.attempt,
        host=event.host,
        step=event.step,
        text=str(data.get("text") or ""),
        severity=str(data.get("severity") or ""),
        to=tuple(map(str, to)) if isinstance(to, (list, tuple)) else (),
        first=first if isinstance(first, int) else event.attempt,
        at=at,
    )
