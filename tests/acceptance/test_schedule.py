"""Schedules as systemd reads them, and a line of cron as cron runs it."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.load.schedules import moments_of
from opskit.schedule.systemd import calendar
from tests.support.database import until

pytestmark = pytest.mark.acceptance

BOOK = """\
opskit: 1
name: job
version: 1.0.0
summary: a job
params: {line: {default: 'true'}, word: {default: ''}}
hosts: all
lock: the job
steps:
  - {name: do, run: '{{ line | raw }}', on: controller, undo: []}
  - {name: say, run: 'printf %s {{ word }} >>said', cwd: FOLDER, on: controller, undo: []}
"""
WORD = """it's "5 %" of $HOME \\ `id` \\% \\\\\\%d \\\\"""
ENTRY = """\
opskit: 1
schedules:
  a-job:
    runbook: job
    at: 15 * * * *
    user: root
    inventory: i.yaml
    alert: echo "$OPSKIT_SCHEDULE failed, 100 %" >>{folder}/alerts  # whoever is there
    longest: {longest}
    params: {{line: "{line}", word: '{word}'}}
"""
systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "job.yaml").write_text(BOOK.replace("FOLDER", str(tmp_path)))
    (tmp_path / "opskit.yaml").write_text("store: store.db\nrunbooks: [runbooks]\n")
    (tmp_path / "i.yaml").write_text("opskit: 1\nhosts: {nowhere: 127.0.0.1}\n")
    return tmp_path


def opskit(folder: Path, *words: str | Path, status: int = 0) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")}
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *map(str, words)], cwd=folder, capture_output=True,
        env={**kept, "HOME": str(folder), "NO_COLOR": "1"}, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def written(folder: Path, line: str = "true", longest: str = "50s") -> Path:
    path = folder / "s.yaml"
    word = WORD.replace("'", "''")
    path.write_text(ENTRY.format(line=line, longest=longest, word=word, folder=folder))
    return path


