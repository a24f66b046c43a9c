"""A port of this machine that leads through a host to a server, for one connection of ours."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from opskit.drivers.wire import Pipe

Open = Callable[[str, int, float], Pipe]
"""Connect to host and port from the far end, within seconds; OSError when that fails."""
_CHUNK = 64 * 1024


class Relay:
    """Listens on the loopback and lets nobody in but the socket that it is told of."""

    def __init__(self, connect: Open, host: str, port: int, timeout: float) -> None:
        self._connect = connect
        self._where = (host, port, timeout)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._open: list[Pipe | socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def admit(self, descriptor: int) -> None:
        """Take in what waits to be let in, if it is the other end of this socket of ours."""
        with suppress(BlockingIOError):
            while True:
                caller, peer = self._listener.accept()
                if peer != _name(descriptor):
                    caller.close()  # somebody else on this machine
                    continue
                self._join(caller)

    def close(self) -> None:
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.close()

    def _join(self, caller: socket.socket) -> None:
        try:
            pipe = self._connect(*self._where)
        except OSError:
            caller.close()
            raise
        caller.setblocking(True)
        pipe.settimeout(None)
        self._open += [caller, pipe]
        for source, target in ((caller, pipe), (pipe, caller)):
            threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _name(descriptor: int) -> object:
    with socket.socket(fileno=os.dup(descriptor)) as ours:
        return ours.getsockname()


def _pump(source: Pipe | socket.socket, target: Pipe | socket.socket) -> None:
    """Carry bytes one way until one end is closed; then close both."""
    with suppress(OSError, EOFError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for end in (source, target):
        if isinstance(end, socket.socket):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            end.close()
