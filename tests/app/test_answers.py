"""Whoever is asked is told what each answer does."""

import re
from pathlib import Path

import pytest

from opskit.app.answers import meanings

EXECUTE = Path(__file__).parents[2] / "opskit" / "execute"
ASKED = [
    (why, tuple(re.findall(r'"([^"]+)"', words)))
    for path in EXECUTE.glob("*.py")
    for why, words in re.findall(
        r'why[":= ]+"(\w+)".*?choices[":= ]+[\[(]([^\])]*)[\])]', path.read_text(), re.DOTALL
    )
]


def test_the_questions_of_the_executor_are_found() -> None:
    assert {why for why, _ in ASKED} >= {"failed", "unknown", "budget", "pause"}


@pytest.mark.parametrize(
    ("why", "choices"),
    [*ASKED, ("manual", ("done", "failed", "abort")), ("confirm", ("yes", "no", "abort"))],
)
def test_each_choice_has_a_meaning(why: str, choices: tuple[str, ...]) -> None:
    assert [choice for choice, what in meanings(why, choices).items() if not what] == []
