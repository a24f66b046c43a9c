"""Lines for where nobody watches: one an event, always of one shape."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from opskit.model.event import Chunk, Event
from opskit.model.rows import Limits, Rows, Selection
from opskit.model.value import Json
from opskit.view.jsonl import JsonLines
from opskit.view.lines import AHEAD, Lines
from opskit.view.tail import KEPT
from tests.view import samples
from tests.view.samples import ended, silent, started

ROW = re.compile(r"\d\d:\d\d:\d\dZ (\S+) +(\S+)( .*)?")


def written(*items: Event | Chunk, outputs: bool = False) -> list[str]:
    kept: list[str] = []
    watch = Lines(kept.append, samples.plan(), outputs=outputs, now=lambda: 1_800_000_000.0)
    for item in items:
        watch(item)
    return "".join(kept).splitlines()


@pytest.mark.parametrize(("own", "count"), [(True, 3), (False, 0)])
def test_what_a_step_of_our_own_waits_for_is_a_line_a_minute(own: bool, count: int) -> None:
    """Where nobody watches: the log of cron must say why a clean-up stands."""
    rows = Rows(
        do="remove", database="main", chosen=Selection(table="sessions"), archive=False,
        limits=Limits(rows=1, share=1.0),
    )  # fmt: skip
    found = samples.plan()
    actions = [replace(a, work=rows) if own and a.key == "4@web1" else a for a in found.actions]
    kept: list[str] = []
    clock = iter([0.0, 0.0, 1.0, 59.0, 60.0, 60.0, 100.0, 125.0, 125.0])
    watch = Lines(kept.append, replace(found, actions=tuple(actions)), waits=True,
                  now=lambda: 1_800_000_000.0 + next(clock))  # fmt: skip
    for data in (b"waiting: a standby is 12 s be", b"hind (max_lag: 10s)\n", b"waiting: b\n",
                 b"waiting: c\n12 rows are gone\nwaiting: d\n", b"not waiting: e\n",
                 b"waiting: f\n"):  # fmt: skip
        watch(chunk("4@web1", data, "stdout"))
    rows_ = "".join(kept).splitlines()
    assert len(rows_) == count
    assert all(ROW.fullmatch(row) for row in rows_)
    if own:
        told = "web1 waits    4 Switch: a standby is 12 s behind (max_lag: 10s)"
        assert " ".join(rows_[0].split()[1:]) == " ".join(told.split())
        assert [row.rpartition(" ")[2] for row in rows_[1:]] == ["d", "f"]


def chunk(key: str, data: bytes, stream: str = "stderr") -> Chunk:
    host = key.split("@")[1]
    return Chunk(key=key, host=host, attempt=1, stream=stream, data=data)  # type: ignore[arg-type]


def test_every_kind_of_event_is_one_line_of_the_same_shape() -> None:
    events = [
        Event(kind="run created", data={"run": "r1", "runbook": "deploy", "who": "ann@desk"}),
        Event(kind="run resumed", data={"who": "bob@desk"}),
        Event(kind="host opened", host="web1"),
        Event(kind="host unreachable", host="web2", data={"reason": "no route"}),
        started("4@web1"),
        silent("4@web1"),
        ended("4@web1"),
        Event(kind="step skipped", key="5@web1", host="web1", step="x", data={"why": "when"}),
        Event(kind="message", data={"text": "done"}),
        Event(kind="waiting", data={"why": "confirm", "question": "go?"}),
        Event(kind="decided", data={"who": "ann@desk", "choice": "yes"}),
        Event(kind="note", data={"who": "ann@desk", "text": "looks bad"}),
        Event(kind="budget tripped", data={"failed": ["web1"], "limit": 0}),
        Event(kind="undo began", data={"hosts": ["web1"], "why": "failed"}),
        Event(kind="run ended", data={"status": "failed"}),
    ]
    rows = written(*events)
    assert len(rows) == len(events)
    assert all(ROW.fullmatch(row) for row in rows)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("when: release == 'B'", ": `release == 'B'` is false"),
        ("when: False", ": its `when` is false"),
        ("its effect is there already", ": its effect is there already"),
    ],
)
def test_it_is_said_why_a_step_was_not_done(why: str, said: str) -> None:
    step = Event(kind="step skipped", key="4@web1", host="web1", step="Switch", data={"why": why})
    assert written(step) == [f"08:00:00Z web1 skipped  4 Switch{said}"]


def test_a_silence_and_its_end_are_a_line_each() -> None:
    assert written(silent("4@web1"), silent("4@web1", over=True, seconds=372.4)) == [
        "08:00:00Z web1 SILENT   4 Switch has printed nothing for 5:00",
        "08:00:00Z web1 heard    4 Switch prints again, after 6:12",
    ]


def test_who_goes_on_with_a_run_is_said_and_after_whom() -> None:
    before = "ann (process 7 on lap1)"
    (row,) = written(Event(kind="run resumed", data={"who": "bob", "took_over": before}))
    assert row.endswith(f"by bob, after {before}")


def test_the_host_is_always_the_second_word() -> None:
    rows = written(started("4@web1"), started("4@web2"), ended("4@web1", "failed", reason="no"))
    assert [row.split()[1] for row in rows] == ["web1", "web2", "web1"]


def test_an_outcome_says_how_long_which_status_and_why() -> None:
    (row,) = written(ended("4@web1", "failed", status=1, reason="exit status 1"))
    assert row == "08:00:00Z web1 FAILED   4 Switch (1.2s, exit 1)"


def test_a_reason_that_says_more_than_the_status_is_shown() -> None:
    (row,) = written(ended("4@web1", "failed", status=1, reason="timed out\nafter 3 s"))
    assert row.endswith("4 Switch (1.2s, exit 1): timed out\\nafter 3 s")


def test_a_failed_step_shows_its_last_lines_and_a_good_one_none() -> None:
    noise = b"".join(b"line %d\n" % n for n in range(5000))
    rows = written(chunk("4@web1", noise), ended("4@web1", "failed"))
    assert len(rows) == 11
    assert rows[-1].endswith("|        line 4999")
    assert len(written(chunk("4@web1", noise), ended("4@web1"))) == 1


def test_standard_output_is_shown_when_standard_error_is_empty() -> None:
    rows = written(chunk("4@web1", b"the reason\n", "stdout"), ended("4@web1", "failed"))
    assert rows[-1].endswith("the reason")


def test_what_is_kept_of_output_is_bounded() -> None:
    watch = Lines(lambda _: None, samples.plan())
    for _ in range(100):
        watch(chunk("4@web1", b"x" * 100_000))
    assert sum(map(len, watch._tails._kept.values())) == KEPT


def test_output_can_be_followed_line_by_line() -> None:
    rows = written(
        chunk("4@web1", b"one\ntw", "stdout"),
        chunk("4@web1", b"o\nthr", "stdout"),
        chunk("4@web1", b"oops\n"),
        ended("4@web1", "failed"),
        outputs=True,
    )
    assert [row.split(" ", 2)[2].split() for row in rows] == [
        ["|", "one"], ["|", "two"], ["|err", "oops"], ["|", "thr"],
        ["FAILED", "(1.2s)"],
    ]  # fmt: skip


def test_nothing_that_a_host_says_reaches_the_terminal_as_control_characters() -> None:
    evil = "\x1b[2J\u202e\x07"
    rows = written(
        chunk("4@web1", evil.encode() + b"text\n"),
        ended("4@web1", "failed", reason=f"bad {evil}\nforged line"),
        Event(kind="message", data={"text": evil}),
        Event(kind="note", host=f"web\n{evil}", data={"text": evil, "who": evil}),
    )
    assert len(rows) == 4
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", "".join(rows))


def test_json_lines_all_carry_the_run_and_what_happened() -> None:

    kept: list[str] = []
    watch = JsonLines(kept.append, now=lambda: 5.0)
    watch(Event(kind="run created", data={"run": "r1", "kind": "run"}))
    watch(started("4@web1"))
    watch(chunk("4@web1", b"not shown"))
    watch(ended("4@web1", "failed", reason="\x1b[2J\u202e"))
    found = [json.loads(line) for line in kept]
    assert [(row["run"], row["event"]) for row in found] == [
        ("r1", "run created"), ("r1", "step started"), ("r1", "step ended"),
    ]  # fmt: skip
    assert found[2]["outcome"] == "failed"
    assert all(line.isascii() and "\x1b" not in line for line in kept)


def decided(key: str = "", host: str = "web1", **data: Json) -> Event:
    said: dict[str, Json] = {"who": "ann@desk", "choice": "retry", **data}
    return Event(kind="decided", key=key, host=host, step="Switch" if key else "", data=said)


def test_a_decision_about_a_step_names_it() -> None:
    (row,) = written(decided("4@web1", reason="it is back"))
    assert row == "08:00:00Z web1 decided  retry by ann@desk: it is back (4 Switch)"


def test_what_is_done_again_on_a_host_is_one_line_with_its_number() -> None:
    hosts = [decided(host=host, steps=3) for host in ("web1", "web2")]
    keys = [decided(f"{n}@{host}", host) for host in ("web1", "web2") for n in (3, 4, 5)]
    assert [row[10:] for row in written(*hosts, *keys)] == [
        "web1 decided  retry by ann@desk (3 steps)",
        "web2 decided  retry by ann@desk (3 steps)",
    ]


def test_what_is_decided_of_a_step_later_or_otherwise_is_a_line_of_its_own() -> None:
    events = [decided(), decided("4@web1", choice="done"), started("4@web1"), decided("4@web1")]
    assert len(written(*events)) == 4
    assert len(written(decided(), decided("4@web2", "web2"))) == 2


def test_of_many_threads_every_line_is_written_once_and_in_the_order_of_its_thread() -> None:
    kept: list[str] = []
    watch = Lines(kept.append, now=lambda: 1_800_000_000.0)

    def talk(host: int) -> None:
        for number in range(200):
            watch(Event(kind="message", host=f"h{host}", data={"text": f"{host}.{number}."}))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(talk, range(20)))
    rows = "".join(kept).splitlines()
    assert len(rows) == 20 * 200
    for host in range(20):
        numbers = [int(row.split(".")[-2]) for row in rows if f" {host}." in row]
        assert numbers == list(range(200))


def test_while_one_line_is_being_written_nobody_else_waits_until_there_is_much() -> None:
    wrote, go = threading.Event(), threading.Event()
    kept: list[str] = []

    def write(text: str) -> None:
        kept.append(text)
        wrote.set()
        assert go.wait(10)

    watch = Lines(write, now=lambda: 1_800_000_000.0)
    said = [Event(kind="message", data={"text": str(number)}) for number in range(AHEAD + 3)]
    slow = threading.Thread(target=watch, args=(said[0],))
    slow.start()
    assert wrote.wait(10)
    for event in said[1 : AHEAD + 1]:
        watch(event)  # comes back although nobody reads
    late = threading.Thread(target=watch, args=(said[AHEAD + 1],))
    late.start()
    late.join(0.2)
    assert late.is_alive()
    go.set()
    slow.join(10)
    late.join(10)
    assert [row.split()[-1] for row in "".join(kept).splitlines()] == [
        str(number) for number in range(AHEAD + 2)
    ]


def test_a_line_that_can_not_be_written_is_told_to_whoever_wrote_and_the_next_one_is_tried() -> (
    None
):
    kept: list[str] = []

    def write(text: str) -> None:
        if not kept:
            kept.append("")
            raise OSError("the disk is full")
        kept.append(text)

    watch = Lines(write, now=lambda: 1_800_000_000.0)
    with pytest.raises(OSError, match="full"):
        watch(Event(kind="message", data={"text": "a"}))
    watch(Event(kind="message", data={"text": "b"}))
    assert kept[1].rstrip().endswith("b")
