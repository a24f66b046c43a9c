"""The live picture: readable in 80 columns with 200 hosts, and it never breaks the terminal."""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from opskit.model.event import Chunk, Entry, Event
from opskit.model.plan import Action
from opskit.model.text import text
from opskit.model.work import Command
from opskit.view import safe
from opskit.view.board import Board
from opskit.view.frame import Frame
from opskit.view.live import Live
from opskit.view.paint import PLAIN, Paint, bare
from tests.view import samples
from tests.view.samples import ended, silent, started


def board(count: int = 4, expected: Mapping[str, float] | None = None) -> Board:
    return Board(samples.plan(count, (1, 99)), expected or {}, 100.0)


def picture(found: Board, columns: int = 80, height: int = 24, now: float = 142.0) -> list[str]:
    return Frame(found, paint=PLAIN).lines(columns, height, now)


def test_a_row_shows_steps_command_elapsed_and_expected_time() -> None:
    found = board(expected={"Remember what is live": 5.0})
    found.take(Event(kind="run created", data={"run": "r1"}), 100)
    for key in ("1@web1", "1@web2"):
        found.take(started(key), 101)
        found.take(ended(key), 102)
    found.take(started("2@web1"), 140)
    rows = picture(found)
    assert rows[0] == "deploy · batch 1 of 2 · 42s · r1"
    assert rows[1] == "[#...................] 2/21  1 running  3 waiting"
    assert rows[2] == (
        "web1 ✓▸··· Remember what is live: readlink -e current || test ! -e … 2.0s/~5.0s"
    )
    assert len(rows[2]) == 79
    assert rows[3] == "web2 ✓···· waiting"


def entry(event: Event, at: float = 50.0) -> Entry:
    return Entry(run="r1", number=1, at=at, previous="", hash="", event=event)


def test_a_run_that_is_gone_on_with_begins_where_it_stood() -> None:
    past = [Event(kind="run created", data={"run": "r1"})]
    for number in range(1, 4):
        past += [
            e for p in "12345" for e in (started(f"{p}@web{number}"), ended(f"{p}@web{number}"))
        ]
    past = past[:-1]  # of the last step on web3 no end is recorded: it was killed
    past += [ended("1@web4"), ended("2@web4", "failed")]
    found = board()
    found.recall(map(entry, past))
    found.take(Event(kind="run resumed", data={"who": "ann"}), 100)
    rows = picture(found)
    assert "web1 ✓✓✓✓✓ done" in rows
    assert "web3 ✓✓✓✓· waiting" in rows
    assert any(row.startswith("web4 ✓✗··· ") for row in rows)
    assert found.ended == 16
    for event in (
        Event(kind="decided", key="2@web4", host="web4", data={"choice": "retry"}),
        started("2@web4"),
        ended("2@web4"),
    ):
        found.take(event, 101)
    assert "web4 ✓✓··· waiting" in picture(found)
    assert found.ended == 16


def test_a_host_that_was_in_doubt_is_not_once_it_has_told() -> None:
    found = board()
    found.recall([entry(started("3@web1")), entry(ended("3@web1", "unknown"))])
    assert any(row.startswith("web1 ··?·· ") for row in picture(found))
    found.take(ended("3@web1"), 101)
    assert "web1 ··✓·· waiting" in picture(found)
    found.recall([entry(Event(kind="host unreachable", host="web2", data={"reason": "no route"}))])
    assert found.counts()["unreachable"] == 1
    found.take(Event(kind="host opened", host="web2"), 102)
    assert "unreachable" not in found.counts()


def test_the_last_line_that_a_command_printed_stands_beside_it() -> None:
    found = board()
    found.take(started("2@web1"), 140)
    for data in (b"one\ntwo\n", b"50 %\r 60 %", b"\n\n"):
        found.heard(Chunk(key="2@web1", host="web1", attempt=1, stream="stdout", data=data))
    row = picture(found)[2]
    assert row == "web1 ·▸··· Remember what is live: readlin… | 60 %                          2.0s"
    found.heard(Chunk(key="2@web1", host="web1", attempt=1, stream="stdout", data=b"x" * 999))
    row = picture(found)[2]
    assert row.startswith("web1 ·▸··· Remember what is live: readlin… | xxxxxx")
    assert len(row) == 79
    found.take(ended("2@web1"), 141)
    assert "|" not in picture(found)[2]


def test_a_host_is_done_when_only_the_steps_at_the_end_of_the_run_are_left() -> None:
    found = board(1)
    for position in "12345":
        found.take(started(f"{position}@web1"), 101)
        found.take(ended(f"{position}@web1"), 102)
    assert picture(found)[2] == "web1 ✓✓✓✓✓ done"
    assert found.ended < found.total


