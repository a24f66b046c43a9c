"""Rows of a query are OK, WARN, CRIT or UNKNOWN; what is no number is never OK."""

import json

import pytest

from opskit.model.job import Output
from opskit.model.value import Json
from opskit.model.work import Limits
from opskit.steps.weighing import Level, limit, weighed

LIMITS = Limits(label="used", warn="> 80", crit="> 95")


def brought(*rows: Json, count: int | None = None) -> Output:
    evidence: dict[str, Json] = {"rows": len(rows) if count is None else count}
    return Output(
        outcome="succeeded", status=0, stdout=json.dumps(rows).encode(), evidence=evidence
    )


@pytest.mark.parametrize(
    ("rows", "level", "said"),
    [
        ([{"n": 80}], "OK", "80"),
        ([{"n": 80.5}], "WARN", "80.5 (> 80)"),
        ([{"n": "96"}], "CRIT", "96 (> 95)"),
        ([{"name": "a", "n": 3}, {"name": "b", "n": 99}], "CRIT", "b 99 (> 95)"),
        ([{"name": "a", "n": 90}, {"name": "b", "n": 91}], "WARN", "a 90 (> 80), b 91 (> 80)"),
        ([{"name": "b", "n": None}, {"name": "a", "n": 99}], "CRIT",
         "a 99 (> 95), b NULL is no number"),
        ([{"name": "a", "n": 90}, {"name": "b", "n": None}], "UNKNOWN", "b NULL is no number"),
        ([{"n": 1249900000}], "CRIT", "1249900000 (> 95)"),
        ([{"n": "-1234567.5"}], "OK", "-1234568"),
        ([{"n": 0.0004}], "OK", "0.0004"),
        ([{"n": "NaN"}], "UNKNOWN", "NaN is no number"),
        ([{"n": "Infinity"}], "UNKNOWN", "Infinity is no number"),
        ([{"n": True}], "UNKNOWN", "True is no number"),
        ([{"a": "x", "b": "y", "n": 1}], "UNKNOWN", "x y 1 is no number"),
        ([], "UNKNOWN", "it brings no rows"),
    ],
)  # fmt: skip
def test_the_worst_row_counts(rows: list[Json], level: Level, said: str) -> None:
    assert weighed(LIMITS, brought(*rows)) == (level, said)


def test_of_many_that_are_alike_five_are_named() -> None:
    rows: list[Json] = [{"name": f"t{n}", "n": 99} for n in range(9)]
    level, said = weighed(LIMITS, brought(*rows))
    assert level == "CRIT"
    assert said.endswith("t4 99 (> 95), and 4 more")


def test_rows_that_were_left_out_and_no_answer_are_unknown() -> None:
    assert weighed(LIMITS, brought({"n": 1}, count=2))[0] == "UNKNOWN"
    lost = Output(outcome="failed", status=None, reason="no such table")
    assert weighed(LIMITS, lost) == ("UNKNOWN", "no such table")


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_every_sign_means_what_it_means_elsewhere(sign: str) -> None:
    for number in (-1, 0, 1):
        level, _ = weighed(Limits(label="x", crit=f"{sign} 0"), brought({"n": number}))
        assert (level == "CRIT") == eval(f"{number} {sign} 0")


def test_a_limit_is_a_sign_and_a_number() -> None:
    assert limit(" <3.50 ") == "< 3.50"
    assert [limit(text) for text in ("3", "~ 3", "< x", "< 3 and", "")] == [None] * 5
