"""5,000 indexes of 1,000 tables looked at, and what others find among them of what is planted."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from opskit.lab.fixtures import Amount
from tests.bench.figures import Figure, Rounds
from tests.bench.peers import Bench
from tests.support import datasets
from tests.support.database import ROLES

OURS, SMALL = "opskit", "opskit, 8 indexes"
PEERS = ("as PgHero", "as pg-extras", "as check_postgres")


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexes:
    """One look at a database with faults planted in it, beside queries after other tools.

    `ms` is one look within a process that has run: session, queries, comparing, words. What others
    look at was taken from their documents, and the queries were written for this. Such a tool does
    not know what is expected, so that it can find only what is wrong with an index by itself.
    """

    name: str = "indexes-5000"
    hosts: int = 0
    title: str = "5,000 indexes of 1,000 tables, 510 faults planted"
    data: bool = True
    """It wants a server with data of its own."""
    folder: list[Path]
    """Where the looks leave what they took; known once there are programs."""

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        assert bench.server is not None
        with psycopg.connect(bench.server.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        self.folder[:] = [bench.hosts.folder]
        many = Amount(tables=1000, cases=30, rows=5, planted=True)
        large = self._load(bench, "catalog", many)
        small = self._load(bench, "teams", Amount(rows=20))
        found = {OURS: ["opskit", *large], SMALL: ["opskit", *small]}
        found |= {name: [name, *large] for name in PEERS}
        look = [sys.executable, "-m", "tests.bench.looking"]
        return {name: [*look, *words, str(self._took(name))] for name, words in found.items()}

    def _load(self, bench: Bench, name: str, amount: Amount) -> list[str]:
        assert bench.server is not None
        url, manifest = datasets.load(bench.server, name, amount)
        with psycopg.connect(url, autocommit=True) as connection:  # as the how-to asks for
            connection.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reader")
        path = bench.hosts.folder / f"{name}.json"
        path.write_text(json.dumps(manifest))
        return [url, str(path)]

    def _took(self, name: str) -> Path:
        return self.folder[0] / f"{name.replace(' ', '-')}.took"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        ours, small = self._rounds(OURS), self._rounds(SMALL)
        made = [
            Figure(what=OURS, values=ours["ms"], unit=" ms", limit=300),
            Figure(what="of this processor", values=ours["cpu"], unit=" ms"),
            Figure(what="its queries", values=ours["queries"], limit=3, judged=max),
            Figure(what="faults that it finds", values=ours["found"], limit=510, least=True),
            Figure(what="reported and none", values=ours["false"], limit=0, judged=max),
            Figure(what=SMALL, values=small["ms"], unit=" ms", limit=100),
        ]
        for name in PEERS:
            seen = self._rounds(name)
            made += [
                Figure(what=name, values=seen["ms"], unit=" ms"),
                Figure(what=f"queries {name}", values=seen["queries"]),
                Figure(what=f"faults found {name}", values=seen["found"]),
                Figure(what=f"reported and none {name}", values=seen["false"]),
            ]
        return made

    def _rounds(self, name: str) -> dict[str, list[float]]:
        """Return what each look took, less the first, which is not measured."""
        lines = self._took(name).read_text().splitlines()[1:]
        looks: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return {key: [look[key] for look in looks] for key in looks[0]}
