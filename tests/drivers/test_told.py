"""What a database answered, as a person reads it."""

from opskit.drivers.postgres.rows import Returned, as_expected
from opskit.drivers.postgres.statements import Cost
from opskit.drivers.postgres.told import statement_table


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
    assert " 1000 " in statement_table([cost], "since then")
