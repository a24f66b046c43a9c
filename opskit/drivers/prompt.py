"""The socket under an SSH connection: it never lets the other side wait, and wakes up seldom."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_AHEAD = 64 * 1024
_DEAD_AFTER_MS = 45_000


class Prompt(socket.socket):
    """A socket that acknowledges at once while a session is being set up, and reads ahead.

    sshd sends small packets back to back there and holds the second until the first is
    acknowledged, which this end would delay by 40 ms. Each sending makes it patient again.

    The library asks for a few bytes at a time, twice a packet, and each question lets another
    thread of this process go first. Here one answers for all that has come. The kernel keeps the
    time, which saves the call that would wait before each of them.
    """

    settled = False
    _ahead = memoryview(b"")

    def settimeout(self, value: float | None) -> None:
        super().settimeout(None)
        seconds, fraction = divmod(value or 0.0, 1)
        limit = struct.pack("@ll", int(seconds), int(fraction * 1e6))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        ahead = self._ahead
        if not ahead:
            try:
                ahead = memoryview(super().recv(max(bufsize, _AHEAD), flags))
            except BlockingIOError:
                raise TimeoutError from None
        self._ahead = ahead[bufsize:]
        return bytes(ahead[:bufsize])

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401  # typeshed: Buffer, 3.12
        try:
            sent = super().send(data, flags)
        except BlockingIOError:
            raise TimeoutError from None
        if not self.settled:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return sent


class Calls:
    """Sockets that wait for somebody to answer, so that a person can put an end to that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[socket.socket] = set()

    @contextmanager
    def waiting(self, sock: socket.socket) -> Iterator[None]:
        """Let `hang_up` end what the socket waits for."""
        with self._lock:
            self._waiting.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(sock)

    def hang_up(self) -> None:
        """Make all that wait now fail at once, with an OSError."""
        with self._lock:
            for sock in self._waiting:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # ends a connect too, on Linux


def dial(host: str, port: int, timeout: float, calls: Calls) -> Prompt:
    """Connect within `timeout` seconds; OSError."""
    sock = Prompt(fileno=_connected(host, port, timeout, calls).detach())
    sock.settimeout(timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return sock


def _connected(host: str, port: int, timeout: float, calls: Calls) -> socket.socket:
    """Try every address of a name, all within the time."""
    end = time.monotonic() + timeout
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.001, end - time.monotonic()))
            with calls.waiting(sock):
                sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            continue
        return sock
    raise last
