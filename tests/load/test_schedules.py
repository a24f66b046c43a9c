"""Files of schedules: when that is, and what is wrong in one."""

from dataclasses import replace
from pathlib import Path

import pytest

from opskit.load.schedules import check_schedules, moments_of, schedules
from opskit.model.schedule import Moments
from opskit.schedule.systemd import units
from opskit.schedule.words import command

HOURS, DAYS, MONTHS, WEEK = (tuple(r) for r in (range(24), range(1, 32), range(1, 13), range(7)))


def test_five_fields_are_numbers() -> None:
    assert moments_of("15 * * * *") == Moments(
        minutes=(15,), hours=HOURS, days=DAYS, months=MONTHS, weekdays=WEEK
    )
    found = moments_of("*/20 1-5/2,23 1,15 */6 5-7")
    assert found == Moments(
        minutes=(0, 20, 40), hours=(1, 3, 5, 23), days=(1, 15), months=(1, 7), weekdays=(0, 5, 6)
    )


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("* * * *", "has 4 fields, not five"),
        ("@hourly", "has 1 fields, not five"),
        ("60 * * * *", "'60' is no minute from 0 to 59"),
        ("* 24 * * *", "'24' is no hour from 0 to 23"),
        ("* * 0 * *", "'0' is no day from 1 to 31"),
        ("* * * * mon", "'mon' is no weekday"),
        ("\u0663 * * * *", "numbers and signs with blanks between"),
        ("5-1 * * * *", "'5-1' is no minute from 0 to 59"),
        ("*/0 * * * *", "'*/0': a step is of `*` or of a range, and not 0"),
        ("5/10 * * * *", "'5/10': a step is of `*` or of a range, and not 0"),
        ("* * 30,31 2 *", "never comes"),
        ("* * */2 * 1", "'*/2' beside another day means one or both"),
    ],
)
def test_a_time_that_is_none_is_told_of(at: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        moments_of(at)
    assert told in str(caught.value)


GOOD = "{runbook: r, at: 0 * * * *, user: ops, alert: mail}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "opskit: 1",
            ":1:1: `schedules` must be a mapping → write NAME: {runbook: …, at: …}",
        ),
        ("opskit: 1\nschedules: {}", "`schedules` must be a mapping"),
        (f"opskit: 1\nschedules:\n  A b: {GOOD}", ":3:3: 'A b' can't name a schedule"),
        ("opskit: 1\nschedules:\n  a: {runbook: r, at: x}", ":3:6: the schedule `a` has no"),
        (GOOD.replace("mail", '"a\\nb"'), "`alert` has several lines"),
        (GOOD.replace("}", ", zone: Mars/City}"), "there is no time zone 'Mars/City'"),
        (GOOD.replace(", alert: mail", ""), "neither `alert` nor `tell`: nobody would hear"),
        (GOOD.replace("}", ", tell: a-b}"), "`tell` can't be 'a-b'"),
        (GOOD.replace("ops", "a b"), "'a b' is no user"),
        (GOOD.replace("}", ", longest: 0s}"), "a run may take no time"),
        (GOOD.replace("}", ", jitter: 2h}"), "this is more than an hour"),
        (GOOD.replace("}", ", environment: e}"), "'e' is no full path"),
        (GOOD.replace("0 *", "0\u00a0*"), "numbers and signs with blanks between"),
        (GOOD.replace("}", ", missed: twice}"), "`missed` can't be 'twice'"),
        (GOOD.replace("runbook: r, ", ""), "the schedule `a` has no `runbook`"),
        (GOOD.replace("}", ", remind: chat}"), "has both `runbook` and `remind`"),
        (GOOD.replace("runbook: r", "remind: a-b"), "`remind` can't be 'a-b'"),
        (GOOD.replace("runbook: r", "remind: chat, limit: web1"), "`limit` is for a runbook, and"),
        (GOOD.replace("}", ", every: 5m}"), "unknown key 'every' in the schedule `a`"),
    ],
)
def test_a_schedule_with_a_mistake_is_told_of(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text if text.startswith("opskit") else f"opskit: 1\nschedules:\n  a: {text}")
    found, problems = check_schedules(path)
    assert found is None
    assert any(told in str(problem) for problem in problems), list(map(str, problems))


def test_who_is_reminded_of_an_incident_needs_no_runbook(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    more = "remind: [chat, pager], inventory: i.yaml"
    path.write_text(f"opskit: 1\nschedules:\n  a: {GOOD.replace('runbook: r', more)}")
    (one,) = schedules(path)
    told = ["opskit", "incident", "--due", "-i", "i.yaml", "--to", "chat", "--to", "pager"]
    assert command(one, ["opskit"]) == told


def test_channels_are_told_before_the_alert_with_the_environment_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    more = ", tell: [chat, pager], inventory: i.yaml, environment: /etc/op%.env}"
    path.write_text(f"opskit: 1\nschedules:\n  a: {GOOD.replace('}', more)}")
    (one,) = schedules(path)
    failed = units(one, ["opskit"], "/srv")["opskit-a-failed.service"].splitlines()
    assert "EnvironmentFile=-/etc/op%%.env" in failed
    told = "opskit notify --severity critical -i i.yaml --to chat --to pager"
    told += " 'scheduled: a did not succeed'; mail"
    assert f'ExecStart=/bin/sh -c "{told}"' in failed
    lines = units(one, ["opskit"], "/srv")["opskit-a.service"].splitlines()
    (post,) = [line for line in lines if line.startswith("ExecStartPost=")]
    assert post.startswith('ExecStartPost=-"opskit" "notify" "--severity" "critical" "-i" "i.yaml"')
    assert post.endswith('"--ends" "scheduled: a did not succeed" "scheduled: a succeeded again"')
    quiet = units(replace(one, resolved=False), ["opskit"], "/srv")["opskit-a.service"]
    assert "ExecStartPost" not in quiet
    bare = replace(one, tell=())
    failed = units(bare, ["opskit"], "/srv")["opskit-a-failed.service"].splitlines()
    assert 'ExecStart=/bin/sh -c "mail"' in failed
    assert not any(line.startswith("EnvironmentFile") for line in failed)
