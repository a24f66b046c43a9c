"""Change windows: whether changes may be made at a time, and when they may be again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit import load
from opskit.errors import RefusedError
from opskit.model.plan import Plan
from opskit.model.windows import Freeze, Window
from opskit.plan.make import make
from opskit.plan.windows import shut, written
from tests.support.world import no_files, runbook

EMPTY = Plan(
    runbook="t", version="1", file="t.yaml", inventory="i.yaml", parameters={}, hosts={},
    batches=(), max_failures=0, on_failure="stop", locks=(), stages={}, actions=(),
)  # fmt: skip
BERLIN = "Europe/Berlin"
OFFICE = Window(days=(0, 1, 2, 3), begin=540, end=1020, timezone=BERLIN, place="i.yaml:7:5")
FRIDAY = replace(OFFICE, days=(4,), end=720)
NIGHT = Window(days=(4,), begin=22 * 60, end=120)
XMAS = Freeze(
    begin="2026-12-20T00:00", end="2027-01-04T00:00", reason="end of the year", timezone=BERLIN
)


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("when", "opens"),
    [
        ("2026-11-23 08:59", "2026-11-23 09:00"),  # a Monday
        ("2026-11-23 09:00", None),
        ("2026-11-26 16:59", None),
        ("2026-11-26 17:00", "2026-11-27 09:00"),
        ("2026-11-27 11:59", None),
        ("2026-11-27 12:00", "2026-11-30 09:00"),
        ("2026-11-28 10:00", "2026-11-30 09:00"),
        ("2026-12-18 15:00", "2027-01-04 09:00"),  # the freeze is between
        ("2026-12-21 10:00", "2027-01-04 09:00"),
    ],
)
def test_hours_of_the_week_and_a_freeze(when: str, opens: str | None) -> None:
    found = shut(replace(EMPTY, windows=(OFFICE, FRIDAY), freezes=(XMAS,)), at(when))
    assert (found is None) == (opens is None)
    if found is not None and opens is not None:
        assert found.opens is not None
        assert found.opens.timestamp() == at(opens)


def test_what_is_said_names_why_where_and_when_again() -> None:
    found = shut(replace(EMPTY, windows=(OFFICE, FRIDAY)), at("2026-11-28 10:00"))
    assert found is not None
    assert found.why == (
        "Sat 2026-11-28 10:00 Europe/Berlin is outside of the change windows (mon-thu 09:00-17:00 "
        "Europe/Berlin; fri 09:00-12:00 Europe/Berlin)"
    )
    assert found.where == "i.yaml:7:5"
    assert found.again == "changes may be made from Mon 2026-11-30 09:00 Europe/Berlin on"
    cold = shut(replace(EMPTY, freezes=(XMAS,)), at("2026-12-24 18:00"))
    assert cold is not None
    assert cold.why == (
        "changes are frozen until Mon 2027-01-04 00:00 Europe/Berlin: end of the year"
    )
    assert cold.opens is not None
    assert cold.opens.timestamp() == at("2027-01-04 00:00")


@pytest.mark.parametrize(
    ("when", "open_"),
    [("2026-11-27 21:59", False), ("2026-11-27 22:00", True), ("2026-11-28 01:59", True),
     ("2026-11-28 02:00", False), ("2026-11-28 23:00", False)],
)  # fmt: skip
def test_a_night_belongs_to_the_day_on_which_it_begins(when: str, open_: bool) -> None:
    assert (shut(replace(EMPTY, windows=(NIGHT,)), at(when, "UTC")) is None) == open_


def test_freezes_that_follow_each_other_are_one() -> None:
    later = replace(XMAS, begin="2027-01-03T12:00", end="2027-01-10T00:00")
    found = shut(replace(EMPTY, freezes=(XMAS, later)), at("2026-12-30 00:00"))
    assert found is not None
    assert found.opens is not None
    assert found.opens.timestamp() == at("2027-01-10 00:00")


def test_a_window_that_is_always_frozen_never_opens() -> None:
    ever = replace(XMAS, begin="2026-01-01T00:00", end="9999-01-01T00:00")
    found = shut(replace(EMPTY, windows=(OFFICE,), freezes=(ever,)), at("2026-12-30 00:00"))
    assert found is not None
    assert found.opens is not None
    assert found.opens.year == 9999


def test_hours_are_those_of_a_clock_there_when_it_is_set() -> None:
    early = Window(days=(6,), begin=150, end=240, timezone=BERLIN)  # from 02:30, which never is
    plan = replace(EMPTY, windows=(early,))
    jump = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)  # 02:00 becomes 03:00
    assert shut(plan, (jump - timedelta(minutes=1)).timestamp()) is not None
    assert shut(plan, (jump + timedelta(minutes=31)).timestamp()) is None
    assert shut(plan, (jump + timedelta(minutes=60)).timestamp()) is not None


def test_a_window_in_the_hour_that_a_clock_leaves_out_opens_a_week_later() -> None:
    early = Window(days=(6,), begin=150, end=180, timezone=BERLIN)  # that Sunday 03:30 to 03:00
    found = shut(replace(EMPTY, windows=(early,)), at("2027-03-22 12:00"))
    assert found is not None
    assert found.opens is not None
    assert found.opens.timestamp() == at("2027-04-04 02:30")


def test_a_freeze_that_ends_in_the_hour_that_a_clock_leaves_out_ends_once() -> None:
    freeze = replace(XMAS, begin="2027-03-27T00:00", end="2027-03-28T02:30")
    sunday = Window(days=(6,), begin=180, end=240, timezone=BERLIN)
    plan = replace(EMPTY, windows=(sunday,), freezes=(freeze,))
    found = shut(plan, at("2027-03-28 01:00"))
    assert found is not None
    assert found.opens is not None
    assert shut(plan, found.opens.timestamp()) is None


def test_utc_needs_no_time_zones_and_any_other_says_that_it_is_not_there() -> None:
    reset_tzpath(())
    ZoneInfo.clear_cache()
    try:
        found = shut(replace(EMPTY, windows=(NIGHT,)), 1_795_000_000)
    finally:
        reset_tzpath()
    assert found is not None
    assert found.again.endswith("22:00 UTC on")
    away = replace(XMAS, timezone="Mars/Olympus", place="i.yaml:9:5")
    with pytest.raises(RefusedError, match="no time zone 'Mars/Olympus'") as error:
        shut(replace(EMPTY, freezes=(away,)), 1_795_000_000)
    assert error.value.where == "i.yaml:9:5"


MINUTES = st.integers(0, 1439)


@settings(max_examples=20, deadline=None)
@given(
    days=st.sets(st.integers(0, 6), min_size=1), begin=MINUTES, end=MINUTES,
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kathmandu"]),
    now=st.integers(1_790_000_000, 1_830_000_000),
)  # fmt: skip
def test_the_moment_that_is_promised_is_open_and_none_before_it(
    days: set[int], begin: int, end: int, zone: str, now: int
) -> None:
    window = Window(days=tuple(sorted(days)), begin=begin, end=end or 1440, timezone=zone)
    plan = replace(EMPTY, windows=(window,))
    found = shut(plan, now)
    if found is None:
        return
    assert found.opens is not None
    opens = found.opens.timestamp()
    assert shut(plan, opens) is None
    for part in range(1, 20):
        assert shut(plan, now + (opens - now) * part / 20) is not None


def test_a_window_is_written_as_people_write_it() -> None:
    assert written(replace(OFFICE, days=(0, 1, 3, 4), end=1440)) == (
        "mon-tue,thu-fri 09:00-24:00 Europe/Berlin"
    )


@pytest.mark.parametrize(("head", "held"), [("", True), ("urgent: true\n", False)])
def test_a_freeze_of_a_runbook_holds_for_one_that_includes_it(
    tmp_path: Path, head: str, held: bool
) -> None:
    inner = runbook("  - {name: one, run: one}\n").replace("name: r\n", "name: inner\n")
    (tmp_path / "inner.yaml").write_text(inner)
    (tmp_path / "r.yaml").write_text(runbook("  - runbook: {name: inner}\n", head))
    (tmp_path / "i.yaml").write_text(
        "opskit: 1\nhosts: {web1: 10.0.0.1}\ngroups: {web: [web1]}\nfreezes:\n"
        "  - {from: 2026-12-20, until: 2026-12-21, reason: a sale, runbooks: [inner]}\n"
        "  - {from: 2026-12-20, until: 2026-12-21, reason: no matter, runbooks: [other]}\n"
    )
    book, inventory = (
        load.runbook(tmp_path / "r.yaml", [tmp_path]),
        load.inventory(tmp_path / "i.yaml"),
    )
    plan = make(book, inventory, {}, files=no_files)
    assert [one.reason for one in plan.freezes] == (["a sale"] if held else [])
