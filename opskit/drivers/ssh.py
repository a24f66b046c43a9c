"""SSH connections: configured as ssh itself is, known host keys only, every wait bounded."""

import logging
import math
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import fabric
import paramiko

from opskit.drivers.known import KnownHosts
from opskit.drivers.prompt import Calls, dial
from opskit.errors import UnreachableError
from opskit.model.inventory import Connection, Host

Fabric: TypeAlias = Any
"""A `fabric.Connection`; the package has no types."""

_KEEPALIVE = 15
_LOOK = 1.0
"""How often a connection's own thread looks up from waiting, for a keepalive; closing wakes it."""


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
        self.calls = Calls()
        self._lock = threading.Lock()
        self._configs: dict[str | None, Any] = {}
        self._keys: dict[str, KnownHosts] = {}
        self._private: dict[str, paramiko.PKey] = {}
        self._jumps: dict[tuple[str, str, int], tuple[Any, threading.Lock]] = {}
        self._made: dict[str, Fabric] = {}

    def connect(self, host: Host) -> Fabric:
        """Return an open Fabric connection; UnreachableError says what to do about it."""
        where = f"host {host.name}"
        connection: Fabric = None
        try:
            made = self._made.pop(host.name, None)
            connection = made or self._connection(host.address, host.connection)
            self._open(connection, host.connection)
        except UnreachableError as error:
            raise UnreachableError(error.what, where=where, hint=error.hint) from None
        except (OSError, EOFError, paramiko.SSHException, ValueError) as error:
            what, hint = explain(error, connection)
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
            sock = dial(connection.host, int(connection.port), how.connect_timeout, self.calls)
        transport = _transport(sock)
        try:
            transport.start_client(timeout=how.connect_timeout)
            key = transport.get_remote_server_key()
        finally:
            transport.close()
        return _known_as(connection), key, _known_hosts(connection, how)

    def stranger(self, host: Host) -> str | None:
        """Say why a host would be refused for want of a known key; asks nobody.

        None: there is a key, or only connecting can tell, as behind a jump host.
        """
        how = host.connection
        try:
            connection = None if how.jump else self._plain(host.address, how, None)
        except (UnreachableError, OSError, ValueError, paramiko.SSHException):
            return None  # it is said when the host is to be reached
        if connection is None or connection.gateway:
            return None
        name, files = _known_as(connection), _known_hosts(connection, how)
        if not any(self._host_keys(file).lookup(name) for file in files):
            return f"no key is known of {name} (looked in {files[0]})"
        self._made[host.name] = connection
        return None

    def keys_of(self, file: str, name: str) -> Mapping[str, paramiko.PKey]:
        """Return the keys that a known_hosts file has for a name, by kind."""
        return self._host_keys(file).lookup(name)

    def close(self) -> None:
        for connection, _lock in self._jumps.values():
            close(connection)

    def _plain(self, address: str, how: Connection, jump: Fabric) -> Fabric:
        """Return a connection that is not open, over a jump host or what ssh_config says."""
        return _Settled(
            host=address,
            user=how.user,
            port=how.port,
            config=self._config(how.ssh_config),
            gateway=jump,
            connect_timeout=max(1, math.ceil(how.connect_timeout)),
            connect_kwargs=self._arguments(how),
            forward_agent=False,
            inline_ssh_env=False,
        )

    def _connection(self, address: str, how: Connection, jump: Fabric = None) -> Fabric:
        jump = jump or (self._connection(how.jump, _jump(how)) if how.jump else None)
        connection = self._plain(address, how, jump)
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
                kept.connect_kwargs.update(self._arguments(_jump(how)))
                self._open(kept, _jump(how))
        return kept

    def _open(self, connection: Fabric, how: Connection) -> None:
        self._trust(connection, how)
        sock = None
        if not connection.gateway:
            sock = dial(connection.host, int(connection.port), how.connect_timeout, self.calls)
            connection.connect_kwargs["sock"] = sock
        try:
            with self.calls.waiting(sock) if sock is not None else nullcontext():
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
            for kind, key in self._host_keys(file).lookup(name).items():
                keys.add(name, kind, key)
        connection.client.set_missing_host_key_policy(_Strict(files[0]))

    def _host_keys(self, file: str) -> KnownHosts:
        with self._lock:
            if file not in self._keys:
                self._keys[file] = KnownHosts(file)
            return self._keys[file]

    def _arguments(self, how: Connection) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "banner_timeout": how.connect_timeout,
            "auth_timeout": how.connect_timeout,
            "channel_timeout": how.connect_timeout,
            "transport_factory": _transport,
        }
        if how.key:
            arguments |= {"allow_agent": False, "look_for_keys": False, "pkey": self._key(how.key)}
        return arguments

    def _key(self, path: str) -> paramiko.PKey:
        """Read a private key once; its certificate, if one lies beside it, comes with it."""
        full = Path(path).expanduser()
        with self._lock:
            if path not in self._private:
                try:
                    self._private[path] = paramiko.PKey.from_path(full)
                except FileNotFoundError:
                    raise UnreachableError(
                        f"the private key {path} does not exist",
                        hint="correct `key` in the inventory",
                    ) from None
            return self._private[path]

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


