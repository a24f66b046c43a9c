"""Locks as a database sees them: who was overtaken commits nothing any more."""

from collections.abc import Iterator

import pytest

from opskit.drivers.targets import lease_words
from opskit.errors import UnreachableError
from opskit.model.inventory import MARKERS
from tests.support.database import Base, base, until
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
ADD = "INSERT INTO item VALUES ('a')"
BUILD = "CREATE INDEX CONCURRENTLY item_n ON item (n)"


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def db(postgres: Server, owner: str) -> Iterator[Base]:
    made = base(postgres, owner=owner)
    made.sql("ALTER TABLE item OWNER TO app")
    yield made
    assert made.quiet()


def run(db: Base, number: int, store: str = "aa", *, name: str = "", steal: str = "") -> Base:
    """Return a run that has the lock `web`, by its number in its record."""
    name = name or f"r{number}"
    return db.as_run(name, *lease_words(["web"], store, number, f"{name} (books), by ann", steal))


def leases(db: Base) -> list[tuple[object, ...]]:
    return db.sql(f"SELECT store, number, run, free FROM {MARKERS}.lease ORDER BY 1")


def opened(db: Base) -> Base:
    db.driver.open("main")
    return db


def test_the_later_one_counts(db: Base) -> None:
    old = opened(run(db, 3))
    assert old.do(ADD).outcome == "succeeded"
    new = opened(run(db, 4))
    assert leases(db) == [("aa", 4, "r4", False)]
    found = old.do("DELETE FROM item", key="2/")
    assert (found.outcome, found.sent) == ("failed", False)
    assert found.reason == "not started: its lock is held there by run r4 (books), by ann"
    assert new.do("INSERT INTO item VALUES ('b')").outcome == "succeeded"
    with pytest.raises(UnreachableError, match="held there by run r4"):
        opened(run(db, 3))
    assert (db.items(), leases(db)) == (["a", "b"], [("aa", 4, "r4", False)])


def test_an_old_one_counts_for_nothing_though_the_newer_has_let_go(db: Base) -> None:
    old = opened(run(db, 3))
    opened(run(db, 4)).driver.free()
    assert leases(db) == [("aa", 4, "r4", True)]
    for found in (old.do(ADD), old.do(BUILD, transaction=False, told=True, key="2/")):
        assert "(another one, which has ended since)" in found.reason
        assert not found.sent
    assert (db.items(), db.sql("SELECT to_regclass('item_n')")) == ([], [(None,)])
    opened(run(db, 1, "bb", name="other"))
    with pytest.raises(UnreachableError, match="run other"):
        opened(run(db, 5))


def test_one_of_another_record_is_refused_until_the_lock_is_free(db: Base) -> None:
    mine = opened(run(db, 9))
    with pytest.raises(UnreachableError, match="held there by run r9") as said:
        opened(run(db, 1, "bb", name="other"))
    assert "take its lock away: --steal RUN" in said.value.hint
    assert mine.do(ADD).outcome == "succeeded"
    mine.driver.free()
    other = opened(run(db, 2, "bb", name="other"))
    assert other.do("DELETE FROM item").outcome == "succeeded"


def test_a_lock_can_be_taken_from_a_run_that_is_named(db: Base) -> None:
    mine = opened(run(db, 9))
    with pytest.raises(UnreachableError, match="r9"):
        opened(run(db, 1, "bb", name="other", steal="r8"))
    taken = opened(run(db, 1, "bb", name="other", steal="r9"))
    assert taken.do(ADD).outcome == "succeeded"
    assert "held there by run other" in mine.do("DELETE FROM item").reason
    taken.driver.free()
    with pytest.raises(UnreachableError, match="another one, which has ended since"):
        opened(mine)
    assert "(another one, which has ended since)" in mine.do("DELETE FROM item").reason
    assert db.items() == ["a"]


def test_a_run_without_locks_is_in_nobodys_way(db: Base) -> None:
    opened(run(db, 9))
    assert opened(db.as_run("free")).do(ADD).outcome == "succeeded"


def test_who_is_overtaken_in_the_middle_of_a_change_does_not_commit_it(db: Base) -> None:
    """It began while it had the lock; nobody waits for what it is doing."""
    old = opened(run(db, 3))
    with old.under_way(f"{ADD}; SELECT pg_sleep(2)") as found:
        new = opened(run(db, 4))
        assert new.do("INSERT INTO item VALUES ('b')").outcome == "succeeded"
    assert "held there by run r4" in found[0].reason
    assert db.items() == ["b"]
    assert db.sql(f"SELECT run FROM {MARKERS}.marker WHERE part = 0") == [("r4",)]


def test_who_has_made_sure_and_then_stands_still_is_ended_by_who_comes(db: Base) -> None:
    """A constraint that is checked at the commit stands for a process that stopped before it."""
    db.sql(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END';"
        "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.name = 'a') EXECUTE FUNCTION waits()"
    )
    old = opened(run(db, 3))

    def commits() -> bool:
        return any(query == "COMMIT" for _, _, query in db.sessions())

    with old.beside(ADD) as found:
        until(commits)
        new = opened(run(db, 4))
        assert new.do("INSERT INTO item VALUES ('b')").outcome == "succeeded"
    assert (found[0].outcome, db.items()) == ("unknown", ["b"])


def test_tables_that_an_older_opskit_has_made_are_named(db: Base) -> None:
    db.sql(f"DROP TABLE {MARKERS}.lease")
    mine = run(db, 3)
    assert opened(mine).driver.open("main").state_dir == ""
    said = mine.do(ADD).reason
    assert "an older opskit has made its tables: it has no opskit_db.lease" in said
    assert "opskit db init main" in said
    assert db.as_run("free").do(ADD).outcome == "succeeded"  # it has no lock to show
    mine.changed(url=db.owner).driver.make_marks("main", "app", payouts=False)
    assert opened(run(db, 4)).do("DELETE FROM item").outcome == "succeeded"


def test_nor_may_a_role_that_can_not_show_its_locks_change_anything(db: Base) -> None:
    db.sql(f"REVOKE UPDATE ON {MARKERS}.lease FROM app")
    assert "its role may not change opskit_db.lease" in run(db, 3).do(ADD).reason
