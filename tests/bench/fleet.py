"""Many addresses for the benchmarks: a few sshd processes on loopback, 16 addresses each."""

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PER_SERVER = 16  # sshd listens on at most 16 sockets
PORT = 22300
LEAVE = 15.0
CONFIG = """\
HostKey {folder}/hostkey
PidFile none
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 2000:100:4000
MaxSessions 100
LoginGraceTime 120
PrintMotd no
X11Forwarding no
LogLevel ERROR
SetEnv SHLVL=1
"""
# The last line: bash run by sshd would read the user's .bashrc, which is not what is measured.


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """Where the hosts are, and what logs in to them."""

    folder: Path
    user: str
    addresses: tuple[str, ...]
    port: int = PORT
    servers: tuple[int, ...]
    """The pid of each sshd."""

    def quiet(self) -> None:
        """Wait until all sessions are gone: what is measured next would pay for their leave."""
        until = time.monotonic() + LEAVE
        while time.monotonic() < until and any(_children(pid) for pid in self.servers):
            time.sleep(0.05)

    def inventory(self, count: int) -> Path:
        """Write an inventory with the first `count` hosts.

        Each has a state directory of its own, as hosts have that are not all this machine.
        """
        path = self.folder / f"hosts{count}.yaml"
        host = "  h{n}: {{address: {a}, connection: {{state_dir: {folder}/state/h{n}}}}}\n"
        lines = "".join(
            host.format(n=n, a=address, folder=self.folder)
            for n, address in enumerate(self.addresses[:count])
        )
        path.write_text(
            f"opskit: 1\nconnection: {{user: {self.user}, port: {self.port}, "
            f"key: {self.folder}/key, known_hosts: {self.folder}/known_hosts}}\nhosts:\n{lines}"
        )
        return path


@contextlib.contextmanager
def fleet(folder: Path, count: int) -> Iterator[Hosts]:
    """Start sshd for `count` addresses; each is ended by its own pid."""
    folder.mkdir(parents=True, exist_ok=True)
    _keys(folder)
    addresses = tuple(f"127.43.{n // 200}.{1 + n % 200}" for n in range(count))
    public = (folder / "hostkey.pub").read_text().split()
    (folder / "known_hosts").write_text(
        "".join(f"[{a}]:{PORT} {public[0]} {public[1]}\n" for a in addresses)
    )
    servers = []
    try:
        for start in range(0, count, PER_SERVER):
            servers.append(_start(folder, addresses[start : start + PER_SERVER]))
        time.sleep(0.3)
        if any(server.poll() is not None for server in servers):
            raise SystemExit("sshd does not start (see above): does another benchmark run?")
        yield Hosts(
            folder=folder,
            user=getpass.getuser(),
            addresses=addresses,
            servers=tuple(server.pid for server in servers),
        )
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)


def _children(pid: int) -> bool:
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def _keys(folder: Path) -> None:
    for name in ("key", "hostkey"):
        if not (folder / name).exists():
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)


def _start(folder: Path, addresses: Sequence[str]) -> "subprocess.Popen[bytes]":
    config = folder / f"sshd.{addresses[0]}"
    listen = "".join(f"ListenAddress {address}:{PORT}\n" for address in addresses)
    config.write_text(listen + CONFIG.format(folder=folder))
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("sshd is missing: install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return subprocess.Popen([program, "-D", "-e", "-f", str(config)])
