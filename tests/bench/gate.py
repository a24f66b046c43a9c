"""How often a gate errs: sides with known shares of errors, judged by the rule that ships.

.venv/bin/python -m tests.bench.gate [TIMES]     prints the table that docs/how-to/blue-green.md has

Beside it stands the plain rule: a window with its sample in which the new side's share is above 1 %
and above twice the old one's is bad, and three in a row fail; all else with its sample passes.
"""

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import opskit.steps

RULE = Path(opskit.steps.__file__).with_name("gate.awk")
MATHS = RULE.with_name("maths.awk")
LIMITS: Mapping[str, object] = {
    "window": 20,
    "windows": 3,
    "sample": 200,
    "old_sample": 50,
    "max_errors": 0.01,
    "error_ratio": 2,
    "hard_limit": 0.2,
    "p95_ratio": 1.5,
    "p95_least": 10,
    "alone": 0,
    "new": "new",
    "old": "old",
}
WINDOW = 20


@dataclass(frozen=True, slots=True)
class Case:
    """Two sides: their shares of errors and requests a second, and how long they are watched."""

    new: float
    old: float
    rates: tuple[float, float] = (10, 90)
    seconds: int = 300

    @property
    def good(self) -> bool:
        """Whether the new side keeps one of the two limits: it may have 1 %, or twice the old."""
        return self.new <= 0.01 or self.new <= 2 * self.old

    @property
    def label(self) -> str:
        traffic = f"{self.rates[0]:g} and {self.rates[1]:g} a second, {self.seconds // 60:g} min"
        return f"{100 * self.new:g} % beside {100 * self.old:g} %, {traffic}"


PAIRS = ((0.001, 0.001), (0.005, 0.005), (0.05, 0.05), (0.02, 0.001), (0.05, 0.01), (0.3, 0.001))
TRAFFIC = (((10, 90), 300), ((10, 90), 60), ((1, 9), 300), ((10, 90), 14400))
CASES = (
    *(Case(new=n, old=o, rates=r, seconds=s) for r, s in TRAFFIC for n, o in PAIRS),
    *(Case(new=share, old=share, rates=(0.1, 0.9)) for share in (0.0, 0.1)),
)


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for line in table(times):
        sys.stdout.write(line + "\n")
    for factor in (1.0, 1.2, 2.0):
        found = slow_odds(factor, max(20, times // 10))
        words = ", ".join(f"{word} {100 * share:.2f} %" for word, share in found.items())
        sys.stdout.write(f"{factor:g} times as slow: {words}\n")


def table(times: int, cases: Sequence[Case] = CASES) -> Iterator[str]:
    """Yield lines: a case, and how often it passed, failed and was inconclusive, in percent."""
    yield f"{'errors':58}    pass    fail    inconclusive     plain rule: pass, fail"
    for case in cases:
        found, plain = odds(case, times if case.seconds < 3600 else max(20, times // 10))
        words = [f"{100 * found[word]:7.2f}" for word in ("pass", "fail", "inconclusive")]
        beside = f"{100 * plain['pass']:7.2f} {100 * plain['fail']:7.2f}"
        yield f"{case.label:58} {' '.join(words)}          {beside}"


def odds(case: Case, times: int, seed: int = 7) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return how often the rule, and the plain one, come to each verdict: shares of all."""
    rng = random.Random(seed)
    gates = [list(_windows(case, rng)) for _ in range(times)]
    fed = "\n".join(line for gate in gates for line in ("begin", *_lines(gate))) + "\n"
    found = _judged(fed, case.seconds)
    assert sum(found.values()) == times
    plain = Counter(_plain(gate[: case.seconds // WINDOW]) for gate in gates)
    return _shares(found, times), _shares(plain, times)


def _judged(fed: str, seconds: int) -> Counter[str]:
    given = [f"{key}={value}" for key, value in {**LIMITS, "for_": seconds, "play": 1}.items()]
    words = [word for pair in given for word in ("-v", pair)]
    words = ["awk", *words, "-f", str(MATHS), "-f", str(RULE)]
    done = subprocess.run(words, input=fed, capture_output=True, text=True, check=True)
    return Counter(line.split()[1] for line in done.stdout.splitlines())


def _shares(counts: Mapping[str, int], times: int) -> Mapping[str, float]:
    words = ("pass", "fail", "inconclusive")
    return {word: counts.get(word, 0) / times for word in words}


def slow_odds(factor: float, times: int, seed: int = 7) -> Mapping[str, float]:
    """Return the same for a new side that takes `factor` times as long, where times are scattered.

    A tenth of all requests takes more than 3.6 times as long as half of them do (a log-normal
    distribution); five minutes, ten and thirty requests a second.
    """
    rng = random.Random(seed)
    fed = "\n".join(line for _ in range(times) for line in ("begin", *_scattered(factor, rng)))
    found = _judged(fed + "\n", 300)
    assert sum(found.values()) == times
    return _shares(found, times)


def _scattered(factor: float, rng: random.Random) -> Iterator[str]:
    for number in range(1, 20):
        for side, count, scale in ((1, 200, 50 * factor), (2, 600, 50.0)):
            times = Counter(
                int(50 * math.log(max(1.0, scale * rng.lognormvariate(0, 1)))) + 1
                for _ in range(count)
            )
            yield f"n {side} {count} 0"
            yield from (f"t {side} {bucket} {many}" for bucket, many in times.items())
        yield f"look {number * WINDOW}"


Window = tuple[int, int, int, int]
"""Requests and errors of the new side, then of the old one."""


def _windows(case: Case, rng: random.Random) -> Iterator[Window]:
    """Yield what the windows of one gate bring, and of the time that may be added to it."""
    (new, old), over = case.rates, case.seconds + 4 * WINDOW
    for end in range(WINDOW, over + 1, WINDOW):
        n, o = (int(rate * end) - int(rate * (end - WINDOW)) for rate in (new, old))
        yield n, _errors(n, case.new, rng), o, _errors(o, case.old, rng)


def _errors(count: int, share: float, rng: random.Random) -> int:
    """Draw how many of so many requests fail: by the gaps between them, as few do."""
    if share <= 0:
        return 0
    found, at, scale = 0, 0, math.log1p(-share)
    while True:
        at += int(math.log(1 - rng.random()) / scale) + 1
        if at > count:
            return found
        found += 1


def _lines(gate: Sequence[Window]) -> Iterator[str]:
    """Write windows as the rule reads them; both sides answer in the same time."""
    for number, (n, e, o, theirs) in enumerate(gate, 1):
        yield f"n 1 {n} {e}\nn 2 {o} {theirs}\nt 1 100 {n}\nt 2 100 {o}\nlook {number * WINDOW}"


def _plain(gate: Sequence[Window]) -> str:
    row = open_n = open_e = open_o = open_t = all_n = 0
    for n, e, o, t in gate:
        open_n, open_e, open_o, open_t = open_n + n, open_e + e, open_o + o, open_t + t
        all_n += n
        if open_n < LIMITS["sample"]:  # type: ignore[operator]
            continue
        rate, theirs = open_e / open_n, open_t / open_o
        row = row + 1 if rate > 0.01 and rate > 2 * theirs else 0
        if row == 3 or rate > 0.2:
            return "fail"
        open_n = open_e = open_o = open_t = 0
    return "pass" if all_n >= LIMITS["sample"] else "inconclusive"  # type: ignore[operator]


if __name__ == "__main__":
    main()
