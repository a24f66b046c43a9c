"""A question that can be answered while a run goes on, and that holds nothing up."""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 600.0
"""Seconds after which nobody listens any more; Ctrl-C is heard all the same."""
_LOOK = 0.1


def yes(over: Callable[[], bool]) -> bool:
    """Wait on the terminal for a line; True when it says yes. Ends by itself when it is `over`."""
    with suppress(OSError):  # no terminal, or it has gone: then nobody answers
        tty = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return _line(tty, over).strip().lower() in (b"y", b"yes")
        finally:
            os.close(tty)
    return False


def _line(tty: int, over: Callable[[], bool]) -> bytes:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not over():
        ready, _, _ = select.select([tty], [], [], _LOOK)
        # In the background a read would stop the whole process; and a question of the run may
        # have come up meanwhile, which what was typed is for.
        if ready and not over() and os.tcgetpgrp(tty) == os.getpgrp():
            return os.read(tty, 1024)
        if ready:
            time.sleep(_LOOK)
    return b""
