"""Channels of an SSH connection as shells."""

import threading
import time
from contextlib import suppress

import paramiko

from opskit.drivers.ssh import Connector, Fabric, close, text_of
from opskit.drivers.wire import LostError, Pipe, RefusedChannelError, Wire
from opskit.model.inventory import Host

_CHUNK = 512 * 1024
"""Bytes that are taken at once. What a channel holds beyond them, the library moves each time."""
_FIRST = 0.05
"""How long after a request only output wakes us up; seconds."""
_SETTLES = 1.0
"""How long a connection that breaks may take to be known as broken; seconds."""

_NO_CHANNEL = "Unable to open channel."
"""What the library says where one is refused and it has told another thread why: it keeps one
reason for each connection."""


def _broken(transport: paramiko.Transport) -> bool:
    """Tell, where a channel has just failed, whether the whole connection is gone.

    Its own thread closes the channels before it says so of itself; it ends once it has.
    """
    transport.join(_SETTLES)
    return not transport.is_active()


class SshWire:
    """One channel with a `sh` at its far end."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._ready = threading.Event()
        self._both = False
        self._let_go = False
        channel.in_buffer.set_event(self._ready)

    def send(self, data: bytes, timeout: float) -> None:
        self._channel.settimeout(timeout)
        self._watch(both=False)
        try:
            self._channel.sendall(data)
        except (OSError, EOFError) as error:
            if not isinstance(error, TimeoutError):
                _broken(self._channel.get_transport())
            raise LostError(f"the connection broke while sending ({text_of(error)})") from None

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        end = time.monotonic() + timeout
        while True:
            # Reading the last of a buffer clears the event, so both are looked at after that.
            closed = self._channel.eof_received or self._channel.closed
            out = self._channel.recv(_CHUNK) if self._channel.recv_ready() else b""
            err = self._channel.recv_stderr(_CHUNK) if self._channel.recv_stderr_ready() else b""
            if out or err:
                self._watch(both=self._both or bool(out))
                return out, err
            if closed:
                raise LostError(self._ended())
            left = end - time.monotonic()
            if left <= 0:
                return b"", b""
            if not self._ready.wait(left if self._both else min(left, _FIRST)):
                self._watch(both=True)

    def _watch(self, *, both: bool) -> None:
        """Wake up for standard error too, or only for output.

        What a short command's answer brings first is the mark on standard error, worth nothing
        without the one on standard output: waking up for it would cost as much as all else.
        """
        if both != self._both:
            self._both = both
            self._channel.in_stderr_buffer.set_event(self._ready if both else threading.Event())

    @property
    def alive(self) -> bool:
        gone = self._channel.closed or self._channel.eof_received
        return not gone and bool(self._channel.get_transport().is_active())

    def _ended(self) -> str:
        """Say what ended: the connection, or, on a word from the other side, the shell alone."""
        told = self._channel.eof_received or self._let_go
        transport = self._channel.get_transport()
        if not transport.is_active() or (not told and _broken(transport)):
            return "the connection broke"
        status = self._channel.exit_status if self._channel.exit_status_ready() else -1
        return "the shell ended" + (f" with status {status}" if status >= 0 else "")

    def close(self) -> None:
        self._let_go = True
        with suppress(Exception):
            self._channel.close()


class SshLink:
    """One connection to one host; a second one where the first allows no more channels."""

    def __init__(self, connect: Connector, host: Host) -> None:
        self._connector = connect
        self._host = host
        self._connection = connect.connect(host)
        self._more: list[Fabric] = []
        self.user = str(self._connection.user)
        self.address = f"{self._connection.host}:{self._connection.port}"

    @property
    def alive(self) -> bool:
        return bool(self._connection.is_connected)

    def tunnel(self, host: str, port: int, timeout: float) -> Pipe:
        """Have the host connect to `host` and `port`."""
        try:
            channel: paramiko.Channel = self._connection.transport.open_channel(
                "direct-tcpip", dest_addr=(host, port), src_addr=("", 0), timeout=timeout
            )
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(f"the host can't reach {host}:{port}: {text_of(error)}") from None
        return channel

    def shell(self, become: str | None) -> Wire:
        command = f"exec sudo -n -H -u {become} sh" if become else "exec sh"
        for connection in (self._connection, *self._more):
            with suppress(RefusedChannelError):
                return self._channel(connection, command)
        fresh = self._connector.connect(self._host)
        try:
            return self._channel(fresh, command)
        finally:
            self._more.append(fresh)  # not before: others who look for room at once would take it

    def _channel(self, connection: Fabric, command: str) -> Wire:
        timeout = self._host.connection.connect_timeout
        try:
            channel = connection.transport.open_session(timeout=timeout)
            channel.settimeout(timeout)
            channel.exec_command(command)
            connection.transport.sock.settled = True
        except paramiko.ChannelException as error:
            raise RefusedChannelError(text_of(error)) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            gone = not isinstance(error, TimeoutError) and _broken(connection.transport)
            if str(error) == _NO_CHANNEL and not gone:
                raise RefusedChannelError(text_of(error)) from None
            raise LostError(f"no channel could be opened ({text_of(error)})") from None
        return SshWire(channel)

    def close(self) -> None:
        for connection in (self._connection, *self._more):
            close(connection)
