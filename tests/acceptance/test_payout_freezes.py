"""payouts-freeze from the command line: what another run or a person has switched off stays off."""

from pathlib import Path

import pytest

from opskit.drivers.postgres.holds import ddl
from opskit.model.inventory import MARKERS
from tests.support.database import base
from tests.support.deeds import LEDGER, PAYOUTS, SWITCH
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


class Switch(Desk):
    """A desk with a ledger and a switch."""

    def fill(self) -> None:
        self.db.sql(";".join([PAYOUTS, SWITCH, *ddl(MARKERS, "app")]))
        (self.folder / "ledger.yaml").write_text(LEDGER)
        self.write("  - {run: 'true', on: controller}\n")

    def freeze(self, *, status: int = 0, **how: str) -> str:
        """Freeze; return the run's id, or what was said where it does not succeed."""
        pairs = [word for name, value in how.items() for word in ("-p", f"{name}={value}")]
        said = self.opskit(
            "run", "payouts-freeze", "--yes", "-p", f"ledger={self.folder}/ledger.yaml",
            "-p", "period=0.1s", *pairs, status=status,
        )  # fmt: skip
        return said if status else str(self.events("run created")[0]["run"])

    def undo(self, run: str) -> str:
        return self.opskit("undo", run, "--yes")

    def on(self) -> bool:
        return bool(self.db.sql("SELECT enabled FROM payout_switch")[0][0])

    def turn(self, on: bool) -> None:
        self.db.sql("UPDATE payout_switch SET enabled = %s", on)


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Switch:
    found = Switch(base(postgres, owner=owner), tmp_path)
    found.fill()
    return found


def test_two_runs_freeze_and_the_last_to_be_taken_back_lifts_it(desk: Switch) -> None:
    first, second = desk.freeze(), desk.freeze()
    assert f"it stays off: run {second} has frozen it, too" in desk.undo(first)
    assert not desk.on()
    assert "it is on again" in desk.undo(second)
    assert desk.on()
    first, second = desk.freeze(), desk.freeze()
    assert f"it stays off: run {first} has frozen it, too" in desk.undo(second)
    assert not desk.on()
    desk.undo(first)
    assert desk.on()
    desk.proved()


def test_a_freeze_that_was_made_after_somebody_had_lifted_the_first_one_stays(desk: Switch) -> None:
    first = desk.freeze()
    desk.turn(on=True)
    second = desk.freeze()
    assert "somebody had switched it on" in desk.undo(first)
    assert not desk.on()
    desk.undo(second)
    assert desk.on()


def test_what_a_person_has_switched_off_stays_off(desk: Switch) -> None:
    run = desk.freeze()
    desk.turn(on=True)
    desk.turn(on=False)  # as before, and yet another's
    assert "somebody else has switched it since" in desk.undo(run)
    assert not desk.on()
    run = desk.freeze()
    assert "it was off before" in desk.undo(run)
    assert not desk.on()


def test_a_switch_that_is_not_there_is_refused_before_anything_is_done(desk: Switch) -> None:
    assert "no switch 'other' in public.payout_switch" in desk.freeze(switch="other", status=5)
    assert "there is no table public.nothing" in desk.freeze(table="nothing", status=5)
    desk.db.sql("REVOKE UPDATE ON payout_switch FROM app")
    assert "its role may not change enabled of public.payout_switch" in desk.freeze(status=5)
    assert desk.on()


def test_without_a_place_for_who_has_frozen_it_is_refused_with_what_makes_it(desk: Switch) -> None:
    desk.db.sql(f"DROP TABLE {MARKERS}.payout_freeze")
    said = desk.freeze(status=5)
    assert f"no table {MARKERS}.payout_freeze" in said
    assert "opskit db init main --payouts" in said
    assert desk.on()
