"""The proof that no payment is made: what is written meanwhile is seen, however it is written."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from opskit.model.job import Output
from opskit.model.payouts import Payouts
from tests.support.database import base, until
from tests.support.deeds import Desk
from tests.support.deeds import desk as made
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
PERIOD = 0.6
INSERT = (
    "INSERT INTO payouts (merchant_id, payee_id, amount, currency, status, idempotency_key,"
    " created_at) VALUES (1, 9, 1, 'EUR', 'paid', NULL, {})"
)


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    found = made(base(postgres, owner=owner), tmp_path)
    found.db.changed(read_role="reader", url=owner)
    return found


def quiet(desk: Desk, period: float = PERIOD) -> Output:
    work = Payouts(
        do="quiet", database="main", ledger=desk.ledger, file="ledger.yaml", period=period
    )
    return desk.do(work)


@contextmanager
def meanwhile(desk: Desk, act: Callable[[], object]) -> Iterator[list[Output]]:
    """Let something happen once the period has begun."""
    found: list[Output] = []
    thread = threading.Thread(target=lambda: found.append(quiet(desk, 2 * PERIOD)))
    thread.start()
    until(lambda: any("ROLLBACK" in row[2] for row in desk.db.sessions()))
    act()
    try:
        yield found
    finally:
        thread.join(20)


def test_a_limit_for_idle_sessions_does_not_end_the_proof(desk: Desk) -> None:
    desk.db.server.since(14)
    desk.db.sql("ALTER ROLE owner SET idle_session_timeout = '200ms'")
    try:
        found = quiet(desk)
    finally:
        desk.db.sql("ALTER ROLE owner RESET idle_session_timeout")
    assert found.outcome == "succeeded", found.reason


def test_where_nothing_is_written_it_is_quiet(desk: Desk) -> None:
    found = quiet(desk)
    assert found.outcome == "succeeded"
    assert "nothing of public.payouts was written between" in desk.db.printed


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (INSERT.format("now()"), "1000 (paid)"),
        (INSERT.format("timestamptz '2020-01-01'"), "1000 (paid)"),
        ("UPDATE payouts SET status = 'processing' WHERE id = 2", "2 (processing)"),
        ("UPDATE payouts SET status = status WHERE id = 11", "11 (failed)"),
    ],
)
def test_what_is_written_meanwhile_is_named(desk: Desk, statement: str, told: str) -> None:
    with meanwhile(desk, lambda: desk.db.sql(statement)) as found:
        pass
    assert found[0].outcome == "failed"
    assert "1 row was written between" in found[0].reason
    assert told in found[0].reason


@pytest.mark.parametrize("within", [False, True])
def test_what_was_begun_before_and_committed_meanwhile_counts(desk: Desk, within: bool) -> None:
    """Also where a transaction within another wrote it, whose number no snapshot lists."""
    with psycopg.connect(desk.db.owner) as other:
        other.execute("SELECT pg_current_xact_id()")
        if within:
            other.execute("SAVEPOINT one")
        other.execute(INSERT.format("now()").encode())
        desk.db.sql("SELECT pg_current_xact_id()")
        with meanwhile(desk, other.commit) as found:
            pass
    assert "1 row was written between" in found[0].reason


def test_who_is_still_writing_is_named(desk: Desk) -> None:
    with psycopg.connect(desk.db.owner, application_name="worker 7") as other:
        other.execute(INSERT.format("now()").encode())
        found = quiet(desk)
        assert found.outcome == "failed"
        assert f"process {other.info.backend_pid} (worker 7)" in found.reason
    assert quiet(desk, 0.1).outcome == "succeeded"


def test_who_commits_while_it_is_looked_for_what_was_written_is_named(desk: Desk) -> None:
    """Nothing of it is in the snapshot, and its locks are gone when the look is over."""
    with psycopg.connect(desk.db.owner) as other:
        other.execute(INSERT.format("now()").encode())

        def shut() -> None:
            other.execute("LOCK TABLE payouts")  # so that the look takes long
            until(lambda: any("WITH next" in row[2] for row in desk.db.sessions()))
            other.commit()

        with meanwhile(desk, shut) as found:
            pass
    assert found[0].outcome == "failed", found[0].reason


def test_what_is_prepared_and_not_yet_committed_is_told(desk: Desk) -> None:
    with psycopg.connect(desk.db.owner, autocommit=True) as other:
        other.execute("BEGIN")
        other.execute(INSERT.format("now()").encode())
        other.execute("PREPARE TRANSACTION 'payment'")
        try:
            found = quiet(desk, 0.1)
        finally:
            other.execute("ROLLBACK PREPARED 'payment'")
    assert found.outcome == "failed"
    assert "a prepared transaction" in found.reason


def test_what_was_over_before_does_not_count(desk: Desk) -> None:
    with psycopg.connect(desk.db.owner) as other:  # so that nothing after it is old
        other.execute("SELECT pg_current_xact_id()")
        desk.db.sql(INSERT.format("now()"))
        assert quiet(desk).outcome == "succeeded"


def test_other_rows_of_the_table_do_not_count(desk: Desk) -> None:
    text = (desk.folder / "ledger.yaml").read_text() + "where: {merchant_id: 7}\n"
    desk.describe(text)
    with meanwhile(desk, lambda: desk.db.sql(INSERT.format("now()"))) as found:
        pass
    assert found[0].outcome == "succeeded"


def test_a_table_that_is_not_as_described_proves_nothing(desk: Desk) -> None:
    desk.db.sql("ALTER TABLE payouts DROP COLUMN idempotency_key")
    assert "no column idempotency_key" in quiet(desk).reason
