"""opskit beside its peers on this machine: `scripts/bench [ROUNDS] [WORKLOAD …]`.

Rounds are interleaved (A B C A B C …), one unmeasured round first. What counts is the ratio of each
round, as median and range: the machine's own speed drops out. Record and masking are on.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fleet import fleet
from tests.bench.peers import commands


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is run, beside whom, and the ratio that opskit is to stay under."""

    name: str
    hosts: int
    steps: int
    who: str
    beside: tuple[tuple[str, float], ...]


WORKLOADS = (
    Workload(
        name="reads-100x10",
        hosts=100,
        steps=10,
        who="opskit read",
        beside=(("asyncssh", 1.0), ("pyinfra", 0.6)),
    ),
    Workload(
        name="reads-10x20", hosts=10, steps=20, who="opskit read", beside=(("asyncssh", 1.1),)
    ),
    Workload(
        name="changes-100x10", hosts=100, steps=10, who="opskit change", beside=(("pyinfra", 1.0),)
    ),
    Workload(
        name="changes-10x20", hosts=10, steps=20, who="opskit change", beside=(("pyinfra", 0.5),)
    ),
    Workload(name="one-200x1", hosts=200, steps=1, who="opskit read", beside=(("fabric", 1.15),)),
    Workload(name="one-1x1", hosts=1, steps=1, who="opskit read", beside=(("fabric", 1.5),)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """Seconds of one round: by the clock, and of the processor for the client."""

    wall: float
    cpu: float
    memory: float
    """MB at the most."""


def once(words: list[str], folder: Path) -> Took:
    """Run a command as a whole process; it must succeed."""
    with (folder / "output.txt").open("wb") as output:
        began = time.perf_counter()
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = (folder / "output.txt").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{words[:3]} ended with {process.returncode}:\n{said}")
    return Took(wall=wall, cpu=usage.ru_utime + usage.ru_stime, memory=usage.ru_maxrss / 1024)


def measure(workload: Workload, rounds: int, peers: "dict[str, list[str]]", folder: Path) -> None:
    """Run the rounds of a workload and print its rows."""
    names = [workload.who, *(name for name, _ in workload.beside)]
    took: dict[str, list[Took]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            result = once(peers[name], folder)
            if turn:
                took[name].append(result)
    print(f"\n{workload.name}: {workload.hosts} hosts x {workload.steps} steps, {rounds} rounds")
    for name in names:
        walls = [t.wall for t in took[name]]
        cpu = statistics.median(t.cpu for t in took[name])
        memory = max(t.memory for t in took[name])
        spread = f"{statistics.median(walls):6.2f} s [{min(walls):.2f}-{max(walls):.2f}]"
        print(f"  {name:14} {spread}  client {cpu:5.2f} s  {memory:5.1f} MB")
    for name, limit in workload.beside:
        ratios = [a.wall / b.wall for a, b in zip(took[workload.who], took[name], strict=True)]
        middle = statistics.median(ratios)
        verdict = "ok" if middle <= limit else "MISSED"
        spread = f"{middle:.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        print(f"  beside {name}: {spread}, to be at most {limit:g}: {verdict}")


def main(argv: list[str]) -> None:
    rounds = int(argv[0]) if argv and argv[0].isdigit() else 7
    wanted = [word for word in argv if not word.isdigit()]
    chosen = [w for w in WORKLOADS if not wanted or w.name in wanted]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    opskit = Path(sys.executable).parent / "opskit"
    python = Path(os.environ["BENCH_PYTHON"])
    with tempfile.TemporaryDirectory(prefix="opskit-bench.") as name:
        folder = Path(name)
        with fleet(folder, max(w.hosts for w in chosen)) as hosts:
            made = commands(hosts, python, opskit)
            for workload in chosen:
                ready = {n: make(workload.hosts, workload.steps) for n, make in made.items()}
                measure(workload, rounds, ready, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
