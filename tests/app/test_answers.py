"""Whoever is asked is told what each answer does."""

from dataclasses import replace

import pytest

from opskit.app.answers import meanings
from opskit.app.deciding import ending
from opskit.errors import Exit
from opskit.execute.offers import OFFERS
from tests.view import samples


@pytest.mark.parametrize("why", OFFERS)
def test_each_choice_has_a_meaning(why: str) -> None:
    told = meanings(why, OFFERS[why])
    assert [choice for choice in OFFERS[why] if not told[choice]] == []


def test_where_a_host_is_left_out_it_is_told_how_it_stays() -> None:
    told = meanings("inconclusive", OFFERS["inconclusive"], left="First stage")["exclude"]
    assert told.endswith("nothing more starts there, it stays as 'First stage' has left it")


def test_a_run_ended_after_a_change_with_nothing_to_take_back_was_not_refused() -> None:
    plan = samples.plan()
    stages = {**plan.stages, "3": replace(plan.stages["3"], lasting=False)}
    done = dict([samples.record("3@web1", "succeeded")])
    (event,) = ending(samples.run("waiting", {"web1": "begun"}, done), replace(plan, stages=stages))
    assert event.data["exit"] == Exit.FAILED
    (event,) = ending(samples.run("waiting", {"web1": "begun"}), plan)
    assert event.data["exit"] == Exit.REFUSED
    skipped = dict([samples.record("3@web1", "skipped", why="when: no")])
    (event,) = ending(samples.run("waiting", {"web1": "begun"}, skipped), plan)
    assert event.data["exit"] == Exit.REFUSED
    passed = {key: replace(one, reached=1) for key, one in skipped.items()}  # it had failed before
    (event,) = ending(samples.run("waiting", {"web1": "begun"}, passed), plan)
    assert event.data["exit"] == Exit.FAILED


def test_a_run_ended_at_a_check_of_which_nobody_knows_was_refused_if_it_had_changes_to_make() -> (
    None
):
    plan = samples.plan()
    check = dict([samples.record("1@web1", "unknown")])
    (event,) = ending(samples.run("waiting", {"web1": "unknown"}, check), plan)
    assert event.data["exit"] == Exit.REFUSED
    change = dict([samples.record("3@web1", "unknown")])
    (event,) = ending(samples.run("waiting", {"web1": "unknown"}, change), plan)
    assert event.data["exit"] == Exit.UNKNOWN
    only = [action for action in plan.actions if plan.stage(action).effect == "read"]
    (event,) = ending(
        samples.run("waiting", {"web1": "unknown"}, check), replace(plan, actions=tuple(only))
    )
    assert event.data["exit"] == Exit.UNKNOWN
