"""What is true after a run, what comes next, and the exit status that goes with it."""

import re
from dataclasses import replace

from opskit.errors import Exit
from opskit.model.event import Entry, Event
from opskit.model.run import HostState, Run
from opskit.model.text import text
from opskit.model.work import Notify
from opskit.view import catalog, summary
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


def test_what_failed_at_the_end_can_be_tried_again_though_every_host_is_done() -> None:
    late = replace(samples.plan().actions[0], key="a1@web2", position="a1", batch=-2, host="web2")
    plan = replace(samples.plan(), actions=(*samples.plan().actions, late))
    states: dict[str, HostState] = {"web1": "done", "web2": "done"}
    failed = run("failed", states, dict([record("a1@web2", "failed")]))
    line = "  opskit retry 20270115-080000-k3f9 --hosts web2  try its end again\n"
    assert line in summary.text(failed, plan)
    assert "retry" not in summary.text(replace(failed, hosts={"web2": "failed"}), plan).replace(
        "retry 20270115-080000-k3f9 --hosts failed", ""
    )
    assert "retry" not in summary.text(replace(failed, state="succeeded"), plan)


def test_an_interrupted_run_can_be_resumed() -> None:
    waits = {"why": "interrupted", "question": "", "choices": []}
    shown = summary.text(run("waiting", {"web1": "not started"}, question=waits, ended=None))
    assert shown.startswith("INTERRUPTED · ")
    assert "opskit resume 20270115-080000-k3f9  go on where it stopped" in shown
    assert "asks" not in shown


def test_a_waiting_run_shows_its_question() -> None:
    waits = {"why": "confirm", "question": "Go on?", "choices": ["yes", "no"]}
    shown = summary.text(run("waiting", {"web1": "not started"}, question=waits, ended=None))
    assert "asks               Go on? [yes/no]" in shown


def test_a_host_that_was_begun_is_told_apart_and_can_be_retried() -> None:
    stopped = run("failed", {"web1": "begun", "web2": "done", "web3": "not started"})
    shown = summary.text(stopped)
    assert [row.split() for row in shown.splitlines()[1:4]] == [
        ["done", "web2"], ["begun", "web1"], ["not", "started", "web3"],
    ]  # fmt: skip
    assert re.search(r"^  opskit retry 20270115-080000-k3f9 --hosts not-started  ", shown, re.M)
    only = summary.text(run("failed", {"web1": "begun"}))
    assert "--hosts not-started" in only


def test_why_a_host_was_undone_is_told() -> None:
    undone = run(
        "undone",
        {"web1": "undone", "web2": "undone"},
        dict(
            [
                record("4@web1", "undone", outcome="succeeded"),
                record("4@web2", "undone", outcome="failed", status=1, reason="exit status 1"),
            ]
        ),
    )
    shown = summary.text(undone, samples.plan())
    assert "failed, then undone on web2: 4 Switch (exit 1)" in shown
    assert "web1: 4" not in shown
    assert "opskit output 20270115-080000-k3f9 4 web2" in shown


def test_an_undo_is_not_proposed_while_a_change_is_unknown() -> None:
    left = run("unknown", {"web1": "unknown"}, dict([record("4@web1", "unknown")]))
    assert "opskit undo" not in summary.text(left, samples.plan())


def test_how_a_host_stays_that_was_left_out_is_told() -> None:
    left = run(
        "failed",
        {"web1": "done", "web2": "excluded"},
        dict(
            [
                record("4@web1", "succeeded"),
                record("3@web2", "succeeded"),
                record("4@web2", "failed", status=1),
                record("5@web2", "planned"),
            ]
        ),
    )
    shown = summary.text(left, samples.plan())
    assert "  excluded, and stays as it was left by: 4 Switch on web2\n" in shown
    left = replace(left, hosts={"web1": "done", "web2": "done"})
    assert "stays" not in summary.text(left, samples.plan())


def test_a_good_run_says_little() -> None:
    done = run("succeeded", {"web1": "done"}, dict([record("4@web1", "succeeded")]))
    shown = summary.text(done, samples.plan())
    assert shown.splitlines()[1:] == [
        "  done               web1", "Next:",
        "  opskit undo 20270115-080000-k3f9  take back what was done",
    ]  # fmt: skip


