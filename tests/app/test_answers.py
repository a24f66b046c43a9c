"""Whoever is asked is told what each answer does."""

import pytest

from opskit.app.answers import meanings
from opskit.execute.offers import OFFERS


@pytest.mark.parametrize("why", OFFERS)
def test_each_choice_has_a_meaning(why: str) -> None:
    told = meanings(why, OFFERS[why])
    assert [choice for choice in OFFERS[why] if not told[choice]] == []
