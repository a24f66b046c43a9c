"""Whoever is asked is told what each answer does."""

import pytest

from opskit.app.answers import meanings
from opskit.execute.offers import OFFERS


@pytest.mark.parametrize("why", OFFERS)
def test_each_choice_has_a_meaning(why: str) -> None:
    told = meanings(why, OFFERS[why])
    assert [choice for choice in OFFERS[why] if not told[choice]] == []


def test_where_a_host_is_left_out_it_is_told_how_it_stays() -> None:
    told = meanings("inconclusive", OFFERS["inconclusive"], left="First stage")["exclude"]
    assert told.endswith("nothing more starts there, it stays as 'First stage' has left it")
