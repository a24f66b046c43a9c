"""opskit that is killed with SIGKILL: `python -m tests.support.deadly AT N WORDS…`.

With DEADLY=SIGSTOP in the environment it stands still there, until it gets a SIGCONT.

AT: `before` or `after` the N-th time that events are added to the record, `resumed` (once it is
recorded that a run is gone on with, and nothing after that), `synced` (before the N-th request is
sent to a host), `sent` (after it was sent, before anything of the answer is read),
`read` (once the N-th piece of an answer has come), or `time` (N milliseconds after the first
request). `sql-before-begin`, `sql-before-commit` and `sql-after-commit`: at these points of a
change of a database; `sql-time`: N milliseconds after the first statement of one. `redis-before`,
`redis-sent` and `redis-after`: before a change is sent to a Redis, before anything of its answer is
read, and after that; `redis-time`: N milliseconds after the first command is. `keys-before`,
`keys-sent`, `keys-after`: so around the N-th piece of a set of keys; `keys-kept`: once the keys are
on the disk, and nothing was begun; `keys-agreed`: once that is noted at the server.
`warm-before`, `warm-sent`, `warm-after`: so around the N-th batch of keys that are written to a
cache; `warm-kept` and `warm-agreed`: once the list of them is on the disk, and once it is noted at
the server; `warm-old`: once the N-th copy of what is overwritten is on the disk.
`signal-before`, `signal-after`: before sessions of a database are signalled, and once they were.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

POINTS = ("before", "after", "synced", "sent", "read", "time")
SQL = {
    "sql-before-begin": ("own", "BEGIN", True),
    "sql-before-commit": ("run", "COMMIT", True),
    "sql-after-commit": ("run", "COMMIT", False),
}
"""Which method of a connection is called with which statement, and whether to die before it."""


def die() -> None:
    """Die here: a signal to the process may be taken by another thread while this one goes on."""
    signal.pthread_kill(threading.get_ident(), signal.Signals[os.environ.get("DEADLY", "SIGKILL")])


SIGNAL = ("signal-before", "signal-after")
REDIS = ("redis-before", "redis-sent", "redis-after", "redis-time")


KEYS = ("keys-before", "keys-sent", "keys-after", "keys-kept", "keys-agreed")
WARM = ("warm-before", "warm-sent", "warm-after", "warm-kept", "warm-agreed", "warm-old")


class Count:
    """Counts calls from many threads, and dies at one of them."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._left == 0:
                die()
            self._left -= 1


def around(
    owner: type, name: str, before: Callable[[], None] | None, after: Callable[[], None] | None
) -> None:
    """Call something before or after each call of a method."""
    inner = getattr(owner, name)

    def outer(self: Any, *words: Any, **more: Any) -> Any:  # noqa: ANN401 - whatever it takes
        if before is not None:
            before()
        result = inner(self, *words, **more)
        if after is not None:
            after()
        return result

    setattr(owner, name, outer)


def at_statement(method: str, statement: str, *, before: bool) -> None:
    """Die before or after a statement of opskit's own is carried out at a database."""
    from opskit.drivers.postgres.connection import Connection

    inner = getattr(Connection, method)

    def outer(self: Any, text: str, *words: Any) -> Any:  # noqa: ANN401 - whatever it takes
        if before and text == statement:
            die()
        result = inner(self, text, *words)
        if not before and text == statement:
            die()
        return result

    setattr(Connection, method, outer)


def at_time(number: int) -> None:
    """Die some time after the first transaction that may change something is begun."""
    from opskit.drivers.postgres.connection import Connection

    inner = Connection.own
    clock = threading.Timer(number / 1000, die)
    clock.daemon = True

    def outer(self: Connection, text: str) -> None:
        if text == "BEGIN":
            started(clock)
        inner(self, text)

    setattr(Connection, "own", outer)  # noqa: B010 - a method is replaced


