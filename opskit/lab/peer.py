"""A client's connection to an HTTP server, which tells apart what can go wrong with one.

A kept connection may be closed by the server at any time. One that is found closed before anything
is sent is only opened anew. If it is closed while a request is on its way, and not one byte of the
answer came, HTTP lets a client ask again, once; this is told, as it is no success of the server's.
Bytes that nobody asked for are nobody's answer: they may be another client's.
"""

import select
import socket
from collections.abc import Mapping

from opskit.model.frozen import frozen

TIMEOUT = 10.0  # seconds, for connecting and for each wait
NO_RELEASE = "-"


class IdleCloseError(Exception):
    """A kept connection was closed while the request was on its way."""


class StrayBytesError(ValueError):
    """There was more than was asked for."""


@frozen
class Reply:
    """An answer that came whole."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    again: bool = False  # it was asked for twice

    @property
    def release(self) -> str:
        return self.headers.get("x-release", NO_RELEASE)


class Peer:
    """One client, which keeps its connection between requests or does not."""

    def __init__(self, address: tuple[str, int], *, keep: bool) -> None:
        self.address = address
        self.keep = keep
        self.open: socket.socket | None = None
        self.found_closed = 0
        self.reused = 0

    def ask(self, request: bytes) -> Reply:
        """Send a request and read its answer; raises OSError, ValueError, LookupError."""
        try:
            return self._ask(request, again=False)
        except IdleCloseError:
            return self._ask(request, again=True)

    def _ask(self, request: bytes, *, again: bool) -> Reply:
        kept = self._kept()
        peer = kept or socket.create_connection(self.address, TIMEOUT)
        self.open = None
        received = b""
        try:
            peer.sendall(request)
            while b"\r\n\r\n" not in received:
                more = peer.recv(65536)
                if not more:
                    raise ConnectionError("closed before the answer was whole")
                received += more
            status, headers, rest = parse(received)
            body = _read_body(peer, headers, rest)
        except OSError as error:
            peer.close()
            if kept is None or received or isinstance(error, TimeoutError):
                raise
            raise IdleCloseError from error
        except (ValueError, LookupError):
            peer.close()
            raise
        self.reused += kept is not None
        if self.keep and headers.get("connection", "").lower() != "close":
            self.open = peer
        else:
            peer.close()
        return Reply(status=status, headers=headers, body=body, again=again)

    def _kept(self) -> socket.socket | None:
        """The connection of before, unless the server has closed it meanwhile."""
        if self.open is None:
            return None
        poll = select.poll()
        poll.register(self.open, select.POLLIN)
        if not poll.poll(0):
            return self.open
        found, self.open = self.open, None
        try:
            stray = found.recv(1)  # nothing was asked, so what there is to read should be its end
        except OSError:
            stray = b""
        found.close()
        if stray:
            raise StrayBytesError("the server said what nobody had asked for")
        self.found_closed += 1
        return None

    def close(self) -> None:
        """Leave."""
        if self.open:
            self.open.close()


def parse(received: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers (names in lower case) and what there is of the body; raises ValueError."""
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, rest


def _read_body(peer: socket.socket, headers: Mapping[str, str], rest: bytes) -> bytes:
    size, body = int(headers["content-length"]), bytearray(rest)
    while len(body) < size:
        more = peer.recv(65536)
        if not more:
            raise ConnectionError("closed before the answer was whole")
        body += more
    if len(body) > size:
        raise StrayBytesError("the answer went on behind its end")
    return bytes(body)
