"""Another client of a database, which goes on meanwhile and counts how long it takes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg

Turn: TypeAlias = "Callable[[psycopg.Connection[Any], int], object]"
"""What it does again and again: a connection and the number of the turn."""


@dataclass
class Writer:
    """Reads and writes all the time. `times`: seconds of each turn; `errors`: what went wrong."""

    url: str
    turn: Turn
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def go(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(b"SET lock_timeout = '2s'")
            for number in range(1, 10**9):
                if self.stop.is_set():
                    return
                began = time.monotonic()
                try:
                    self.turn(connection, number)
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.times.append(time.monotonic() - began)
                time.sleep(0.002)

    def p99(self, since: int = 0) -> float:
        """Return the 99th percentile of what came after so many, in milliseconds."""
        found = sorted(self.times[since:])
        return 1000 * found[int(len(found) * 0.99)]

    def after(self, since: int) -> str:
        """Say how it went after so many turns."""
        return f"p99 {self.p99(since):.1f} ms of {len(self.times) - since} turns"


@contextmanager
def writing(url: str, turn: Turn) -> Iterator[Writer]:
    writer = Writer(url, turn)
    thread = threading.Thread(target=writer.go)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join(20)
