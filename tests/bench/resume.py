"""How soon a resume has found again what runs on the hosts."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.figures import Figure, Rounds
from tests.bench.peers import Bench

RUNBOOK = """\
opskit: 1
name: ticking
version: 1.0.0
summary: b
hosts: all
steps:
  - name: tick
    run: |
      until test -e {go}; do echo tick; sleep 0.1; done
"""

UNTIL_HEARD = """
import os, sys
from opskit.model.event import Chunk
from opskit.view.jsonl import JsonLines
hosts, heard, told = int(sys.argv.pop(1)), set(), JsonLines.__call__
def hear(self, item):
    if isinstance(item, Chunk):
        heard.add(item.host)
        if len(heard) == hosts:
            os._exit(0)
    told(self, item)
JsonLines.__call__ = hear
from opskit.cli import main
main()
sys.exit("it ended before all hosts were heard")
"""
# It ends as by a kill -9: nothing is closed, and nothing more is recorded.


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """A run is killed once every host prints, resumed until every host is heard again, and killed.

    Then the commands are let end, and the run is resumed to its end, which must be a success.
    """

    name: str = "resume-20"
    hosts: int = 20
    title: str = "20 hosts run something: killed, and found again"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        folder = bench.hosts.folder
        go, script, book = folder / "go", folder / "until_heard.py", folder / "ticking.yaml"
        script.write_text(UNTIL_HEARD)
        book.write_text(RUNBOOK.format(go=go))
        opskit, *run = bench.run(book, bench.hosts.inventory(self.hosts), "resume.db")
        resume = ["resume", "last", "--store", str(folder / "resume.db")]
        heard = [sys.executable, str(script), str(self.hosts)]
        return {
            "run": ["sh", "-c", f'rm -f {go}; exec "$@" --json', "sh", *heard, *run],
            "resume": [*heard, *resume, "--json"],
            "to the end": ["sh", "-c", f': >{go}; exec "$@"', "sh", opskit, *resume],
        }

    def figures(self, took: Rounds) -> Sequence[Figure]:
        walls = [t.wall for t in took["resume"]]
        return [Figure(what="until all are heard again", values=walls, unit=" s", limit=2)]
