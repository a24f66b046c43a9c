"""A real sshd on the loopback, for one test or a few."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from opskit.model.inventory import Connection, Host
from tests.support import ports

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/sbin")


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """Where it listens, and what is needed to log in. `pid` of the daemon itself."""

    folder: Path
    port: int
    pid: int
    user: str
    key: Path
    known_hosts: Path
    address: str = "127.0.0.1"

    def host(self, name: str = "web1", **connection: object) -> Host:
        """Return an inventory's host that is this sshd."""
        known: dict[str, object] = {
            "user": self.user,
            "port": self.port,
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
            "state_dir": str(self.folder / "state"),
            "connect_timeout": 10.0,
        }
        how = Connection(**{**known, **connection})  # type: ignore[arg-type]
        return Host(name=name, address=self.address, connection=how)

    def children(self) -> list[int]:
        """Return the processes that serve connections."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, IndexError):
                    fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                    if int(fields[1]) == self.pid:
                        found.append(int(entry.name))
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the daemon and all that serves its connections."""
        for pid in (self.pid, *self._below()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _below(self) -> list[int]:
        """All descendants that are sshd processes."""
        parents: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, IndexError):
                    text = (entry / "stat").read_text()
                    name = text.partition("(")[2].rpartition(")")[0]
                    parents[int(entry.name)] = (int(text.rpartition(") ")[2].split()[1]), name)
        found = [self.pid]
        for pid in found:
            found += [p for p, (up, name) in parents.items() if up == pid and "sshd" in name]
        return found[1:]


def keygen(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=20
    )


@contextmanager
def sshd(folder: Path, *options: str, user: str | None = None) -> Iterator[Sshd]:
    """Run a daemon with further lines of configuration; it and all it serves end with the block."""
    assert SSHD is not None
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host_key", "user_key"):
        if not (folder / name).exists():
            keygen(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    port = ports.free()
    config = folder / f"sshd_config.{port}"
    config.write_text(
        "\n".join(
            [
                *options,
                f"ListenAddress 127.0.0.1:{port}",
                f"HostKey {folder / 'host_key'}",
                f"AuthorizedKeysFile {folder / 'authorized_keys'}",
                f"PidFile {folder / f'pid.{port}'}",
                "UsePAM no",
                "StrictModes no",
                "UseDNS no",
                "PrintMotd no",
                "MaxStartups 200:100:400",
            ]
        )
        + "\n"
    )
    public = " ".join((folder / "host_key.pub").read_text().split()[:2])
    known_hosts = folder / f"known_hosts.{port}"
    known_hosts.write_text(f"[127.0.0.1]:{port} {public}\n")
    with (folder / f"log.{port}").open("w") as log:
        daemon = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    server = Sshd(
        folder=folder,
        port=port,
        pid=daemon.pid,
        user=user or getpass.getuser(),
        key=folder / "user_key",
        known_hosts=known_hosts,
    )
    try:
        _wait(server, daemon)
        yield server
    finally:
        server.signal(signal.SIGCONT)
        server.signal(signal.SIGTERM)
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait(server: Sshd, daemon: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if daemon.poll() is not None:
            break
        with suppress(OSError), socket.create_connection((server.address, server.port), 5):
            return
        time.sleep(0.02)
    log = (server.folder / f"log.{server.port}").read_text()
    raise RuntimeError(f"sshd did not start: {log}")
