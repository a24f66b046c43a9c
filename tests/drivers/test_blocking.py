"""Who waits for whom, as trees: everybody once, whoever waits for nobody first."""

import random
import time

from opskit.drivers.postgres.blocking import trees


def told(waits: dict[int, list[int]]) -> list[tuple[int, int, int]]:
    return [(node.pid, node.level, node.blocks) for node in trees(waits)]


def test_a_holder_what_waits_and_what_waits_for_that() -> None:
    assert told({2: [1], 3: [2], 4: [2], 9: [8]}) == [
        (1, 0, 3), (2, 1, 2), (3, 2, 0), (4, 2, 0), (8, 0, 1), (9, 1, 0),
    ]  # fmt: skip


def test_whoever_waits_for_two_stands_under_one_and_counts_for_both() -> None:
    found = trees({3: [1, 2], 4: [3]})
    assert [(n.pid, n.level, n.blocks, n.also) for n in found] == [
        (1, 0, 2, ()), (3, 1, 1, (2,)), (4, 2, 0, ()), (2, 0, 2, ()),
    ]  # fmt: skip


def test_rings() -> None:
    found = trees({1: [2], 2: [3], 3: [1], 7: [3], 8: [7], 10: [9]})
    assert {node.pid for node in found} == {1, 2, 3, 7, 8, 9, 10}
    (ring,) = [node for node in found if node.ring]
    assert (ring.pid, ring.ring, ring.level) == (1, (1, 2, 3), 0)
    assert trees({1: [1]})[0].ring == (1,)


def test_a_prepared_transaction_is_a_root() -> None:
    assert told({5: [0], 6: [5]}) == [(0, 0, 2), (5, 1, 1), (6, 2, 0)]


def test_a_queue_in_which_each_waits_for_all_before_him() -> None:
    """It has as many paths as there are subsets; each is told once, and soon."""
    began = time.process_time()
    found = trees({pid: list(range(1, pid)) for pid in range(2, 200)})
    assert time.process_time() - began < 1
    assert len(found) == 199
    assert (found[0].pid, found[0].blocks) == (1, 198)


def test_nobody_is_lost_or_told_twice_whatever_waits_for_whatever() -> None:
    chance = random.Random(11)
    for _ in range(400):
        count = chance.randint(2, 12)
        waits = {
            pid: [chance.randrange(count) for _ in range(chance.randint(1, 3))]
            for pid in range(1, count)
            if chance.random() < 0.7
        }
        everybody = set(waits) | {one for many in waits.values() for one in many}
        found = trees(waits)
        assert sorted(node.pid for node in found) == sorted(everybody)
        for node in found:
            if node.level == 0 and not node.ring:
                assert not waits.get(node.pid)
            if node.ring:
                around = (*node.ring[1:], node.ring[0])
                assert all(b in waits[a] for a, b in zip(node.ring, around, strict=True))
