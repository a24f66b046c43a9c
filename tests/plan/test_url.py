"""A URL that is too long is refused when planning, not after changes."""

from pathlib import Path

import pytest

from opskit.model.problem import ProblemsError
from tests.support.world import planned, runbook

STEPS = "  - {name: a, run: a}\n  - {name: b, http: 'http://127.0.0.1/{{ v }}', effect: read}\n"
PARAM = "params: {v: {default: x}}\n"


def test_a_url_that_is_too_long_is_refused_with_its_place(tmp_path: Path) -> None:
    planned(runbook(STEPS, PARAM), tmp_path, v="é" * 1000)
    with pytest.raises(ProblemsError, match=r":9:5: the URL has 6\d{4} characters") as error:
        planned(runbook(STEPS, PARAM), tmp_path, v="x" * 64 * 1024)
    assert "as the `body`" in str(error.value)


@pytest.mark.parametrize("v", ["a:hunter22@b", "a:@b", "1/x?y=:@"])
def test_a_url_with_a_password_is_refused_and_not_shown(tmp_path: Path, v: str) -> None:
    steps = STEPS.replace("127.0.0.1/{{ v }}", "{{ v | raw }}")
    if "/" in v:
        planned(runbook(steps, PARAM), tmp_path, v=v)
        return
    with pytest.raises(ProblemsError, match=r"the URL has a password, which would be") as error:
        planned(runbook(steps, PARAM), tmp_path, v=v)
    assert "hunter22" not in str(error.value)
