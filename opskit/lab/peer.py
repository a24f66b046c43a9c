"""A client's connection to an HTTP server, which tells apart what can go wrong with one.

A kept connection may be closed by the server at any time. One that is found closed before anything
is sent is only opened anew. If it is closed while a request is on its way, and not one byte of the
answer came, HTTP lets a client ask again, once; this is told, as it is no success of the server's.
"""

import select
import socket
from collections.abc import Mapping

TIMEOUT = 10.0  # seconds, for connecting and for each wait
NO_RELEASE = "-"


class IdleCloseError(Exception):
    """A kept connection was closed while the request was on its way."""


class Peer:
    """One client, which keeps its connection between requests or does not."""

    def __init__(self, address: tuple[str, int], *, keep: bool) -> None:
        self.address = address
        self.keep = keep
        self.open: socket.socket | None = None
        self.found_closed = 0

    def ask(self, request: bytes) -> tuple[int, str, bool]:
        """Status, release, and whether it was asked again; raises OSError, ValueError."""
        try:
            return (*self._ask(request), False)
        except IdleCloseError:
            return (*self._ask(request), True)

    def _ask(self, request: bytes) -> tuple[int, str]:
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
            _read_body(peer, headers, rest)
        except OSError as error:
            peer.close()
            if kept is None or received or isinstance(error, TimeoutError):
                raise
            raise IdleCloseError from error
        except (ValueError, LookupError):
            peer.close()
            raise
        if self.keep and headers.get("connection", "").lower() != "close":
            self.open = peer
        else:
            peer.close()
        return status, headers.get("x-release", NO_RELEASE)

    def _kept(self) -> socket.socket | None:
        """The connection of before, unless the server has closed it meanwhile."""
        if self.open is None:
            return None
        poll = select.poll()
        poll.register(self.open, select.POLLIN)
        if not poll.poll(0):
            return self.open
        self.found_closed += 1  # nothing was asked, so what there is to read is its end
        self.open.close()
        self.open = None
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


def _read_body(peer: socket.socket, headers: Mapping[str, str], rest: bytes) -> None:
    missing = int(headers["content-length"]) - len(rest)
    while missing > 0:
        more = peer.recv(65536)
        if not more:
            raise ConnectionError("closed before the answer was whole")
        missing -= len(more)
