"""The sign of life of a process that drives a run, and its ear for what others want of that run.

It has a connection of its own: no entry waits for it, and it waits for none. Where it fails the run
goes on. Another process may take the run's place then, and each entry asks whether one has.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal, cast

from opskit.audit.database import Database, Row, Rows
from opskit.errors import StoreError
from opskit.model.codec import from_json, parse
from opskit.model.event import Event
from opskit.model.frozen import frozen

BEAT = 3.0
"""Seconds between two signs of life."""
LISTEN = 1.0
"""Seconds between two looks for wishes."""
_ENOUGH = 2.0
"""Seconds for which a look that is under way is waited for, at the end."""

Kind = Literal["pause", "stop"]


@frozen
class Wish:
    """What somebody wants of a run that another process drives: that nothing new starts (pause),
    or that what runs is ended, too (stop)."""

    kind: Kind
    who: str


WORDS: dict[Kind, str] = {
    "pause": "asks for a pause: nothing new starts, what runs on the hosts goes on to its end",
    "stop": "asks for a stop: nothing new starts, what runs on the hosts is ended",
}


def wished(wish: Wish) -> Event:
    """Return the entry by which a wish is made."""
    return Event(kind="note", data={"who": wish.who, "text": WORDS[wish.kind], "wish": wish.kind})


class Pulse:
    """Lets a count grow in the store, and looks there, until it is closed or has no more to say.

    `hear` is called with each wish, `lost` once when another process has taken over. Until they are
    named nothing counts as heard.
    """

    def __init__(self, database: Database, run: Row, token: str, heard: int) -> None:
        self.hear: Callable[[Wish], None] | None = None
        self.lost: Callable[[], None] | None = None
        self._database = database
        self._run = int(run["number"])
        self._token = token
        self._heard = heard
        self._closed = threading.Event()
        name = f"pulse of {run['id']}"
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(_ENOUGH)

    def _live(self) -> None:
        due = time.monotonic() + BEAT
        while not self._closed.wait(LISTEN):
            found: list[Wish] | None = []
            with suppress(StoreError), self._database.aside() as rows:  # the next may come through
                found = self._wishes(rows)
                if found or time.monotonic() >= due:
                    rows.all("beat", run=self._run, token=self._token, heard=self._heard)
                    due = time.monotonic() + BEAT
            if found is None and self.lost is not None:
                _apart(self.lost)
                return
            for wish in found or ():
                assert self.hear is not None  # else none is looked for
                _apart(partial(self.hear, wish))

    def _wishes(self, rows: Rows) -> list[Wish] | None:
        """Return what has been wished since the last look; None where we hold the run no more."""
        head = rows.one("head", run=self._run)
        if head is None or head["token"] != self._token:
            return None
        if head["entries"] == self._heard or self.hear is None:
            return []
        notes = rows.all("notes", run=self._run, after=self._heard, upto=head["entries"])
        self._heard = head["entries"]
        found = [from_json(Event, parse(note["body"])).data for note in notes]
        return [
            Wish(kind=cast(Kind, data["wish"]), who=str(data.get("who", "")))
            for data in found
            if data.get("wish") in WORDS
        ]


def _apart(act: Callable[[], None]) -> None:
    """Do it in a thread of its own: the signs of life go on meanwhile."""
    threading.Thread(target=act, name="wish", daemon=True).start()