def at_redis(at: str, number: int) -> None:
    """Die around a change of a Redis."""
    from opskit.drivers.redis.connection import Connection
    from opskit.drivers.redis.marks import Marks

    match at:
        case _ if at in KEYS:
            at_keys(at, Count(number))
        case _ if at in WARM:
            at_warm(at, Count(number))
        case "redis-before":
            around(Marks, "do", die, None)
        case "redis-after":
            around(Marks, "do", None, die)
        case "redis-sent":
            around(Marks, "do", lambda: around(Connection, "_send", None, die), None)
        case _:
            clock = threading.Timer(number / 1000, die)
            clock.daemon = True
            around(Connection, "call", lambda: started(clock), None)


def at_keys(at: str, count: Count) -> None:
    """Die around a piece of a set of keys that is removed or put back."""
    from opskit.drivers.redis.batches import Batches
    from opskit.drivers.redis.chunks import Pieces
    from opskit.drivers.redis.connection import Connection
    from opskit.drivers.redis.marks import Marks

    match at:
        case "keys-before":
            around(Marks, "scripted", count, None)
            around(Pieces, "send", count, None)
            around(Batches, "send", count, None)
        case "keys-after":
            around(Marks, "scripted", None, count)
            around(Pieces, "became", None, count)
            around(Batches, "became", None, count)
        case "keys-sent":
            around(Marks, "scripted", lambda: around(Connection, "_send", None, count), None)
            around(Pieces, "send", None, count)
            around(Batches, "send", None, count)
        case "keys-kept":
            around(Pieces, "agreed", die, None)
        case "keys-agreed":
            around(Pieces, "agreed", None, die)
        case _:
            pass


def at_warm(at: str, count: Count) -> None:
    """Die around a batch of keys that are written to a cache, or before the first one."""
    from opskit.drivers.redis.shelf import Notes
    from opskit.drivers.redis.stocking import Writer

    match at:
        case "warm-before":
            around(Writer, "send", count, None)
        case "warm-sent":
            around(Writer, "send", None, count)
        case "warm-after":
            around(Writer, "fate", None, count)
        case "warm-old":
            around(Notes, "keep", None, count)
        case "warm-kept":
            around(Writer, "agreed", die, None)
        case _:
            around(Writer, "agreed", None, die)


def at_signal(*, before: bool) -> None:
    """Die around the one statement that looks at sessions and signals them."""
    from opskit.drivers.postgres import signalling

    inner = signalling._judge

    def outer(connection: Any, work: Any, signal: str) -> Any:  # noqa: ANN401 - as it has it
        acts = "_backend" in signal
        if acts and before:
            die()
        found = inner(connection, work, signal)
        if acts and not before:
            die()
        return found

    signalling._judge = outer


def at_server(at: str, number: int) -> None:
    """Die around what is done at a server at once, and is no transaction."""
    if at in SIGNAL:
        at_signal(before=at == "signal-before")
    else:
        at_redis(at, number)


def started(clock: threading.Timer) -> None:
    with suppress(RuntimeError):  # it has been
        clock.start()


def arm(at: str, number: int) -> None:
    from opskit.audit.journal import Journal
    from opskit.drivers.session import Session

    count = Count(number)
    match at:
        case "before" | "after":
            calls = (count, None) if at == "before" else (None, count)
            around(Journal, "append", *calls)
            around(Journal, "amend", *calls)
        case "resumed":
            around(Journal, "_begin_once", None, count)
        case "synced":
            around(Session, "begin", count, None)
        case "sent":
            around(Session, "begin", None, count)
        case "read":
            around(Session, "poll", None, count)
        case "time":
            clock = threading.Timer(number / 1000, die)
            clock.daemon = True
            around(Session, "begin", lambda: started(clock), None)
        case "sql-time":
            at_time(number)
        case _ if at in (*REDIS, *KEYS, *WARM, *SIGNAL):
            at_server(at, number)
        case _ if at in SQL:
            method, statement, early = SQL[at]
            at_statement(method, statement, before=early)
        case _:
            points = (*POINTS, "resumed", *SQL, "sql-time", *REDIS, *KEYS, *WARM, *SIGNAL)
            every = ", ".join(points)
            raise SystemExit(f"no point {at!r}; there are {every}")


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    from opskit.cli import main

    main(sys.argv[3:])
