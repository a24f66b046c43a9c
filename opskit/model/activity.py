"""What a database is busy with, and which of its sessions are to be ended."""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAME = re.compile(r"([1-9][0-9]{0,9})\.([0-9a-z]{1,12})\.([0-9a-z]{1,12})", re.ASCII)


@frozen
class Target:
    """One session at one moment: process, when it began, and when what it does or did last began.

    Times are microseconds since 1970. A number of a process is used again, and a session does one
    thing after the other: only all three say which is meant. Written as `4711.h3zq8k1c2x.h3zq8m00`.
    """

    pid: int
    began: int
    since: int

    def __str__(self) -> str:
        return f"{self.pid}.{_written(self.began)}.{_written(self.since)}"


def target(written: str) -> Target | None:
    """Read what a session is called; None where it is no such name."""
    found = _NAME.fullmatch(written)
    if found is None:
        return None
    return Target(pid=int(found[1]), began=int(found[2], 36), since=int(found[3], 36))


def _written(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits


@frozen
class Limit:
    """From how many seconds on something is a WARN, and from how many a CRIT."""

    warn: float
    crit: float


@frozen
class Activity:
    """Look at what a database is busy with; a check that is OK, WARN, CRIT or UNKNOWN.

    `window`: over how many seconds statements are counted; 0: since their counters began. `top`:
    so many statements are shown; `by`: which come first. `limits`: check → what it finds too long.
    `users`: whose sessions it is about; none: everybody's. `leave_out`: checks that are not made.
    `large`: from so many rows on a table is looked at; `stale`: of how many percent of them may
    have changed since ANALYZE. `plans`: let the statements that are shown be planned.
    """

    database: str
    window: float = 60.0
    top: int = 10
    by: str = "total"
    limits: Mapping[str, Limit] = field(default_factory=dict)
    users: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    large: int = 10_000
    stale: float = 10.0
    plans: bool = False


@frozen
class Sessions:
    """End what some sessions run, or end the sessions; all of them or none.

    Each must be as it was listed, be one of `users`, and have lasted `older` seconds. Several may
    be no larger part than `share` of the database's sessions. `wait`: how long they have to be
    gone. `rest`: those that `cancel` has not ended by then are terminated. `probe`: only see
    whether it could be done.
    """

    do: Literal["cancel", "terminate"]
    database: str
    targets: tuple[Target, ...]
    users: tuple[str, ...]
    older: float
    wait: float = 5.0
    share: float = 1.0
    rest: bool = False
    probe: bool = False
