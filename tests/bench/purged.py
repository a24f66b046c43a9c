"""A server with keys, and ways to remove those that fit a pattern: opskit, and what others do.

Where there is no redis-cli, on the PATH or as REDIS_CLI, a small client does the same: it walks
with SCAN as redis-cli does and sends UNLINK with 1,000 keys at a time, each time over a connection
of its own, and starts no process for that.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import hiredis

from tests.bench.caches import DELETE_PATTERN, children, has_django, program, scripted
from tests.bench.figures import FailedError
from tests.bench.peers import Bench
from tests.support.redis import Peer, Server

PATTERN = ":1:team:*"
SOME = 1000
OURS, KEPT, CLI, BARE = "names alone", "values kept", "redis-cli", "bare"
LUA = "Lua KEYS + DEL"
LUA_TEXT = """
local found = redis.call('KEYS', ARGV[1])
for n = 1, #found, 5000 do
  redis.call('DEL', unpack(found, n, math.min(n + 4999, #found)))
end
"""
"""As the reset of `limits` does: all names at once, then these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run came to: keys a second; what it took of the processor for a key, µs, and how often
    the server read of it for a thousand keys; how long the server took for a piece in the middle
    and for one command at most, how long a GET beside it waited, and how long one at a server that
    does nothing else did, in ms.
    """

    rate: float
    client: float
    server: float
    reads: float
    piece: float
    longest: float
    stall: float
    aside: float
    alone: float


class Place:
    """A server with keys, and ways to remove those that fit."""

    def __init__(self, at: Server, other: Server, bench: Bench) -> None:
        """`other`: a server that has nothing to do; what a GET waits there the machine waits."""
        self._other = other
        other.call("SET", "other:1", "x" * 100)
        self._at, self._bench = at, bench
        self.cli = program("redis-cli")
        self.ways: dict[str, Callable[[], float]] = {
            OURS: lambda: self._opskit("keep=false"), KEPT: lambda: self._opskit("keep=true"),
            CLI: self._by_cli if self.cli else partial(self._small, "small"),
            BARE: partial(self._small, "bare"),
        }  # fmt: skip
        self.missing = [] if self.cli else ["redis-cli"]
        if has_django(bench.redis):
            for size in (10, 1000):
                self.ways[f"django-redis delete_pattern, itersize {size}"] = partial(
                    scripted, bench.redis, DELETE_PATTERN, at.port, PATTERN, size
                )
        else:
            self.missing.append("django-redis")
        self.ways[LUA] = partial(self._small, "lua")
        self._name = f"bench_{os.getpid()}"  # the lock of a removal is by that
        self._inventory = at.folder / "hosts.yaml"
        self._inventory.write_text(
            "opskit: 1\nhosts: {nowhere: 127.0.0.1}\n"
            f"redis: {{{self._name}: {{url: 'redis://127.0.0.1:{at.port}/0'}}}}\n"
        )

    def measured(self, name: str, keys: int, others: int) -> Run:
        """Make the keys anew, and remove some beside a client that reads; see that it is so."""
        self._fill(keys, others)
        with asking(self._at.port, self._other.port) as probe:
            time.sleep(0.5)
            before = len(probe.times)
            self._at.call("SLOWLOG", "RESET")
            used = children(), self._used(), self._reads() - before
            seconds = self.ways[name]()
            client, server = children() - used[0], self._used() - used[1]
            during, aside = probe.times[before:], probe.aside[before:]
            reads = self._reads() - before - len(during) - used[2]
            slow = self._at.call("SLOWLOG", "GET", "-1")
        left = sum(1 for _ in scanned(self._at.port, PATTERN, 10_000))
        if left or not during or self._at.call("DBSIZE") < others:
            raise FailedError(f"{left} keys are left")
        return Run(
            rate=keys / seconds,
            client=1e6 * client / keys,
            server=1e6 * server / keys,
            reads=1000 * reads / keys,
            piece=statistics.median([one[2] for one in slow if one[3][0] in _PIECE] or [0]) / 1000,
            longest=max((one[2] for one in slow), default=0) / 1000,
            stall=1000 * max(during),
            aside=1000 * max(aside, default=0),
            alone=1000 * max(probe.times[:before]),
        )

    def _fill(self, keys: int, others: int) -> None:
        parts = [(":1:team:", keys)]
        if not others or self._at.call("DBSIZE") < others:  # others are there from the round before
            self._at.call("FLUSHALL")
            parts.append(("other:", others))
        with self._at.peer() as peer:
            for name, count in parts:
                for first in range(1, count + 1, 50_000):
                    last = min(count, first + 49_999)
                    peer.call("EVAL", FILL, "0", name, str(first), str(last))

    def _used(self) -> float:
        """Return what the server has taken of the processor, in seconds."""
        lines = self._at.call("INFO", "cpu").decode().splitlines()
        return sum(float(line.partition(":")[2]) for line in lines if line.startswith(_CPU))

    def _reads(self) -> int:
        """Return how often the server has read from somebody: about once a round trip, and more
        often of what is long."""
        lines = self._at.call("INFO", "stats").decode().splitlines()
        return sum(int(line.partition(":")[2]) for line in lines if line.startswith(_READS))

    def _by_cli(self) -> float:
        """Do as people do by hand."""
        begins = [self.cli, "-p", str(self._at.port)]
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

    def _small(self, how: str) -> float:
        words = [sys.executable, "-m", "tests.bench.purged", how, str(self._at.port), PATTERN]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        return float(done.stdout)

    def _opskit(self, keep: str) -> float:
        """Run it as a person does; the time is that of the step, which lists, keeps and looks."""
        folder = self._bench.hosts.folder
        words = [str(self._bench.opskit), "run", "cache-invalidate", "-i", str(self._inventory),
                 "--yes", "--json", "--store", str(folder / "purge.db"), "-p", f"pattern={PATTERN}",
                 "-p", f"evidence={folder / 'evidence'}", "-p", "override=measured", "-p", keep,
                 "-p", "max_keys=2000000", "-p", f"server={self._name}"]  # fmt: skip
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
_READS = ("total_reads_processed:",)
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
        asked = ((Peer(self.port, 120), self.times), (Peer(self.other, 120), self.aside))
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


def lua(port: int, pattern: str) -> float:
    """Let the server do all of it in one script: nobody else is served meanwhile."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        began = time.perf_counter()
        pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)
        link.sendall(pack(("EVAL", LUA_TEXT, 0, pattern)))
        if not link.recv(100).startswith(b"$-1"):
            raise FailedError("the script was refused")
        return time.perf_counter() - began


if __name__ == "__main__":
    ways = {"small": small, "bare": bare, "lua": lua}
    print(ways[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
