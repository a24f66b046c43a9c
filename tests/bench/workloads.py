"""What is measured: each workload says which programs run by turns, and what their times mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tests.bench.cleanup import Cleanup
from tests.bench.duplicates import Duplicates
from tests.bench.figures import Figure, Rounds, less, ratio
from tests.bench.indexes import Indexes
from tests.bench.peers import Bench
from tests.bench.purge import Purge
from tests.bench.resume import Resume
from tests.bench.startup import StartUp
from tests.bench.text import Text
from tests.bench.warm import Warm


class Workload(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str: ...
    @property
    def hosts(self) -> int: ...
    @property
    def title(self) -> str: ...

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        """Return the programs that are run by turns."""

    def figures(self, took: Rounds) -> Sequence[Figure]:
        """Return what their times mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """Whole runs: wall time beside that of others, each with the ratio to stay under."""

    name: str
    hosts: int
    steps: int
    who: str
    beside: tuple[tuple[str, float], ...] = ()
    memory: float | None = None
    """MB that the client may take."""

    @property
    def title(self) -> str:
        return f"{self.hosts} hosts x {self.steps} steps"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        names = (self.who, *(name for name, _ in self.beside))
        return {name: bench.command(name, self.hosts, self.steps) for name in names}

    def figures(self, took: Rounds) -> Sequence[Figure]:
        walls = {name: [t.wall for t in each] for name, each in took.items()}
        made = [
            Figure(what=f"beside {name}", values=ratio(walls[self.who], walls[name]), limit=limit)
            for name, limit in self.beside
        ]
        memory = [t.memory for t in took[self.who]]
        if self.memory is not None:
            made.append(
                Figure(what="memory", values=memory, unit=" MB", limit=self.memory, judged=max)
            )
        return made


@dataclass(frozen=True, kw_only=True, slots=True)
class Further:
    """What a further action costs: start-up, connecting and the first steps are taken off.

    In each round both programs run twice, with few steps and with many, and what the few took
    is subtracted from what the many took. What is left is the work of the further steps alone.
    """

    name: str
    hosts: int
    few: int
    many: int
    who: str
    beside: str
    part: Literal["wall", "cpu"]
    limit: float

    @property
    def title(self) -> str:
        return f"{self.hosts} hosts x {self.many} steps less {self.hosts} x {self.few}"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        return {
            f"{name} x {steps}": bench.command(name, self.hosts, steps)
            for name in (self.who, self.beside)
            for steps in (self.few, self.many)
        }

    def figures(self, took: Rounds) -> Sequence[Figure]:
        mine, other = self._further(took, self.who), self._further(took, self.beside)
        each = 1000 / (self.hosts * (self.many - self.few))
        what = {"wall": "time", "cpu": "client CPU"}[self.part]
        return [
            Figure(what=f"{what} of {self.who}", values=[x * each for x in mine], unit=" ms"),
            Figure(what=f"{what} of {self.beside}", values=[x * each for x in other], unit=" ms"),
            Figure(what=f"beside {self.beside}", values=ratio(mine, other), limit=self.limit),
        ]

    def _further(self, took: Rounds, name: str) -> list[float]:
        few, many = (
            [t.wall if self.part == "wall" else t.cpu for t in took[f"{name} x {steps}"]]
            for steps in (self.few, self.many)
        )
        return less(many, few)


@dataclass(frozen=True, kw_only=True, slots=True)
class Help:
    """How soon something is on the screen."""

    name: str = "help"
    hosts: int = 0
    title: str = "opskit --help beside pyinfra --version"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        return {
            "opskit": [str(bench.opskit), "--help"],
            "pyinfra": [str(bench.pyinfra), "--version"],
        }

    def figures(self, took: Rounds) -> Sequence[Figure]:
        mine, other = ([t.wall for t in took[name]] for name in ("opskit", "pyinfra"))
        return [Figure(what="beside pyinfra", values=ratio(mine, other), limit=0.5)]


READ, CHANGE = "opskit read", "opskit change"
IN_POSTGRES = "in PostgreSQL"

WORKLOADS: tuple[Workload, ...] = (
    Beside(
        name="reads-100x10",
        hosts=100,
        steps=10,
        who=READ,
        beside=(("asyncssh", 1.0), ("pyinfra", 0.6)),
    ),
    Beside(name="reads-10x20", hosts=10, steps=20, who=READ, beside=(("asyncssh", 1.1),)),
    Further(
        name="further-reads",
        hosts=10,
        few=1,
        many=20,
        who=READ,
        beside="asyncssh",
        part="wall",
        limit=0.9,
    ),
    Beside(name="changes-100x10", hosts=100, steps=10, who=CHANGE, beside=(("pyinfra", 1.0),)),
    Beside(name="changes-10x20", hosts=10, steps=20, who=CHANGE, beside=(("pyinfra", 0.5),)),
    Further(
        name="further-changes",
        hosts=10,
        few=20,
        many=60,
        who=CHANGE,
        beside="fabric",
        part="cpu",
        limit=0.8,
    ),
    Beside(name="one-200x1", hosts=200, steps=1, who=READ, beside=(("fabric", 1.15),), memory=110),
    Beside(name="one-1x1", hosts=1, steps=1, who=READ, beside=(("fabric", 1.5),)),
    Beside(name="many-500x1", hosts=500, steps=1, who=READ),
    Beside(
        name="postgres-100x10",
        hosts=100,
        steps=10,
        who=IN_POSTGRES,
        beside=(("in SQLite", 1.15),),
    ),
    Indexes(folder=[]),
    Resume(),
    StartUp(),
    Help(),
    Text(),
    Duplicates(rows=1_000_000),
    Duplicates(rows=10_000_000),
    Cleanup(rows=1_000_000),
    Cleanup(rows=5_000_000, rounds=2),
    Warm(rows=200_000),
    Purge(keys=100_000, of=100_000),
    Purge(keys=5_000, of=500_000),
    Purge(keys=1_000_000, of=1_000_000),
)
