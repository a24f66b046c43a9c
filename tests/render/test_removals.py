"""A condition is one condition, and a batch has a bound."""

import pytest

from opskit.drivers.postgres.pace import paced
from opskit.model.rows import Limits, Selection
from opskit.render import text
from opskit.render.removals import (
    Kept,
    Span,
    Statement,
    condition_problem,
    is_name,
    plain,
    removed,
    swept,
)


@pytest.mark.parametrize(
    "good",
    ["a = 1", "(a = 1 OR b) AND c IS NULL", "\"odd name\" > 'x;y)'", "a IN (SELECT b FROM c)"],
)
def test_a_condition_says_something_of_a_column(good: str) -> None:
    assert condition_problem(good, clocks=False) is None


@pytest.mark.parametrize(
    "bad",
    [
        "true", "1 = 1", "'a' = 'a' OR NULL IS NULL", "a = 1) OR (true", "a = 1 -- x",
        "a = 1 /* ( */", "a = 1; b", "(a = 1", "at < now()", "at < CURRENT_TIMESTAMP",
        "a < random()", "a = lo_unlink(1)", "", "a = $$ ( $$ )",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_told(bad: str) -> None:
    assert condition_problem(bad, clocks=False) is not None


def test_a_condition_on_what_is_needed_may_ask_for_the_time() -> None:
    assert condition_problem("expires_at > now()", clocks=True) is None


def test_values_and_bounds_are_bound_and_never_in_the_text() -> None:
    where = text("name = {{ x }}", {"x": "o'h\"; DROP TABLE y; --"}, context="sql")
    chosen = Selection(table="t", time="at", older=60.0, where=where, live=where)
    kept = Kept(table="kept", run="run", action="1/", attempt=2)
    made = removed(Statement(chosen, '"s"."t"', "2026-01-01"), 321, floor="2025-01-01", kept=kept)
    assert "DROP TABLE" not in made.text
    assert made.values.count("o'h\"; DROP TABLE y; --") == 2
    assert {"321", "run", "1/", "2", "2026-01-01", "2025-01-01"} <= set(made.values)
    assert all(f"${number}" in made.text for number in range(1, len(made.values) + 1))


@pytest.mark.parametrize("kept", [None, Kept(table="kept", run="run", action="1/", attempt=2)])
def test_a_part_of_a_table_is_swept_of_what_is_meant_and_not_needed(kept: Kept | None) -> None:
    where = text("name = {{ x }}", {"x": "DROP TABLE y"}, context="sql")
    chosen = Selection(table="t", time="at", older=60.0, where=where, live=where)
    made = swept(Statement(chosen, '"s"."t"', "2026-01-01"), Span(start=7, end=19), kept)
    assert "DROP TABLE" not in made.text
    assert made.text.count(" IS TRUE") == 1
    assert made.text.count(" IS NOT TRUE") == 1
    assert {"(7,0)", "(19,0)", "2026-01-01"} <= set(made.values)
    assert all(f"${number}" in made.text for number in range(1, len(made.values) + 1))


@pytest.mark.parametrize(
    ("where", "one"), [("a = 1", True), ("a IN (SELECT b FROM c)", False), ("a = 'select'", True)]
)
def test_a_condition_that_looks_elsewhere_is_known(where: str, *, one: bool) -> None:
    said = text(where, {}, context="sql")
    assert plain(Selection(table="t", where=said)) == one
    assert plain(Selection(table="t"))


@pytest.mark.parametrize("name", ["t", "public.t", '"Odd; name"', 'a."b""c"'])
def test_a_name_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["t; drop", "a.b.c", "t t", "", '"', "t--", "1t", "{{ x }}"])
def test_what_is_no_name_is_none(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize("batch", [1, 5, 10, 1000])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.15, 3.0])
def test_a_batch_never_goes_beyond_its_bound(batch: int, seconds: float) -> None:
    pace = paced(Limits(rows=10, share=1.0, first=2000, batch=batch))
    for _ in range(50):
        assert 1 <= pace.size <= batch
        pace.took(seconds, pace.size)
    pace.failed()
    assert 1 <= pace.size <= batch


def test_a_batch_comes_near_to_the_time_that_it_shall_take() -> None:
    pace = paced(Limits(rows=10, share=1.0, first=10, batch=100_000, aim=0.15))
    for _ in range(30):
        pace.took(pace.size * 0.00001, pace.size)
    assert pace.size == pytest.approx(15_000, rel=0.01)
