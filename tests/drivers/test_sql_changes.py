"""SQL changes on a real server: done once, whatever breaks, and told when nobody saw the answer."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from opskit.model.inventory import MARKERS
from opskit.model.job import Contact
from opskit.model.text import text
from opskit.model.value import Secret
from tests.support.database import Base, base, until
from tests.support.postgres import Server, server
from tests.support.proxy import Proxy

ADD = "INSERT INTO item VALUES ('a')"
pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def db(postgres: Server, owner: str) -> Base:
    return base(postgres, owner=owner)


def marks(db: Base) -> list[tuple[object, ...]]:
    return db.sql(
        f"SELECT action, attempt, part, barred FROM {MARKERS}.marker WHERE part = 0 ORDER BY 1, 2"
    )


def test_a_change_leaves_its_effect_and_its_mark_together(db: Base) -> None:
    found = db.do(ADD)
    assert (found.outcome, found.status, found.evidence["did"]) == ("succeeded", 0, ["INSERT 0 1"])
    assert db.printed == "INSERT 0 1\n"
    assert (db.items(), marks(db)) == (["a"], [("1/", 1, 0, False)])
    assert db.quiet()


def test_several_statements_are_one_transaction(db: Base) -> None:
    found = db.do("INSERT INTO item VALUES ({{ x }}); -- ;\nUPDATE item SET n = 1 / {{ y }};",
                  given={"x": "a", "y": 0})  # fmt: skip
    assert "division by zero" in found.reason
    assert (found.outcome, found.evidence["sqlstate"]) == ("failed", "22012")
    assert (db.items(), marks(db)) == ([], [])
    assert db.do("INSERT INTO item VALUES ({{ x }}); UPDATE item SET n = {{ y }} RETURNING name, n",
                 given={"x": "a", "y": 7}, kept=True).stdout == b"a"  # fmt: skip
    assert db.sql("SELECT n FROM item") == [(7,)]


def test_what_is_not_as_expected_is_not_kept(db: Base) -> None:
    db.sql("INSERT INTO item VALUES ('a'), ('b')")
    found = db.do(
        "WITH gone AS (DELETE FROM item RETURNING 1) SELECT count(*) FROM gone", expect=text("1")
    )
    assert found.outcome == "failed"
    assert found.reason == "it is '2', expected '1'; nothing of it was kept"
    assert (db.items(), marks(db)) == (["a", "b"], [])


@pytest.mark.parametrize("rows", ["text", "json"])
def test_what_is_too_large_to_be_saved_is_not_kept(db: Base, rows: str) -> None:
    """An undo that needs it could not take it back."""
    large = "INSERT INTO item VALUES ('a') RETURNING repeat('x', 1048576)"
    found = db.do(large, kept=True, rows=rows)
    assert found.outcome == "failed"
    told = "what it returns has 1048576 bytes or more and can't be saved; nothing of it was kept"
    assert found.reason == told
    assert (db.items(), marks(db)) == ([], [])
    assert db.do(large).outcome == "succeeded", "where nothing is saved it may be of any size"


def test_a_constraint_that_is_checked_at_the_end_fails_the_change(db: Base) -> None:
    db.sql("CREATE TABLE part (of text REFERENCES item DEFERRABLE INITIALLY DEFERRED)")
    db.sql("GRANT ALL ON part TO app")
    found = db.do("INSERT INTO part VALUES ('none')")
    assert (found.outcome, found.evidence["sqlstate"]) == ("failed", "23503")
    assert db.sql("SELECT * FROM part") == []


@pytest.mark.parametrize("verb", ["COMMIT", "BEGIN", "ROLLBACK", "END", "PREPARE TRANSACTION 'x'"])
def test_a_change_neither_begins_nor_ends_a_transaction(db: Base, verb: str) -> None:
    found = db.do(f"{ADD}; {verb}")
    assert (found.sent, db.items()) == (False, [])


@pytest.mark.parametrize("body", ["COMMIT", "ROLLBACK"])
def test_nor_does_a_block_or_a_procedure(db: Base, body: str) -> None:
    found = db.do(f"{ADD}; DO $$ BEGIN {body}; END $$")
    assert "invalid transaction termination" in found.reason
    assert (db.items(), marks(db)) == ([], [])


def test_without_a_place_for_marks_a_change_needs_done_when(db: Base) -> None:
    db.sql(f"DROP SCHEMA {MARKERS} CASCADE")
    found = db.do(ADD)
    assert (found.outcome, found.sent, db.items()) == ("failed", False, [])
    assert "it has no table opskit_db.marker" in found.reason
    assert "opskit db init main" in found.reason
    assert db.do(ADD, told=True).outcome == "succeeded"
    assert db.items() == ["a"]


def test_nor_is_one_made_where_the_role_may_leave_none(db: Base) -> None:
    db.sql(f"REVOKE INSERT ON {MARKERS}.marker FROM app")
    assert "its role may not add to" in db.do(ADD).reason


def opened(db: Base) -> Contact:
    return db.driver.open("main")


def test_what_was_committed_is_found_with_what_it_returned(db: Base) -> None:
    query = "INSERT INTO item VALUES ('a') RETURNING 'got ' || name"
    contact = opened(db)
    assert (contact.state_dir, contact.user) == (MARKERS, "app")
    first = db.do(query, kept=True)
    assert first.stdout == b"got a"
    told = db.printed
    found = db.find(query, contact=contact, kept=True)
    assert (found.outcome, found.stdout, db.printed) == ("succeeded", b"got a", told)
    assert found.evidence == {**first.evidence, "settled": "its mark is there"}


def test_all_that_a_change_has_printed_is_found_with_its_mark(db: Base) -> None:
    db.sql("INSERT INTO item SELECT 'n' || x FROM generate_series(1, 2000) x")
    query = (
        "DO $$ BEGIN RAISE NOTICE 'look'; END $$; UPDATE item SET n = 1 RETURNING name, n;"
        " INSERT INTO item VALUES ('a')"
    )
    first = db.do(query)
    told = dict(db.out)
    assert (told["stdout"].count(b"\n"), bytes(told["stderr"])) == (2003, b"NOTICE: look\n")
    found = db.find(query)
    assert (found.outcome, found.stdout, dict(db.out)) == ("succeeded", b"", told)
    assert found.evidence == {**first.evidence, "settled": "its mark is there"}


def test_of_very_much_that_a_change_has_printed_the_beginning_is_found(db: Base) -> None:
    query = "SELECT repeat('x', 99) FROM generate_series(1, 20000)"
    db.do(query)
    whole = bytes(db.out["stdout"])
    found = db.find(query)
    assert bytes(db.out["stdout"]) == whole[: 1024 * 1024]
    assert "the first 1048576 bytes were kept" in str(found.evidence["printed"])
    kept = db.sql(f"SELECT max(length(value)) FROM {MARKERS}.marker")[0][0]
    assert 0 < kept < 100_000  # compressed


def test_a_mark_that_an_older_opskit_has_left_says_that_nothing_was_kept(db: Base) -> None:
    row = (db.run, "1/", 1)
    db.sql(f"INSERT INTO {MARKERS}.marker (run, action, attempt) VALUES (%s, %s, %s)", *row)
    found = db.find(ADD)
    assert found.outcome == "succeeded"
    assert found.evidence["printed"] == "not kept beside the mark"


def test_what_the_run_keeps_secret_is_not_kept_beside_the_mark(db: Base) -> None:
    word = "correct-horse-battery"
    db.use(db.database, {"word": Secret(name="word", value=word)})
    query = "SELECT 'it is ' || {{ word }}"
    db.do(query, given={"word": word})
    assert word in db.printed  # the record masks it
    db.find(query, given={"word": word})
    assert db.printed == "?column?\nit is [secret]\n"


def test_what_was_not_committed_never_is_after_somebody_has_asked(db: Base) -> None:
    found = db.find(ADD, contact=opened(db))
    assert (found.outcome, found.again, found.sent) == ("failed", True, False)
    late = db.do(ADD)  # it was on its way all the time
    assert (late.outcome, late.lost) == ("unknown", True)
    assert (db.items(), marks(db)) == ([], [("1/", 1, 0, True)])
    assert db.find(ADD, contact=opened(db)).again
    assert db.do(ADD, attempt=2).outcome == "succeeded"


@pytest.mark.parametrize("commits", [True, False])
def test_a_transaction_that_is_still_open_is_waited_for(db: Base, *, commits: bool) -> None:
    contact = opened(db)
    with psycopg.connect(db.owner) as other:
        row = (db.run, "1/", 1)
        insert = f"INSERT INTO {MARKERS}.marker (run, action, attempt) VALUES (%s, %s, %s)"
        other.execute(insert.encode(), row)
        found = db.find(ADD, contact=contact)
        assert (found.outcome, found.lost) == ("unknown", True)
        assert found.reason == "its transaction is still open at the server"
        other.commit() if commits else other.rollback()
    found = db.find(ADD, contact=contact)
    assert (found.outcome, found.again) == (("succeeded", False) if commits else ("failed", True))


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ({"nonce": "7000000000000000001"}, "another cluster answers"),
        ({"boot_id": "000000FF"}, "another timeline"),
        ({"nonce": ""}, "on which server it was begun"),
        ({"state_dir": ""}, "the table was not there then"),
    ],
)
def test_a_missing_mark_proves_nothing_elsewhere(db: Base, then: dict[str, str], said: str) -> None:
    now = opened(db)
    words = {
        name: getattr(now, name) for name in ("nonce", "boot_id", "state_dir", "user", "address")
    }
    found = db.find(ADD, contact=Contact(**{**words, **then}))
    assert (found.outcome, found.lost, found.again) == ("unknown", False, False)
    assert said in found.reason
    assert marks(db) == []


def test_a_mark_that_is_there_proves_it_anywhere(db: Base) -> None:
    contact = opened(db)
    db.do(ADD)
    elsewhere = Contact(
        nonce="7000000000000000001", boot_id="000000FF", state_dir=MARKERS, user="app",
        address=contact.address,
    )  # fmt: skip
    assert db.find(ADD, contact=elsewhere).outcome == "succeeded"


def test_a_change_that_takes_too_long_leaves_nothing(db: Base) -> None:
    found = db.do(f"{ADD}; SELECT pg_sleep(30)", timeout=1.0)
    assert (found.outcome, found.reason) == (
        "failed", "not over within 1 s; the server has ended it"
    )  # fmt: skip
    assert (db.items(), marks(db), db.quiet()) == ([], [], True)


def test_a_lock_that_somebody_holds_is_waited_for_two_seconds(db: Base) -> None:
    db.sql("INSERT INTO item VALUES ('a')")
    with psycopg.connect(db.owner) as other:
        other.execute(b"UPDATE item SET n = 1")
        found = db.do("UPDATE item SET n = 2")
        other.rollback()
    assert found.outcome == "failed"
    assert "somebody else holds a lock for more than 2 s" in found.reason


@pytest.fixture
def serializable(db: Base) -> Iterator[Base]:
    name = db.sql("SELECT current_database()")[0][0]
    db.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    yield db
    db.sql(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def test_what_the_server_gives_up_for_another_may_be_made_again(serializable: Base) -> None:
    db = serializable
    db.sql("INSERT INTO item VALUES ('a')")
    with psycopg.connect(db.owner) as other:
        other.execute(b"UPDATE item SET n = 1")
        with db.beside("SELECT 1 FROM item; UPDATE item SET n = n + 1") as found:
            until(lambda: any("UPDATE" in query for _, _, query in db.sessions()))
            other.commit()
    assert (found[0].outcome, found[0].again) == ("failed", True)
    assert found[0].evidence["sqlstate"] == "40001"
    assert db.do("UPDATE item SET n = n + 1", attempt=2).outcome == "succeeded"
    assert db.sql("SELECT n FROM item") == [(2,)]


@pytest.mark.parametrize("effect", ["read", "change"])
def test_a_stop_ends_the_statement_at_the_server(db: Base, effect: str) -> None:
    query = "SELECT pg_sleep(60)" if effect == "read" else f"{ADD}; SELECT pg_sleep(60)"
    with db.under_way(query, effect=effect) as found:
        (running,) = db.driver.busy()
        running.give_up.set()
        running.settled.wait(20)
        assert db.quiet()
    (output,) = found
    assert (output.outcome, output.evidence["stopped"]) == ("failed", "confirmed gone")
    assert output.reason == ("stopped by a person, confirmed gone; nothing of it was kept")
    assert db.items() == []


@pytest.mark.parametrize("effect", ["read", "change"])
def test_what_somebody_ends_at_the_server_has_failed_and_is_not_done_anew(
    db: Base, effect: str
) -> None:
    query = "SELECT pg_sleep(60)" if effect == "read" else f"{ADD}; SELECT pg_sleep(60)"
    with db.under_way(query, effect=effect) as found:
        ((pid, _, _),) = db.sessions()
        db.sql("SELECT pg_terminate_backend(%s)", pid)
    (output,) = found
    assert (output.outcome, output.lost, output.again) == ("failed", False, False)
    assert "terminating connection due to administrator command" in output.reason
    assert (db.items(), marks(db)) == ([], [])


def test_a_statement_on_its_own_is_in_no_transaction(db: Base) -> None:
    db.sql("ALTER TABLE item OWNER TO app")
    query = "CREATE INDEX CONCURRENTLY item_n ON item (n)"
    inside = db.do(query)
    assert not inside.sent
    assert "CREATE INDEX CONCURRENTLY can't be in a transaction" in inside.reason
    found = db.do(query, transaction=False, told=True)
    assert (found.outcome, found.evidence["did"]) == ("succeeded", ["CREATE INDEX"])
    assert db.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_n'::regclass") == [
        (True,)
    ]
    assert db.do("VACUUM item", transaction=False, told=True).outcome == "succeeded"


def test_what_is_done_concurrently_waits_for_those_who_are_there(db: Base) -> None:
    db.sql("ALTER TABLE item OWNER TO app")
    with psycopg.connect(db.owner) as other:
        other.execute(b"INSERT INTO item VALUES ('a')")
        later = threading.Timer(3.0, other.commit)  # longer than a lock is waited for otherwise
        later.start()
        query = "CREATE INDEX CONCURRENTLY item_n ON item (n)"
        found = db.do(query, transaction=False, told=True)
        later.join()
    assert found.outcome == "succeeded", found
    assert db.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_n'::regclass") == [
        (True,)
    ]


def test_a_statement_on_its_own_that_still_runs_is_waited_for(db: Base) -> None:
    query = "SELECT pg_sleep(3)"
    with db.under_way(query, transaction=False, told=True):
        found = db.find(query, transaction=False, told=True)
        assert (found.outcome, found.lost) == ("unknown", True)
        assert "still runs at the server" in found.reason
    found = db.find(query, transaction=False, told=True)
    assert (found.outcome, found.lost) == ("unknown", False)


# --- lines that break


@contextmanager
def proxy(db: Base) -> Iterator[Proxy]:
    """Let a database be reached through a line that can be cut."""
    with closing(Proxy(db.server.socket)) as found:
        name = db.sql("SELECT current_database()")[0][0]
        db.changed(url=found.url(name, user="app"))
        yield found


def once(db: Base, wire: Proxy, cut: int, contact: Contact) -> str:
    """Make a change over a line that breaks after so many bytes; do what the executor does then."""
    db.sql(f"DELETE FROM item; DELETE FROM {MARKERS}.marker")
    wire.cut_after = cut
    output = db.do(ADD)
    wire.cut_after = None
    if output.outcome == "succeeded":
        return "done"
    if output.sent:
        assert (output.outcome, output.lost) == ("unknown", True), output
        output = db.find(ADD, contact=contact)
        if output.outcome == "succeeded":
            return "found"
    assert db.items() == []
    assert db.do(ADD, attempt=2).outcome == "succeeded"
    return "again" if output.again else "not sent"


def cuts(db: Base, points: Callable[[int], Iterable[int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    with proxy(db) as wire:
        contact = opened(db)
        wire.passed = 0
        db.do(ADD)
        for cut in points(wire.passed):
            found[once(db, wire, cut, contact)] += 1
            assert db.items() == ["a"], f"cut after {cut} bytes"
    return found


def test_a_line_that_breaks_leaves_the_change_done_once(db: Base) -> None:
    found = cuts(db, lambda whole: [*range(0, whole, whole // 12), whole - 30, whole - 12])
    assert {"not sent", "again", "found"} <= found.keys(), found


@pytest.mark.soak
def test_a_line_cut_at_every_byte_leaves_the_change_done_once(db: Base) -> None:
    found = cuts(db, lambda whole: range(whole + 1))
    assert {"not sent", "again", "found", "done"} <= found.keys(), found


def test_a_server_that_crashes_in_the_middle_has_done_it_or_not() -> None:
    with server() as one:
        db = base(one)
        contact = opened(db)
        with db.under_way(f"{ADD}; SELECT pg_sleep(60)") as found:
            one.kill()
        one.start()
        (output,) = found
        assert (output.outcome, output.lost) == ("unknown", True)
        after = db.find(ADD, contact=contact)
        assert after.again, after
        assert db.items() == []
        until(lambda: db.do(ADD, attempt=2).outcome == "succeeded")
        assert db.items() == ["a"]
