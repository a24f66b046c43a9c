"""Host keys: which one a host shows, whether it is known, and how it gets pinned."""

import os
from pathlib import Path

import paramiko

from opskit.drivers.ssh import Connector, explain
from opskit.errors import InputError, UnreachableError, writing
from opskit.model.hostcheck import HostKey
from opskit.model.inventory import Host


def show(connector: Connector, host: Host) -> HostKey:
    """Ask a host for its key, without logging in."""
    try:
        name, key, files = connector.host_key(host)
    except (UnreachableError, OSError, EOFError, paramiko.SSHException, ValueError) as error:
        what = error.what if isinstance(error, UnreachableError) else explain(error)[0]
        return HostKey(
            host=host.name, name=host.address, kind="", fingerprint="", line="",
            known_hosts="", state="unreachable", reason=what,
        )  # fmt: skip
    known = [connector.keys_of(file, name) for file in files]
    same = any(keys.get(key.get_name()) == key for keys in known)
    other = any(keys for keys in known)
    return HostKey(
        host=host.name,
        name=name,
        kind=key.get_name(),
        fingerprint=str(key.fingerprint),
        line=f"{name} {key.get_name()} {key.get_base64()}",
        known_hosts=files[0],
        state="known" if same else "changed" if other else "new",
    )


def pin(key: HostKey) -> None:
    """Add a host's key to its known_hosts file; a changed one is never replaced by itself."""
    if key.state == "changed":
        raise InputError(
            f"another key of {key.name} is pinned in {key.known_hosts}",
            where=f"host {key.host}",
            hint=f"if the host was set up anew: ssh-keygen -R '{key.name}' -f {key.known_hosts}",
        )
    path = Path(key.known_hosts).expanduser()
    with writing(path):
        _add(path, key.line)


def _add(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = not path.exists() or path.stat().st_size == 0 or path.read_bytes().endswith(b"\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write((b"" if fresh else b"\n") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
