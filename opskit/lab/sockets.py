"""TCP sockets of other processes: found in /proc, borrowed, silenced, reset.

A network of its own for each host would need rights that many machines don't give. A socket can
be borrowed from its owner instead, and a filter on it drops every packet as a dead line does:
no answer, no error, and what is sent meanwhile arrives when the line comes back.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from opskit.lab import processes
from opskit.model.frozen import frozen

PIDFD_GETFD = 438  # the same number on every architecture
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # one BPF instruction: keep 0 bytes
LISTEN = "0A"
BACKLOG = 511

_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Entry:
    """One line of the kernel's table of TCP sockets."""

    local: str
    remote: str
    listening: bool
    inode: str


def table() -> Mapping[str, Entry]:
    """The kernel's TCP sockets that some process holds, by inode."""
    entries = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[9] != "0":
            entries[fields[9]] = Entry(
                local=fields[1], remote=fields[2], listening=fields[3] == LISTEN, inode=fields[9]
            )
    return entries


def held_by(pids: Iterable[int]) -> Mapping[str, tuple[int, int]]:
    """Sockets by inode, with a process and its descriptor through which each can be borrowed."""
    found: dict[str, tuple[int, int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  # names alone are wanted
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115  # not a path
                    if target.startswith("socket:["):
                        found.setdefault(target[8:-1], (pid, int(name)))
    return found


def of_host(pids: Iterable[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inodes of a host's listening sockets, and of its connections."""
    entries = table()
    held = held_by(pids)
    mine = [entries[inode] for inode in held if inode in entries]
    listening = tuple(entry.inode for entry in mine if entry.listening)
    return listening, tuple(entry.inode for entry in mine if not entry.listening)


def far_ends(inodes: Iterable[str]) -> tuple[str, ...]:
    """The other ends, on this same machine, of some connections."""
    entries = table()
    by_ends = {(entry.local, entry.remote): entry.inode for entry in entries.values()}
    mine = [entries[inode] for inode in inodes if inode in entries]
    ends = [by_ends.get((entry.remote, entry.local)) for entry in mine]
    return tuple(inode for inode in ends if inode)


@contextlib.contextmanager
def borrowed(pid: int, descriptor: int) -> Iterator[socket.socket]:
    """Another process's socket, as one of our own; raises OSError when that is not allowed."""
    handle = os.pidfd_open(pid)
    try:
        copy = _libc.syscall(PIDFD_GETFD, handle, descriptor, 0)
        if copy < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)
    with socket.socket(fileno=copy) as found:
        yield found


def silence(peer: socket.socket) -> None:
    """Drop every packet that arrives from now on."""
    program = ctypes.create_string_buffer(DROP_ALL)
    peer.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
    )


def unsilence(peer: socket.socket) -> None:
    """Let packets arrive again; harmless where nothing was silenced."""
    try:
        peer.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def reset(peer: socket.socket) -> None:
    """End a connection by RST, or make a listening port refuse."""
    unspecified = struct.pack("H14x", socket.AF_UNSPEC)
    if _libc.connect(peer.fileno(), unspecified, len(unspecified)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def listen(peer: socket.socket) -> None:
    """Let a port that was made to refuse accept again."""
    peer.listen(BACKLOG)


def everyone() -> Mapping[str, tuple[int, int]]:
    """All sockets that this process may look at, by inode."""
    return held_by(processes.every())