def test_a_step_that_is_not_for_a_host_has_no_mark_there() -> None:
    plan = samples.plan(2, (2,))
    mine = [a for a in plan.actions if not (a.position == "3" and a.host == "web2")]
    rows = picture(Board(replace(plan, actions=tuple(mine)), {}, 100.0))
    assert [row[:10] for row in rows[2:]] == ["web1 ·····", "web2 ·· ··"]


def test_trouble_stands_first_and_says_why() -> None:
    found = board()
    for key in ("2@web1", "2@web2", "2@web3"):
        found.take(started(key), 101)
    found.take(ended("2@web3", "unknown", reason="the line was cut"), 102)
    found.take(ended("2@web2", "failed", reason="exit status 1"), 103)
    found.take(Event(kind="host unreachable", host="web4", data={"reason": "no route"}), 103)
    rows = picture(found)
    assert [row.split()[0] for row in rows[2:]] == ["web3", "web2", "web4", "web1"]
    assert rows[2].endswith("2 Remember what is live: the line was cut")
    assert rows[4].endswith("no route")
    assert "1 unknown  1 failed  1 unreachable  1 running" in rows[1]


def test_200_hosts_are_summed_up_and_fit() -> None:
    found = board(200)
    for number in range(2, 201):
        found.take(started(f"4@web{number}"), 101)
    found.take(ended("4@web77", "failed", reason="x" * 300), 102)
    rows = picture(found)
    assert len(rows) == 23
    assert rows[2].startswith("web77")
    assert rows[-1] == "… and 180 more: 179 running, 1 waiting"


@pytest.mark.parametrize("columns", [10, 20, 40, 79, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 5, 24])
def test_the_picture_is_never_larger_than_the_terminal(columns: int, height: int) -> None:
    found = board(60)
    for number in range(1, 40):
        found.take(started(f"4@web{number}", "変更 " * 30), 101)
    found.take(ended("4@web3", "failed", reason="\x1b[2J\n変更" * 100), 102)
    painted = Frame(found, paint=Paint(colour=True)).lines(columns, height, 142.0)
    assert len(painted) <= max(1, height - 1)
    assert all(safe.width(bare(row)) < max(columns, 11) for row in painted)


def test_an_undone_host_shows_what_was_taken_back() -> None:
    found = board()
    found.take(started("4@web1"), 101)
    found.take(ended("4@web1", "failed"), 102)
    found.take(Event(kind="undo began"), 103)
    found.take(started("4u1@web1"), 104)
    found.take(ended("4u1@web1"), 105)
    assert picture(found)[0].startswith("deploy · undoing")
    assert "web1 ···↶· " in picture(found)[2]


def test_a_step_done_once_counts_once_and_is_nothing_to_do_elsewhere() -> None:
    plan = samples.plan(3, (3,))
    once = replace(plan.stages["2"], scope="once")
    found = Board(replace(plan, stages={**plan.stages, "2": once}), {}, 100.0)
    assert found.total == 14
    found.take(started("2@web1"), 101)
    found.take(ended("2@web1"), 102)
    assert found.ended == 1
    assert [row.cells[1] for row in found.hosts()] == ["ok", "skipped", "skipped"]


def test_ascii_is_enough_for_a_terminal_that_has_no_more() -> None:
    found = board()
    found.take(started("2@web1"), 101)
    rows = Frame(found, paint=PLAIN, unicode=False).lines(80, 24, 142.0)
    assert all(row.isascii() for row in rows)


def test_more_steps_than_columns_show_the_worst_of_each_stretch() -> None:
    found = board()
    found.rows["web1"].cells = ["ok"] * 100
    found.rows["web1"].cells[50] = "failed"
    row = next(row for row in picture(found) if row.startswith("web1"))
    assert row.split()[1].count("✗") == 1
    assert len(row.split()[1]) == 24


