"""Ending what runs on a host, and proving it."""

import time
from collections.abc import Iterable, Mapping
from typing import Literal

from opskit.drivers.session import Session
from opskit.drivers.target import Running, Target
from opskit.drivers.wire import Stream
from opskit.errors import OpskitError
from opskit.model.frozen import frozen

Verdict = Literal["confirmed gone", "still there", "can't tell"]

_KILL_WAIT = 3.0
_LOOK = 0.1
_PATIENCE = 20.0
"""How long a stop at a server takes at most: two ways to end a statement, each seen to its end."""
_BEGINS = 2.0
"""How long something that has been claimed may take to begin; seconds."""


@frozen
class Process:
    """A line of /proc/PID/stat, as far as it matters here."""

    pid: int
    parent: int
    session: int
    start: int
    zombie: bool


def processes(stat: bytes) -> dict[int, Process]:
    """Read the lines of many /proc/PID/stat files."""
    found = {}
    for line in stat.splitlines():
        head, _, rest = line.rpartition(b") ")
        fields = rest.split()
        pid = head.partition(b" ")[0]
        if not pid.isdigit() or len(fields) < 20:
            continue
        found[int(pid)] = Process(
            pid=int(pid),
            parent=int(fields[1]),
            session=int(fields[3]),
            start=int(fields[19]),
            zombie=fields[0] in {b"Z", b"X"},
        )
    return found


def members(all_: Mapping[int, Process], root: int, session: int) -> set[Process]:
    """Return what runs in `session`, or descends from that or from `root`.

    Less `root` itself and its ancestors.
    """
    above = set()
    pid = root
    while pid in all_ and pid not in above:
        above.add(pid)
        pid = all_[pid].parent
    below = {root} | {p.pid for p in all_.values() if session and p.session == session}
    below -= above - {root}
    grown = True
    while grown:
        more = {p.pid for p in all_.values() if p.parent in below} - below
        below |= more
        grown = bool(more)
    return {all_[pid] for pid in below - above if pid in all_ and not all_[pid].zombie}


