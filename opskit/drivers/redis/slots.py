"""Which primary of a cluster has which keys."""

import binascii
import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from opskit.model.frozen import frozen

SLOTS = 16384
T = TypeVar("T")


def slot_of(name: bytes) -> int:
    """Return the slot of a key: that of what stands between its first braces, if anything does."""
    start = name.find(b"{")
    end = name.find(b"}", start + 1) if start >= 0 else -1
    tag = name[start + 1 : end] if end > start + 1 else name
    return binascii.crc_hqx(tag, 0) % SLOTS


@frozen
class Primary:
    """A primary with slots, as it says itself or others say of it."""

    id: str
    host: str
    port: int
    slots: tuple[tuple[int, int], ...]
    moving: bool = False
    """A slot is on its way to it or from it."""


@frozen
class Layout:
    """Who has which slots. `table`: for each slot the number of its primary."""

    primaries: tuple[Primary, ...]
    table: tuple[int, ...]
    tags: tuple[str, ...]
    """For each primary a text whose slot is there."""

    @property
    def shape(self) -> str:
        """What tells it from any other way to spread the slots."""
        told = "\n".join(f"{one.id} {one.slots}" for one in self.primaries)
        return hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()

    def of(self, name: bytes) -> int:
        return self.table[slot_of(name)]

    def shared(self, items: Iterable[T], name: Callable[[T], bytes]) -> list[list[T]]:
        """Share things out: for each primary those whose keys it has, in their order."""
        found: list[list[T]] = [[] for _ in self.primaries]
        for item in items:
            found[self.of(name(item))].append(item)
        return found
