"""No literal of a statement is shown, wherever it is cut."""

import random

import pytest

from opskit.render.masking import masked

SHOWN = {
    "SELECT * FROM a WHERE n = 42 AND s='x'": "SELECT * FROM a WHERE n = ? AND s=?",
    'SELECT $1, x1, "a 1"': 'SELECT $1, x1, "a 1"',
    "SELECT 1e5, .5, 0x1F": "SELECT ?, .?, ?",
    "SELECT E'a\\'secret' , B'101'": "SELECT ? , B?",
    "SELECT $$secret$$, $q$ secret $$ $q$": "SELECT ?, ?",
    "SELECT 1 -- secret\n, 2 /* secret /* secret */ secret */": "SELECT ? , ?",
    "SELECT 'it''s secret'": "SELECT ?",
    "SELECT 'cut secr": "SELECT ?",
    "DO $do$ secret": "DO ?",
    "SELECT 'a\\' secret 'b'": "SELECT ? …",
    "SET app.token = secret": "SET app.token = ?",
    "SET LOCAL app.token TO secret, secret": "SET LOCAL app.token TO ?",
    "UPDATE t SET a = b": "UPDATE t SET a = b",
    "BEGIN; SET app.token = secret; SELECT 1, a": "BEGIN; SET app.token = ? ; SELECT ?, a",
    "ALTER ROLE r SET app.token TO secret": "ALTER ROLE r SET app.token TO ?",
    "ALTER SYSTEM SET a = secret, 'b;c'; SHOW a": "ALTER SYSTEM SET a = ? ; SHOW a",
    "CREATE FUNCTION f() SET a.b = secret AS $$x$$": "CREATE FUNCTION f() SET a.b = ?",
    "ALTER ROLE r PASSWORD 'secret'": "ALTER ROLE r PASSWORD ?",
    "SELECT\n\t1\x1b[31m": "SELECT ? [?",
}


@pytest.mark.parametrize("text", SHOWN)
def test_literals_are_masked(text: str) -> None:
    assert masked(text) == SHOWN[text]


def test_no_cut_lets_a_secret_through() -> None:
    """The server cuts what a session runs after 1024 bytes, in the middle of anything."""
    pieces = ["SELECT ", "'secret' ", "E'secret\\'secret' ", "$$secret$$ ", "$a$secret$a$ ", ", ",
              "a.b ", "/* secret */ ", "-- secret\n", "''secret'' ", "|| ", "12 "]  # fmt: skip
    chance = random.Random(5)
    for _ in range(300):
        whole = "".join(chance.choice(pieces[:9]) for _ in range(chance.randint(1, 9)))
        cut = whole[: chance.randint(0, len(whole))]
        assert "secr" not in masked(cut), cut


def test_a_long_one_is_shortened() -> None:
    assert masked("SELECT a" + ", a" * 500, 20) == "SELECT a, a, a, a, …"
