"""What workloads share that make their rounds themselves: each round wants its data anew."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from tests.bench.figures import FailedError
from tests.bench.peers import Bench

HEAD = "opskit: 1\nhosts: {nowhere: 127.0.0.1}\n"
"""Of an inventory that is about no host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Apart:
    """A workload of which nothing is to be run as it is."""

    hosts: int = 0
    _benches: list[Bench] = field(default_factory=list)

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        self._benches.clear()
        self._benches.append(bench)
        return {}

    @property
    def bench(self) -> Bench:
        (found,) = self._benches
        return found


def ended(
    bench: Bench, words: Sequence[str], wanted: Callable[[Mapping[str, Any]], bool], **environ: str
) -> Mapping[str, Any]:
    """Run opskit as a person does; return how the step that is wanted has ended, with evidence."""
    done = subprocess.run(
        [str(bench.opskit), "run", *words, "--yes", "--json"],
        capture_output=True, check=False, text=True, env={**os.environ, **environ},
    )  # fmt: skip
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        event: dict[str, Any] = json.loads(line)
        if event.get("event") == "step ended" and wanted(event):
            return event
    raise FailedError(done.stdout[-2000:] + done.stderr)


def first(event: Mapping[str, Any]) -> bool:
    """Tell whether something was the end of the first step."""
    return str(event.get("key", "")).startswith("1/")


@contextmanager
def beside(go: Callable[[Event], None]) -> Iterator[None]:
    """Let another client go on, until it is told that this is over."""
    over = Event()
    thread = Thread(target=go, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def p99(times: Sequence[float]) -> float:
    """Return the 99th of a hundred; in ms."""
    found = sorted(times)
    return 1000 * found[int(len(found) * 0.99)] if found else 0.0
