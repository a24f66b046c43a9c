"""Regular expressions that people write, matched within bounds.

Some take twice as long for each further character, `(a+)+b` for example; a value from outside
could then hold opskit up for hours. Python's matching can't be told how long it may take, but it
looks for signals; a timer that counts our own CPU time sends one.
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType

LONGEST = 4096
"""Characters of a value that is held against a pattern."""
_MATCH = 1.0
_TRIAL = 0.25
_SAME = 64


class SlowError(Exception):
    """Matching took too much time."""


def fits(pattern: str, text: str) -> bool:
    """Tell whether the whole text matches; SlowError when that can't be told soon."""
    with _at_most(_MATCH):
        return re.fullmatch(pattern, text) is not None


@lru_cache(maxsize=1024)
def slow(pattern: str) -> bool:
    """Tell whether a pattern takes for ever: tried with the same character many times over."""
    tried = dict.fromkeys(["a", "0", "-", ".", *(c for c in pattern if c.isalnum())])
    try:
        with _at_most(_TRIAL):
            for character in list(tried)[:16]:
                re.fullmatch(pattern, character * _SAME + "\0")
    except SlowError:
        return True
    return False


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise SlowError in what takes more CPU time; only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SlowError
