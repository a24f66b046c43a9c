"""How bad an incident is, and the part of its file that opskit keeps."""

from dataclasses import replace

import pytest

from opskit.model.incident import Change, Incident
from opskit.model.run import ActionRecord
from opskit.model.text import text
from opskit.model.work import Command
from opskit.view.incident import BEGIN, END, Finding, classified, markdown, whole
from tests.view import samples


def finding(level: str, severity: str) -> Finding:
    return Finding(level=level, host="web1", what="x", severity=severity)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "none that a check tells of"),
        ([("WARN", "")], "none that a check tells of"),
        ([("CRIT", "P1"), ("CRIT", "P2"), ("CRIT", "P2")], "P1"),
        ([("WARN", "P2"), ("CRIT", "P3")], "P2"),
        ([("UNKNOWN", "P0"), ("CRIT", "P1")], "P1, perhaps P0"),
        ([("CRIT", "P0"), ("UNKNOWN", "P1")], "P0"),
        ([("UNKNOWN", "P0")], "none that a check tells of, perhaps P0"),
    ],
)
def test_f3_the_worst_counts_and_what_is_not_known_is_no_hope(
    found: list[tuple[str, str]], told: str
) -> None:
    assert str(classified([finding(*one) for one in found])) == told


def test_only_what_stands_between_the_marks_is_written_anew() -> None:
    first = whole(f"{BEGIN}\nold\n{END}\n", None)
    assert first is not None
    assert "## What caused it" in first
    again = whole(f"{BEGIN}\nnew\n{END}\n", f"mine\n{first}more of mine\n")
    assert again == f"mine\n{first.replace('old', 'new')}more of mine\n"


@pytest.mark.parametrize("before", ["", "mine", f"{END} {BEGIN}", BEGIN, END])
def test_what_opskit_did_not_write_is_left_alone(before: str) -> None:
    assert whole("text", before) is None


def looked(*records: tuple[str, ActionRecord], **unreachable: str) -> str:
    """Tell an incident that three checks on each of two hosts were to look at."""
    plan = samples.plan(2)
    checks = tuple(
        samples.action(
            position,
            host,
            Command(text=text("true"), check=text(label), bearing={"severity": f"P{position}"}),
            0,
        )
        for host in ("web1", "web2")
        for position, label in (("2", "page"), ("3", "disk"), ("4", "names"))
    )
    run = samples.run("running", {}, dict(records), unreachable=unreachable)
    made = Incident(
        run=run, plan=replace(plan, actions=checks), within=60.0, whole=True, before=(), since=()
    )
    return markdown(made, run.created)


def test_a_check_that_was_not_made_is_not_ok() -> None:
    ok = [samples.record(f"{n}@{host}", "succeeded", evidence={"level": "OK"})
          for host in ("web1", "web2") for n in (2, 3)]  # fmt: skip
    skipped = [samples.record(f"4@{host}", "skipped") for host in ("web1", "web2")]
    assert "Every check is OK." in looked(*ok, *skipped)
    told = looked(*ok[:3], *skipped, samples.record("3@web2", "started"))
    assert "Every check is OK." not in told
    assert "none that a check tells of, perhaps P3" in told
    assert "| P3 | UNKNOWN | web2 | not looked at: disk |" in told
    told = looked(*ok[:2], skipped[0], web2="it is | down")
    assert "none that a check tells of, perhaps P2" in told
    assert "| P2 | UNKNOWN | web2 | it can't be reached: it is \\| down |" in told
    assert "not looked at" not in told


def test_what_was_taken_back_is_not_named_to_be_taken_back() -> None:
    plan = samples.plan(1)
    check = Command(text=text("true"), check=text("page"), bearing={"severity": "P1"})
    crit = samples.record("2@web1", "failed", evidence={"level": "CRIT", "severity": "P1"})
    back = samples.run("undone", {"web1": "undone"}, id="r-undone")
    stays = samples.run("succeeded", {"web1": "done"}, id="r-succeeded")
    changes = [Change(run=one, plan=plan) for one in (back, stays)]
    made = Incident(
        run=samples.run("failed", {"web1": "failed"}, dict([crit])),
        plan=replace(plan, actions=(samples.action("2", "web1", check, 0),)),
        within=60.0, whole=True, before=tuple(changes), since=(),
    )  # fmt: skip
    told = markdown(made, made.run.created)
    assert "`r-undone`" in told
    assert "opskit undo r-undone" not in told
    assert "opskit undo r-succeeded" in told
