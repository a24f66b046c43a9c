"""WebSockets that are held open beside a load: who closed each, and how long it had lived.

Each sends a word every second and waits for its echo. One that its own client has held long enough
is closed as the protocol has it, and another is opened, as clients do that come and go. One that
somebody else closes is told with its moment: by the service (with a close frame), or by nobody
(the connection ended without a word, as when a balancer gives up on it).
"""

import base64
import contextlib
import hashlib
import secrets
import socket
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from opskit.lab.peer import TIMEOUT, parse
from opskit.model.frozen import frozen

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE = 1, 8
EVERY = 1.0
AGAIN = 0.2  # seconds until another try, where one could not be opened
ANSWER = 2.0  # seconds that a close waits for the other side's


class RefusedError(Exception):
    """The server did not become a WebSocket."""


@frozen
class Closing:
    """The end of a socket; `at` is the time of day (seconds since 1970).

    `lived` counts from when its client began to connect: whoever accepted it has it from then on.
    """

    by: str  # client, service, or nobody
    code: int | None
    at: float
    lived: float
    echoes: int
    unanswered: int  # words without an echo
    slowest: float  # ms, of an echo


@dataclass(slots=True)
class Words:
    """What a socket has said and heard."""

    sent: int = 0
    echoed: int = 0
    slowest: float = 0.0
    turn: float = 0.0  # when the last was sent

    def heard(self, payload: bytes) -> None:
        """Count an echo; the one before it may have been late already."""
        if payload == b"%d" % (self.echoed + 1):
            late = (self.sent - self.echoed - 1) * EVERY
            self.slowest = max(self.slowest, (time.monotonic() - self.turn + late) * 1000)
            self.echoed += 1


class Socket:
    """A client's side of one WebSocket; raises OSError or RefusedError when it can't be opened."""

    def __init__(self, address: tuple[str, int], host: str, path: str) -> None:
        self.peer = socket.create_connection(address, TIMEOUT)
        self.received = b""
        try:
            self._shake_hands(host, path)
        except (OSError, ValueError, LookupError, RefusedError):
            self.peer.close()
            raise

    def _shake_hands(self, host: str, path: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16))
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        request += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        self.peer.sendall(request.encode() + key + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.received:
            self._read()
        status, headers, self.received = parse(self.received)
        digest = hashlib.sha1(key + GUID, usedforsecurity=False).digest()
        if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            raise RefusedError(f"status {status}")

    def send(self, kind: int, payload: bytes) -> None:
        """Send a short frame, masked as a client must."""
        mask = secrets.token_bytes(4)
        body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.peer.sendall(bytes((0x80 | kind, 0x80 | len(payload))) + mask + body)

    def frame(self, until: float) -> tuple[int, bytes] | None:
        """The next frame's kind and payload, or None when there is none until then."""
        while len(self.received) < 2 or len(self.received) < 2 + self.received[1]:
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.peer.settimeout(left)
            try:
                self._read()
            except TimeoutError:
                return None
        size = self.received[1]
        kind, payload = self.received[0] & 15, self.received[2 : 2 + size]
        self.received = self.received[2 + size :]
        return kind, payload

    def _read(self) -> None:
        more = self.peer.recv(65536)
        if not more:
            raise ConnectionError("closed without a word")
        self.received += more


def _listen(one: Socket, words: Words, until: float) -> int | None:
    """Hear echoes until then, or until the other side closes; then its reason."""
    while (frame := one.frame(until)) is not None:
        kind, payload = frame
        if kind == CLOSE:
            return int.from_bytes(payload[:2], "big")
        words.heard(payload)
    return None


@dataclass(kw_only=True, slots=True)
class Held:
    """Sockets that are held; `hold` is how many seconds (None: to the end)."""

    address: tuple[str, int]
    host: str
    count: int
    hold: float | None = None
    path: str = "/ws"
    opened: int = 0
    closings: list[Closing] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin to open them."""
        for number in range(self.count):
            part = (number + 1) / self.count  # so that they do not all come and go at once
            thread = threading.Thread(target=self._keep, args=(part,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Close all."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, part: float) -> None:
        """Hold one after the other; the first of them for a part of its time only."""
        while not self._ending.is_set():
            begun = time.monotonic()
            try:
                one = Socket(self.address, self.host, self.path)
            except (OSError, ValueError, LookupError, RefusedError) as error:
                told = str(error) if isinstance(error, RefusedError) else type(error).__name__
                self.errors.append(told)
                self._ending.wait(AGAIN)
                continue
            with self._lock:
                self.opened += 1
            with one.peer:
                closing = self._hold(one, begun, None if self.hold is None else self.hold * part)
            self.closings.append(closing)
            part = 1.0

    def _hold(self, one: Socket, begun: float, seconds: float | None) -> Closing:
        words = Words()
        until = float("inf") if seconds is None else begun + seconds
        code, by = None, "client"
        try:
            code = self._talk(one, words, until)
        except OSError:
            by = "nobody"
        return Closing(
            by=by if code is None else "service",
            code=code,
            at=time.time(),
            lived=time.monotonic() - begun,
            echoes=words.echoed,
            unanswered=words.sent - words.echoed,
            slowest=round(words.slowest, 1),
        )

    def _talk(self, one: Socket, words: "Words", until: float) -> int | None:
        """Send words until it is time to leave; returns the reason if the service closes it."""
        turn = time.monotonic()
        while turn < until and not self._ending.is_set():
            words.sent, words.turn = words.sent + 1, time.monotonic()
            one.send(TEXT, b"%d" % words.sent)
            turn += EVERY
            code = _listen(one, words, min(turn, until))
            if code is not None:
                with contextlib.suppress(OSError):  # it may not wait for the answer
                    one.send(CLOSE, code.to_bytes(2, "big"))
                return code
        one.send(CLOSE, (1000).to_bytes(2, "big"))
        _listen(one, words, time.monotonic() + ANSWER)
        return None

    def report(self) -> dict[str, object]:
        """The count of what has ended so far."""
        closed = sorted(self.closings, key=lambda one: one.at)
        return {
            "asked": self.count,
            "opened": self.opened,
            "open": self.opened - len(closed),
            "not_opened": dict(Counter(self.errors)),
            "closed_by": dict(Counter(one.by for one in closed)),
            "echoes": sum(one.echoes for one in closed),
            "unanswered": sum(one.unanswered for one in closed),
            "slowest_echo_ms": max((one.slowest for one in closed), default=0.0),
            "closings": [asdict(one) for one in closed if one.by != "client"],
        }
