"""A real HAProxy of a test's own with two colours in one backend."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ports
from tests.support.nginx import Member, wait_until

CONF = """\
global
    stats socket {top}/admin.sock mode 600 level {level}
    server-state-file {top}/states
    master-worker
    pidfile {top}/pid
defaults
    mode http
    timeout connect 2s
    timeout check 3s
    timeout client 30s
    timeout server 30s
    {load}
frontend front
    bind {listen}
    default_backend app
backend app
    balance roundrobin
    option httpchk GET /
    http-response set-header X-Pool %s
    default-server inter 200 rise 1 fall 3 {check}
{servers}
"""


def program() -> str | None:
    return shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


@dataclass(kw_only=True)
class Haproxy:
    """HAProxy with its files in `top`; blue is the first half of the members."""

    top: Path
    listen: str
    members: list[Member] = field(default_factory=list)
    level: str = "admin"
    check: str = "check"
    load: str = "load-server-state-from-file global"
    weights: tuple[int, ...] = (100, 100, 100, 100)
    extra: str = ""

    @property
    def conf(self) -> Path:
        return self.top / "haproxy.cfg"

    @property
    def servers(self) -> dict[str, Member]:
        return dict(zip(("blue1", "blue2", "green1", "green2"), self.members, strict=True))

    def write(self) -> None:
        lines = "".join(
            f"    server {name} {member.where} weight {weight}\n"
            for (name, member), weight in zip(self.servers.items(), self.weights, strict=True)
        )
        keys = {"top": self.top, "listen": self.listen, "level": self.level}
        self.conf.write_text(
            CONF.format(servers=lines + self.extra, check=self.check, load=self.load, **keys)
        )

    def start(self) -> None:
        self.write()
        (self.top / "states").write_text("1\n")
        subprocess.run(
            [str(program()), "-W", "-D", "-f", str(self.conf)],
            check=True,
            capture_output=True,
        )
        wait_until(lambda: set(self.checks()) == {"L7OK"})

    def reload(self, *, settled: bool = True) -> None:
        before = self.info("Pid")
        for _ in range(5):  # a master that is still busy with the reload before loses the signal
            os.kill(int((self.top / "pid").read_text()), signal.SIGUSR2)
            with suppress(AssertionError):
                self.wait_for_another(before, limit=2.0)
                break
        assert self.info("Pid") != before
        wait_until(lambda: not settled or not {"", "INI"} & set(self.checks()))

    def wait_for_another(self, before: str, limit: float = 60.0) -> None:
        """Wait until only a new process answers: for a moment both do, now this one, now that."""
        wait_until(lambda: all(self.info("Pid") not in ("", before) for _ in range(8)), limit)

    def stop(self) -> None:
        """End the master and its workers by their own ids."""
        master = int((self.top / "pid").read_text())
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        os.kill(master, signal.SIGTERM)
        for pid in workers:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_until(lambda: not Path(f"/proc/{master}").exists() or _ended(master))

    def talk(self, command: str) -> str:
        peer = socket.socket(socket.AF_UNIX)
        with peer:
            try:
                peer.connect(f"{self.top}/admin.sock")
            except OSError:
                return ""
            peer.sendall(command.encode() + b"\n")
            answer = b""
            while more := peer.recv(65536):
                answer += more
        return answer.decode()

    def info(self, name: str) -> str:
        lines = [
            line.split(": ", 1) for line in self.talk("show info").splitlines() if ": " in line
        ]
        return dict(lines).get(name, "")

    def _stat(self, column: str) -> list[str]:
        lines = self.talk("show stat").splitlines()
        if not lines:
            return [""]
        names = lines[0].removeprefix("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
        ours = [row for row in rows if row.get("pxname") == "app"]
        return [row[column] for row in ours if row["svname"] not in ("BACKEND", "FRONTEND")]

    def checks(self) -> list[str]:
        """What checks say of each server; those in maintenance have none."""
        found = zip(self._stat("check_status"), self._stat("status"), strict=True)
        return [one.removeprefix("* ") for one, status in found if status != "MAINT"]

    def sessions(self) -> list[int]:
        return [int(one) for one in self._stat("scur")]

    def address(self, server: str) -> str:
        """Where it has a server."""
        return dict(zip(self.servers, self._stat("addr"), strict=True))[server]

    def state(self) -> list[str]:
        """Weight and status of each server, in order; not that a check is just now in doubt."""
        pairs = zip(self._stat("weight"), self._stat("status"), strict=True)
        return [f"{weight} {status.split(' ')[0]}" for weight, status in pairs]

    def entry(self) -> dict[str, object]:
        """What an inventory would say."""
        return {
            "type": "haproxy",
            "socket": f"{self.top}/admin.sock",
            "backend": "app",
            "state_file": f"{self.top}/states",
            "test": f"{program()} -c -f {self.conf}",
            "colours": {"blue": ["blue1", "blue2"], "green": ["green1", "green2"]},
            "header": "X-Pool",
            "listen": f"http://{self.listen}/",
            "health": "/",
            "latency": "mean",
        }


def _ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def make(top: Path) -> Haproxy:
    """Lay out and start it, with all traffic on blue."""
    top.mkdir(parents=True, exist_ok=True)
    found = Haproxy(top=top, listen=f"127.0.0.1:{ports.free()}")
    found.members += [Member(f"127.0.0.{n + 2}") for n in range(4)]
    found.start()
    for name in ("green1", "green2"):
        found.talk(f"set server app/{name} state drain")
    return found
