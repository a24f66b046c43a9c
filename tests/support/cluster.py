"""A cluster of three primaries of Redis on the loopback, whose slots can be moved."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opskit.drivers.redis.slots import SLOTS, slot_of
from tests.support import ports
from tests.support.redis import Server, server, until

PRIMARIES = 3


@dataclass
class Cluster:
    """Slots are spread over the servers in three parts."""

    servers: list[Server]

    def form(self) -> None:
        first, step = self.servers[0], -(-SLOTS // PRIMARIES)
        for number, one in enumerate(self.servers):
            last = min(SLOTS, (number + 1) * step) - 1
            one.call("CLUSTER", "ADDSLOTSRANGE", str(number * step), str(last))
            one.call("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for one in self.servers[1:]:
            words = ("127.0.0.1", str(one.port), one.settings["cluster-port"])
            first.call("CLUSTER", "MEET", *words)
        until(self.whole)

    def whole(self) -> bool:
        """Tell whether all of them know of all slots."""
        return all(self._sees(one) for one in self.servers)

    def _sees(self, one: Server) -> bool:
        known = one.call("CLUSTER", "INFO")
        shards = {tuple(row[:2]): row[2][2] for row in one.call("CLUSTER", "SLOTS")}
        return b"cluster_state:ok" in known and len(set(shards.values())) == PRIMARIES

    def of(self, name: str) -> Server:
        """Return who has a key."""
        slot = slot_of(name.encode())
        for first, last, who, *_ in self.servers[0].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(one for one in self.servers if one.port == who[1])
        raise AssertionError(f"nobody has {slot}")

    def call(self, *words: str | bytes) -> Any:  # noqa: ANN401 - whatever is answered
        """Ask who has the key, which is the second word."""
        name = words[1] if isinstance(words[1], str) else words[1].decode()
        return self.of(name).call(*words)

    def fill(self, texts: Mapping[str, str]) -> None:
        """Write texts that end in an hour."""
        for one in self.servers:
            with one.peer() as peer:
                for first, last, who, *_ in peer.call("CLUSTER", "SLOTS"):
                    mine = [n for n in texts if first <= slot_of(n.encode()) <= last]
                    for name in mine if who[1] == one.port else ():
                        peer.call("SET", name, texts[name], "PX", "3600000")

    def own(self) -> dict[bytes, bytes]:
        """Return the texts that are there besides what opskit has left, wherever they are."""
        found: dict[bytes, bytes] = {}
        for one in self.servers:
            names = [n for n in one.call("KEYS", "*") if not n.startswith(b"opskit:")]
            with one.peer() as peer:
                found |= {name: peer.call("GET", name) for name in names}
        return found

    def clear(self) -> None:
        for one in self.servers:
            one.call("FLUSHALL")

    def begin_to_move(self, slot: int) -> tuple[Server, Server]:
        """Let a slot be on its way from whom to whom."""
        ids = {one.port: one.call("CLUSTER", "MYID") for one in self.servers}
        source = next(
            one for one in self.servers
            for first, last, who, *_ in one.call("CLUSTER", "SLOTS")
            if first <= slot <= last and who[1] == one.port
        )  # fmt: skip
        to = self.servers[(self.servers.index(source) + 1) % PRIMARIES]
        to.call("CLUSTER", "SETSLOT", str(slot), "IMPORTING", ids[source.port])
        source.call("CLUSTER", "SETSLOT", str(slot), "MIGRATING", ids[to.port])
        return source, to

    def carry(self, slot: int, source: Server, to: Server) -> None:
        """Move the keys of a slot, and the slot with them."""
        while names := source.call("CLUSTER", "GETKEYSINSLOT", str(slot), "100"):
            source.call("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *names)
        for one in (to, source, *self.servers):
            one.call("CLUSTER", "SETSLOT", str(slot), "NODE", to.call("CLUSTER", "MYID"))

    def move(self, slot: int) -> None:
        self.carry(slot, *self.begin_to_move(slot))

    @contextlib.contextmanager
    def bare(self, one: Server) -> Iterator[None]:
        """Let a primary have no slot meanwhile, as it is once all of them were moved."""
        mine = [row for row in one.call("CLUSTER", "SLOTS") if row[2][1] == one.port]
        ranges = [(str(first), str(last)) for first, last, *_ in mine]
        for words in ranges:
            one.call("CLUSTER", "DELSLOTSRANGE", *words)
        try:
            yield
        finally:
            for words in ranges:
                one.call("CLUSTER", "ADDSLOTSRANGE", *words)
            until(self.whole)

    @contextlib.contextmanager
    def replica(self, of: Server) -> Iterator[Server]:
        """Give a replica that can take over from a primary."""
        with _member() as found:
            words = ("127.0.0.1", str(found.port), found.settings["cluster-port"])
            of.call("CLUSTER", "MEET", *words)
            name, primary = (one.call("CLUSTER", "MYID") for one in (found, of))
            until(lambda: primary in found.call("CLUSTER", "NODES"))
            found.call("CLUSTER", "REPLICATE", primary)
            until(lambda: all(_knows(one, name) for one in self.servers))
            until(lambda: b"master_link_status:up" in found.call("INFO", "replication"))
            yield found

    def hand_over(self, of: Server, to: Server) -> None:
        """Let a replica take over from its primary, which stays as a replica."""
        to.call("CLUSTER", "FAILOVER")
        until(lambda: b"role:master" in to.call("INFO", "replication"))
        until(lambda: b"role:slave" in of.call("INFO", "replication"))


def _knows(one: Server, replica: bytes) -> bool:
    lines = [line.split() for line in one.call("CLUSTER", "NODES").splitlines()]
    return any(words[0] == replica and b"slave" in words[2] for words in lines)


@contextlib.contextmanager
def _member(**settings: str) -> Iterator[Server]:
    """Give a server that can be part of a cluster."""
    port = str(ports.free())
    how = {"cluster_enabled": "yes", "cluster_port": port, "cluster_node_timeout": "15000"}
    with server(**how, **settings) as found:
        yield found


@contextlib.contextmanager
def cluster(**settings: str) -> Iterator[Cluster]:
    """Give a cluster, and leave nothing of it."""
    with contextlib.ExitStack() as stack:
        found = Cluster([stack.enter_context(_member(**settings)) for _ in range(PRIMARIES)])
        found.form()
        yield found
