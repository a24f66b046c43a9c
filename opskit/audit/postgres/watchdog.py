"""An end to every wait: a server that stands still answers no more, and never says so."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from opskit.audit.postgres.rows import Connection

SILENCE = 45.0
"""Seconds without an answer after which a connection is given up: longer than the server lets a
session wait for the store (`lock_timeout`)."""


class Watchdog:
    """Cuts connections of whose queries none has been answered for `SILENCE` seconds."""

    def __init__(self) -> None:
        self._asked: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Look after a connection for as long as this lasts; one within another is fine."""
        outer = connection in self._asked
        self.touch(connection)
        try:
            yield
        finally:
            if not outer:
                with self._lock:
                    self._asked.pop(connection, None)

    def touch(self, connection: Connection) -> None:
        """Take note that something new is asked: the last answer is there, or none was due."""
        with self._lock:
            self._asked[connection] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _look(self) -> None:
        while not self._closed.wait(0.5):
            now = time.monotonic()
            with self._lock:
                for connection, asked in self._asked.items():
                    if now - asked > SILENCE:
                        _cut(connection)


def _cut(connection: Connection) -> None:
    """End a connection under whoever waits for it, as if the network had."""
    with suppress(OSError, ValueError):
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            copy.shutdown(socket.SHUT_RDWR)
        finally:
            copy.close()
