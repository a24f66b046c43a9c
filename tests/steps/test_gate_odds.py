"""How often a gate errs, by simulated sides whose shares of errors are known."""

import sys

import pytest

from tests.bench.gate import CASES, Case, odds, slow_odds, table


def holds(case: Case, times: int, spare: float) -> None:
    """What docs/how-to/blue-green.md promises; `spare` is what chance may add for so few times."""
    found, _ = odds(case, times)
    requests = case.rates[0] * case.seconds
    if case.good:
        assert found["fail"] <= 0.01 + spare, (case.label, found)
    else:
        assert found["pass"] <= (0.01 if requests >= 3000 else 0.10) + spare, (case.label, found)
    if requests < 200:
        assert found["pass"] == 0, (case.label, found)


@pytest.mark.parametrize("case", [one for one in CASES if one.seconds == 300][::3])
def test_a_sample_keeps_what_is_promised(case: Case) -> None:
    holds(case, 30, 0.07)


@pytest.mark.soak
def test_a_thousand_of_each_keep_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(table(1000)) + "\n")
    for case in CASES:
        holds(case, 1000 if case.seconds < 3600 else 200, 0.01)
    for factor, verdict in ((1.0, "fail"), (2.0, "pass")):
        assert slow_odds(factor, 100)[verdict] <= 0.02
