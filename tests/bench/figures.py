"""What was measured, and whether it is within its limit."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """What a program took as a whole process: seconds by the clock and of the processor, MB."""

    wall: float
    cpu: float
    memory: float
    """At the most, of the largest process alone."""


class FailedError(Exception):
    """A program that is measured did not succeed."""


Rounds = Mapping[str, Sequence[Took]]
"""Name of a program → what it took in each round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure of each round. It is told as median and range, and judged where it has a limit."""

    what: str
    values: Sequence[float]
    unit: str = ""
    limit: float | None = None
    least: bool = False
    """The limit is what it is to be at least."""
    judged: Callable[[Sequence[float]], float] = statistics.median
    """What the limit is for: the median, or `max` of a figure that no round may pass."""

    @property
    def missed(self) -> bool:
        if self.limit is None:
            return False
        value = self.judged(self.values)
        return value < self.limit if self.least else value > self.limit

    def row(self) -> str:
        low, high = min(self.values), max(self.values)
        middle = statistics.median(self.values)
        digits = 2 if abs(middle) < 10 else 0
        text = f"{self.what}: {middle:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]{self.unit}"
        if self.limit is None:
            return text
        bound = f"to be at {'least' if self.least else 'most'} {self.limit:g}{self.unit}"
        return f"{text}, {bound}: {'MISSED' if self.missed else 'ok'}"


def ratio(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return a / b of each round: the machine's own speed drops out."""
    return [x / y for x, y in zip(a, b, strict=True)]


def less(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return a - b of each round."""
    return [x - y for x, y in zip(a, b, strict=True)]


def once(words: list[str], folder: Path) -> Took:
    """Run a command as a whole process; FailedError says how it did not succeed."""
    output = folder / "output.txt"
    # Compiled modules are kept, as they are for whoever uses these tools.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    small = [sys.executable, "-I", "-S", str(LAUNCH), str(output), *words]
    done = subprocess.run(small, stdout=subprocess.PIPE, env=environ, check=True)
    told = json.loads(done.stdout)
    if told["code"] != 0:
        said = output.read_text(errors="replace")[-2000:]
        raise FailedError(f"{words[:3]} ended with {told['code']}:\n{said}")
    return Took(**told["took"])


def interleaved(
    programs: Mapping[str, list[str]], rounds: int, folder: Path, between: Callable[[], None]
) -> Rounds:
    """Run the programs by turns (A B C A B C …), after one round that is not measured.

    `between` is called before each: nothing of the one before may still be going on.
    """
    took: dict[str, list[Took]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, words in programs.items():
            between()
            result = once(words, folder)
            if turn:
                took[name].append(result)
    return took
