"""What is true after a run, what comes next, and the exit status that goes with it."""

import re
from itertools import product

import pytest

from opskit.errors import Exit
from opskit.model.event import Entry, Event
from opskit.model.run import HostState, Run
from opskit.view import summary
from opskit.view.report import markdown
from opskit.view.status import exit_status
from tests.view import samples
from tests.view.samples import record, run

FAILED = run(
    "failed",
    {"web1": "done", "web2": "failed", "web3": "unreachable", "web4": "not started"},
    dict(
        [
            record("4@web1", "succeeded"),
            record("4@web2", "failed", status=1, seconds=1.5, reason="exit status 1"),
        ]
    ),
)


def test_every_host_is_named_with_where_it_stands() -> None:
    shown = summary.text(FAILED, samples.plan())
    assert shown.startswith("FAILED after 1:32 · deploy 1.2.0 · run 20270115-080000-k3f9\n")
    rows = [row.split(maxsplit=1) for row in shown.splitlines()[1:5]]
    assert rows == [["failed", "web2"], ["unreachable", "web3"], ["done", "web1"],
                    ["not", "started        web4"]]  # fmt: skip
    assert "failed on web2: 4 Switch (1.5s, exit 1)" in shown


def test_what_to_do_next_can_be_copied() -> None:
    shown = summary.text(FAILED, samples.plan())
    for command in (
        "opskit output 20270115-080000-k3f9 4 web2",
        "opskit retry 20270115-080000-k3f9 --hosts failed,not-started",
        "opskit undo 20270115-080000-k3f9",
        "opskit report 20270115-080000-k3f9",
    ):
        assert re.search(f"^  {command}(  |$)", shown, re.MULTILINE)
    assert "resume" not in shown


def test_an_interrupted_run_can_be_resumed() -> None:
    waits = {"why": "interrupted", "question": "", "choices": []}
    shown = summary.text(run("waiting", {"web1": "not started"}, question=waits, ended=None))
    assert shown.startswith("INTERRUPTED · ")
    assert "opskit resume 20270115-080000-k3f9  go on where it stopped" in shown
    assert "asks" not in shown


def test_a_waiting_run_shows_its_question() -> None:
    waits = {"why": "confirm", "question": "Go on?", "choices": ["yes", "no"]}
    shown = summary.text(run("waiting", {"web1": "not started"}, question=waits, ended=None))
    assert "asks         Go on? [yes/no]" in shown


def test_a_good_run_says_little() -> None:
    done = run("succeeded", {"web1": "done"}, dict([record("4@web1", "succeeded")]))
    shown = summary.text(done, samples.plan())
    assert shown.splitlines()[1:] == [
        "  done               web1", "Next:",
        "  opskit undo 20270115-080000-k3f9  take back what was done",
    ]  # fmt: skip


def test_200_hosts_fit_80_columns_and_none_of_the_failed_is_left_out() -> None:
    odd = [f"web{n}" for n in range(1, 201, 2)]
    hosts: dict[str, HostState] = {f"web{n}": "done" for n in range(1, 201)}
    hosts |= dict.fromkeys(odd, "failed")
    shown = summary.text(run("failed", hosts))
    body = shown.split("Next:")[0]
    assert max(map(len, body.splitlines())) <= 80
    assert all(re.search(rf"\b{host}\b", body) for host in odd)


STATES = {
    "succeeded": Exit.OK,
    "failed": Exit.FAILED,
    "undone": Exit.UNDONE,
    "waiting": Exit.WAITING,
    "unknown": Exit.UNKNOWN,
    "aborted": Exit.FAILED,
    "running": Exit.INTERRUPTED,
    "undoing": Exit.INTERRUPTED,
    "planned": Exit.INTERRUPTED,
}


@pytest.mark.parametrize(("state", "status"), STATES.items())
def test_each_state_has_its_exit_status(state: str, status: Exit) -> None:
    assert exit_status(run(state, {"web1": "done"})) == status  # type: ignore[arg-type]


def test_the_status_that_asks_for_most_care_wins() -> None:
    rank = [70, 130, 4, 6, 1, 3, 0]
    hosts: tuple[HostState, ...] = ("done", "unknown")
    for state, host in product(STATES, hosts):
        found = exit_status(run(state, {"web1": host}))  # type: ignore[arg-type]
        both = [STATES[state], *([Exit.UNKNOWN] if host == "unknown" else [])]
        assert found == min(both, key=rank.index)


def test_an_interruption_is_not_a_question() -> None:
    waits = {"why": "interrupted"}
    assert exit_status(run("waiting", {}, question=waits)) == Exit.INTERRUPTED


def test_a_run_that_preflight_ended_was_refused() -> None:
    begun = dict([record("1@web1", "failed")])
    assert exit_status(run("failed", {"web1": "failed"}, begun), samples.plan()) == Exit.REFUSED
    begun |= dict([record("2@web1", "failed")])
    assert exit_status(run("failed", {"web1": "failed"}, begun), samples.plan()) == Exit.FAILED


def entries() -> list[Entry]:
    events = [
        Event(kind="run created", data={"run": "r1", "runbook": "deploy", "who": "ann@desk"}),
        Event(kind="step started", key="4@web2", host="web2", step="Switch"),
        samples.ended("4@web2", "failed", reason="a | b\n# forged\n<script>"),
        Event(kind="decided", data={"who": "ann@desk", "choice": "undo"}),
        Event(kind="note", data={"who": "ann@desk", "text": "customers see errors"}),
        Event(kind="run ended", data={"status": "failed"}),
    ]
    return [
        Entry(
            run="r1", number=n, at=1_800_000_000.0 + n, previous="0" * 64, hash="ab" * 32, event=e
        )
        for n, e in enumerate(events)
    ]


def test_a_report_tells_who_why_what_and_how_it_ended() -> None:
    undone: Run = run(
        "undone",
        {"web2": "undone"},
        dict([record("4@web2", "undone", seconds=1.5), record("3@web2", "succeeded")]),
    )
    told = markdown(undone, entries(), samples.plan())
    for words in (
        "# deploy 1.2.0: undone",
        "| **Who** | ann@desk from 10.9.8.7 |",
        "| **Why** | INC-7 |",
        "| **Plan digest** | `9c1185a5c5e9` |",
        "| 08:00:10Z | web2 | 4 Switch | undone | 1.5s |  |",
        "## What was undone\n\n- web2: 4 Switch",
        "**decided** undo by ann@desk",
        "**note** customers see errors (ann@desk)",
        "- 2027-01-15 08:00:02Z web2: FAILED 4 Switch",
    ):
        assert words in told


def test_a_report_can_not_be_forged_by_what_a_host_said() -> None:
    told = markdown(FAILED, entries(), samples.plan())
    assert "\n# forged" not in told
    assert "<script>" not in told
