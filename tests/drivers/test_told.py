"""What a database answered, as a person reads it."""

from opskit.drivers.postgres.rows import Returned, as_expected
from opskit.drivers.postgres.statements import Cost, ranked
from opskit.drivers.postgres.told import statement_table
from opskit.steps.activity import RANKS


def returned(first: str) -> Returned:
    found = Returned(lambda _name, _data: None, limit=1000, keep=1000, rows="text")
    found.seen, found.first = True, first.encode()
    return found


def test_an_answer_that_is_a_sentence_is_told_to_its_end() -> None:
    said = "168 hours from 2026-11-19 15:00:00+00 on have no snapshot, and 24 may be: see why first"
    assert as_expected("yes", returned(said)) == f"it is {said!r}, expected 'yes'"
    assert "'…, expected 'yes'" in as_expected("yes", returned("x" * 400))


def test_rows_of_a_call_are_counted_in_digits() -> None:
    cost = Cost(query="1", user="web", calls=3, total=1, planned=0, rows=3000, hit=0, read=0,
                temp=0, waited=0, text="SELECT")  # fmt: skip
    assert " 1000 " in statement_table([cost], "since then", "total")


def test_statements_come_in_the_order_that_was_asked_for() -> None:
    def cost(query: str, **own: float) -> Cost:
        zero = dict.fromkeys(("total", "planned", "rows", "hit", "read", "temp", "waited"), 0.0)
        return Cost(query=query, user="web", **{"calls": 1.0, **zero, **own})  # type: ignore[arg-type]

    every = [
        cost("dear", total=9, calls=9, rows=9),
        cost("slow", total=3, calls=1, hit=9, read=1),
        cost("often", total=2, calls=99, hit=1, read=99),
        cost("wide", total=1, rows=800, temp=1, hit=1, read=0),
        cost("spills", total=0.5, temp=70),
    ]
    first = {by: ranked(every, by)[0].query for by in RANKS}
    assert first == {"total": "dear", "mean": "slow", "calls": "often", "rows": "wide",
                     "temp": "spills", "hit": "often"}  # fmt: skip
    assert [one.query for one in ranked(every, "hit")] == [
        "often",
        "slow",
        "wide",
        "dear",
        "spills",
    ]
    table = statement_table([cost("x", inner=True)], "since then", "hit")
    assert "by the smallest part of the blocks found in memory" in table
    assert "in a function:" in table
