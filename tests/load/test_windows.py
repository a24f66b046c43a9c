"""Change windows and freezes of an inventory: what is read, and what is wrong with them."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.problem import ProblemsError
from opskit.model.windows import Freeze, Window

HEAD = "opskit: 1\nhosts: {web1: 10.0.0.1}\n"


def test_windows_and_freezes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_text(
        HEAD + "change_windows:\n"
        "  - {days: mon-thu, from: 09:00, to: 17:00, timezone: Europe/Berlin}\n"
        "  - {days: [fri, sat-mon], from: '22:00', to: 24:00, runbooks: [deploy, blue-green]}\n"
        "  - {from: 22:00, to: 02:00}\n"
        "freezes:\n"
        "  - {from: 2026-12-20, until: 2027-01-03, reason: ' end of the year '}\n"
        "  - {from: 2026-11-27 18:00, until: '2026-11-28T06:30', reason: x, timezone: Asia/Tokyo}\n"
    )
    found = load.inventory(path)
    at = f"{path}:4:5"
    assert found.change_windows == (
        Window(days=(0, 1, 2, 3), begin=540, end=1020, timezone="Europe/Berlin", place=at),
        Window(
            days=(0, 4, 5, 6), begin=1320, end=1440, runbooks=("deploy", "blue-green"),
            place=f"{path}:5:5",
        ),
        Window(days=tuple(range(7)), begin=1320, end=120, place=f"{path}:6:5"),
    )  # fmt: skip
    year, night = found.freezes
    assert (year.begin, year.end, year.reason) == (
        "2026-12-20T00:00", "2027-01-04T00:00", "end of the year",
    )  # fmt: skip
    assert night == Freeze(
        begin="2026-11-27T18:00", end="2026-11-28T06:30", reason="x", timezone="Asia/Tokyo",
        place=f"{path}:9:5",
    )  # fmt: skip


W, F = "change_windows: [{", "freezes: [{"
NINE = "from: 09:00, to: 17:00"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("change_windows: always", "3:17: `change_windows` must be a list"),
        ("freezes: [soon]", "an entry of `freezes` must be a mapping"),
        (W + "from: 9 o'clock, to: 17:00}]", '3:25: `from` is "9 o\'clock"'),
        (W + "from: 24:00, to: 24:00}]", "`from` is '24:00'"),
        (W + "from: 09:00, to: 09:00}]", "the window is as long as nothing"),
        (W + "from: 09:00}]", "a change window has no `to`"),
        (W + f"days: mon-someday, {NINE}}}]", "which are no days"),
        (W + f"days: mon-, {NINE}}}]", "which are no days"),
        (W + f"{NINE}, runbooks: []}}]", "`runbooks` is an empty list"),
        (W + f"{NINE}, timezone: Europe}}]", "no time zone 'Europe' on this machine"),
        (W + f"{NINE}, timezone: Mars/Olympus}}]", "no time zone 'Mars/Olympus' on this machine"),
        (W + f"{NINE}, runbooks: [../x]}}]", "'../x' can't name a runbook"),
        (W + f"{NINE}, day: mon}}]", "unknown key 'day'"),
        (F + "from: 2026-12-20, until: 2026-12-19, reason: x}]", "ends before it begins"),
        (F + "from: 2026-13-20, until: 2026-12-19, reason: x}]", "`from` is '2026-13-20'"),
        (F + "from: 2026-12-20, until: 9999-12-31, reason: x}]", "`until` is '9999-12-31'"),
        (F + "from: 0001-01-01, until: 2026-12-31, reason: x}]", "`from` is '0001-01-01'"),
        (F + "from: tomorrow, until: 2026-12-19, reason: x}]", "`from` is 'tomorrow'"),
        (F + "from: 2026-12-01, until: 2026-12-19}]", "a freeze has no `reason`"),
        (F + "from: 2026-12-01, until: 2026-12-19, reason: ' '}]", "the freeze has no reason"),
    ],
)
def test_what_is_no_time_is_an_error_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "i.yaml"
    path.write_text(f"{HEAD}{text}\n")
    with pytest.raises(ProblemsError) as error:
        load.inventory(path)
    told = "; ".join(f"{one.place}: {one.what}" for one in error.value.problems)
    assert what in told, told
