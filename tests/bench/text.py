"""A command that prints 100 MB: how fast it is in the record, and what that takes of memory."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, Rounds, less, ratio
from tests.bench.peers import Bench

SIZE = 100_000_000

PARAMIKO = """
import json, sys, paramiko
host, port, user, key, known, text, size = json.loads(sys.argv[1])
client = paramiko.SSHClient()
client.load_host_keys(known)
client.connect(host, port, user, key_filename=key, look_for_keys=False, allow_agent=False)
channel = client.get_transport().open_session()
channel.exec_command("cat " + text)
got = 0
while data := channel.recv(65536):
    got += len(data)
assert (got, channel.recv_exit_status()) == (size, 0), got
client.close()
"""

RUNBOOK = """\
opskit: 1
name: text
version: 1.0.0
summary: b
hosts: all
steps:
  - {{name: print, run: cat {path}, effect: read, secrets: {{TOKEN: token}}}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Log-like text, printed by one step, beside bare paramiko which receives it and drops it.

    By the clock from the start of the process to its end: all of it is on disk then, masked and
    compressed. Both start-ups are in it. The memory is compared with that of the same run with a
    word instead of the text. The inventory's `max_output` is the default, 256 MiB.
    """

    name: str = "text-100mb"
    hosts: int = 1
    title: str = "100 MB of log-like text until it is in the record"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        folder = bench.hosts.folder
        big, small, peer = folder / "big.txt", folder / "small.txt", folder / "paramiko_peer.py"
        with big.open("w") as file:
            file.writelines(lines(SIZE))
        small.write_text("word\n")
        peer.write_text(PARAMIKO)
        host = (bench.hosts.addresses[0], bench.hosts.port, bench.hosts.user, str(folder / "key"))
        given = json.dumps([*host, str(folder / "known_hosts"), str(big), SIZE])
        return {
            "opskit": _run(bench, big),
            "opskit, a word": _run(bench, small),
            "paramiko": [str(bench.libraries), str(peer), given],
        }

    def figures(self, took: Rounds) -> Sequence[Figure]:
        walls = {name: [t.wall for t in each] for name, each in took.items()}
        memory = [[t.memory for t in took[name]] for name in ("opskit", "opskit, a word")]
        rates = {name: [SIZE / 1e6 / wall for wall in each] for name, each in walls.items()}
        return [
            Figure(what="text of opskit", values=rates["opskit"], unit=" MB/s"),
            Figure(what="text of paramiko", values=rates["paramiko"], unit=" MB/s"),
            Figure(
                what="throughput beside paramiko",
                values=ratio(rates["opskit"], rates["paramiko"]),
                limit=0.5,
                least=True,
            ),
            Figure(what="more memory", values=less(*memory), unit=" MB", limit=60, judged=max),
        ]


def _run(bench: Bench, path: Path) -> list[str]:
    """Return a run that prints a file. It has a secret: there is something to mask."""
    book, inventory = path.with_suffix(".yaml"), path.with_suffix(".hosts.yaml")
    book.write_text(RUNBOOK.format(path=path))
    (path.parent / "token").write_text("sesam-oeffne-dich\n")
    known = bench.hosts.inventory(1).read_text()
    inventory.write_text(f"{known}secrets: {{token: 'file:{path.parent}/token'}}\n")
    return bench.run(book, inventory)


def lines(size: int) -> Iterator[str]:
    """Yield lines as a web server logs them, `size` characters in all, the same every time."""
    chance = random.Random(1)
    left = size
    while left > 0:
        now = (size - left) // 2000
        line = (
            f"10.{chance.randrange(4)}.{chance.randrange(256)}.{chance.randrange(256)} - - "
            f"[22/Nov/2026:{now // 3600 % 24:02}:{now // 60 % 60:02}:{now % 60:02} +0000] "
            f'"GET /{chance.choice(PAGES)}/{chance.randrange(100_000)} HTTP/1.1" '
            f"{chance.choice((200, 200, 200, 304, 404, 500))} {chance.randrange(90_000)} "
            f'"-" "{chance.choice(AGENTS)}" {chance.random():.3f} {chance.getrandbits(64):016x}\n'
        )[-left:]
        left -= len(line)
        yield line


PAGES = ("health", "api/orders", "api/customers", "static/app", "login", "search", "api/items")
AGENTS = ("curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0", "kube-probe/1.31")
