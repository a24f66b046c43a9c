"""WebSockets of the practice service (RFC 6455): they send back what they are sent.

When the service is to stop they live on for a while; then they are closed as the protocol has it.
"""

import base64
import contextlib
import hashlib
import selectors
import socket
from typing import Protocol

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
CLOSE, PING, PONG = 8, 9, 10
GOING_AWAY, NOT_MASKED, TOO_BIG = 1001, 1002, 1009
LARGEST_FRAME = 1 << 16


class Stopping(Protocol):
    """What a socket must know of its service."""

    stopping: bool
    stop_read: int  # readable from the wish to stop on

    def socket_seconds(self) -> float:
        """How much longer sockets may live then."""


def accept(key: str) -> str:
    """What the server's side of a handshake answers to the client's key."""
    digest = hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class Socket:
    """The service's side of a WebSocket: it sends back what it is sent."""

    def __init__(self, peer: socket.socket, service: Stopping) -> None:
        self.peer = peer
        self.service = service
        self.received = b""

    def serve(self) -> str:
        """Return who has closed it: client, service, or nobody (the line broke)."""
        try:
            while (frame := self._next()) is not None:
                kind, payload = frame[0] & 15, frame[1]
                if kind == CLOSE:
                    self._send(0x80 | CLOSE, payload[:2])
                    return "client"
                if kind == PING:
                    self._send(0x80 | PONG, payload)
                elif kind != PONG:
                    self._send(frame[0], payload)
            return self._close(GOING_AWAY)
        except ValueError as error:
            return self._close(int(str(error)))
        except OSError:
            return "nobody"

    def _next(self) -> tuple[int, bytes] | None:
        """The next frame's first byte and payload; None when the time after a stop is over."""
        while (frame := self._whole()) is None:
            if not self._wait():
                return None
            more = self.peer.recv(65536)
            if not more:
                raise ConnectionError("closed without a word")
            self.received += more
        return frame

    def _wait(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self.peer, selectors.EVENT_READ, "frame")
            if not self.service.stopping:
                selector.register(self.service.stop_read, selectors.EVENT_READ, "stop")
                if "frame" in [key.data for key, _ in selector.select()]:
                    return True
                selector.unregister(self.service.stop_read)
            return bool(selector.select(self.service.socket_seconds()))

    def _whole(self) -> tuple[int, bytes] | None:
        """Take a frame off what was received, if it is whole; ValueError has a reason to close."""
        if len(self.received) < 2:
            return None
        first, second = self.received[:2]
        wide = {126: 2, 127: 8}.get(second & 127, 0)
        at = 2 + wide
        if not second & 128:
            raise ValueError(NOT_MASKED)
        if len(self.received) < at + 4:
            return None
        size = int.from_bytes(self.received[2:at], "big") if wide else second & 127
        if size > LARGEST_FRAME:
            raise ValueError(TOO_BIG)
        mask, body = self.received[at : at + 4], self.received[at + 4 : at + 4 + size]
        if len(body) < size:
            return None
        self.received = self.received[at + 4 + size :]
        return first, bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))

    def _send(self, first: int, payload: bytes) -> None:
        size = len(payload)
        wide = b"" if size < 126 else size.to_bytes(2 if size < 1 << 16 else 8, "big")
        said = size if not wide else 126 if len(wide) == 2 else 127
        self.peer.sendall(bytes((first, said)) + wide + payload)

    def _close(self, reason: int) -> str:
        """Say so first, and leave the client a second to answer."""
        with contextlib.suppress(OSError):
            self._send(0x80 | CLOSE, reason.to_bytes(2, "big"))
            self.peer.settimeout(1.0)
            while self.peer.recv(65536):
                continue
        return "service"
