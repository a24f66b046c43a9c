"""The order in which actions come: waves, and chains within them."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from opskit.model.plan import Action


def waves(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Split actions into waves: the actions of one step in one batch."""
    for _, group in groupby(actions, key=lambda a: (a.batch, a.position, a.since)):
        yield list(group)


def chains_of(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Split actions into chains: those of one target, which are done one after another."""
    chains: dict[str, list[Action]] = {}
    for action in actions:
        chains.setdefault(action.target, []).append(action)
    yield from chains.values()
