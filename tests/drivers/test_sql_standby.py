"""A primary and its standby: what is read there, what is refused, and what a switch leaves open."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.drivers.postgres import fetching
from opskit.errors import OpskitError
from opskit.model.expected import Expected, Index, Relation
from opskit.model.inventory import MARKERS, Database
from opskit.model.text import text
from opskit.model.warm import Source, Table
from tests.support.database import Base, base, until
from tests.support.desk import Desk
from tests.support.expecting import findings, verified
from tests.support.postgres import Server, rows, server, standby

pytestmark = pytest.mark.acceptance
ADD = "INSERT INTO item VALUES ('a')"


@contextmanager
def two() -> Iterator[tuple[Server, Server]]:
    """Give a primary and its standby."""
    with server() as primary, standby(primary, max_standby_streaming_delay="100ms") as copy:
        yield primary, copy


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server, str]]:
    """A pair that stays as it is, with the URL of a database there."""
    with two() as (primary, copy):
        yield primary, copy, primary.database(empty=True)


def on(primary: Server, copy: Server, owner: str = "") -> tuple[Base, Base, Server]:
    """Return a database on a primary, the same one on its standby, and that standby."""
    db = base(primary, owner=owner)
    name = db.sql("SELECT current_database()")[0][0]
    there = replace(db, server=copy, owner=copy.url(name), out={})
    there.changed(url=copy.url(name, "app"), standby=True)
    return db, there, copy


@pytest.fixture
def pair(servers: tuple[Server, Server, str]) -> tuple[Base, Base, Server]:
    return on(*servers)


@pytest.fixture
def own() -> Iterator[tuple[Base, Base, Server]]:
    """A pair of a test's own, one of which will not outlast it."""
    with two() as (primary, copy):
        yield on(primary, copy)


def caught_up(db: Base, there: Base) -> None:
    """Wait until the standby has all that the primary has written."""
    now = db.sql("SELECT pg_current_wal_lsn()::text")[0][0]
    query = f"SELECT pg_last_wal_replay_lsn() >= '{now}'::pg_lsn"
    until(lambda: rows(there.server.url("postgres"), query)[0][0])


def promoted(there: Base) -> None:
    there.sql("SELECT pg_promote()")
    there.changed(standby=False)


