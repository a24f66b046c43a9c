"""What rounds under a constant load have come to, way by way, as one table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.constant import Constant

SLOWEST = 5
WIDEST = 64  # of what a balancer has complained of


@dataclass(kw_only=True)
class Tally:
    """The rounds of one way to change colours."""

    name: str
    rounds: int = 0
    requests: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    slowest: list[dict[str, Any]] = field(default_factory=list)
    echo: float = 0.0

    def add(self, found: Constant, early: int) -> None:
        """Count a round; `early` sockets had not been left their time."""
        load, sockets = found.load, found.load["sockets"]
        failed = {way: count["failures"] for way, count in load["by_way"].items()}
        lost = sum(count for way, count in failed.items() if "POST" in way)
        self.rounds += 1
        self.requests += load["requests"]
        self.failures.update(found.failures())
        self.counts.update({f"failed, {way}": count for way, count in failed.items()})
        self.counts.update({f"reset and asked again, {k}": n for k, n in found.again().items()})
        self.counts["failed"] += load["failures"]
        self.counts["not sent in time"] += int(load["rate"]["unsent"])
        self.counts["on kept connections used again"] += load["reused"]
        self.counts["kept connections found closed"] += load["found_closed"]
        self.counts["POSTs"] += found.posts
        self.counts["POSTs delivered, answer lost"] += max(
            0, found.logs["posts"]["ids"] - (found.posts - lost)
        )
        self.counts["sockets"] += sockets["opened"]
        self.counts["sockets closed by the balancer"] += sockets["closed_by"].get("nobody", 0)
        self.counts["sockets closed by the service"] += sockets["closed_by"].get("service", 0)
        self.counts["sockets cut before their time"] += early
        self.echo = max(self.echo, sockets["slowest_echo_ms"])
        self.rates.append(found.rate)
        self.worst.append(load["rate"]["worst_second"])
        self.slowest = sorted([*self.slowest, *load["slowest"]], key=lambda one: -one["ms"])
        del self.slowest[SLOWEST:]

    def row(self, name: str) -> str:
        """One figure."""
        match name:
            case "rounds":
                return str(self.rounds)
            case "requests":
                return str(self.requests)
            case "rate held":
                return f"{min(self.rates):.0f} to {max(self.rates):.0f}/s"
            case "worst second":
                return f"{min(self.worst):.0f}"
            case "slowest, ms":
                return " ".join(f"{one['ms']:.0f}" for one in self.slowest)
            case "slowest echo, ms":
                return f"{self.echo:.0f}"
            case _:
                return str(self.counts[name] + self.failures[name])


FIRST = (
    "rounds",
    "requests",
    "rate held",
    "worst second",
    "slowest, ms",
    "slowest echo, ms",
    "failed",
)


def table(tallies: Sequence[Tally]) -> str:
    """All of them side by side."""
    shown = [one for one in tallies if one.rounds]
    if not shown:
        return "no round"
    names = list(FIRST)
    for counter in ("counts", "failures"):
        for one in shown:
            names += [name for name in sorted(getattr(one, counter)) if name not in names]
    rows = [["", *(one.name for one in shown)]]
    rows += [[name[:WIDEST], *(one.row(name) for one in shown)] for name in names]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            word.ljust(width) if not place else word.rjust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
