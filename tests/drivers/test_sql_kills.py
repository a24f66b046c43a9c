"""The process that changes a database, killed at any moment: what it did is done once all the same.

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
from typing import Any

import pytest

from opskit.model.expected import Index
from opskit.model.inventory import MARKERS
from opskit.model.job import Output
from opskit.model.work import Repair, Work
from tests.support.database import Base, base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
ADD = (
    "INSERT INTO item VALUES ('a'); UPDATE item SET n = n + 1 WHERE name = 'a';"
    " INSERT INTO item SELECT 'b' || x FROM generate_series(1, 300) x RETURNING 'it is ' || name"
)
BY_N = Index(keys=("n", "name"), name="item_n")
CREATE = Repair(database="main", do="create", relation="item", index=BY_N)
RUIN = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'item_n'::regclass"
"""As a build that has failed leaves it; only a superuser can say so."""


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def db(postgres: Server, owner: str) -> Base:
    found = base(postgres, owner=owner)
    found.sql("ALTER TABLE item OWNER TO app")
    return found


@contextmanager
def another(db: Base, work: str | Work) -> Iterator[int]:
    """Do something in a process of its own, which is there until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            replace(db, out={}).do(work, kept=True) if isinstance(work, str) else db.do(work)
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def settled(db: Base, work: str | Work) -> tuple[Output, int]:
    """Do what the executor does when it comes back: look, and begin anew what never was done."""
    how: dict[str, Any] = {"kept": True} if isinstance(work, str) else {}
    contact, attempt = db.driver.open("main"), 1
    while True:
        output = db.find(work, attempt=attempt, contact=contact, **how)
        if output.lost:
            time.sleep(0.05)
        elif output.again:
            attempt += 1
            output = db.do(work, attempt=attempt, **how)
            if not output.again:
                return output, attempt
        else:
            return output, attempt


@pytest.mark.parametrize("turns", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_a_change_whose_process_is_killed_is_done_once(db: Base, turns: int) -> None:
    seen: Counter[int] = Counter()
    for turn in range(turns):
        db.sql(f"DELETE FROM item; DELETE FROM {MARKERS}.marker")
        with another(db, ADD):
            time.sleep(random.Random(turn).random() * 0.04)
        output, attempt = settled(db, ADD)
        assert (output.outcome, output.stdout) == ("succeeded", b"it is b1"), (turn, output)
        assert db.printed.count("it is b") == 300  # the record has all of it, whoever saw it
        assert db.sql("SELECT count(*), sum(n) FROM item") == [(301, 1)], turn
        seen[attempt] += 1
    assert turns < 100 or seen.keys() >= {1, 2}, seen


@pytest.mark.parametrize("turns", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_a_build_whose_process_is_killed_is_done_once(db: Base, turns: int) -> None:
    db.sql("INSERT INTO item SELECT 'n' || x, x FROM generate_series(1, 20000) x")
    seen: Counter[int] = Counter()
    for turn in range(turns):
        chance = random.Random(turn)
        db.sql(f"DROP INDEX IF EXISTS item_n; DELETE FROM {MARKERS}.marker")
        if turn % 3 == 0:
            db.sql("CREATE INDEX item_n ON item (n, name)")
            db.sql(RUIN)
        with another(db, CREATE):
            time.sleep(chance.random() * 0.12)
        output, attempt = settled(db, CREATE)
        assert output.outcome == "succeeded", (turn, output)
        indexes = db.sql(
            "SELECT c.relname, indisvalid AND indisready FROM pg_index i JOIN pg_class c"
            " ON c.oid = indexrelid WHERE indrelid = 'item'::regclass AND NOT indisprimary"
        )
        assert indexes == [("item_n", True)], turn
        seen[attempt] += 1
        if turn % 2:
            undo = replace(CREATE, do="undo", of="1/")
            assert db.do(undo, key="1/!1").outcome == "succeeded"
            assert db.sql("SELECT to_regclass('item_n')") == [(None,)]
    assert turns < 100 or seen.keys() >= {1, 2}, seen
    until(lambda: db.sessions() == [])
