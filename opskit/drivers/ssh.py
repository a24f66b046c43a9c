"""SSH connections: configured as ssh itself is, known host keys only, every wait bounded."""

import logging
import math
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import fabric
import paramiko
from paramiko.hostkeys import HostKeys

from opskit.drivers.wire import LostError, Pipe, RefusedChannelError, Wire
from opskit.errors import UnreachableError
from opskit.model.inventory import Connection, Host

Fabric: TypeAlias = Any
"""A `fabric.Connection`; the package has no types."""

_CHUNK = 64 * 1024
_KEEPALIVE = 15
_DEAD_AFTER_MS = 45_000


class SshWire:
    """One channel with a `sh` at its far end."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._ready = threading.Event()
        channel.in_buffer.set_event(self._ready)
        channel.in_stderr_buffer.set_event(self._ready)

    def send(self, data: bytes, timeout: float) -> None:
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(data)
        except (OSError, EOFError) as error:
            raise LostError(f"the connection broke while sending ({_text(error)})") from None

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        end = time.monotonic() + timeout
        while True:
            # Reading the last of a buffer clears the event, so both are looked at after that.
            closed = self._channel.eof_received or self._channel.closed
            out = self._channel.recv(_CHUNK) if self._channel.recv_ready() else b""
            err = self._channel.recv_stderr(_CHUNK) if self._channel.recv_stderr_ready() else b""
            if out or err:
                return out, err
            if closed:
                raise LostError(self._ended())
            left = end - time.monotonic()
            if left <= 0 or not self._ready.wait(left):
                return b"", b""

    def _ended(self) -> str:
        if not self._channel.get_transport().is_active():
            return "the connection broke"
        status = self._channel.exit_status if self._channel.exit_status_ready() else -1
        return "the shell ended" + (f" with status {status}" if status >= 0 else "")

    def close(self) -> None:
        with suppress(Exception):
            self._channel.close()


class SshLink:
    """One connection to one host; a second one where the first allows no more channels."""

    def __init__(self, connect: "Connector", host: Host) -> None:
        self._connector = connect
        self._host = host
        self._connection = connect.connect(host)
        self._more: list[Any] = []
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
            raise OSError(f"the host can't reach {host}:{port}: {_text(error)}") from None
        return channel

    def shell(self, become: str | None) -> Wire:
        command = f"exec sudo -n -H -u {become} sh" if become else "exec sh"
        try:
            return self._channel(self._connection, command)
        except RefusedChannelError:
            other = self._connector.connect(self._host)
            self._more.append(other)
            return self._channel(other, command)

    def _channel(self, connection: Fabric, command: str) -> Wire:
        timeout = self._host.connection.connect_timeout
        try:
            channel = connection.transport.open_session(timeout=timeout)
            channel.settimeout(timeout)
            channel.exec_command(command)
        except paramiko.ChannelException as error:
            raise RefusedChannelError(_text(error)) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise LostError(f"no channel could be opened ({_text(error)})") from None
        return SshWire(channel)

    def close(self) -> None:
        for connection in (self._connection, *self._more):
            close(connection)


def close(connection: Fabric) -> None:
    """Close a Fabric connection without waiting for its reader to notice."""
    with suppress(Exception):
        connection.transport.sock.shutdown(socket.SHUT_RDWR)
    with suppress(Exception):
        connection.close()


class Connector:
    """What connections share: settings read once, host keys read once, jump hosts."""

    def __init__(self) -> None:
        # What the library has to say comes back as exceptions; its log would print on the screen.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        self._lock = threading.Lock()
        self._configs: dict[str | None, Any] = {}
        self._keys: dict[str, HostKeys] = {}
        self._jumps: dict[tuple[str, str, int], tuple[Any, threading.Lock]] = {}

    def connect(self, host: Host) -> Fabric:
        """Return an open Fabric connection; UnreachableError says what to do about it."""
        where = f"host {host.name}"
        try:
            connection = self._connection(host.address, host.connection)
            self._open(connection, host.connection)
        except UnreachableError as error:
            raise UnreachableError(error.what, where=where, hint=error.hint) from None
        except (OSError, EOFError, paramiko.SSHException, ValueError) as error:
            what, hint = explain(error)
            raise UnreachableError(what, where=where, hint=hint) from None
        transport = connection.transport
        transport.set_keepalive(_KEEPALIVE)
        return connection

    def host_key(self, host: Host) -> tuple[str, paramiko.PKey, list[str]]:
        """Return the name that a host is known by, the key it shows, and where known keys are."""
        connection = self._connection(host.address, host.connection)
        how = host.connection
        if connection.gateway:
            sock = connection.open_gateway()
        else:
            sock = _dial(connection.host, int(connection.port), how.connect_timeout)
        transport = _transport(sock)
        try:
            transport.start_client(timeout=how.connect_timeout)
            key = transport.get_remote_server_key()
        finally:
            transport.close()
        return _known_as(connection), key, _known_hosts(connection, how)

    def keys_of(self, file: str, name: str) -> Mapping[str, paramiko.PKey]:
        """Return the keys that a known_hosts file has for a name, by kind."""
        return dict(self._host_keys(file).lookup(name) or {})

    def close(self) -> None:
        for connection, _lock in self._jumps.values():
            close(connection)

    def _connection(self, address: str, how: Connection, jump: Fabric = None) -> Fabric:
        connection = fabric.Connection(
            host=address,
            user=how.user,
            port=how.port,
            config=self._config(how.ssh_config),
            gateway=jump or (self._connection(how.jump, _jump(how)) if how.jump else None),
            connect_timeout=max(1, math.ceil(how.connect_timeout)),
            connect_kwargs=_arguments(how),
        )
        if connection.gateway is not None and not isinstance(connection.gateway, str):
            connection.gateway = self._jump(connection.gateway, how)
        return connection

    def _jump(self, gateway: Fabric, how: Connection) -> Fabric:
        """Hosts behind the same jump host share one connection to it."""
        if gateway.gateway is not None and not isinstance(gateway.gateway, str):
            gateway.gateway = self._jump(gateway.gateway, how)
        name = (str(gateway.user), str(gateway.host), int(gateway.port))
        with self._lock:
            kept, lock = self._jumps.setdefault(name, (gateway, threading.Lock()))
        with lock:
            if not kept.is_connected:
                kept.connect_kwargs.update(_arguments(_jump(how)))
                self._open(kept, _jump(how))
        return kept

    def _open(self, connection: Fabric, how: Connection) -> None:
        self._trust(connection, how)
        sock = None
        if not connection.gateway:
            sock = _dial(connection.host, int(connection.port), how.connect_timeout)
            connection.connect_kwargs["sock"] = sock
        try:
            connection.open()
        except BaseException:
            if sock is not None:
                sock.close()
            close(connection)
            raise
        finally:
            connection.connect_kwargs.pop("sock", None)

    def _trust(self, connection: Fabric, how: Connection) -> None:
        files = _known_hosts(connection, how)
        name = _known_as(connection)
        keys = connection.client.get_host_keys()
        keys.clear()
        for file in files:
            for kind, key in (self._host_keys(file).lookup(name) or {}).items():
                keys.add(name, kind, key)
        connection.client.set_missing_host_key_policy(_Strict(files[0]))

    def _host_keys(self, file: str) -> HostKeys:
        with self._lock:
            if file not in self._keys:
                keys = HostKeys()
                if Path(file).exists():
                    keys.load(file)
                self._keys[file] = keys
            return self._keys[file]

    def _config(self, path: str | None) -> "fabric.Config":
        with self._lock:
            if path not in self._configs:
                full = str(Path(path).expanduser()) if path else None
                if full and not Path(full).is_file():
                    raise UnreachableError(
                        f"its ssh_config {path} does not exist",
                        hint="correct `ssh_config` in the inventory",
                    )
                config = fabric.Config(lazy=True, runtime_ssh_path=full)
                config.load_ssh_config()
                self._configs[path] = config
            return self._configs[path]


class _Strict(paramiko.MissingHostKeyPolicy):
    """The policy for hosts whose key nobody has vouched for: refuse, and say how to change it."""

    def __init__(self, file: str) -> None:
        self._file = file

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        del client
        raise UnreachableError(
            f"its host key is not known ({_shown(key)}; looked for {hostname} in {self._file})",
            hint="compare the fingerprint with one from a trusted source, then pin it with "
            "`opskit hosts trust`",
        )


def _dial(host: str, port: int, timeout: float) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return sock


def _arguments(how: Connection) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "banner_timeout": how.connect_timeout,
        "auth_timeout": how.connect_timeout,
        "channel_timeout": how.connect_timeout,
        "transport_factory": _transport,
    }
    if how.key:
        arguments |= {
            "key_filename": str(Path(how.key).expanduser()),
            "allow_agent": False,
            "look_for_keys": False,
        }
    return arguments


def _transport(
    sock: socket.socket, disabled_algorithms: Mapping[str, Iterable[str]] | None = None
) -> paramiko.Transport:
    """Make the transport prefer what is cheap for both sides and still strong."""
    transport = paramiko.Transport(sock, disabled_algorithms=disabled_algorithms)
    security = transport.get_security_options()
    security.kex = _first(security.kex, "curve25519-sha256@libssh.org")
    security.ciphers = _first(security.ciphers, "aes128-gcm@openssh.com")
    return transport


def _first(names: Iterable[str], *wanted: str) -> tuple[str, ...]:
    have = tuple(names)
    front = tuple(name for name in wanted if name in have)
    return front + tuple(name for name in have if name not in front)


def _jump(how: Connection) -> Connection:
    """How a jump host is reached: by its own ssh_config, the same keys and patience."""
    return Connection(
        key=how.key,
        known_hosts=how.known_hosts,
        ssh_config=how.ssh_config,
        connect_timeout=how.connect_timeout,
    )


def _known_as(connection: Fabric) -> str:
    port = int(connection.port)
    return str(connection.host) if port == 22 else f"[{connection.host}]:{port}"


def _known_hosts(connection: Fabric, how: Connection) -> list[str]:
    if how.known_hosts:
        return [str(Path(how.known_hosts).expanduser())]
    said = str(connection.ssh_config.get("userknownhostsfile", "~/.ssh/known_hosts")).split()
    return [str(Path(name).expanduser()) for name in (*said, "/etc/ssh/ssh_known_hosts")]


def explain(error: Exception) -> tuple[str, str]:
    """Return what happened and what to do next, for an error of the SSH libraries."""
    if isinstance(error, paramiko.BadHostKeyException):
        what = f"its host key has CHANGED: it shows {_shown(error.key)}"
        cure = "pin the new one with `opskit hosts trust` if the host was set up anew"
        return (
            f"{what}, known is {_shown(error.expected_key)}",
            f"find out why before anything else; {cure}",
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return "the private key needs a passphrase", "load it into ssh-agent with ssh-add"
    if isinstance(error, paramiko.AuthenticationException):
        return (
            f"the login was refused ({_text(error)})",
            "check `user` and `key` in the inventory, or load the key into ssh-agent",
        )
    if isinstance(error, TimeoutError):
        return "no answer in time", "is it up, and can this machine reach its address and port?"
    return _text(error), "is it up, and can this machine reach its address and port?"


def _shown(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
