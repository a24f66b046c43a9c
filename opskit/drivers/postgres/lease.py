"""What a run shows of its locks."""

from collections.abc import Sequence

from opskit.model.frozen import frozen


@frozen
class Lease:
    """What a run shows of its locks: the words that hosts are shown (`lease_words`)."""

    store: str
    number: int
    about: str
    locks: Sequence[str]
    steal: str = ""
    """The run whose locks a person has taken away for this one."""

    @classmethod
    def of(cls, words: Sequence[str]) -> "Lease | None":
        if not words:
            return None
        steal, store, number, about, *locks = words
        return cls(store=store, number=int(number), about=about, locks=tuple(locks), steal=steal)

    @property
    def run(self) -> str:
        return self.about.partition(" ")[0]
