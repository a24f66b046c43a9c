"""A relay before a server that cuts connections: at a byte, or when it is told to."""

import contextlib
import random
import socket
import threading
from collections.abc import Iterator

from opskit.lab import sockets


class Proxy:
    """Relays TCP on a loopback port to a server: its socket's path, or its address and port.

    `cut_after`: how many more bytes pass, either way, before every connection is cut; None: all.
    """

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_after: int | None = None
        self.cuts = 0
        self.refusing = False
        self.again: random.Random | None = None
        """Where set, each cut is followed by another one, after so many bytes as it says."""
        self.then: list[int] = []
        """After how many bytes each of the next cuts comes, where `again` is not set."""
        self.span = (1500, 12_000)
        self.passed = 0
        """How many bytes have passed, both ways."""
        self.trips = 0
        """How often a client has spoken first, or after it was answered."""
        self._answered = True
        self.hard = False
        """Whether a cut is an RST, which also takes what the other side had not read yet."""
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, database: str, user: str = "owner", more: str = "") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable{more}"

    def lead_to(self, upstream: str | tuple[str, int]) -> None:
        """Let what connects from now on come to another server."""
        self._upstream = upstream

    def cut(self) -> None:
        """Cut everything that is open, as a router does that has forgotten it."""
        with self._lock:
            self._cut()

    def close(self) -> None:
        self.refusing = True
        self.again, self.then = None, []
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def _cut(self) -> None:
        self.cuts += 1
        for one in self._open:
            with contextlib.suppress(OSError):
                if self.hard and one.family == socket.AF_INET:
                    sockets.reset(one)
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        if self.again is not None:
            self.cut_after = self.again.randrange(*self.span)
        else:
            self.cut_after = self.then.pop(0) if self.then else None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            kind = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
            server = socket.socket(kind)
            try:
                server.connect(self._upstream)
            except OSError:
                server.close()
                client.close()
                continue
            with self._lock:
                self._open += [client, server]
            for pair in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._relay, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    self.trips += asks and self._answered
                    self._answered = not asks
                    left = self.cut_after
                    passed = data if left is None else data[:left]
                    self.passed += len(passed)
                    if left is not None:
                        self.cut_after = left - len(passed)
                if passed:
                    target.sendall(passed)
                if len(passed) < len(data) or self.cut_after == 0:
                    with self._lock:
                        self._cut()
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


@contextlib.contextmanager
def proxy(upstream: str | tuple[str, int]) -> Iterator[Proxy]:
    """Give a relay to the server that listens there."""
    found = Proxy(upstream)
    try:
        yield found
    finally:
        found.close()
