"""Messages on their way to channels, beside the run: no channel holds it up, none fails it.

Each is recorded before it is sent, and what became of it after. What is recorded without an outcome
when a run is gone on with is sent again: a message comes at least once, seldom twice, never not.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias

from opskit.errors import OpskitError
from opskit.execute.journal import Journal, Watcher
from opskit.execute.stop import Stop
from opskit.execute.told import Letter
from opskit.model.channel import Channel, Delivery, Message, severity_of
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.value import Json

Sender: TypeAlias = Callable[[Channel, Message, float, Callable[[], bool]], Delivery]
"""Sends a message to a channel by a monotonic time, gives up early when asked. Raises nothing."""
_HURRY = 2.0
"""So long a run that is stopped waits for messages that are under way; seconds."""
_LONG, _MOMENT = 1.0, 2.0
_LOOK = 0.05


class Around(Protocol):
    """What messages need of what a run touches."""

    @property
    def journal(self) -> Journal: ...

    @property
    def watch(self) -> Watcher: ...

    @property
    def stop(self) -> Stop: ...


class Parcel:
    """A message to one channel; `done` is set once it has an outcome."""

    def __init__(self, channel: Channel, message: Message, letter: Letter) -> None:
        self.channel = channel
        self.message = message
        self.letter = letter
        self.began = math.inf
        """When its turn came; those before it have their time."""
        self.done = threading.Event()
        self.delivery = Delivery(delivered=False, reason="it was not waited for")

    @property
    def seconds(self) -> float:
        """How long it has been on its way."""
        return max(0.0, time.monotonic() - self.began)

    @property
    def outcome(self) -> Event:
        """The event that says what became of it."""
        return _outcome(self)

    @property
    def late(self) -> bool:
        """Tell whether nobody need wait for it any more."""
        return self.seconds > self.channel.timeout + _HURRY


class Lane:
    """What waits for one channel, and how well that answers.

    A channel that is down costs a run its time about twice, not once for each message: where one
    took long to come to nothing, those behind it are tried for a moment each, for as long as one
    may take; after that only the last is, which says how it ended.
    """

    def __init__(self, first: Parcel) -> None:
        self.parcels = deque([first])
        self._doubt: float | None = None

    def patience(self, channel: Channel) -> float:
        """Return how many seconds the next message may take."""
        return channel.timeout if self._doubt is None else min(channel.timeout, _MOMENT)

    @property
    def hopeless(self) -> bool:
        """Tell whether messages have come to nothing for too long."""
        return self._doubt is not None and time.monotonic() > self._doubt

    def learn(self, parcel: Parcel) -> None:
        """Take in what became of a message."""
        if parcel.delivery.delivered:
            self._doubt = None
        elif self._doubt is None and parcel.seconds > _LONG:
            self._doubt = time.monotonic() + parcel.channel.timeout


class Messenger:
    """Sends the messages of one process, those to one channel in their order. Thread-safe."""

    def __init__(self, send: Sender | None = None) -> None:
        self._send = send
        self._known: dict[tuple[str, int, str], Parcel] = {}
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()

    def send(
        self, around: Around, plan: Plan, facts: Mapping[str, Json], letter: Letter,
        to: Iterable[str],
    ) -> Sequence[Parcel]:  # fmt: skip
        """Begin to send a message that is recorded; not a second time to the same channel."""
        found = []
        message = _message(around, plan, facts, letter)
        for name in to:
            parcel = Parcel(plan.channels[name], message, letter)
            key = (letter.key, letter.attempt, name)
            with self._lock:
                if key in self._known:
                    continue
                lane = self._lanes.get(name)
                if lane is not None:
                    lane.parcels.append(parcel)
                else:
                    lane = Lane(parcel)
                    self._carrier(around, name, lane).start()
                    self._lanes[name] = lane
                self._known[key] = parcel
            found.append(parcel)
        return found

    def _carrier(self, around: Around, name: str, lane: Lane) -> threading.Thread:
        """Return a thread that sends what waits for a channel, until nothing does."""

        def work() -> None:
            broken: BaseException | None = None
            while lane.parcels:  # only this thread takes from it; once empty, nobody adds to it
                try:
                    self._next(around, name, lane)
                except BaseException as error:  # noqa: BLE001 - those behind it are sent all the same
                    broken = error
            if broken is not None:
                raise broken

        return threading.Thread(target=work, name=f"message-{name}", daemon=True)

    def _next(self, around: Around, name: str, lane: Lane) -> None:
        """Send the first message that waits for a channel; it has its turn once, come what may."""
        parcel = lane.parcels[0]
        with self._lock:
            last = len(lane.parcels) == 1
        try:
            if lane.hopeless and not last:
                why = "not tried, as those before it did not come"
                parcel.delivery = Delivery(delivered=False, reason=why, tries=0)
            else:
                parcel.delivery = self._sent(around, parcel, lane.patience(parcel.channel))
            lane.learn(parcel)
            _record(around, parcel)
        finally:
            parcel.done.set()  # nobody may wait for ever for what nobody sends
            with self._lock:
                lane.parcels.popleft()
                if not lane.parcels:
                    del self._lanes[name]

    def _sent(self, around: Around, parcel: Parcel, seconds: float) -> Delivery:
        parcel.began = time.monotonic()
        if self._send is None:
            return Delivery(delivered=False, reason="nothing here sends messages", tries=0)
        end = parcel.began + seconds
        return self._send(parcel.channel, parcel.message, end, lambda: around.stop.pressed)

    def wait(self, around: Around, parcels: Sequence[Parcel]) -> bool:
        """Wait for messages; False where the run was stopped before all had an outcome."""
        return all(_awaited(around, parcel) for parcel in parcels)

    def settle(self, around: Around) -> None:
        """Wait until all that is under way has an outcome; not for long where the run is stopped.

        Each has its own time, so this comes to an end.
        """
        with self._lock:
            parcels = list(self._known.values())
        end: float | None = None
        for parcel in parcels:
            while not parcel.done.wait(_LOOK) and not parcel.late:
                if around.stop.pressed and end is None:
                    end = time.monotonic() + _HURRY
                if end is not None and time.monotonic() > end:
                    return


def _record(around: Around, parcel: Parcel) -> None:
    """Record what became of a message, as far as there is a record that takes it."""
    with suppress(OpskitError):  # whoever goes on with the run meets it, too
        around.journal.append(parcel.outcome)
        around.watch(parcel.outcome)


def _awaited(around: Around, parcel: Parcel) -> bool:
    while not parcel.done.wait(_LOOK):
        if around.stop.pressed or parcel.late:
            return False
    return True


def _message(around: Around, plan: Plan, facts: Mapping[str, Json], letter: Letter) -> Message:
    return Message(
        id=f"{around.journal.run}:{letter.key}:{letter.first}",
        text=letter.text,
        severity=severity_of(letter.severity) or "critical",
        run=around.journal.run,
        runbook=plan.runbook,
        step=letter.step,
        host=letter.host,
        inventory=plan.inventory,
        who=str(facts.get("user") or ""),
        at=letter.at,
    )


def _outcome(parcel: Parcel) -> Event:
    """Return the event that says what became of a message."""
    delivery, letter, name = parcel.delivery, parcel.letter, parcel.channel.name
    became = "delivered" if delivery.delivered else f"not delivered: {delivery.reason}"
    if delivery.held:
        became = f"held back: {delivery.reason}"
    data: dict[str, Json] = {
        "text": f"{letter.step}: {name}: {became}",
        "channel": name,
        "delivered": delivery.delivered,
        "severity": letter.severity,
        **({"held": True} if delivery.held else {}),
        **({"reason": delivery.reason} if delivery.reason else {}),
        "tries": delivery.tries,
        "seconds": round(parcel.seconds, 3),
    }
    return Event(
        kind="message", key=letter.key, host=letter.host, step=letter.step, attempt=letter.attempt,
        data=data,
    )  # fmt: skip
