"""The process that holds, releases or reverses, killed at any moment: it is done once all the same.

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
from pathlib import Path

import pytest

from opskit.model.inventory import MARKERS
from opskit.model.job import Output
from opskit.model.payouts import Payouts
from tests.support.database import base, until
from tests.support.deeds import Desk
from tests.support.deeds import desk as made
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
TURNS = pytest.mark.parametrize("turns", [3, pytest.param(200, marks=pytest.mark.soak)])
LONGEST = 0.06
"""Until when a deed is killed; seconds. It takes some 30 ms where nothing else is done."""


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    found = made(base(postgres, owner=owner), tmp_path)
    found.report()
    return found


@contextmanager
def another(desk: Desk, work: Payouts, key: str) -> Iterator[None]:
    """Do it in a process of its own, which is there until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            desk.do(work, key=key)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def killed(desk: Desk, work: Payouts, key: str, after: float) -> tuple[Output, int]:
    """Kill it, and do what the executor does when it comes back; return the attempt that did it."""
    with another(desk, work, key):
        time.sleep(after)
    contact, attempt = desk.db.driver.open("main"), 1
    while True:
        output = desk.find(work, contact, key=key, attempt=attempt)
        if output.lost:
            time.sleep(0.02)
        elif output.again:
            attempt += 1
            output = desk.do(work, key=key, attempt=attempt)
            if not output.again:
                return output, attempt
        else:
            return output, attempt


def held(desk: Desk) -> list[tuple[str, str, str]]:
    found = desk.db.sql(
        f"SELECT payout, old_status, coalesce(ended, '') FROM {MARKERS}.payout_hold"
        " WHERE run = %s ORDER BY 1",
        desk.db.run,
    )
    return [(a, b, c) for a, b, c in found]


@TURNS
def test_a_hold_and_its_release_are_done_once_whenever_they_are_killed(
    desk: Desk, turns: int
) -> None:
    before, work = desk.rows(), desk.work("hold", max_amount="EUR 350.50", max_rows=2)
    seen: Counter[tuple[int, int]] = Counter()
    for turn in range(turns):
        chance = random.Random(turn)
        desk.db.sql(f"DELETE FROM {MARKERS}.payout_hold; DELETE FROM {MARKERS}.marker")
        found, first = killed(desk, work, "1/", chance.random() * LONGEST)
        assert found.outcome == "succeeded", (turn, found)
        statuses = desk.statuses()
        assert [i for i, status in statuses.items() if status == "held"] == [2, 4], turn
        assert held(desk) == [("2", "pending", ""), ("4", "queued", "")], turn
        back = replace(work, do="release", of="1/")
        found, second = killed(desk, back, "1/!1", chance.random() * LONGEST)
        assert found.outcome == "succeeded", (turn, found)
        assert desk.rows() == before, turn
        assert held(desk) == [("2", "pending", "released"), ("4", "queued", "released")], turn
        seen[first, second] += 1
    assert turns < 100 or {one for one, _ in seen} >= {1, 2}, seen
    assert turns < 100 or {one for _, one in seen} >= {1, 2}, seen
    until(lambda: desk.db.sessions() == [])


@TURNS
def test_a_reversal_is_written_once_whenever_it_is_killed(desk: Desk, turns: int) -> None:
    before, seen = desk.rows(), Counter[int]()
    work = desk.work("reverse", ids="6,8", max_amount="USD 103.33", max_rows=2)
    for turn in range(turns):
        desk.db.sql(f"DELETE FROM payouts WHERE id >= 1000; DELETE FROM {MARKERS}.marker")
        found, attempt = killed(desk, work, "1/", random.Random(turn).random() * LONGEST)
        assert found.outcome == "succeeded", (turn, found)
        made = desk.db.sql("SELECT reverses, amount::text FROM payouts WHERE id >= 1000 ORDER BY 1")
        assert made == [(6, "70.00"), (8, "33.33")], turn
        assert desk.rows("id < 1000") == before, turn
        seen[attempt] += 1
    assert turns < 100 or seen.keys() >= {1, 2}, seen
    until(lambda: desk.db.sessions() == [])
