"""Names brought into their order while more of them come."""

from collections.abc import Sequence
from itertools import islice
from operator import eq


class Ordering:
    """Names by their bytes, each once. Those that come together are sorted as they come: a server
    that walks through its keys needs that time anyway, and little is left once it is through.

    Texts are sorted in half the time of bytes, and what is cut out of one lies together in memory:
    so they are joined and cut again.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many have come; of some more than one, perhaps."""
        self._texts: list[str] = []
        self._odd: list[bytes] = []

    def add(self, names: Sequence[bytes]) -> None:
        self.count += len(names)
        texts = b"\n".join(names).decode("latin-1").split("\n")
        if len(texts) != len(names):  # a name has several lines, or there is none
            self._odd += names
            return
        texts.sort()
        self._texts += "\n".join(texts).split("\n")

    def names(self) -> list[bytes]:
        self._texts.sort()
        joined = "\n".join(self._texts).encode("latin-1")
        found = joined.split(b"\n") if self._texts else []
        if self._odd:
            return sorted({*found, *self._odd})
        return list(dict.fromkeys(found)) if any(map(eq, found, islice(found, 1, None))) else found
