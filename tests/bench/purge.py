"""Removing keys by a pattern, beside `redis-cli --scan | xargs -n 1000 redis-cli unlink`.

Where there is no redis-cli, on the PATH or as REDIS_CLI, a small client does the same: it walks
with SCAN as redis-cli does and sends UNLINK with 1,000 keys at a time, each time over a connection
of its own, and starts no process for that. Both keep nothing. opskit keeps the names, or every
value too; it removes exactly what it has kept, each key once, and looks whether it is gone.
"""

import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis

from tests.bench.apart import Apart
from tests.bench.figures import FailedError, Figure, Rounds, ratio
from tests.bench.peers import Bench
from tests.support.redis import Peer, Server, server

ROUNDS = 3
PATTERN = ":1:team:*"
SOME = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Purge(Apart):
    """`cache-invalidate` where so many of all keys fit."""

    keys: int
    of: int

    @property
    def name(self) -> str:
        return f"purge-{100 * self.keys // self.of}"

    @property
    def title(self) -> str:
        return f"{self.keys:,} of {self.of:,} keys removed, {ROUNDS} rounds of its own"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        bench = self.bench
        ours: list[Run] = []
        kept: list[Run] = []
        theirs: list[Run] = []
        bare: list[Run] = []
        slow = {"slowlog_log_slower_than": "100", "slowlog_max_len": "10000"}
        with server(**slow) as found, server() as other:
            place = _Place(found, other, bench, self.keys, self.of)
            for turn in range(ROUNDS + 1):
                for runs, do in (
                    (ours, place.without), (kept, place.opskit), (theirs, place.peer),
                    (bare, place.bare),
                ):  # fmt: skip
                    one = place.measured(do)
                    runs += [one] if turn else []
        rates = [[one.rate for one in runs] for runs in (ours, kept, theirs, bare)]
        peer = "redis-cli" if place.cli else "the small client (there is no redis-cli)"
        return [
            Figure(what="keys/s, names alone kept", values=rates[0]),
            Figure(what="keys/s, values kept", values=rates[1]),
            Figure(what=f"keys/s of {peer}", values=rates[2]),
            Figure(what="names alone beside it", values=ratio(rates[0], rates[2]), limit=4,
                   least=True),
            Figure(what="values kept beside it", values=ratio(rates[1], rates[2])),
            Figure(what="keys/s of a client that walks and removes at once", values=rates[3]),
            Figure(what="that client beside it", values=ratio(rates[3], rates[2])),
            Figure(what="names alone beside that client", values=ratio(rates[0], rates[3])),
            *_processor(ours, "opskit's whole run, names alone,"),
            *_processor(kept, "opskit's whole run, values kept,"),
            *_processor(theirs, peer),
            _server(bare, "of the server, with a client that walks and removes at once, a key"),
            Figure(
                what="a piece at the server by its clock, in the middle",
                values=[one.piece for one in ours], unit=" ms", limit=2,
            ),
            Figure(
                what="longest command at the server", values=[one.longest for one in ours],
                unit=" ms",
            ),
            Figure(
                what="longest wait of a GET, values kept", values=[one.stall for one in kept],
                unit=" ms",
            ),
            Figure(
                what="longest wait of a GET", values=[one.stall for one in ours], unit=" ms",
                limit=5, judged=max,
            ),
            Figure(
                what=f"longest wait of a GET beside {peer}",
                values=[one.stall for one in theirs], unit=" ms",
            ),
            Figure(
                what="longest wait of a GET meanwhile at a server that does nothing else",
                values=[one.aside for one in ours], unit=" ms",
            ),
            Figure(what="longest wait alone", values=[one.alone for one in ours], unit=" ms"),
        ]  # fmt: skip


def _processor(runs: Sequence["Run"], whose: str) -> list[Figure]:
    """Tell what a run took of the processor; opskit's has a look before, and its own start."""
    return [
        Figure(what=f"processor of {whose} a key", values=[one.client for one in runs], unit=" µs"),
        _server(runs, "… and of the server"),
    ]