class Terminal:
    """Keeps what was written, and counts how often."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.written: list[str] = []
        self.columns, self.lines = columns, lines

    def write(self, text: str) -> None:
        self.written.append(text)

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    @property
    def text(self) -> str:
        return "".join(self.written)


def live(terminal: Terminal, count: int = 4) -> Live:
    plan = samples.plan(count, (1, 99))
    return Live(plan, write=terminal.write, size=terminal.size, paint=PLAIN)


def test_the_terminal_is_never_put_into_a_state_that_must_be_restored() -> None:
    terminal = Terminal()
    with live(terminal) as watch:
        watch(started("4@web1"))
        watch._draw()
        watch(ended("4@web1", "failed"))
        watch._draw()
    assert "\x1b[?" not in terminal.text


def test_an_exception_leaves_no_thread_and_no_picture_behind() -> None:
    terminal = Terminal()
    watch = live(terminal)

    def fail() -> None:
        with watch:
            watch._draw()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not watch._thread.is_alive()
    assert terminal.written[-1].endswith("\x1b[J")


def test_failures_and_messages_stay_above_the_picture() -> None:
    terminal = Terminal()
    with live(terminal) as watch:
        watch(Chunk(key="4@web1", host="web1", attempt=1, stream="stderr", data=b"no room\n"))
        watch(ended("4@web1", "failed"))
        watch(Event(kind="message", data={"text": "half way"}))
        watch(ended("4@web2"))
    assert "FAILED   4 Switch" in terminal.text
    assert "|        no room" in terminal.text
    assert "half way" in terminal.text
    assert "ok       4 Switch" not in terminal.text


def test_an_amended_plan_is_the_one_that_is_shown_from_there_on() -> None:
    terminal = Terminal()
    past = [entry(started("2@web1")), entry(ended("2@web1"))]
    plan = samples.plan(4, (1, 99))
    watch = live(terminal)
    watch._board.recall(past)
    new = replace(plan, actions=tuple(_other(action) for action in plan.actions))
    watch.renewed(new, past)
    watch(Event(kind="plan amended", data={"who": "ann", "parameters": {"release": "r8"}}))
    watch(started("4@web1"))
    watch._draw()
    assert "echo the new one" in terminal.text
    assert "1/21" in terminal.text
    assert "release=r8 from here on" in terminal.text


def _other(action: Action) -> Action:
    work = Command(text=text("echo the new one"))
    return replace(action, work=work) if action.position == "4" else action


def test_for_how_long_a_step_is_silent_stands_in_its_row_until_it_prints_again() -> None:
    terminal = Terminal()
    watch = live(terminal)
    watch(started("4@web1"))
    watch(Chunk(key="4@web1", host="web1", attempt=1, stream="stdout", data=b"on it\n"))
    watch(silent("4@web1"))
    watch._draw()
    assert "| silent for 5:00" in terminal.written[-1]
    assert "on it" not in terminal.written[-1]
    assert "SILENT   4 Switch has printed nothing for 5:00" in terminal.text
    watch(silent("4@web1", over=True))
    watch._draw()
    assert "silent for" not in terminal.written[-1]
    assert "| on it" in terminal.written[-1]


def test_a_narrowed_terminal_is_still_wiped_whole() -> None:
    terminal = Terminal()
    watch = live(terminal)
    watch._draw()
    drawn = [safe.width(row) for row in watch._drawn]
    terminal.columns = 20
    watch(started("4@web1"))
    watch._draw()
    rows = sum(-(-columns // 20) for columns in drawn)
    assert terminal.written[-1].startswith(f"\r\x1b[{rows - 1}A")


def test_while_a_question_is_asked_nothing_is_drawn() -> None:
    terminal = Terminal()
    with live(terminal) as watch:
        watch._draw()
        with watch.paused():
            before = len(terminal.written)
            watch(started("4@web1"))
            time.sleep(0.6)
            assert len(terminal.written) == before


def test_events_from_many_threads_cost_little_and_are_drawn_rarely() -> None:
    terminal = Terminal()
    plan = samples.plan(100, (100,))
    spent: list[float] = []

    def feed(number: int) -> None:
        events = []
        for position in "2345" * 3:
            events += [started(f"{position}@web{number}"), ended(f"{position}@web{number}")]
        began = time.thread_time()
        for event in events:
            watch(event)
        spent.append(time.thread_time() - began)

    with Live(plan, write=terminal.write, size=terminal.size, paint=PLAIN) as watch:
        threads = [threading.Thread(target=feed, args=(n,)) for n in range(1, 101)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.6)
    assert sum(spent) / (100 * 24) < 0.0005  # seconds an event; measured: some 10 µs
    assert len(terminal.written) <= 8


def test_the_time_that_is_left_runs_down_and_is_not_told_where_it_takes_longer() -> None:
    names = {stage.name: 10.0 for stage in samples.plan(1, (1,)).stages.values()}
    found = Board(samples.plan(1, (1,)), names, 100.0)
    whole = found.remaining(100.0)
    assert whole is not None
    assert whole > 10
    found.take(started("1@web1", "web1"), 100.0)
    assert found.remaining(104.0) == pytest.approx(whole - 4)
    assert found.remaining(400.0) == pytest.approx(whole - 10)
    done = [started(action.key) for action in found.plan.actions if action.position != "1"]
    for event in done:
        found.take(event, 400.0)
    assert found.remaining(500.0) is None
