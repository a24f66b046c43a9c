"""A load on a balancer with an honest count: every request ends in exactly one place.

Half of the threads open a connection for each request, half keep theirs, because a deploy can
fail the one and spare the other. With a rate, times are counted from when a request was due, and
whether the rate was held is told: a load that waits for a slow server would hide what it does.
A part of the requests can be POSTs, each with an id of its own, and WebSockets can be held beside.
They come from one address as many users: a split by address and agent gives some to either side.
Each request has an id, which the practice service tells back: an answer to another one is a
failure. So are more bytes than were asked for. What was due and not sent is told, as nobody can say
how it would have ended.
"""

import contextlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Self
from urllib.parse import urlsplit

from opskit.errors import InputError
from opskit.lab.held import Held
from opskit.lab.peer import NO_RELEASE, Peer, Reply
from opskit.model.frozen import frozen

ID = "Idempotency-Key"
MINE = "X-Request-Id"  # which the practice service tells back
SHOWN = 5  # slowest requests
FAILURES_SHOWN = 20
AGENTS = 64  # of each thread: as many users, whom a balancer that splits by them gives both colours


@frozen
class Answer:
    """How one request ended: a status, or an error's name; `ms` is counted from when it was due."""

    status: int | None
    release: str
    error: str
    ms: float
    reconnected: bool
    way: str = ""  # such as: kept GET
    due: float = 0.0  # seconds after the load's beginning
    sent: float = 0.0
    known: bool = False  # it told the request's own id

    @property
    def failed(self) -> bool:
        return self.status is None or self.status >= 400

    def to_json(self) -> Mapping[str, object]:
        """The request as JSON values, for those that are shown singly."""
        return {
            "way": self.way,
            "due": round(self.due, 3),
            "ms": round(self.ms, 1),
            "status": self.status,
            "release": self.release,
            "error": self.error,
        }


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
    by_way: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rate: Mapping[str, float | None] = field(default_factory=dict)
    found_closed: int = 0
    reused: int = 0
    known: int = 0
    slowest: tuple[Mapping[str, object], ...] = ()
    failed: tuple[Mapping[str, object], ...] = ()
    sockets: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> Mapping[str, object]:
        """The report as JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def describe(self) -> str:
        """The report for a person."""
        rate = self.requests / self.seconds if self.seconds else 0
        held = f"{rate:.0f}/s"
        if self.rate.get("asked"):
            held += f"; asked {self.rate['asked']:g}, worst second {self.rate['worst_second']:g}"
            held += f", not sent {self.rate['unsent']:g}" if self.rate.get("unsent") else ""
        lines = [f"{self.requests} requests in {self.seconds:.1f} s ({held})"]
        for release, statuses in sorted(self.by_release.items()):
            counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
            lines.append(f"  release {release}: {counts}")
        lines += [f"  {error}: {count}" for error, count in sorted(self.errors.items())]
        for way, count in sorted(self.by_way.items()):
            told = f"{count['requests']}, failed {count['failures']}"
            lines.append(f"  {way}: {told}, asked again {count['reconnects']}")
        lines.append(
            f"failed: {self.failures}   asked again after a close in between: {self.reconnects}"
            f"   kept connections used again: {self.reused}, found closed: {self.found_closed}"
        )
        times = "   ".join(f"{name} {value:.1f}" for name, value in self.ms.items())
        lines.append(f"milliseconds: {times}")
        if self.sockets:
            lines.append(_sockets(self.sockets))
        return "\n".join(lines)


def _sockets(told: Mapping[str, object]) -> str:
    closed, refused = told["closed_by"], told["not_opened"]
    assert isinstance(closed, dict)
    assert isinstance(refused, dict)
    text = f"WebSockets: {told['opened']} opened, {sum(refused.values())} refused, closed by "
    text += ", ".join(f"{who}: {count}" for who, count in sorted(closed.items())) or "nobody yet"
    return f"{text}; {told['echoes']} echoes, {told['unanswered']} words without one"


@dataclass(kw_only=True, slots=True)
class Load:
    """A running load: a context manager; `report()` counts what has ended so far.

    `rate` is requests per second over all threads; None is as fast as answers come. `posts` is the
    share of requests that are POSTs; `sockets` is how many WebSockets are held, each for `hold`
    seconds (None: to the end).
    """

    url: str
    rate: float | None = None
    threads: int = 8
    posts: float = 0.0
    sockets: int = 0
    hold: float | None = None
    answers: list[Answer] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)
    _peers: list[Peer] = field(default_factory=list)
    _unsent: list[int] = field(default_factory=list)
    _ended: float = 0.0
    _held: Held | None = None

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
        if self.sockets:
            self._held = Held(address=address, host=url.netloc, count=self.sockets, hold=self.hold)
            self._held.start()
        for number in range(self.threads):
            peer = Peer(address, keep=number % 2 == 1)
            self._peers.append(peer)
            words = (peer, number, f"{path} HTTP/1.1\r\nHost: {url.netloc}\r\n")
            self._running.append(threading.Thread(target=self._work, args=words, daemon=True))
        self._times.append(time.monotonic())
        for thread in self._running:
            thread.start()

    def stop(self) -> Report:
        """End after the requests that are under way, and count."""
        self._ended = self._ended or time.monotonic()
        self._ending.set()
        for thread in self._running:
            thread.join()
        if len(self._times) == 1:
            self._times.append(time.monotonic())
        if self._held:
            self._held.stop()
        return self.report()

    def _work(self, peer: Peer, number: int, line: str) -> None:  # a thread's words
        pause = self.threads / self.rate if self.rate else 0.0
        begun = self._times[0]
        due = begun + pause * number / self.threads
        mark, count, phase = secrets.token_hex(6), 0, number / self.threads
        with contextlib.closing(peer):
            while not self._ending.wait(max(0.0, due - time.monotonic()) if pause else 0):
                now = time.monotonic()
                due = due if pause else now
                post = int(phase + (count + 1) * self.posts) > int(phase + count * self.posts)
                words = f"{line}User-Agent: load-{mark}-{count % AGENTS}\r\n"
                request = _Request(number=f"{mark}-{count}", post=post)
                self.answers.append(_ask(peer, request, words, times=(begun, due, now)))
                due += pause
                count += 1
        if pause and due <= self._ended:
            self._unsent.append(int((self._ended - due) / pause) + 1)

    def report(self) -> Report:
        """The count up to now."""
        until = self._times[1] if len(self._times) == 2 else time.monotonic()
        return summarise(
            tuple(self.answers),
            until - self._times[0],
            rate=self.rate,
            found_closed=sum(peer.found_closed for peer in self._peers),
            reused=sum(peer.reused for peer in self._peers),
            unsent=sum(self._unsent),
            sockets=self._held.report() if self._held else {},
        )


@frozen
class _Request:
    """A request by its id."""

    number: str
    post: bool

    @property
    def body(self) -> str:
        return "ok" if self.post else ""

    def text(self, line: str, *, keep: bool) -> bytes:
        """The whole of it."""
        head = f"{line}{MINE}: {self.number}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n"
        if self.post:
            head = f"POST {head}{ID}: {self.number}\r\nContent-Length: {len(self.body)}\r\n"
        else:
            head = f"GET {head}"
        return f"{head}\r\n{self.body}".encode()

    def fault_of(self, reply: Reply) -> str:
        """What makes an answer of the practice service none to this request, or nothing."""
        if reply.headers[MINE.lower()] != self.number:
            return "AnswerToAnother"
        told = json.loads(reply.body)
        if told.get("release", reply.release) != reply.release:
            return "BodyOfAnother"
        return "" if told.get("received", len(self.body)) == len(self.body) else "BodyNotWhole"


def _ask(peer: Peer, request: _Request, line: str, *, times: tuple[float, float, float]) -> Answer:
    status, release, error, again, known = None, NO_RELEASE, "", False, False
    begun, due, now = times
    try:
        reply = peer.ask(request.text(line, keep=peer.keep))
        again, release = reply.again, reply.release
        known = MINE.lower() in reply.headers
        error = request.fault_of(reply) if known else ""
        status = None if error else reply.status
    except Exception as problem:  # noqa: BLE001  # whatever it is: it is how this request ended
        error = type(problem).__name__
    return Answer(
        status=status,
        release=release,
        error=error,
        ms=(time.monotonic() - due) * 1000,
        reconnected=again,
        way=f"{'kept' if peer.keep else 'fresh'} {'POST' if request.post else 'GET'}",
        due=due - begun,
        sent=now - begun,
        known=known and not error,
    )


def summarise(
    answers: Sequence[Answer],
    seconds: float,
    *,
    rate: float | None = None,
    found_closed: int = 0,
    reused: int = 0,
    unsent: int = 0,
    sockets: Mapping[str, object] | None = None,
) -> Report:
    """Count answers."""
    by_release: dict[str, Counter[str]] = {}
    by_way: dict[str, Counter[str]] = {}
    for answer in answers:
        if answer.status is not None:
            by_release.setdefault(answer.release, Counter())[str(answer.status)] += 1
        way = by_way.setdefault(answer.way, Counter(requests=0, failures=0, reconnects=0))
        way.update(requests=1, failures=answer.failed, reconnects=answer.reconnected)
    times = sorted(answer.ms for answer in answers) or [0.0]
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}
    slow = sorted(answers, key=lambda answer: -answer.ms)[:SHOWN]
    failed = [answer for answer in answers if answer.failed]
    return Report(
        requests=len(answers),
        failures=len(failed),
        reconnects=sum(answer.reconnected for answer in answers),
        by_release={release: dict(counts) for release, counts in by_release.items()},
        errors=dict(Counter(answer.error for answer in answers if answer.error)),
        ms={k: round(times[min(int(len(times) * v), len(times) - 1)], 2) for k, v in ranks.items()},
        seconds=round(seconds, 3),
        by_way={way: dict(counts) for way, counts in by_way.items()},
        rate={**_rate(answers, seconds, rate), "unsent": unsent},
        found_closed=found_closed,
        reused=reused,
        known=sum(answer.known for answer in answers),
        slowest=tuple(answer.to_json() for answer in slow),
        failed=tuple(answer.to_json() for answer in failed[:FAILURES_SHOWN]),
        sockets=sockets or {},
    )


def _rate(
    answers: Sequence[Answer], seconds: float, asked: float | None
) -> Mapping[str, float | None]:
    """How many requests were sent each second: on average, and in the worst whole one."""
    in_second = Counter(int(answer.sent) for answer in answers)
    whole = range(int(seconds))
    worst = min((in_second[second] for second in whole), default=len(answers))
    mean = len(answers) / seconds if seconds else 0.0
    return {"asked": asked, "mean": round(mean, 1), "worst_second": worst}


def run(load: Load, seconds: float, enough: threading.Event | None = None) -> Report:
    """Let a load run for some seconds, or until `enough` is set."""
    load.start()
    try:
        (enough or threading.Event()).wait(seconds)
    finally:
        report = load.stop()
    return report