class Ender:
    """Ends one tree of processes over a shell that is not part of it.

    `mark`, and for a change the run's `nonce` there: what its processes are known by, wherever
    they go (`_o_tag` in the shim).
    """

    def __init__(
        self, session: Session, *, root: int, mark: str, timeout: float, nonce: str = ""
    ) -> None:
        self._session = session
        self._root = root
        self._mark = mark
        self._nonce = nonce
        self._session_id = 0
        self._timeout = timeout
        self._known: dict[int, int] = {}

    def end_change(self, grace: float) -> Verdict:
        """End a change; the shell that started it notes how it went, and ends by itself."""
        return self._verdict(gone=self._end(grace) and self._root_gone())

    def end_shell(self, grace: float) -> Verdict:
        """End the shell before what it runs: it must not begin what it was just sent."""
        self._left()  # as long as it lives it can be seen what is its own
        self._call("_o_kill", "KILL", str(self._root))
        return self._verdict(gone=self._end(grace) and not self._alive(self._root))

    def _end(self, grace: float) -> bool:
        """TERM, wait `grace` seconds, KILL; return whether all of it is gone."""
        return self._until_gone("TERM", grace) or self._until_gone("KILL", _KILL_WAIT)

    def _verdict(self, *, gone: bool) -> Verdict:
        if not gone:
            return "still there"
        return "can't tell" if self._strays() else "confirmed gone"

    def _strays(self) -> list[int]:
        """Processes that carry the mark but left the session and the tree."""
        if not self._mark:
            return []
        out = bytearray()
        self._call("_o_kin", self._mark, self._nonce, into=out)
        pids = {int(path.split(b"/")[2]) for path in out.split() if path.count(b"/") > 2}
        alive = self._look()
        return [pid for pid in pids if pid in alive and not alive[pid].zombie and pid != self._root]

    def _root_gone(self) -> bool:
        """The shell that started it ends by itself, after it has written how it went."""
        end = time.monotonic() + 1
        while self._alive(self._root):
            if time.monotonic() > end:
                self._call("_o_kill", "KILL", str(self._root))
                time.sleep(_LOOK)
                return not self._alive(self._root)
            time.sleep(_LOOK)
        return True

    def _alive(self, pid: int) -> bool:
        found = self._look().get(pid)
        return found is not None and not found.zombie

    def _until_gone(self, signal: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        told: set[tuple[int, int]] = set()
        while True:
            left = self._left()
            if not left:
                return True
            fresh = {(p.pid, p.start) for p in left} - told
            if fresh:
                self._call("_o_kill", signal, *(str(pid) for pid, _start in sorted(fresh)))
                told |= fresh
            if time.monotonic() >= end:
                return not self._left()
            time.sleep(min(_LOOK, max(0.0, end - time.monotonic())))

    def _left(self) -> Iterable[Process]:
        """What is there now: the tree, and whatever was seen in it before and still lives."""
        all_ = self._look()
        if self._root in all_:
            self._session_id = all_[self._root].session
        now = members(all_, self._root, self._session_id)
        now |= {
            all_[pid]
            for pid, start in self._known.items()
            if pid in all_ and all_[pid].start == start and not all_[pid].zombie
        }
        self._known |= {p.pid: p.start for p in now}
        return now

    def _look(self) -> dict[int, Process]:
        out = bytearray()
        self._call("_o_ps", into=out)
        return processes(bytes(out))

    def _call(self, function: str, *words: str, into: bytearray | None = None) -> None:
        def take(stream: Stream, data: bytes) -> None:
            if into is not None and stream == "stdout":
                into.extend(data)

        self._session.call(function, *words, timeout=self._timeout, write=take)


def end_read(
    target: Target, user: str | None, session: Session, mark: str, grace: float
) -> Verdict:
    """End what the shell of a read is busy with; that shell is of no more use."""
    spare = None
    try:
        spare = target.spare(user, writes=False)
        ender = Ender(spare, root=session.pid, mark=mark, timeout=target.timeout)
        return ender.end_shell(grace)
    except (OpskitError, TimeoutError):
        return "can't tell"
    finally:
        session.clean = False
        if spare is not None:
            spare.close()


def _begun(session: Session, name: str, timeout: float) -> tuple[str, ...]:
    """Return the state of a change; one that has not begun is kept from ever beginning."""
    end = time.monotonic() + _BEGINS
    while True:
        state = session.call("_o_ask", name, timeout=timeout)
        if state[0] in ("none", "claimed"):
            state = session.call("_o_bar", name, timeout=timeout)
        if state[0] != "claimed" or time.monotonic() > end:
            return state
        time.sleep(_LOOK)


def end_change(
    target: Target, user: str | None, name: str, grace: float
) -> Verdict | Literal["ended"]:
    """End a change that runs; "ended" when it was over before it could be stopped."""
    spare = None
    try:
        spare = target.spare(user, writes=True)
        state = _begun(spare, name, target.timeout)
        if state[0] == "barred":
            return "confirmed gone"
        if state[0] != "running":
            return "ended" if state[0] == "done" else "can't tell"
        mark = f"{target.run}/{name}"
        ender = Ender(
            spare, root=int(state[1]), mark=mark, timeout=target.timeout, nonce=spare.nonce
        )
        return ender.end_change(grace)
    except (OpskitError, TimeoutError):
        return "can't tell"
    finally:
        if spare is not None:
            spare.close()


def see_ended(busy: Iterable[Running]) -> Mapping[str, Verdict]:
    """Wait for what was told to give up at servers; say how far the end of each is proved."""
    found: dict[str, Verdict] = {}
    for running in busy:
        running.settled.wait(_PATIENCE)
        found[running.key] = _judged(running)
    return found


def _judged(running: Running) -> Verdict:
    """What ended by itself is gone, too."""
    match running.stopped:
        case "confirmed gone" | "still there" | "can't tell" as verdict:
            return verdict
        case _:
            return "confirmed gone" if running.settled.is_set() else "can't tell"
