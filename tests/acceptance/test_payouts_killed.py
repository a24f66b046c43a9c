"""Whole runs of payouts-freeze, -hold, -reverse and -guard, killed while they change something.

Each is killed while the step that changes is under way, at any time of it, and gone on with by
`resume`, which is killed now and then as well; so is its undo.
"""

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit.load.evidence import opened
from opskit.model.inventory import MARKERS
from tests.acceptance.test_payouts import Money
from tests.support.database import base
from tests.support.forked import Forks, forks
from tests.support.killing import Killer
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
MANY = 50
TURNS = [1, *(pytest.param(MANY, marks=pytest.mark.soak, id=f"{MANY}-{n}") for n in range(4))]
KILLS = pytest.mark.parametrize("kills", TURNS)
"""Four times MANY while the step is under way, and as many while its undo is."""
CAPS = {"max_rows": "2", "max_amount": "EUR 350.50", "max_age": "1d"}
"""Exactly what is to be held; one row more, or one cent, would be refused."""
BACK = {"max_rows": "2", "max_amount": "USD 103.33", "ids": "6,8", "max_age": "1d"}


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("forks")) as found:
        yield found


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Money:
    found = Money(base(postgres, owner=owner), tmp_path)
    found.fill()
    return found


@pytest.fixture
def killer(
    desk: Money, forked: Forks, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[Killer]:
    made = Killer(desk, forked, random.Random(request.node.name))
    yield made
    if made.kills.total() >= MANY:
        with capsys.disabled():
            sys.stdout.write(f"\nkilled, {request.node.name}: {dict(made.kills)}\n")


def often(killer: Killer, kills: int, turn: Callable[[], object], *ways: str) -> None:
    """Do it until it was killed so often, and look at the whole record then."""
    while any(killer.kills[way] < kills for way in ways):
        turn()
    assert isinstance(killer.desk, Money)
    killer.desk.proved()


def whole(killer: Killer, run: str, step: str, report: str = "") -> None:
    """See that nothing is missing of the evidence: the report, the record, what was printed."""
    if report:
        rows = opened(Path(report)).rows("same-key.csv")
        assert [row["id"] for row in rows if row["verdict"] == "HOLD"] != []
    actions = {one["step"]: one for one in killer.told(run)["actions"] if not one["undoes"]}
    did = actions[step]["evidence"]
    assert did.get("did") or did["settled"], did
    if report:
        assert actions[step]["stdout"]["bytes"] > 0
        assert killer.opskit("output", run, step, "db:main")[1]


@KILLS
def test_a_freeze_and_its_undo_are_done_once_whenever_they_are_killed(
    desk: Money, killer: Killer, kills: int
) -> None:
    switch = "SELECT enabled FROM payout_switch"
    noted = f"SELECT was_on, ended FROM {MARKERS}.payout_freeze WHERE run = %s"

    def turn() -> None:
        run = killer.run(*desk.asked("freeze", period="0.05s"))
        assert desk.db.sql(switch) == [(False,)]
        assert desk.db.sql(noted, run) == [(True, None)]
        whole(killer, run, "Switch payouts off")
        killer.undone(run)
        assert desk.db.sql(switch) == [(True,)]
        ((on, ended),) = desk.db.sql(noted, run)
        assert (on, bool(ended)) == (True, True)

    often(killer, kills, turn, "step", "undo")


@KILLS
def test_a_hold_and_its_undo_are_done_once_whenever_they_are_killed(
    desk: Money, killer: Killer, kills: int
) -> None:
    before, sha256 = desk.rows(), opened(Path(desk.manifest)).digest
    kept = (
        f"SELECT payout, old_status, amount::text, report, approved_by, ended"
        f" FROM {MARKERS}.payout_hold WHERE run = %s ORDER BY payout"
    )
    ended = f"SELECT count(*), min(ended), max(ended) FROM {MARKERS}.payout_hold WHERE run = %s"

    def turn() -> None:
        run = killer.run(*desk.asked("hold", **CAPS))
        assert desk.held() == [2, 4]
        assert desk.db.sql(kept, run) == [
            ("2", "pending", "100.00", sha256, "second", None),
            ("4", "queued", "250.50", sha256, "second", None),
        ]
        whole(killer, run, "Hold what is still pending", desk.manifest)
        killer.undone(run)
        assert desk.rows() == before
        assert desk.db.sql(ended, run) == [(2, "released", "released")]

    often(killer, kills, turn, "step", "undo")


@KILLS
def test_a_reversal_is_written_once_whenever_its_run_is_killed(
    desk: Money, killer: Killer, kills: int
) -> None:
    before = desk.rows()
    made = "SELECT reverses, amount::text, idempotency_key FROM payouts WHERE id >= 1000 ORDER BY 1"

    def turn() -> None:
        run = killer.run(*desk.asked("reverse", **BACK))
        assert desk.db.sql(made) == [(6, "70.00", "reversal:6"), (8, "33.33", "reversal:8")]
        assert desk.rows()[:12] == before
        whole(killer, run, "Reverse what was sent twice", desk.manifest)
        desk.db.sql("DELETE FROM payouts WHERE id >= 1000")

    often(killer, kills, turn, "step")


@KILLS
def test_a_guard_is_built_and_dropped_once_whenever_it_is_killed(
    desk: Money, killer: Killer, kills: int
) -> None:
    desk.db.sql("ALTER TABLE payouts OWNER TO app")
    before = desk.rows()
    indexes = (
        "SELECT c.relname, i.indisunique AND i.indisvalid AND i.indisready FROM pg_index i JOIN"
        " pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'payouts'::regclass ORDER BY 1"
    )
    alone = desk.db.sql(indexes)

    def turn() -> None:
        run = killer.run(*desk.asked("guard", since="2026-02-01"))
        assert set(desk.db.sql(indexes)) == {*alone, ("payouts_once_20260201", True)}
        whole(killer, run, "Build the index")
        killer.undone(run)
        assert desk.db.sql(indexes) == alone
        assert desk.rows() == before

    often(killer, kills, turn, "step", "undo")