def test_what_changes_have_come_to_is_told_also_where_no_line_was_left_of_them() -> None:
    put = [record(f"4@web{n}", "succeeded", reason="removed 7 of 7 keys") for n in (1, 2)]
    read = record("5@web1", "succeeded", evidence={"told": "a read says nothing here"})
    other = record("3@web1", "succeeded", evidence={"told": "3 rows updated"})
    done = run("succeeded", {"web1": "done", "web2": "done"}, dict([*put, read, other]))
    shown = summary.text(done, samples.plan())
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines() if ": " in line] == [
        "3 Put the release in place: 3 rows updated (on web1)",
        "4 Switch: removed 7 of 7 keys (on web1 web2)",
    ]
    undone = run("undone", {"web1": "undone"}, dict([record("4@web1", "undone", reason="7")]))
    assert "Switch" not in summary.text(undone, samples.plan())


def test_what_is_left_out_of_what_changes_have_come_to_is_counted() -> None:
    many = dict(record(f"4@web{n}", "succeeded", reason=f"removed {n} keys") for n in range(1, 24))
    done = run("succeeded", {f"web{n}": "done" for n in range(1, 24)}, many)
    shown = summary.text(done, samples.plan(23))
    assert shown.count("4 Switch: removed") == 20
    assert f"  … and 3 more: opskit report {done.id}\n" in shown


def test_200_hosts_fit_80_columns_and_none_of_the_failed_is_left_out() -> None:
    odd = [f"web{n}" for n in range(1, 201, 2)]
    hosts: dict[str, HostState] = {f"web{n}": "done" for n in range(1, 201)}
    hosts |= dict.fromkeys(odd, "failed")
    shown = summary.text(run("failed", hosts))
    body = shown.split("Next:")[0]
    assert max(map(len, body.splitlines())) <= 80
    assert all(re.search(rf"\b{host}\b", body) for host in odd)


def test_a_run_that_ended_has_the_exit_status_of_its_record() -> None:
    for status in Exit:
        assert exit_status(replace(run("failed", {}), exit=int(status))) == status


def test_a_run_that_waits_or_was_cut_off_says_so() -> None:
    assert exit_status(run("waiting", {})) == Exit.WAITING
    assert exit_status(run("waiting", {}, question={"why": "interrupted"})) == Exit.INTERRUPTED
    for state in ("planned", "running", "undoing"):
        assert exit_status(run(state, {})) == Exit.INTERRUPTED


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


def test_a_run_that_somebody_carries_out_is_running_and_not_interrupted() -> None:
    now = dict([record("3@web1", "succeeded"), record("4@web1", "started")])
    live = run("running", {"web1": "begun"}, now, ended=None, driver="ann@desk (process 7 on vm)")
    shown = summary.text(live, samples.plan(), now=1_800_000_012.0)
    assert shown.splitlines() == [
        "RUNNING for 12s · deploy 1.2.0 · run 20270115-080000-k3f9",
        "  begun              web1",
        "  carried out by     ann@desk (process 7 on vm)",
        "  now                web1: 4 Switch, since 08:00:10Z",
        "Next:",
        "  opskit status 20270115-080000-k3f9  look again",
    ]
    quiet = {**now, "4@web1": replace(now["4@web1"], silent=1_800_000_015.0)}
    (line,) = (
        row
        for row in summary.text(replace(live, actions=quiet), samples.plan()).splitlines()
        if "now " in row
    )
    assert line.endswith(
        "4 Switch, since 08:00:10Z, has printed nothing since 08:00:15Z",
    )
    left = summary.text(replace(live, driver=""), samples.plan())
    assert left.startswith("INTERRUPTED · ")
    assert "no outcome recorded on web1: 4 Switch" in left


def test_what_a_failed_step_printed_can_stand_below_it() -> None:
    shown = summary.text(FAILED, samples.plan(), said={"4@web2": ("no such file", "giving up")})
    assert "failed on web2: 4 Switch (1.5s, exit 1)\n    | no such file\n    | giving up\n" in shown


def test_an_unreachable_host_says_why_and_how_to_look_at_it() -> None:
    why = {f"web{n}": f"host web{n}: no route to web{n}" for n in (1, 2)}
    hosts: dict[str, HostState] = {"web1": "unreachable", "web2": "unreachable"}
    shown = summary.text(run("failed", hosts, unreachable=why), samples.plan())
    assert "  unreachable: web1 web2: no route to web1\n" in shown
    assert "  opskit hosts check web1,web2 -i inventories/production.yaml" in shown
    assert "  Nothing was changed.\n" in shown