def _server(runs: Sequence["Run"], what: str) -> Figure:
    return Figure(what=what, values=[one.server for one in runs], unit=" µs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run came to: keys a second; what it took of the processor for a key, µs; how long the
    server took for a piece in the middle and for one command at most, how long a GET beside it
    waited, and how long one at a server that does nothing else did, in ms.
    """

    rate: float
    client: float
    server: float
    piece: float
    longest: float
    stall: float
    aside: float
    alone: float


class _Place:
    """A server with keys, and two ways to remove those that fit."""

    def __init__(self, at: Server, other: Server, bench: Bench, keys: int, of: int) -> None:
        """`other`: a server that has nothing to do; what a GET waits there the machine waits."""
        self._other = other
        other.call("SET", "other:1", "x" * 100)
        self._at, self._bench, self._keys, self._of = at, bench, keys, of
        self.cli = os.environ.get("REDIS_CLI") or shutil.which("redis-cli")
        self._inventory = at.folder / "hosts.yaml"
        self._inventory.write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\n"
            f"redis: {{main: {{url: 'redis://127.0.0.1:{at.port}/0'}}}}\n"
        )

    def measured(self, do: Callable[[], float]) -> Run:
        """Make the keys anew, and remove some beside a client that reads; see that it is so."""
        self._at.call("FLUSHALL")
        with self._at.peer() as peer:
            for name, count in ((":1:team:", self._keys), ("other:", self._of - self._keys)):
                for first in range(1, count + 1, 50_000):
                    last = min(count, first + 49_999)
                    peer.call("EVAL", FILL, "0", name, str(first), str(last))
        with asking(self._at.port, self._other.port) as probe:
            time.sleep(1)
            before = len(probe.times)
            self._at.call("SLOWLOG", "RESET")
            used = _children(), self._used()
            seconds = do()
            client, server = _children() - used[0], self._used() - used[1]
            slow = self._at.call("SLOWLOG", "GET", "-1")
            during, aside = probe.times[before:], probe.aside[before:]
        left = sum(1 for _ in scanned(self._at.port, PATTERN, 1000))
        if left or not during:
            raise FailedError(f"{left} keys are left")
        return Run(
            rate=self._keys / seconds,
            client=1e6 * client / self._keys,
            server=1e6 * server / self._keys,
            piece=statistics.median([one[2] for one in slow if one[3][0] in _PIECE] or [0]) / 1000,
            longest=max((one[2] for one in slow), default=0) / 1000,
            stall=1000 * max(during),
            aside=1000 * max(aside, default=0),
            alone=1000 * max(probe.times[:before]),
        )

    def _used(self) -> float:
        """Return what the server has taken of the processor, in seconds."""
        lines = self._at.call("INFO", "cpu").decode().splitlines()
        return sum(float(line.partition(":")[2]) for line in lines if line.startswith(_CPU))

    def peer(self) -> float:
        return self._by_cli(self.cli) if self.cli else self._small()

    def _by_cli(self, cli: str) -> float:
        """Do as people do by hand."""
        begins = [cli, "-p", str(self._at.port)]
        began = time.perf_counter()
        with subprocess.Popen(
            [*begins, "--scan", "--pattern", PATTERN], stdout=subprocess.PIPE
        ) as a:
            words = ["xargs", "-n", str(SOME), *begins, "unlink"]
            subprocess.run(words, stdin=a.stdout, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - began
        if a.returncode:
            raise FailedError("redis-cli did not end as it should")
        return seconds

    def bare(self) -> float:
        return self._small("bare")

    def _small(self, how: str = "small") -> float:
        words = [sys.executable, "-m", "tests.bench.purge", how, str(self._at.port), PATTERN]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        return float(done.stdout)

    def without(self) -> float:
        return self.opskit("keep=false")

    def opskit(self, keep: str = "keep=true") -> float:
        """Run it as a person does; the time is that of the step, which lists, keeps and looks."""
        folder = self._bench.hosts.folder
        words = [str(self._bench.opskit), "run", "cache-invalidate", "-i", str(self._inventory),
                 "--yes", "--json", "--store", str(folder / "purge.db"), "-p", f"pattern={PATTERN}",
                 "-p", f"evidence={folder / 'evidence'}", "-p", "override=measured", "-p", keep,
                 ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, check=False, text=True)
        if done.returncode:
            raise FailedError(done.stdout[-2000:] + done.stderr)
        for line in done.stdout.splitlines():
            event = json.loads(line)
            if event.get("event") == "step ended" and "removed" in event.get("evidence", {}):
                return float(event["seconds"])
        raise FailedError(done.stdout[-2000:])


_PIECE = (b"EVAL", b"UNLINK")
_CPU = ("used_cpu_sys:", "used_cpu_user:")


def _children() -> float:
    """Return what the processes that have ended here have taken of the processor, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


FILL = (
    "for n = tonumber(ARGV[2]), tonumber(ARGV[3]) do"
    " redis.call('SET', ARGV[1] .. n, string.rep('x', 100), 'EX', 3600) end"
)


@dataclass(kw_only=True, slots=True)
class Probe:
    """Another client, which reads a key of two servers by turns, 500 times a second."""

    port: int
    other: int
    stop: threading.Event = field(default_factory=threading.Event)
    times: list[float] = field(default_factory=list)
    aside: list[float] = field(default_factory=list)

    def go(self) -> None:
        asked = ((Peer(self.port), self.times), (Peer(self.other), self.aside))
        while not self.stop.wait(0.002):
            for peer, times in asked:
                began = time.perf_counter()
                peer.call("GET", "other:1")
                times.append(time.perf_counter() - began)
        for peer, _ in asked:
            peer.close()


@contextmanager
def asking(port: int, other: int) -> Iterator[Probe]:
    probe = Probe(port=port, other=other)
    thread = threading.Thread(target=probe.go)
    thread.start()
    try:
        yield probe
    finally:
        probe.stop.set()
        thread.join(60)


def scanned(port: int, pattern: str, count: int) -> Iterator[bytes]:
    peer, cursor = Peer(port), b"0"
    while True:
        cursor, names = peer.call("SCAN", cursor, "MATCH", pattern, "COUNT", str(count))
        yield from names
        if cursor == b"0":
            peer.close()
            return


def small(port: int, pattern: str) -> float:
    """Do as `redis-cli --scan --pattern … | xargs -n 1000 redis-cli unlink`; return the seconds."""
    began = time.perf_counter()
    some: list[bytes] = []
    for name in scanned(port, pattern, 10):
        some.append(name)
        if len(some) == SOME:
            unlinked(port, some)
            some = []
    if some:
        unlinked(port, some)
    return time.perf_counter() - began


def unlinked(port: int, names: Sequence[bytes]) -> None:
    peer = Peer(port)
    peer.call("UNLINK", *names)
    peer.close()


def bare(port: int, pattern: str) -> float:
    """Walk, and remove what has come while the server walks on: the least that any client does.

    Nothing is listed first, limited, kept, looked at again or done once: it is killed, and nobody
    knows what it has done.
    """
    began = time.perf_counter()
    pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as link:

        def told() -> Any:  # noqa: ANN401 - what a server answers
            while (found := reader.gets()) is False:
                reader.feed(link.recv(65536))
            if isinstance(found, Exception):
                raise found
            return found

        walk = ("MATCH", pattern, "COUNT", SOME)
        link.sendall(pack(("SCAN", "0", *walk)))
        cursor, owed = b"", False
        while cursor != b"0":
            cursor, names = told()
            data = pack(("SCAN", cursor, *walk)) if cursor != b"0" else b""
            link.sendall(data + (pack(("UNLINK", *names)) if names else b""))
            if owed:
                told()
            owed = bool(names)
        if owed:
            told()
    return time.perf_counter() - began


if __name__ == "__main__":
    print({"small": small, "bare": bare}[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