@systemd
@pytest.mark.parametrize(
    "at",
    ["15 * * * *", "0 */6 * * *", "0 2 * * *", "*/5 * * * *", "30 4 1,15 * 5", "5 0 29 2 *",
     "0 22 * 1 1-5", "7,8 3-4 * * 0,7"],
)  # fmt: skip
def test_f23_systemd_begins_when_cron_would(at: str) -> None:
    moments = moments_of(at)
    start = datetime(2027, 12, 30, 23, 58, tzinfo=UTC)
    by_day, by_week = len(moments.days) < 31, len(moments.weekdays) < 7

    def meant(when: datetime) -> bool:
        day, week = when.day in moments.days, (when.weekday() + 1) % 7 in moments.weekdays
        fits = (day or week) if by_day and by_week else (day and week)
        clock = when.minute in moments.minutes and when.hour in moments.hours
        return fits and clock and when.month in moments.months

    steps = (start + timedelta(minutes=n) for n in itertools.count(1))
    wanted = list(itertools.islice(filter(meant, steps), 3 if at != "5 0 29 2 *" else 1))
    found: set[str] = set()
    for one in calendar(moments, "UTC"):
        said = subprocess.run(
            ["systemd-analyze", "calendar", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC",
             "--iterations=3", one],
            env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        lines = (line.partition(": ")[2] for line in said.splitlines())
        found |= {line for line in lines if line.endswith(" UTC") and line[4:8].isdigit()}
    shown = [f"{when:%a %Y-%m-%d %H:%M:%S} UTC" for when in wanted]
    assert sorted(found, key=lambda line: line[4:])[: len(shown)] == shown


@systemd
def test_f23_units_are_sound_and_whoever_fails_is_heard(folder: Path) -> None:
    units = folder / "units"
    units.mkdir()
    opskit(folder, "schedule", written(folder), "-o", units)
    names = sorted(path.name for path in units.iterdir())
    assert names == ["opskit-a-job-failed.service", "opskit-a-job.service", "opskit-a-job.timer"]
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    service = (units / "opskit-a-job.service").read_text()
    assert "OnFailure=opskit-a-job-failed.service" in service
    assert "TimeoutStartSec=50s" in service
    assert (
        '''"word=it's \\"5 %%\\" of $$HOME \\\\ `id` \\\\%% \\\\\\\\\\\\%%d \\\\\\\\"''' in service
    )


def line_of(folder: Path) -> str:
    """Return what cron runs: what stands before the command is its own."""
    lines = opskit(folder, "schedule", folder / "s.yaml", "--as", "cron").splitlines()
    line = next(line for line in lines if line.startswith("15 * * * * root "))
    read = {as_cron(line.removeprefix("15 * * * * root "), pairs) for pairs in (False, True)}
    assert len(read) == 1, "a cron and another one must read the same"
    return read.pop()


def as_cron(text: str, pairs: bool) -> str:
    """Read a command as cron does: up to a `%` that has no backslash before it.

    `pairs`: of two backslashes one stays, as with the crons of Debian and the BSDs.
    """
    read: list[str] = []
    escaped = False
    for sign in text:
        if escaped:
            if sign == "%" or (pairs and sign == "\\"):
                read.pop()
            escaped = False
        elif sign == "%":
            break
        else:
            escaped = sign == "\\"
        read.append(sign)
    return "".join(read)


def struck(folder: Path, command: str) -> "subprocess.Popen[bytes]":
    """Begin what stands in the line, as cron does: its shell, and its few variables."""
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    return subprocess.Popen(
        ["/bin/sh", "-c", command], env=environ, cwd="/", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_f23_a_line_of_cron_has_a_lock_a_limit_a_record_and_an_alert(folder: Path) -> None:
    alerts, lock = folder / "alerts", folder / ".opskit-a-job.lock"
    written(folder)
    with struck(folder, line_of(folder)) as job:
        job.communicate(timeout=60)
    assert (folder / "said").read_text() == WORD
    assert not alerts.exists()
    assert "scheduled: a-job" in opskit(folder, "runs", "--json")
    written(folder, line="exit 3")
    with struck(folder, line_of(folder)) as job:
        job.communicate(timeout=60)
    assert alerts.read_text() == "a-job failed, 100 %\n"
    path = written(folder)
    path.write_text(path.read_text() + f"    environment: {folder}/none\n")
    with struck(folder, line_of(folder)) as job:
        job.communicate(timeout=60)
    assert alerts.read_text() == "a-job failed, 100 %\n" * 2, "its environment is not there"
    written(folder, line=f"until test -e {folder}/go; do sleep 0.1; done")
    line = line_of(folder)
    lock.unlink()
    with struck(folder, line) as job:
        until(lock.exists)
        with struck(folder, line) as second:
            second.communicate(timeout=60)
        assert alerts.read_text() == "a-job failed, 100 %\n" * 3, "it runs already"
        (folder / "go").touch()
        job.communicate(timeout=60)
    written(folder, line="sleep 6", longest="1s")
    with struck(folder, line_of(folder)) as job:
        job.communicate(timeout=60)
    assert alerts.read_text() == "a-job failed, 100 %\n" * 4, "it took too long"


def test_what_could_not_run_at_night_is_refused_by_day(folder: Path) -> None:
    path = written(folder)
    path.write_text(path.read_text().replace("word:", "wrod:"))
    said = opskit(folder, "schedule", path, status=2)
    assert "the schedule a-job can't be planned" in said
    assert "wrod" in said
    path = written(folder)
    path.write_text(path.read_text() + "    missed: once\n")
    said = opskit(folder, "schedule", path, "--as", "cron", status=2)
    assert "cron does not make up for what was missed" in said
    path = written(folder, "x" * 900)
    said = opskit(folder, "schedule", path, "--as", "cron", status=2)
    assert re.search(r"the line would have 1\d\d\d bytes, and some crons take 998", said)
    assert re.search(r"s\.yaml:\d+", said)
    assert "print it for systemd, which has no limit" in said
    assert "x" * 900 in opskit(folder, "schedule", path)