def test_a_change_with_nothing_that_takes_it_back_is_not_nothing() -> None:
    plan = samples.plan()  # `undo: []`, as of what reverses a payment or restarts a service
    stages = {**plan.stages, "3": replace(plan.stages["3"], lasting=False)}
    plan = replace(plan, stages=stages)
    part = dict([record("3@web1", "succeeded"), record("4@web1", "failed")])
    part["4@web1"] = replace(part["4@web1"], data={"outcome": "failed", "sent": False})
    shown = summary.text(run("failed", {"web1": "failed"}, part), plan)
    assert "Nothing was changed" not in shown
    assert "was done, and has no undo: 3 Put the release in place on web1" in shown
    taken = {**part, "4@web1": replace(part["4@web1"], state="undone")}
    assert "No change is left." in summary.text(run("undone", {"web1": "undone"}, taken), plan)


def test_steps_that_failed_and_were_passed_over_are_named() -> None:
    over = dict([record("3@web1", "failed", step="Clean"), record("4@web1", "succeeded")])
    shown = summary.text(run("succeeded", {"web1": "done"}, over), samples.plan())
    assert "failed, passed over: 3 Put the release in place on web1" in shown


def test_health_checks_are_counted_and_warnings_are_named() -> None:
    said = {"OK": "OK page", "WARN": "WARN disk free, %: 15"}
    checks = {
        f"2@web{n}": replace(
            record("2@web1", "succeeded")[1], key=f"2@web{n}", host=f"web{n}",
            data={"evidence": {"level": level}, "reason": said[level]},
        )
        for n, level in enumerate(("OK", "OK", "WARN"))
    }  # fmt: skip
    shown = summary.text(run("succeeded", {"web1": "done"}, checks), samples.plan())
    assert "  checks             1 WARN, 2 OK\n" in shown
    assert "  warning on web2: 2 Remember what is live: WARN disk free, %: 15\n" in shown


def test_a_change_without_an_undo_is_named_when_the_rest_was_taken_back() -> None:
    part = dict([record("3@web1", "failed"), record("4@web1", "undone")])
    shown = summary.text(run("failed", {"web1": "undone"}, part), samples.plan())
    assert "not taken back, it has no undo: 3 Put the release in place on web1" in shown
    passed = replace(record("3@web1", "skipped", choice="skip")[1], reached=1)  # by a person
    shown = summary.text(
        run("failed", {"web1": "undone"}, part | {"3@web1": passed}), samples.plan()
    )
    assert "not taken back, it was skipped: 3 Put the release in place on web1" in shown
    assert "it has no undo" not in shown
    whole = dict([record("4@web1", "undone")])
    assert "No change is left." in summary.text(
        run("undone", {"web1": "undone"}, whole), samples.plan()
    )


def test_a_change_whose_undo_only_tells_of_it_is_named_as_what_stays() -> None:
    plan = samples.plan()
    said = Notify(message=text("it stays"))
    actions = tuple(
        replace(action, undo=tuple(replace(undo, work=said) for undo in action.undo))
        for action in plan.actions
    )
    whole = dict([record("4@web1", "undone"), record("4u1@web1", "succeeded")])
    after = run("undone", {"web1": "undone"}, whole)
    shown = summary.text(after, replace(plan, actions=actions))
    assert "not taken back, its undo only tells of it: 4 Switch on web1" in shown
    assert "No change is left." not in shown
    assert "No change is left." in summary.text(after, plan)
    none = dict([record("4@web1", "undone"), record("4u1@web1", "skipped")])
    after = run("undone", {"web1": "undone"}, none)
    assert "No change is left." in summary.text(after, replace(plan, actions=actions))


def test_a_list_of_runs_tells_dry_runs_and_interrupted_ones() -> None:
    listed = catalog.runs([run("running", {}, ended=None), run("succeeded", {}, kind="preview"),
                           run("failed", {}, kind="exec")], 1_800_000_100.0)  # fmt: skip
    rows = listed.splitlines()
    assert "interrupted  deploy 1.2.0 " in rows[1]
    assert "deploy 1.2.0 (dry run)" in rows[2]
    assert "  exec  " in rows[3]
