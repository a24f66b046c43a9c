"""Whom opskit is measured beside: each runs `/bin/true` on N hosts, S times, step by step."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.fleet import Hosts

Command = Callable[[int, int], list[str]]

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


def commands(hosts: Hosts, python: Path, opskit: Path) -> Mapping[str, Command]:
    """Return how each peer is started for N hosts and S steps.

    `python` has the libraries installed; pyinfra wants older ones, in an environment beside it.
    """
    folder = hosts.folder

    def script(name: str, text: str) -> Command:
        path = folder / f"{name}.py"
        path.write_text(text)

        def words(count: int, steps: int) -> list[str]:
            given = [hosts.addresses[:count], hosts.port, hosts.user, str(folder / "key"), steps]
            return [str(python), str(path), json.dumps(given)]

        return words

    def pyinfra(count: int, steps: int) -> list[str]:
        inventory, deploy = folder / f"pyinfra{count}.py", folder / f"deploy{steps}.py"
        inventory.write_text(
            PYINFRA_HOSTS.format(
                user=hosts.user,
                port=hosts.port,
                key=str(folder / "key"),
                hosts=hosts.addresses[:count],
            )
        )
        deploy.write_text(PYINFRA_DEPLOY.format(steps=steps))
        return [
            str(python.parent.parent.parent / "pyinfra/bin/pyinfra"),
            "-y",
            str(inventory),
            str(deploy),
        ]

    def own(effect: str) -> Command:
        def words(count: int, steps: int) -> list[str]:
            book = folder / f"{effect}{steps}.yaml"
            head = "opskit: 1\nname: bench\nversion: 1.0.0\nsummary: b\nhosts: all\nsteps:\n"
            step = "  - {{name: s{n}, run: /bin/true, effect: {effect}}}\n"
            book.write_text(head + "".join(step.format(n=n, effect=effect) for n in range(steps)))
            inventory = hosts.inventory(count)
            store = str(folder / "store.db")
            rest = ["--yes", "--no-live", "--store", store]
            return [str(opskit), "run", str(book), "-i", str(inventory), *rest]

        return words

    return {
        "opskit read": own("read"),
        "opskit change": own("change"),
        "fabric": script("fabric_peer", FABRIC),
        "asyncssh": script("asyncssh_peer", ASYNCSSH),
        "pyinfra": pyinfra,
    }
