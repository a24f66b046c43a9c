"""A load on a balancer with an honest count: every request ends in exactly one place.

Half of the threads open a connection for each request, half keep theirs, because a deploy can
fail the one and spare the other. A kept connection that the server closes while it lies idle is
no failure if not one byte of the answer came: HTTP lets a client ask again, once. Such requests
are counted apart, as reconnects.
"""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Self
from urllib.parse import urlsplit

from opskit.errors import InputError
from opskit.model.frozen import frozen

TIMEOUT = 10.0  # seconds, for connecting and for each wait
NO_RELEASE = "-"


@frozen
class Answer:
    """How one request ended: a status, or an error's name; `ms` is counted from when it was due."""

    status: int | None
    release: str
    error: str
    ms: float
    reconnected: bool

    @property
    def failed(self) -> bool:
        return self.status is None or self.status >= 400


@frozen
class Report:
    """The count of a load. Times in milliseconds, `seconds` as measured."""

    requests: int
    failures: int
    reconnects: int
    by_release: Mapping[str, Mapping[str, int]]
    errors: Mapping[str, int]
    ms: Mapping[str, float]
    seconds: float

    def to_json(self) -> Mapping[str, object]:
        """The report as JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def describe(self) -> str:
        """The report for a person."""
        rate = self.requests / self.seconds if self.seconds else 0
        lines = [f"{self.requests} requests in {self.seconds:.1f} s ({rate:.0f}/s)"]
        for release, statuses in sorted(self.by_release.items()):
            counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
            lines.append(f"  release {release}: {counts}")
        lines += [f"  {error}: {count}" for error, count in sorted(self.errors.items())]
        lines.append(
            f"failed: {self.failures}   asked again after an idle close: {self.reconnects}"
        )
        times = "   ".join(f"{name} {value:.1f}" for name, value in self.ms.items())
        return "\n".join([*lines, f"milliseconds: {times}"])


class Peer:
    """A client's connection to one server."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.address = address
        self.request = request
        self.open: socket.socket | None = None
        self.used = False

    def ask(self, *, keep: bool) -> tuple[int, str, bool]:
        """Status, release, and whether it took a second connection; raises OSError, ValueError."""
        try:
            return (*self._ask(keep=keep), False)
        except IdleCloseError:
            return (*self._ask(keep=keep), True)

    def _ask(self, *, keep: bool) -> tuple[int, str]:
        fresh = self.open is None
        peer = self.open or socket.create_connection(self.address, TIMEOUT)
        self.open = None
        received = b""
        try:
            peer.sendall(self.request)
            while b"\r\n\r\n" not in received:
                more = peer.recv(65536)
                if not more:
                    raise ConnectionError("closed before the answer was whole")
                received += more
            status, headers, rest = parse(received)
            _read_body(peer, headers, rest)
        except OSError as error:
            peer.close()
            if fresh or received or isinstance(error, TimeoutError):
                raise
            raise IdleCloseError from error
        except ValueError:
            peer.close()
            raise
        if keep and headers.get("connection", "").lower() != "close":
            self.open = peer
        else:
            peer.close()
        return status, headers.get("x-release", NO_RELEASE)

    def close(self) -> None:
        """Leave."""
        if self.open:
            self.open.close()


class IdleCloseError(Exception):
    """A kept connection had been closed before the request reached it."""


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


@dataclass(kw_only=True, slots=True)
class Load:
    """A running load: a context manager; `report()` counts what has ended so far.

    `rate` is requests per second over all threads; None is as fast as answers come.
    """

    url: str
    rate: float | None = None
    threads: int = 8
    answers: list[Answer] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; raises InputError for what is no http URL."""
        url = urlsplit(self.url)
        if url.scheme != "http" or not url.hostname:
            raise InputError(f"not an http:// address: {self.url}")
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        address = (url.hostname, url.port or 80)
        self._times.append(time.monotonic())
        for number in range(self.threads):
            keep = number % 2 == 1
            kept = "keep-alive" if keep else "close"
            request = f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: {kept}\r\n\r\n"
            words = (Peer(address, request.encode()), number, keep)
            self._running.append(threading.Thread(target=self._work, args=words, daemon=True))
        for thread in self._running:
            thread.start()

    def stop(self) -> Report:
        """End after the requests that are under way, and count."""
        self._ending.set()
        for thread in self._running:
            thread.join()
        if len(self._times) == 1:
            self._times.append(time.monotonic())
        return self.report()

    def _work(self, peer: Peer, number: int, keep: bool) -> None:  # a thread's words
        pause = self.threads / self.rate if self.rate else 0.0
        due = self._times[0] + pause * number / self.threads
        with contextlib.closing(peer):
            while not self._ending.wait(max(0.0, due - time.monotonic()) if pause else 0):
                due = due if pause else time.monotonic()
                self.answers.append(_ask(peer, due, keep=keep))
                due += pause

    def report(self) -> Report:
        """The count up to now."""
        until = self._times[1] if len(self._times) == 2 else time.monotonic()
        return summarise(tuple(self.answers), until - self._times[0])


def _ask(peer: Peer, due: float, *, keep: bool) -> Answer:
    status, release, error, reconnected = None, NO_RELEASE, "", False
    try:
        status, release, reconnected = peer.ask(keep=keep)
    except (OSError, ValueError, LookupError) as problem:
        error = type(problem).__name__
    ms = (time.monotonic() - due) * 1000
    return Answer(status=status, release=release, error=error, ms=ms, reconnected=reconnected)


def summarise(answers: Sequence[Answer], seconds: float) -> Report:
    """Count answers."""
    by_release: dict[str, Counter[str]] = {}
    for answer in answers:
        if answer.status is not None:
            by_release.setdefault(answer.release, Counter())[str(answer.status)] += 1
    times = sorted(answer.ms for answer in answers) or [0.0]
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}
    return Report(
        requests=len(answers),
        failures=sum(answer.failed for answer in answers),
        reconnects=sum(answer.reconnected for answer in answers),
        by_release={release: dict(counts) for release, counts in by_release.items()},
        errors=dict(Counter(answer.error for answer in answers if answer.error)),
        ms={k: round(times[min(int(len(times) * v), len(times) - 1)], 2) for k, v in ranks.items()},
        seconds=round(seconds, 3),
    )


def run(
    url: str,
    seconds: float,
    *,
    rate: float | None = None,
    threads: int = 8,
    enough: threading.Event | None = None,
) -> Report:
    """Load a server for some seconds, or until `enough` is set."""
    load = Load(url=url, rate=rate, threads=threads)
    load.start()
    try:
        (enough or threading.Event()).wait(seconds)
    finally:
        report = load.stop()
    return report
