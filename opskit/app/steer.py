"""What is asked of a run that another process carries out: to be watched, to pause, to stop.

All of it goes through the record, so that it does not matter on which machine that process is.
"""

import time
from collections.abc import Iterator

from opskit.app.person import Person
from opskit.app.runs import opened
from opskit.audit import Driver, Store, WishKind
from opskit.errors import RefusedError
from opskit.model.event import Entry
from opskit.model.run import Run
from opskit.settings import Settings

_LOOK = 0.3
"""How often the record is looked at for what is new; seconds."""
_HEARS = 20.0
"""How long a process may take to hear what is asked of it: longer than it takes to know that one
elsewhere is gone; seconds."""
_ENDS = 90.0
"""How long it may take to come to its end once it has heard; seconds."""


def follow(settings: Settings, name: str) -> Iterator[Entry]:
    """Yield what is recorded of a run, from its beginning, until no process carries it out."""
    with opened(settings) as store:
        run = store.find(name)
        last: Entry | None = None
        while True:
            alive = store.driver(run) is not None
            for entry in store.entries(run, last):
                last = entry
                yield entry
            if not alive:
                return
            time.sleep(_LOOK)


def pause(settings: Settings, name: str, person: Person) -> str:
    """Let nothing new start in a run; what runs comes to its end. Return the run's id then."""
    run = _asked(settings, name, "pause", person)
    with opened(settings) as store:
        _refuse_unpaused(store.load(run))
    return run


def _refuse_unpaused(found: Run) -> None:
    """Say of a run that was let go of, but not to rest, what became of it instead."""
    if found.driver:
        raise RefusedError(
            f"run {found.id} was not paused: it is carried out by {found.driver} by now",
            hint=f"`opskit pause {found.id}` asks that process",
        )
    if found.exit is not None:
        raise RefusedError(
            f"run {found.id} was not paused: it has ended meanwhile ({found.state})",
            hint=f"`opskit status {found.id}` shows where its hosts stand",
        )


def stop(settings: Settings, name: str, person: Person) -> str:
    """Let nothing new start in a run, and end what it is running. Return the run's id then."""
    return _asked(settings, name, "stop", person)


def _asked(settings: Settings, name: str, kind: WishKind, person: Person) -> str:
    """Ask something of the process that carries a run out, and wait until it has let go of it."""
    with opened(settings) as store:
        run = store.find(name)
        driver, number = store.ask(run, kind, person.who)
        if _goes_on(store, run, driver, number, _HEARS):
            raise RefusedError(
                f"run {run} is being carried out by {driver.words}, which does not react: asked for"
                f" a {kind}, it has not heard in {_HEARS:.0f} s",
                hint="it stops when it comes to itself. If it hangs or is cut off, take its place:"
                f" `opskit resume {run} --steal {run}` goes on with the run,"
                f" `opskit abort {run} --steal {run}` ends it",
            )
        if _goes_on(store, run, driver, None, _ENDS):
            raise RefusedError(
                f"run {run} is being carried out by {driver.words}, which has been asked for a"
                f" {kind}; after {_ENDS:.0f} s it is not done yet",
                hint=f"`opskit attach {run}` shows what it waits for",
            )
        return run


def _goes_on(store: Store, run: str, asked: Driver, number: int | None, limit: float) -> bool:
    """Wait until a process has let go of a run, or has heard of an entry if one is named; tell
    whether it has done neither in time."""
    end = time.monotonic() + limit
    while (now := store.driver(run)) is not None and now.token == asked.token:
        if number is not None and now.heard >= number:
            return False
        if time.monotonic() > end:
            return True
        time.sleep(_LOOK)
    return False
