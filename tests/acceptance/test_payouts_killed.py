"""Whole runs of payouts-hold, its undo and payouts-reverse, killed at any time and gone on with."""

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from opskit.load.evidence import opened
from opskit.model.inventory import MARKERS
from tests.acceptance.test_payouts import Money
from tests.support.database import base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
KILLS = pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.soak)])
CAPS = {"max_rows": "2", "max_amount": "EUR 350.50"}
"""Exactly what is to be held; one row more, or one cent, would be refused."""
EARLIEST, SPAN, SOON = 0.4, 12.0, 5.0
"""When it is killed: that, up to so many times as much, in the time that `opskit runs` takes at the
moment. To carry a run out takes two to five times as long as that, by how busy the machine is.
Where few kills are wanted they come SOON: before most runs are over."""
BACK = {"max_rows": "2", "max_amount": "USD 103.33", "ids": "6,8"}


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Money:
    found = Money(base(postgres, owner=owner), tmp_path)
    found.fill()
    return found


class Killer:
    """Ends the process that is opskit at some time between its begin and its end."""

    def __init__(self, desk: Money, seed: int, kills: int) -> None:
        self.desk = desk
        self.span = SOON if kills == 1 else SPAN
        self.chance = random.Random(seed)
        self.kills = 0

    def begin(self, *words: str) -> bool:
        """Do something, and perhaps kill it; tell whether it was."""
        process = self.desk.background(*words)
        try:
            process.communicate(timeout=self.pace() * EARLIEST * self.span ** self.chance.random())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            return False
        self.kills += 1
        until(lambda: self.desk.db.sessions() == [])
        return True

    def pace(self) -> float:
        """How long the machine takes for the least that can be asked of opskit; seconds."""
        began = time.monotonic()
        runs(self.desk)
        return time.monotonic() - began

    def done(self, *words: str) -> str:
        """Begin a run, kill it, go on with it until nothing of it is left to do; return its id."""
        before = runs(self.desk)
        while runs(self.desk) == before:
            self.begin(*words)
        run = runs(self.desk)[-1]
        while state(self.desk, run) not in ("succeeded", "failed"):
            self.begin("resume", run)
        assert state(self.desk, run) == "succeeded", self.desk.opskit("report", run)
        return run

    def undone(self, run: str) -> None:
        """Take a run back, killed as often as it comes."""
        while state(self.desk, run) != "undone":
            self.begin("undo", run, "--yes")
            self.begin("resume", run)


def runs(desk: Money) -> list[str]:
    """Return the runs that were begun, the oldest first."""
    lines = desk.opskit("runs", "--json", "--limit", "500").splitlines()
    return [str(json.loads(line)["run"]) for line in lines][::-1]


def told(desk: Money, run: str) -> dict[str, Any]:
    found = desk.opskit("status", run, "--json", status=None).splitlines()[-1]
    return dict(json.loads(found))


def state(desk: Money, run: str) -> str:
    return str(told(desk, run)["state"])


def whole(desk: Money, run: str, step: str) -> None:
    """See that nothing is missing of the evidence: the report, the record, what was printed."""
    report = opened(Path(desk.manifest))
    assert [row["id"] for row in report.rows("same-key.csv") if row["verdict"] == "HOLD"] != []
    desk.proved()
    actions = {one["step"]: one for one in told(desk, run)["actions"] if not one["undoes"]}
    assert actions[step]["evidence"]["did"]
    assert actions[step]["stdout"]["bytes"] > 0
    assert desk.opskit("output", run, step, "db:main")


@KILLS
def test_a_hold_and_its_undo_are_done_once_whenever_they_are_killed(
    desk: Money, kills: int
) -> None:
    held, released, before = Killer(desk, 1, kills), Killer(desk, 2, kills), desk.rows()
    while held.kills < kills or released.kills < kills:
        run = held.done(*desk.asked("hold", **CAPS))
        assert desk.held() == [2, 4]
        mine = desk.db.sql(
            f"SELECT payout, old_status, amount::text, report, approved_by, ended"
            f" FROM {MARKERS}.payout_hold WHERE run = %s ORDER BY payout", run,
        )  # fmt: skip
        sha256 = opened(Path(desk.manifest)).digest
        assert mine == [
            ("2", "pending", "100.00", sha256, "second", None),
            ("4", "queued", "250.50", sha256, "second", None),
        ]
        whole(desk, run, "Hold what is still pending")
        released.undone(run)
        assert desk.rows() == before
        ended = f"SELECT count(*), min(ended), max(ended) FROM {MARKERS}.payout_hold WHERE run = %s"
        assert desk.db.sql(ended, run) == [(2, "released", "released")]


@KILLS
def test_a_reversal_is_written_once_whenever_its_run_is_killed(desk: Money, kills: int) -> None:
    killer, before = Killer(desk, 3, kills), desk.rows()
    while killer.kills < kills:
        run = killer.done(*desk.asked("reverse", **BACK))
        made = "SELECT reverses, amount::text, idempotency_key FROM payouts WHERE id >= 1000"
        assert desk.db.sql(f"{made} ORDER BY 1") == [
            (6, "70.00", "reversal:6"), (8, "33.33", "reversal:8"),
        ]  # fmt: skip
        assert desk.rows()[:12] == before
        whole(desk, run, "Reverse what was sent twice")
        desk.db.sql("DELETE FROM payouts WHERE id >= 1000")
