"""opskit beside its peers on this machine: `scripts/bench [ROUNDS] [WORKLOAD …]`.

Rounds are interleaved (A B C A B C …), one unmeasured round first. What counts is the figure of
each round, as median and range: of a ratio the machine's own speed drops out. Record and masking
are on.
"""

import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.bench.duplicates import Duplicates, prepared
from tests.bench.figures import FailedError, Rounds, interleaved
from tests.bench.fleet import fleet
from tests.bench.peers import Bench
from tests.bench.workloads import IN_POSTGRES, WORKLOADS, Workload
from tests.support import datasets
from tests.support.database import ROLES
from tests.support.postgres import Server, server

FILES = 64
"""Open files of a client besides one for each connection, for which there is room for two."""


def measure(workload: Workload, rounds: int, bench: Bench) -> list[str]:
    """Run the rounds of a workload and print its rows; return what was missed."""
    print(f"\n{workload.name}: {workload.title}, {rounds} rounds", flush=True)
    try:
        took = interleaved(workload.programs(bench), rounds, bench.hosts.folder, bench.hosts.quiet)
        rows(took)
        figures = workload.figures(took)
    except FailedError as error:
        print(f"  {error}\n  FAILED", flush=True)
        return [workload.name]
    for figure in figures:
        print(f"  {figure.row()}", flush=True)
    if not figures:
        print("  every run succeeded: ok", flush=True)
    return [f"{workload.name}: {figure.what}" for figure in figures if figure.missed]


def rows(took: Rounds) -> None:
    for name, each in took.items():
        walls = [t.wall for t in each]
        cpu = statistics.median(t.cpu for t in each)
        memory = max(t.memory for t in each)
        spread = f"{statistics.median(walls):6.2f} s [{min(walls):.2f}-{max(walls):.2f}]"
        print(f"  {name:18} {spread}  client {cpu:5.2f} s  {memory:5.1f} MB")


def chosen(names: Sequence[str]) -> list[Workload]:
    """Return the workloads with these names, all without any, but none that can't run here."""
    known = [workload.name for workload in WORKLOADS]
    for name in names:
        if name not in known:
            raise SystemExit(f"no workload {name}; there are: {' '.join(known)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max(soft, min(hard, 8192))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    wanted = [w for w in WORKLOADS if not names or w.name in names]
    for workload in wanted:
        if _files(workload) > files:
            need = f"it needs {_files(workload)} open files, here a process may have {files}"
            print(f"{workload.name}: SKIPPED: {need}")
    return [w for w in wanted if _files(w) <= files]


def _files(workload: Workload) -> int:
    return FILES + 2 * workload.hosts


@contextmanager
def database(workloads: Sequence[Workload]) -> Iterator[str]:
    """Give a store in PostgreSQL to those that want one; every commit is synced to the disk."""
    if not any(getattr(workload, "who", "") == IN_POSTGRES for workload in workloads):
        yield ""
        return
    with server(fsync="on", shared_buffers="128MB") as found:
        yield found.database()


@contextmanager
def data(workloads: Sequence[Workload]) -> Iterator[Server | None]:
    """Give a server for data to those that want one."""
    if not any(getattr(workload, "data", False) for workload in workloads):
        yield None
        return
    with server(shared_buffers="128MB", **datasets.SETTINGS) as found:
        yield found


@contextmanager
def ledgers(workloads: Sequence[Workload]) -> Iterator[Callable[[int], str] | None]:
    """Give ledgers in a PostgreSQL of their own to those that search one."""
    if not any(isinstance(workload, Duplicates) for workload in workloads):
        yield None
        return
    settings = {"shared_buffers": "512MB", "max_wal_size": "8GB", **datasets.SETTINGS}
    with server(**settings) as found:
        with psycopg.connect(found.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        yield lambda rows: prepared(found.database(empty=True), rows)


def main(argv: list[str]) -> None:
    asked = int(argv[0]) if argv and argv[0].isdigit() else 0
    rounds = asked or 7
    workloads = chosen([word for word in argv if not word.isdigit()])
    libraries = Path(os.environ["BENCH_PYTHON"])
    count = max((workload.hosts for workload in workloads), default=0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opskit-bench.")))
        bench = Bench(
            hosts=stack.enter_context(fleet(folder, count)),
            database=stack.enter_context(database(workloads)),
            server=stack.enter_context(data(workloads)),
            ledgers=stack.enter_context(ledgers(workloads)),
            opskit=Path(sys.executable).parent / "opskit",
            libraries=libraries,
            pyinfra=libraries.parent.parent.parent / "pyinfra/bin/pyinfra",
            rounds=asked,
            redis=libraries.parent.parent.parent / "redis/bin/python",
        )
        missed = [what for workload in workloads for what in measure(workload, rounds, bench)]
    print("\nMISSED: " + "; ".join(missed) if missed else "\nNothing missed.")


if __name__ == "__main__":
    main(sys.argv[1:])
