"""The process that removes rows, or puts them back, killed at any moment: each batch is done once.

Whole runs that are killed are in tests/acceptance; here it is the driver alone, many times over.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from opskit.model.inventory import MARKERS
from opskit.model.job import Output
from opskit.model.rows import Rows
from tests.support.clearing import Attic, back, rows, writing
from tests.support.database import base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
WINDOWS = (0.04, 0.1, 0.25)
"""Within so many seconds it is killed: a machine with nothing else to do is done in 0.1."""
TURNS = pytest.mark.parametrize("turns", [2, pytest.param(200, marks=pytest.mark.soak)])
WORK = rows(first=60, batch=180, pause=0.0, aim=0.02)
OVER, OF = 1500, 2000
"""So many that they are taken as they lie; fewer are found by the index."""
BATCHES = f"""
    SELECT count(*), sum((convert_from(value, 'UTF8')::jsonb->>'rows')::int)
    FROM {MARKERS}.marker WHERE part >= 16 AND action = %s
    AND convert_from(value, 'UTF8')::jsonb->>'did' = 'batch'
"""


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def attic(postgres: Server, owner: str) -> Attic:
    found = Attic(base(postgres, owner=owner))
    found.fill(OVER, OF)
    return found


@contextmanager
def another(attic: Attic, work: Rows, key: str, attempt: int) -> Iterator[None]:
    """Do it in a process of its own, which is there until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            attic.do(work, key=key, attempt=attempt)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def killed(attic: Attic, work: Rows, key: str, chance: random.Random) -> tuple[Output, int]:
    """Kill it up to three times, each time doing what the executor does when it comes back."""
    contact, attempt, kills = attic.db.driver.open("main"), 1, chance.randrange(1, 4)
    for _ in range(kills):
        with another(attic, work, key, attempt):
            time.sleep(chance.random() * chance.choice(WINDOWS))
        while True:
            output = attic.db.find(work, key=key, attempt=attempt, contact=contact)
            if not output.lost:
                break
            time.sleep(0.02)
        if not output.again:
            return output, attempt
        attempt += 1
    output = attic.do(work, key=key, attempt=attempt)
    assert not output.again, output
    return output, attempt


@TURNS
def test_rows_are_removed_and_put_back_once_whenever_it_is_killed(attic: Attic, turns: int) -> None:
    before, seen, ways = attic.hash(), Counter[int](), Counter[object]()
    with writing(attic.db) as writer:
        for turn in range(turns):
            chance = random.Random(turn)
            attic.db.sql(f"DELETE FROM {MARKERS}.marker; DELETE FROM {MARKERS}.removed_row")
            found, first = killed(attic, WORK, "1/", chance)
            assert found.outcome == "succeeded", (turn, found)
            assert (found.evidence["removed"], found.evidence["left"]) == (OVER, 0), turn
            ways[found.evidence["taken"]] += 1
            assert attic.kept() == OVER, turn
            assert attic.keys("key LIKE 's%'") == OF - OVER, turn
            assert attic.db.sql(BATCHES, "1/")[0][1] == OVER, turn
            biggest = f"SELECT max(n) FROM (SELECT count(*) AS n FROM {MARKERS}.removed_row GROUP BY xmin::text) AS t"  # noqa: E501
            assert attic.db.sql(biggest)[0][0] <= WORK.limits.batch
            found, second = killed(attic, back(WORK), "1/!1", chance)
            assert found.outcome == "succeeded", (turn, found)
            assert (found.evidence["restored"], found.evidence["stayed"]) == (OVER, 0), turn
            assert attic.db.sql(BATCHES, "1/!1")[0][1] == OVER, turn
            assert attic.hash() == before, turn
            seen[first] += 1
            seen[second] += 1
    assert writer.errors == []
    assert turns < 100 or seen.keys() >= {1, 2, 3, 4}, seen
    assert turns < 100 or ways["as they lie"] > turns / 4, (
        ways
    )  # the last attempt may have few left
    until(lambda: attic.db.sessions() == [])


@pytest.mark.parametrize("turns", [1, pytest.param(200, marks=pytest.mark.soak)])
def test_rows_that_nobody_keeps_are_removed_once_whenever_it_is_killed(
    attic: Attic, turns: int
) -> None:
    """Taken as they lie: how many went is in the server's answer, and nothing else tells."""
    seen, ways = Counter[int](), Counter[object]()
    for turn in range(turns):
        attic.fill(OVER, OF)
        attic.db.sql(f"DELETE FROM {MARKERS}.marker")
        found, last = killed(attic, replace(WORK, archive=False), "1/", random.Random(turn))
        assert found.outcome == "succeeded", (turn, found)
        assert (found.evidence["removed"], found.evidence["left"]) == (OVER, 0), turn
        assert (attic.keys("key LIKE 's%'"), attic.kept()) == (OF - OVER, 0), turn
        assert attic.db.sql(BATCHES, "1/")[0][1] == OVER, turn
        seen[last] += 1
        ways[found.evidence["taken"]] += 1
    assert turns < 100 or seen.keys() >= {1, 2, 3, 4}, seen
    assert turns < 100 or ways["as they lie"] > turns / 4, (
        ways
    )  # the last attempt may have few left
    until(lambda: attic.db.sessions() == [])
