"""What commands and requests are heard of, so that a long silence can be pointed out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from opskit.model.event import Event
from opskit.model.frozen import frozen, mutable
from opskit.model.runbook import Silent
from opskit.steps.units import duration

_LEAST, _MOST = 0.05, 1.0
"""Between two looks at how long silences are; seconds."""


@frozen
class Found:
    """What is to be told of one attempt; `ends`: why it is to be ended, where its step says so."""

    event: Event
    ends: str = ""


@mutable
class _Spell:
    """One attempt that is under way. `since`: when something was last heard of it, monotonic."""

    event: Event
    rule: Silent
    since: float
    told: float | None = None
    """Where its silence was pointed out: when that had begun."""
    broken: float | None = None
    """When something was heard again after that."""


class Silence:
    """Knows when something was last heard of each attempt. Called from many threads."""

    def __init__(self) -> None:
        self._spells: dict[str, _Spell] = {}
        self._lock = Lock()

    @contextmanager
    def listening(self, event: Event, rule: Silent) -> Iterator[None]:
        """Listen to an attempt while this lasts; `event` says of which."""
        spell = _Spell(event=event, rule=rule, since=time.monotonic())
        with self._lock:
            self._spells[event.key] = spell
        try:
            yield
        finally:
            with self._lock:
                del self._spells[event.key]

    def heard(self, key: str) -> None:
        """Take note that something came from an attempt."""
        spell = self._spells.get(key)
        if spell is None:
            return
        spell.since = time.monotonic()
        if spell.told is not None and spell.broken is None:
            spell.broken = spell.since

    def pause(self) -> float:
        """Return how long nothing will have to be told; seconds."""
        now = time.monotonic()
        with self._lock:
            left = [s.since + s.rule.after - now for s in self._spells.values() if s.told is None]
        return max(_LEAST, min([_MOST, *left]))

    def look(self) -> list[Found]:
        """Return what there is to tell: each silence once, and once that it is over."""
        now = time.monotonic()
        with self._lock:
            return [found for spell in self._spells.values() for found in _told(spell, now)]


def _told(spell: _Spell, now: float) -> Iterator[Found]:
    if spell.told is not None and spell.broken is not None:
        lasted = round(spell.broken - spell.told, 3)
        over = replace(spell.event, data={"seconds": lasted, "over": True})
        yield Found(event=over)
        spell.told = spell.broken = None
    if spell.told is None and now - spell.since >= spell.rule.after:
        spell.told = spell.since
        silent = replace(spell.event, data={"seconds": spell.rule.after})
        why = f"ended because it printed nothing for {duration(spell.rule.after)}"
        yield Found(event=silent, ends=why if spell.rule.stop else "")
