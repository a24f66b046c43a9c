"""Who waits for whom, as trees: whoever waits for nobody is a root. Pure.

In a queue everybody waits for all before him: the paths through that are beyond number. So each is
shown once, as near to a root as can be, and told of whom he waits for besides.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from opskit.model.frozen import frozen

_COUNTED = 20
"""For so many roots all that wait for them are counted, also those that are shown elsewhere."""


@frozen
class Node:
    """A session in a tree. `level` 0: a root; `blocks`: how many wait for it, directly or not.

    `also`: whom it waits for besides the one that it stands under. `ring`: it is in a ring of
    sessions that wait for each other, which those name.
    """

    pid: int
    level: int
    blocks: int
    also: tuple[int, ...] = ()
    ring: tuple[int, ...] = ()


def trees(waits: Mapping[int, Sequence[int]]) -> list[Node]:
    """Return the trees one after the other, each from its root down: who blocks most comes first.

    `waits`: who waits → for whom; 0 stands for prepared transactions.
    """
    victims: dict[int, list[int]] = {}
    for pid, blockers in waits.items():
        for blocker in dict.fromkeys(blockers):
            victims.setdefault(blocker, []).append(pid)
    roots = [(pid, ()) for pid in victims if not waits.get(pid)]
    seen = _below([pid for pid, _ in roots], victims)
    rings: list[tuple[int, tuple[int, ...]]] = []
    for pid in sorted(waits):
        if waits[pid] and pid not in seen:
            ring = _ring(pid, waits, seen)
            rings.append((ring[0], ring))
            seen |= _below([ring[0]], victims)
    return _placed([*roots, *rings], victims, waits)


def _below(roots: Sequence[int], victims: Mapping[int, Sequence[int]]) -> set[int]:
    """Return these and all that wait for one of them."""
    found, todo = set(roots), deque(roots)
    while todo:
        for victim in victims.get(todo.popleft(), ()):
            if victim not in found:
                found.add(victim)
                todo.append(victim)
    return found


def _ring(pid: int, waits: Mapping[int, Sequence[int]], seen: set[int]) -> tuple[int, ...]:
    """Go from one to whom he waits for until somebody comes again: from there on it is a ring."""
    path: list[int] = []
    while pid not in path:
        path.append(pid)
        pid = next(one for one in waits[pid] if one not in seen)
    ring = path[path.index(pid) :]
    at = ring.index(min(ring))
    return tuple(ring[at:] + ring[:at])


def _placed(
    roots: Sequence[tuple[int, tuple[int, ...]]],
    victims: Mapping[int, Sequence[int]],
    waits: Mapping[int, Sequence[int]],
) -> list[Node]:
    """Put everybody under the nearest of whom he waits for; breadth first, all roots at once."""
    ring = dict(roots)
    level = {pid: 0 for pid, _ in roots}
    children: dict[int, list[int]] = {}
    todo = deque(level)
    order: list[int] = []
    while todo:
        pid = todo.popleft()
        order.append(pid)
        for victim in victims.get(pid, ()):
            if victim not in level:
                level[victim] = level[pid] + 1
                children.setdefault(pid, []).append(victim)
                todo.append(victim)
    blocks: dict[int, int] = {}
    for pid in reversed(order):
        blocks[pid] = sum(1 + blocks[child] for child in children.get(pid, ()))
    for pid, _ in roots[:_COUNTED]:
        blocks[pid] = len(_below([pid], victims)) - 1
    found: list[Node] = []
    for root in sorted(ring, key=lambda pid: (-blocks[pid], pid)):
        parents: list[tuple[int, int | None]] = [(root, None)]
        while parents:
            pid, parent = parents.pop()
            also = tuple(one for one in dict.fromkeys(waits.get(pid, ())) if one != parent)
            found.append(
                Node(pid=pid, level=level[pid], blocks=blocks[pid], also=also,
                     ring=ring.get(pid, ()))
            )  # fmt: skip
            below = sorted(children.get(pid, ()), key=lambda one: (-blocks[one], one))
            parents += [(child, pid) for child in reversed(below)]
    return found


def roots(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.level == 0]
