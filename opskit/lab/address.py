"""Addresses for practice hosts: a free 127.42.N.0/24 on the loopback, held by a bound socket.

A socket and not a lock file: the kernel gives it back when the last holder ends, however it ends,
and it is seen by every user of the machine.
"""

import errno
import socket
from collections.abc import Iterable

from opskit.errors import OpskitError

HOLDER = 1  # 127.42.N.1 holds the net
FIRST = 10  # 127.42.N.10 is the first host
HOLD_PORT = 4242
SSH = 2222
SERVICE = 8000
BALANCER = 8080
COLOURS = 8081
HAPROXY = 8082
SERVERS = {"postgres": (2, 5432), "redis": (3, 6379)}
"""Where beside the hosts a server listens: the last part of its address, and its port."""


def claim(servers: Iterable[str] = ()) -> tuple[int, socket.socket]:
    """A free net's number, and the socket that holds it for as long as it is open anywhere."""
    ports = (SSH, SERVICE, BALANCER, COLOURS, HAPROXY, *(SERVERS[name][1] for name in servers))
    for number in range(1, 255):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind((f"127.42.{number}.{HOLDER}", HOLD_PORT))
        except OSError as error:
            holder.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        if _ports_free(number, ports):
            return number, holder
        holder.close()
    raise OpskitError(
        "every net from 127.42.1.0 to 127.42.254.0 is in use",
        hint="end the labs that you no longer need: opskit lab down --dir DIR",
    )


def address(net: int, index: int) -> str:
    """The address of a lab's host by its place, counted from 0."""
    return f"127.42.{net}.{FIRST + index}"


def of_server(net: int, name: str) -> str:
    """The address of a lab's PostgreSQL or Redis."""
    return f"127.42.{net}.{SERVERS[name][0]}"


def _ports_free(net: int, ports: Iterable[int]) -> bool:
    """Whether the lab could listen; something else may listen on all addresses at once."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address(net, 0), port))
            except OSError:
                return False
    return True


def speaks_ssh(host: str, port: int) -> bool:
    """Whether an SSH server greets at this address."""
    try:
        with socket.create_connection((host, port), 1) as peer:
            return peer.recv(4) == b"SSH-"
    except OSError:
        return False


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections at this address."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True
