"""The socket under an SSH connection: it never lets the other side wait, and wakes up seldom."""

import socket
import struct
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


def dial(host: str, port: int, timeout: float) -> Prompt:
    """Connect within `timeout` seconds; OSError."""
    plain = socket.create_connection((host, port), timeout=timeout)
    sock = Prompt(fileno=plain.detach())
    sock.settimeout(timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return sock
