"""What is told of a run that works at servers alone, and of one that only looks."""

from dataclasses import replace

from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.text import text
from opskit.model.value import Json
from opskit.model.work import Command
from opskit.view import lines, summary
from opskit.view import plan as view
from opskit.view.labels import Labels
from opskit.view.report import markdown
from tests.view import samples
from tests.view.samples import record, run


def at_a_server() -> Plan:
    whole = samples.plan()
    work = Command(text=text("true"))
    actions = (
        samples.action("1", "redis:cache", work, -1),
        samples.action("4", "redis:cache", work, 0),
        samples.action("a1", "", work, -2, target="controller"),
    )
    return replace(whole, actions=actions)


def test_a_plan_names_the_server_and_no_host() -> None:
    shown = view.text(at_a_server())
    assert shown.startswith("deploy 1.2.0 · redis:cache · plan ")
    assert "if a step fails, everything is undone" in shown
    assert "web1" not in shown
    assert "4 hosts, 3 batches" in view.text(samples.plan())


def test_after_it_no_host_is_said_to_have_failed() -> None:
    plan = at_a_server()
    hosts = dict.fromkeys(("web1", "web2"), "failed")
    failed = dict([record("4@redis:cache", "failed", status=1, reason="no key is there")])
    ended = run("failed", hosts, failed)  # type: ignore[arg-type]
    shown = summary.text(ended, plan)
    assert "web1" not in shown
    assert "failed on redis:cache: 4 Switch" in shown
    assert "--hosts failed  try it again" in shown
    assert "- It works at redis:cache alone; no host is touched" in markdown(ended, (), plan)
    assert "**failed**: web1 web2" in markdown(ended, (), samples.plan())
    tripped = Event(kind="budget tripped", data={"failed": ["web1"], "limit": 0})
    assert lines.said(tripped, Labels(plan)) == ("budget", "a step failed; nothing new starts")


def test_what_works_on_this_machine_alone_says_so() -> None:
    plan = at_a_server()
    here = replace(plan, actions=plan.actions[2:])
    assert view.text(here).startswith("deploy 1.2.0 · controller · plan ")


LISTED: dict[str, Json] = {"stdout": {"bytes": 362}, "evidence": {"told": "1 key; digest ede4"}}


def read_only() -> Plan:
    plan = at_a_server()
    stages = {**plan.stages, "1": replace(plan.stages["1"], kind="keys")}
    return replace(plan, stages=stages, actions=plan.actions[:1])


def test_a_run_that_changed_nothing_says_what_it_found_and_where_the_rest_is() -> None:
    """The live picture is gone at the end: one that was asked to show said SUCCEEDED."""
    found = dict([record("1@redis:cache", "succeeded", "Look", **LISTED)])
    shown = summary.text(run("succeeded", {"web1": "done"}, found), read_only())
    assert "  found              1 Healthy before we begin: 1 key; digest ede4" in shown
    assert "opskit output 20270115-080000-k3f9 1  what it read" in shown


def test_many_checks_are_counted_and_not_all_repeated() -> None:
    plan = samples.plan(7)
    checks: dict[str, Json] = {"evidence": {"level": "OK", "told": "OK page"}}
    first = replace(plan, actions=plan.actions[:7])
    for count, times in ((5, 1), (6, 0)):
        found = dict(
            record(f"1@web{n}", "succeeded", "Look", **checks) for n in range(1, count + 1)
        )
        shown = summary.text(run("succeeded", {"web1": "done"}, found), first)
        assert shown.count("  found  ") == times
        assert f"{count} OK" in shown
        assert "output" not in shown
