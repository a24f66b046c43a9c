"""What a look at a host found, before anything is done there."""

from typing import Literal

from opskit.model.frozen import frozen

Level = Literal["ok", "warning", "critical", "unknown"]


@frozen
class Fact:
    """One thing that was looked at on a host, e.g. its clock, and what that means."""

    name: str
    level: Level
    text: str
    figure: str = ""
    """The same in a word, for a table; empty where there is none."""


@frozen
class HostCheck:
    """Everything that was looked at on a host."""

    host: str
    address: str
    facts: tuple[Fact, ...]

    @property
    def level(self) -> Level:
        """The worst of all; what could not be looked at is worse than a warning."""
        order: tuple[Level, ...] = ("ok", "warning", "unknown", "critical")
        return max((fact.level for fact in self.facts), key=order.index, default="unknown")


@frozen
class HostKey:
    """The key that a host shows now. `line` is what would be added to the file `known_hosts`."""

    host: str
    name: str
    kind: str
    fingerprint: str
    line: str
    known_hosts: str
    state: Literal["known", "new", "changed", "unreachable"]
    reason: str = ""