class _Settled(fabric.Connection):  # type: ignore[misc]  # the package has no types
    """A connection that keeps its attributes to itself.

    Fabric's writes some of them into its configuration and merges that anew, which empties it for
    a moment. Many connections share one here. What it would ask that configuration for, time and
    again, is given: there is no file of Fabric's own.
    """

    __setattr__ = object.__setattr__
    authentication = SimpleNamespace(strategy_class=None)

    def resolve_connect_kwargs(self, connect_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        keys = self.ssh_config.get("identityfile")
        return {**connect_kwargs, **({"key_filename": list(keys)} if keys else {})}


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


def _transport(
    sock: socket.socket, disabled_algorithms: Mapping[str, Iterable[str]] | None = None
) -> paramiko.Transport:
    """Make the transport prefer what is cheap for both sides and still strong."""
    transport = paramiko.Transport(sock, disabled_algorithms=disabled_algorithms)
    # A thread of its own for each connection that looks at a clock; whoever connects does so too.
    transport.packetizer.start_handshake = _unwatched  # type: ignore[method-assign]
    sock.settimeout(_LOOK)
    security = transport.get_security_options()
    security.kex = _first(security.kex, "curve25519-sha256@libssh.org")
    security.ciphers = _first(security.ciphers, "aes128-gcm@openssh.com")
    return transport


def _unwatched(timeout: float) -> None:
    del timeout


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


_SILENT = "No existing session"
"""What the library says when its patience ended before the other side had said anything useful."""


def explain(error: Exception, connection: Fabric = None) -> tuple[str, str]:
    """Return what happened and what to do next, for an error of the SSH libraries."""
    spot = f"{connection.host} port {connection.port}" if connection is not None else "it"
    match error:
        case paramiko.BadHostKeyException():
            what = f"its host key has CHANGED: it shows {_shown(error.key)}"
            cure = "if the host was set up anew, `opskit hosts trust` says how to replace the key"
            return (
                f"{what}, known is {_shown(error.expected_key)}",
                f"find out why before anything else; {cure}",
            )
        case paramiko.PasswordRequiredException():
            return "the private key needs a passphrase", "load it into ssh-agent with ssh-add"
        case paramiko.AuthenticationException():
            login = f" as {connection.user}" if connection is not None else ""
            return (
                f"the login was refused{login} ({text_of(error)})",
                "check `user` and `key` in the inventory, or load the key into ssh-agent",
            )
        case TimeoutError():
            return f"no answer in time from {spot}", "is it up, and can this machine reach it?"
        case socket.gaierror():
            name = str(connection.host) if connection is not None else "its name"
            return (
                f"{name} has no address here ({error.strerror})",
                "correct its `address` in the inventory, or how this machine looks up names",
            )
        case ConnectionRefusedError():
            return (
                f"{spot} refused the connection",
                "does sshd run there, and are `address` and `port` in the inventory right?",
            )
        case paramiko.SSHException() if _silent(error):
            return (
                f"{spot} takes the connection, and then says nothing in time",
                "is it frozen or overloaded? Does sshd answer there, and not something else?",
            )
        case OSError(strerror=str() as text):
            return f"can't connect to {spot}: {text}", "can this machine reach it?"
        case _:
            return f"can't connect to {spot}: {text_of(error)}", "is it up, and is that its sshd?"


def _silent(error: paramiko.SSHException) -> bool:
    """Tell whether patience ended, that for all of it or that for the other side's first line."""
    return str(error) == _SILENT or isinstance(error.__context__, TimeoutError)


def _shown(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def text_of(error: BaseException) -> str:
    return str(error) or type(error).__name__
