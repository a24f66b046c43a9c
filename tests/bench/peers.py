"""Whom opskit is measured beside: each runs `/bin/true` on N hosts, S times, step by step."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fleet import Hosts
from tests.support.postgres import Server

FABRIC = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from fabric import Connection
hosts, port, user, key, steps = json.loads(sys.argv[1])
made = [Connection(h, user=user, port=port,
                   connect_kwargs=dict(key_filename=key, look_for_keys=False, allow_agent=False))
        for h in hosts]
with ThreadPoolExecutor(min(len(made), 100)) as pool:
    for _ in range(steps):
        done = pool.map(lambda c: c.run("/bin/true", hide=True, in_stream=False).ok, made)
        assert all(list(done))
    list(pool.map(lambda c: c.close(), made))
"""

ASYNCSSH = """
import asyncio, json, sys, asyncssh
hosts, port, user, key, steps = json.loads(sys.argv[1])
async def main():
    options = asyncssh.SSHClientConnectionOptions(
        username=user, client_keys=[asyncssh.read_private_key(key)], known_hosts=None,
        agent_path=None, config=None, kex_algs=["curve25519-sha256"],
        encryption_algs=["aes128-gcm@openssh.com"], compression_algs=["none"])
    gate = asyncio.Semaphore(100)
    async def connect(host):
        async with gate:
            return await asyncssh.connect(host, port, options=options, config=None)
    made = await asyncio.gather(*(connect(h) for h in hosts))
    async def one(c):
        async with gate:
            return (await c.run("/bin/true", encoding=None)).exit_status == 0
    for _ in range(steps):
        assert all(await asyncio.gather(*(one(c) for c in made)))
    for c in made:
        c.close()
asyncio.run(main())
"""

PYINFRA_HOSTS = """
bench = [(h, dict(ssh_user={user!r}, ssh_port={port}, ssh_key={key!r},
                  ssh_strict_host_key_checking="no", ssh_allow_agent=False,
                  ssh_look_for_keys=False, ssh_known_hosts_file="/dev/null")) for h in {hosts!r}]
"""
PYINFRA_DEPLOY = """
from pyinfra.operations import server
for n in range({steps}):
    server.shell(name=f"s{{n}}", commands=["/bin/true"])
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What is measured with: the hosts, and where each program is installed."""

    hosts: Hosts
    opskit: Path
    libraries: Path
    """The interpreter that has Fabric, paramiko and asyncssh."""
    pyinfra: Path
    """It wants older libraries, in an environment of its own."""
    redis: Path
    """The interpreter that has redis-py and django-redis."""
    rounds: int = 0
    """How many were asked for, where a workload has rounds of its own; 0: as many as it has."""
    database: str = ""
    """A store in PostgreSQL, where a workload wants one."""
    server: Server | None = None
    """For data, where a workload wants some."""
    ledgers: Callable[[int], str] | None = None
    """Makes a ledger of so many rows, where a workload wants one; returns its URL."""

    def ledger(self, rows: int) -> str:
        assert self.ledgers is not None
        return self.ledgers(rows)

    def command(self, who: str, hosts: int, steps: int) -> list[str]:
        """Return how `who` runs on so many hosts, so many steps."""
        match who:
            case "opskit read" | "opskit change":
                book = self.book(who.split()[1], steps)
                return self.run(book, self.hosts.inventory(hosts))
            case "in PostgreSQL" | "in SQLite":
                store = self.database if who == "in PostgreSQL" else "store.db"
                return self.run(self.book("change", steps), self.hosts.inventory(hosts), store)
            case "pyinfra":
                return self._pyinfra(hosts, steps)
        path = self.hosts.folder / f"{who}_peer.py"
        path.write_text({"fabric": FABRIC, "asyncssh": ASYNCSSH}[who])
        key = str(self.hosts.folder / "key")
        given = [self.hosts.addresses[:hosts], self.hosts.port, self.hosts.user, key, steps]
        return [str(self.libraries), str(path), json.dumps(given)]

    def run(self, book: Path, inventory: Path, store: str = "store.db") -> list[str]:
        """Return how opskit runs a runbook."""
        place = store if "://" in store else str(self.hosts.folder / store)
        rest = ["--yes", "--no-live", "--store", place]
        return [str(self.opskit), "run", str(book), "-i", str(inventory), *rest]

    def book(self, effect: str, steps: int) -> Path:
        """Write a runbook with so many steps."""
        book = self.hosts.folder / f"{effect}{steps}.yaml"
        head = "opskit: 1\nname: bench\nversion: 1.0.0\nsummary: b\nhosts: all\nsteps:\n"
        step = "  - {{name: s{n}, run: /bin/true, effect: {effect}}}\n"
        book.write_text(head + "".join(step.format(n=n, effect=effect) for n in range(steps)))
        return book

    def _pyinfra(self, hosts: int, steps: int) -> list[str]:
        folder = self.hosts.folder
        inventory, deploy = folder / f"pyinfra{hosts}.py", folder / f"deploy{steps}.py"
        inventory.write_text(
            PYINFRA_HOSTS.format(
                user=self.hosts.user,
                port=self.hosts.port,
                key=str(folder / "key"),
                hosts=self.hosts.addresses[:hosts],
            )
        )
        deploy.write_text(PYINFRA_DEPLOY.format(steps=steps))
        return [str(self.pyinfra), "-y", str(inventory), str(deploy)]
