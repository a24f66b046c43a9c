"""Ports of the loopback for servers that are told theirs before they listen."""

import random
import socket
from contextlib import suppress
from pathlib import Path

LEAST = 10_240
_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free() -> int:
    """Return a port on which nobody listens, and that no client is given for its own end.

    One that the kernel has picked may be a client's a moment later, before the server listens, or
    while it is down.
    """
    most = int(_CLIENTS.read_text(encoding="ascii").split()[0])
    assert most > 2 * LEAST, "all ports are for clients here"
    chance = random.SystemRandom()
    for _ in range(100):
        port = chance.randrange(LEAST, most)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
