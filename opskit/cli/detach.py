"""`run --detach`: the run goes on in a process of its own, which no terminal takes with it."""

import os
import sys

from opskit.cli.call import Call
from opskit.errors import Exit
from opskit.execute import Watcher
from opskit.model.event import Chunk, Event


def fork(call: Call) -> Exit | Watcher:
    """Go on in two processes: the new one gets a watcher for its run, the old one its exit status.

    Until the run has begun the new one still says on this terminal what is wrong, and the old one
    waits for it. After that the terminal is let go, and nobody can be asked: a question waits.
    """
    ear, mouth = os.pipe()
    child = os.fork()
    if child:
        os.close(mouth)
        with os.fdopen(ear) as said:
            return _announced(call, child, said.read())
    os.close(ear)
    os.setsid()
    call.person.interactive = False

    def begun(item: Event | Chunk) -> None:
        nonlocal mouth
        if mouth < 0 or not isinstance(item, Event) or "run" not in item.data:
            return
        _let_go()
        os.write(mouth, str(item.data["run"]).encode())
        os.close(mouth)
        mouth = -1

    return begun


def _announced(call: Call, child: int, run: str) -> Exit:
    """Say which run goes on; where none has begun, why not has been said."""
    if not run:
        _, status = os.waitpid(child, 0)
        return Exit(max(0, os.waitstatus_to_exitcode(status)) or Exit.FAILED)
    call.answer(
        lambda: (
            f"run {run} goes on in the background (process {child})\n"
            f"  opskit status {run}  where it is\n"
        ),
        [{"event": "detached", "run": run, "pid": child}],
    )
    return Exit.OK


def _let_go() -> None:
    """Hold nothing of the terminal any more; what would be shown is in the record."""
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