def test_a_standby_that_is_far_behind_brings_no_rows_for_a_cache(
    pair: tuple[Base, Base, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, there, copy = pair
    source = Source(database="main", query=text("SELECT count(*) FROM item"))

    def brought() -> list[Table]:
        return list(there.driver.rows(source, lambda: None, 20.0))

    caught_up(db, there)
    assert len(brought()) == 1
    monkeypatch.setattr(fetching, "BEHIND", 0.2)
    rows(copy.url("postgres"), "SELECT pg_wal_replay_pause()")
    try:
        db.sql("INSERT INTO item VALUES ('later')")
        time.sleep(0.5)
        with pytest.raises(OpskitError, match=r"is a standby that is behind \(\d+ s; 0.2"):
            brought()
    finally:
        rows(copy.url("postgres"), "SELECT pg_wal_replay_resume()")
        db.sql("DELETE FROM item")


def test_a_standby_is_read_and_never_changed(pair: tuple[Base, Base, Server]) -> None:
    db, there, _ = pair
    assert db.do(ADD).outcome == "succeeded"
    caught_up(db, there)
    contact = there.driver.open("main")
    assert (contact.boot_id, contact.nonce) == ("", db.driver.open("main").nonce)
    assert there.read("SELECT name FROM item", kept=True).stdout == b"a"
    refused = there.do(ADD, key="2/")
    assert (refused.outcome, refused.sent) == ("failed", False)
    assert "is a standby: nothing is changed there" in refused.reason
    meant = there.changed(standby=False).read("SELECT 1")
    assert (meant.sent, "a standby answers, and the primary is meant" in meant.reason) == (
        False, True
    )  # fmt: skip


def test_a_read_that_what_is_replayed_ends_is_to_be_made_again(
    pair: tuple[Base, Base, Server],
) -> None:
    db, there, _ = pair
    db.sql("INSERT INTO item SELECT 'n' || x FROM generate_series(1, 100) x")
    caught_up(db, there)
    with there.beside("SELECT count(*), pg_sleep(20) FROM (TABLE item LIMIT 1) x",
                      effect="read") as found:  # fmt: skip
        until(lambda: any("pg_sleep" in query for _, _, query in there.sessions()))
        db.sql("DELETE FROM item")
        db.sql("VACUUM item")
    (output,) = found
    assert (output.outcome, output.again) == ("failed", True)
    assert output.evidence["sqlstate"] == "40001"
    assert "conflict with recovery" in output.reason


def test_what_was_under_way_at_a_switch_is_unknown(own: tuple[Base, Base, Server]) -> None:
    """The mark is not there: nothing tells whether somebody has seen the effect elsewhere."""
    db, there, _ = own
    caught_up(db, there)
    contact = db.driver.open("main")
    with db.under_way(f"{ADD}; SELECT pg_sleep(60)") as found:
        db.server.kill()
    assert (found[0].outcome, found[0].lost) == ("unknown", True)
    promoted(there)
    after = there.find(ADD, contact=contact)
    assert (after.outcome, after.again) == ("unknown", False)
    assert "the cluster has gone on another timeline" in after.reason
    assert (there.items(), there.sql(f"TABLE {MARKERS}.marker")) == ([], [])


def test_what_was_committed_and_lost_at_a_switch_is_unknown_too(
    own: tuple[Base, Base, Server],
) -> None:
    db, there, copy = own
    contact = db.driver.open("main")
    assert db.do(ADD, key="1/").outcome == "succeeded"
    caught_up(db, there)
    copy.stop()
    assert db.do("INSERT INTO item VALUES ('b')", key="2/").outcome == "succeeded"
    db.server.kill()
    copy.start()
    promoted(there)
    assert there.find(ADD, key="1/", contact=contact).outcome == "succeeded"
    lost = there.find(ADD, key="2/", contact=contact)
    assert (lost.outcome, lost.again, there.items()) == ("unknown", False, ["a"])


def test_a_run_makes_a_read_again_that_was_in_the_way(
    pair: tuple[Base, Base, Server], tmp_path: Path
) -> None:
    db, there, _ = pair
    desk = Desk(there, tmp_path)
    desk.write(
        "  - {name: look, effect: read, sql: 'SELECT count(*), pg_sleep(30 * count(*)) FROM"
        " (TABLE item LIMIT 1) x'}\n",
        entry=", standby: true",
    )
    db.sql("INSERT INTO item SELECT 'n' || x FROM generate_series(1, 100) x")
    caught_up(db, there)
    running = desk.background("run", "t.yaml", "--yes")
    try:
        until(lambda: any("pg_sleep" in query for _, _, query in there.sessions()))
        db.sql("DELETE FROM item")
        db.sql("VACUUM item")
        said = running.communicate(timeout=60)[0]
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0, said
    ended = [(e["attempt"], e["outcome"]) for e in desk.events("step ended")]
    assert ended == [(1, "failed"), (2, "succeeded")]


def unused(db: Base, *standbys: str, others: Mapping[str, Database]) -> list[tuple[str, str, str]]:
    """Compare; return what is told of indexes that nobody uses."""
    wanted = Expected(
        relations=(Relation(name="kept", indexes=tuple(Index(keys=(k,)) for k in "abc")),)
    )
    output, _ = verified(db.owner, wanted, others=others, unused_after=0.001, standbys=standbys)
    told = [one for one in findings(output) if one["check"] == "unused"]
    return sorted((one["level"], one["name"], one["text"]) for one in told)


def test_what_a_standby_uses_is_not_unused(
    pair: tuple[Base, Base, Server], postgres: Server
) -> None:
    db, there, _ = pair
    db.sql("CREATE TABLE kept (a integer, b integer, c integer)")
    for name in "abc":
        db.sql(f"CREATE INDEX kept_{name} ON kept ({name})")
    db.sql("INSERT INTO kept VALUES (1, 2, 3)")
    read = "SET enable_seqscan = off; SELECT FROM kept WHERE {} = 1"
    db.sql(read.format("a"))
    caught_up(db, there)
    rows(there.owner, read.format("public.kept.b").replace("FROM kept", "FROM public.kept"))
    others = {
        "copy": Database(name="copy", url=there.owner.replace("owner@", "reader@"), standby=True),
        "gone": Database(name="gone", url="postgresql://reader@/x?host=/nowhere", standby=True),
        "other": Database(name="other", url=postgres.url("postgres"), standby=True),
    }
    until(lambda: [one[1] for one in unused(db, others=others)] == ["kept_b", "kept_c"])
    told = unused(db, others=others)
    assert "on this server for 0 days (0 MiB); each standby counts for itself" in told[0][2]
    until(lambda: [one[1] for one in unused(db, "copy", others=others)] == ["kept_c"])
    ((level, _, text),) = unused(db, "copy", others=others)
    assert (level, text) == ("INFO", "nobody has used it here nor on copy for 0 days (0 MiB)")
    told = unused(db, "copy", "gone", others=others)
    assert [one[:2] for one in told] == [("UNKNOWN", "gone")]
    assert "can't be asked" in told[0][2]
    assert [one[:2] for one in unused(db, "other", others=others)] == [("UNKNOWN", "other")]
