"""Removing keys by a pattern, beside `redis-cli --scan | xargs -n 1000 redis-cli unlink` and more.

Both keep nothing. opskit keeps the names, or every value too; it removes exactly what it has kept,
each key once, and looks whether it is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.apart import Apart
from tests.bench.figures import Figure, Rounds, ratio
from tests.bench.purged import BARE, CLI, KEPT, LUA, OURS, Place, Run
from tests.support.redis import server

ROUNDS = 3
MANY = 1_000_000
"""From so many on only those are beside it that are quick, or must be: Lua KEYS + DEL is one
command of some seconds then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Purge(Apart):
    """`cache-invalidate` where so many of all keys fit."""

    keys: int
    of: int

    @property
    def name(self) -> str:
        many = self.keys >= MANY
        return f"purge-{self.keys // MANY}m" if many else f"purge-{100 * self.keys // self.of}"

    @property
    def title(self) -> str:
        return f"{self.keys:,} of {self.of:,} keys removed, in rounds of its own"

    def figures(self, took: Rounds) -> Sequence[Figure]:
        assert not took
        slow = {"slowlog_log_slower_than": "100", "slowlog_max_len": "10000"}
        with server(**slow) as found, server() as other:
            place = Place(found, other, self.bench)
            for name in place.missing:
                print(f"  {name} is not there: not measured beside it", flush=True)
            names = [OURS, CLI, BARE] if self.keys >= MANY else list(place.ways)
            others = self.of - self.keys
            # First some with a tenth of the keys: that tells who holds up others for longer, the
            # more keys there are.
            few = {
                name: place.measured(name, self.keys // 10, others)
                for name in names if name in (OURS, LUA)
            }  # fmt: skip
            made: dict[str, list[Run]] = {name: [] for name in names}
            for _ in range(self.bench.rounds or ROUNDS):
                for name in names:
                    made[name].append(place.measured(name, self.keys, others))
        said = {CLI: "redis-cli" if place.cli else "the small client (there is no redis-cli)",
                BARE: "a client that walks and removes at once"}  # fmt: skip
        return [
            *self._speed(made, said),
            *(figure for name in names for figure in _of(said.get(name, name), made[name])),
            *_longest(few, made),
            *_waits(made[OURS]),
        ]

    def _speed(self, made: Mapping[str, list[Run]], said: Mapping[str, str]) -> list[Figure]:
        rates = {name: [one.rate for one in runs] for name, runs in made.items()}
        most = 500_000 if self.keys >= MANY else None
        found = [Figure(what="keys/s, names alone kept", values=rates[OURS], limit=most,
                        least=True)]  # fmt: skip
        for name, values in rates.items():
            if name != OURS:
                what = f"names alone beside {said.get(name, name)}"
                limit = 4 if name == CLI else None
                found.append(Figure(what=what, values=ratio(rates[OURS], values), limit=limit,
                                    least=True))  # fmt: skip
        if KEPT in rates:
            kept = ratio(rates[KEPT], rates[CLI])
            found.append(Figure(what=f"values kept beside {said[CLI]}", values=kept))
        return found


def _of(name: str, runs: Sequence[Run]) -> list[Figure]:
    """Tell what a way took. opskit's processor is of its whole run: a look before, its start."""
    return [
        Figure(what=f"{name}: keys/s", values=[one.rate for one in runs]),
        Figure(what=f"{name}: processor of the client, a key", values=[one.client for one in runs],
               unit=" µs"),
        Figure(what=f"{name}: … of the server", values=[one.server for one in runs], unit=" µs"),
        Figure(what=f"{name}: reads at the server for 1,000 keys",
               values=[one.reads for one in runs]),
        Figure(what=f"{name}: longest wait of a GET", values=[one.stall for one in runs],
               unit=" ms"),
    ]  # fmt: skip


def _longest(few: Mapping[str, Run], made: Mapping[str, Sequence[Run]]) -> list[Figure]:
    """Tell how long the server was at one command, by its own clock; and how that grows."""
    found = []
    for name in few:
        longest = [one.longest for one in made[name]]
        found += [
            Figure(what=f"longest command at the server, {name}", values=longest, unit=" ms"),
            Figure(what="… with a tenth of the keys", values=[few[name].longest], unit=" ms"),
        ]
    piece = [one.piece for one in made[OURS]]
    found.append(Figure(what="a piece at the server, in the middle", values=piece, unit=" ms",
                        limit=2))  # fmt: skip
    found.append(Figure(what="… with a tenth of the keys", values=[few[OURS].piece], unit=" ms"))
    return found


def _waits(ours: Sequence[Run]) -> list[Figure]:
    return [
        Figure(what="longest wait of a GET, names alone", values=[one.stall for one in ours],
               unit=" ms", limit=5, judged=max),
        Figure(what="longest wait of a GET meanwhile at a server that does nothing else",
               values=[one.aside for one in ours], unit=" ms"),
        Figure(what="longest wait alone", values=[one.alone for one in ours], unit=" ms"),
    ]  # fmt: skip
