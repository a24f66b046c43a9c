"""What is asked of a run that another process carries out: to be watched, to pause, to stop."""

import os
import signal
import time
from collections.abc import Iterator, Sequence

from opskit.app.runs import opened
from opskit.errors import InputError, RefusedError
from opskit.model.event import Entry
from opskit.settings import Settings

_LOOK = 0.3
"""How often the record is looked at for what is new; seconds."""
_ENDS = 90.0
"""How long a process may take to come to its end once it has been told; seconds."""


def follow(settings: Settings, name: str) -> Iterator[Entry]:
    """Yield what is recorded of a run, from its beginning, until no process carries it out."""
    with opened(settings) as store:
        run = store.find(name)
        last: Entry | None = None
        while True:
            alive = store.driver_pid(run) is not None
            for entry in store.entries(run, last):
                last = entry
                yield entry
            if not alive:
                return
            time.sleep(_LOOK)


def pause(settings: Settings, name: str) -> str:
    """Let nothing new start in a run; what runs comes to its end. Return the run's id then."""
    return _told(settings, name, (signal.SIGTERM,))


def stop(settings: Settings, name: str) -> str:
    """Let nothing new start in a run, and end what it is running. Return the run's id then."""
    return _told(settings, name, (signal.SIGINT, signal.SIGINT))


def _told(settings: Settings, name: str, signals: Sequence[signal.Signals]) -> str:
    with opened(settings) as store:
        run = store.find(name)
        pid = store.driver_pid(run)
        if pid is None:
            raise InputError(
                f"no process on this machine is carrying out run {run}",
                hint=f"`opskit status {run}` shows where it is, and who has it",
            )
        for number in signals:
            os.kill(pid, number)
            time.sleep(0.5)  # two at once would be one
        end = time.monotonic() + _ENDS
        while store.driver_pid(run) == pid:
            if time.monotonic() > end:
                raise RefusedError(
                    f"process {pid} carries out run {run}; it has been told and is not done yet",
                    hint=f"`opskit attach {run}` shows what it waits for",
                )
            time.sleep(_LOOK)
        return run
