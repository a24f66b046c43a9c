"""How long `opskit run` takes until it would dial, beyond loading the SSH library."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.figures import Figure, Rounds, less
from tests.bench.peers import Bench

UNTIL_DIALLING = """
import os, socket, sys
def dial(*_words, **_named):
    os._exit(0)
socket.getaddrinfo = dial
from opskit.cli import main
main()
sys.exit("it ended without dialling")
"""
# Up to here it has read runbook, inventory and known hosts, planned, begun its record, and
# made ready the connection. Nothing of opskit is loaded here in another order than by `opskit run`.


@dataclass(frozen=True, kw_only=True, slots=True)
class StartUp:
    """A run of one step on one host that ends where it would dial, and `import fabric`.

    Both in opskit's own interpreter. The difference of each round counts. These runs have a record
    of their own: one that broke off is not what the runs of other workloads should find.
    """

    name: str = "start-up"
    hosts: int = 1
    title: str = "opskit run until it would dial, less `import fabric`"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        script = bench.hosts.folder / "until_dialling.py"
        script.write_text(UNTIL_DIALLING)
        book, inventory = bench.book("read", 1), bench.hosts.inventory(1)
        _program, *words = bench.run(book, inventory, "startup.db")
        return {
            "opskit run": [sys.executable, str(script), *words],
            "import fabric": [sys.executable, "-c", "import fabric"],
        }

    def figures(self, took: Rounds) -> Sequence[Figure]:
        mine, other = took["opskit run"], took["import fabric"]
        wall = less([t.wall * 1000 for t in mine], [t.wall * 1000 for t in other])
        cpu = less([t.cpu * 1000 for t in mine], [t.cpu * 1000 for t in other])
        return [
            Figure(what="client CPU beyond the library", values=cpu, unit=" ms"),
            Figure(what="beyond the library", values=wall, unit=" ms", limit=60),
        ]
