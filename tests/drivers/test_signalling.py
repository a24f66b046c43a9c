"""Sessions that are ended on a real server: those that were listed, and no others."""

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from opskit.drivers.postgres.marks import ddl
from opskit.drivers.targets import lease_words
from opskit.model.activity import Sessions, Target
from opskit.model.inventory import MARKERS, Database
from tests.support.busy import SETTINGS, WATCHER, Client, clients, end, listed, look
from tests.support.database import Base, base, until
from tests.support.postgres import Server, server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    with server(**SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def made(busy: Server) -> Base:
    db = base(busy)
    db.sql(WATCHER)
    db.sql("CREATE EXTENSION pg_stat_statements")
    db.sql("ALTER ROLE app CONNECTION LIMIT -1")
    return db


@pytest.fixture
def db(made: Base) -> Base:
    made.run = "run1"
    return made.use(Database(name="main", url=made.owner.replace("//owner@", "//watcher@")))


SEED = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE state = 'idle' AND pid <> pg_backend_pid()
"""
"""What the procedure does in an outage: every idle session, of whomever and of whatever."""


def test_f15_only_what_was_listed_is_ended(db: Base) -> None:
    other = db.server.database(empty=True)
    with clients(db) as client, psycopg.connect(other, autocommit=True) as elsewhere:
        pool, owner, stuck, young = client(), client("owner"), client(), client()
        for one in (stuck, young):
            one.do("BEGIN")
            one.do("SELECT count(*) FROM item")
        elsewhere.execute(b"SELECT 1")
        output = end(db, "terminate", listed(look(db), stuck))
        assert (output.outcome, output.reason[:19]) == ("succeeded", "1 of 1 terminated; ")
        assert not stuck.alive
        assert pool.alive
        assert owner.alive
        assert young.alive
        assert elsewhere.execute(b"SELECT 1").fetchone() == (1,)
        # The procedure, in the same world: others' sessions of other databases are gone.
        db.sql(SEED)
        until(lambda: not pool.alive and not owner.alive)
        assert young.alive  # and what kept its locks is what it spares
        with pytest.raises(psycopg.OperationalError):
            elsewhere.execute(b"SELECT 1")


def test_a_statement_is_cancelled_and_its_session_lives(db: Base) -> None:
    with clients(db) as client:
        one, other = client(), client()
        one.run("SELECT pg_sleep(60)")
        other.run("SELECT pg_sleep(60)")
        output = end(db, "cancel", listed(look(db), one))
        assert output.outcome == "succeeded", output.reason
        assert "canceling statement due to user request" in one.ended()
        assert one.alive
        one.do("SELECT 1")
        assert db.sql("SELECT state FROM pg_stat_activity WHERE pid = %s", other.pid) == [
            ("active",)
        ]
    assert "there is no undo" in db.printed


def test_a_large_part_of_all_sessions_is_refused(db: Base) -> None:
    """It is counted in the statement that would signal; a look before it says the same."""
    with clients(db) as client:
        four = [client() for _ in range(4)]
        for one in four[:3]:
            one.run("SELECT pg_sleep(60)")
        targets = listed(look(db), *four[:3])
        for probe in (True, False):
            until(lambda: db.others() == len(four))
            output = end(db, "cancel", targets, share=0.4, probe=probe)
            assert (output.outcome, output.sent) == ("failed", False)
            assert re.search(
                r"these are 3 of the \d client sessions .* and max_share is 40%", output.reason
            )
            assert int(str(output.evidence["of"])) >= 4
        assert db.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = ANY"
                      " (%s)", [one.pid for one in four]) == [(3,)]  # fmt: skip
        assert end(db, "cancel", targets[:1], share=0.01).outcome == "succeeded"
        assert end(db, "cancel", targets[1:], share=0.7).outcome == "succeeded"


def refused(
    db: Base,
    client: Client,
    target: Target,
    do: str = "terminate",
    **how: Any,  # noqa: ANN401 - those of Sessions
) -> str:
    """Try it; return why it was not done."""
    output = end(db, do, [target], **how)
    assert output.outcome == "failed"
    assert output.sent is False
    assert client.alive
    return output.reason


def test_a_session_that_does_something_else_by_now_is_refused(db: Base) -> None:
    with clients(db) as client:
        one, other = client(), client()
        one.run("SELECT pg_sleep(60)")
        other.run("SELECT pg_sleep(60)")
        both = listed(look(db), one, other)
        db.sql("SELECT pg_cancel_backend(%s)", one.pid)
        one.ended()
        assert "does nothing that could be ended" in refused(db, one, both[0], "cancel")
        one.run("SELECT pg_sleep(60)")
        output = end(db, "cancel", both)
        assert output.reason == (
            f"nobody was signalled: process {one.pid} does something else by now → list them anew"
        )
        state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        assert [db.sql(state, c.pid) for c in (one, other)] == [[("active",)]] * 2


def test_the_number_of_a_process_alone_means_nobody(db: Base) -> None:
    with clients(db) as client:
        one = client()
        one.run("SELECT pg_sleep(60)")
        (target,) = listed(look(db), one)
        before = replace(target, began=target.began - 1)  # the number was another session's then
        assert "is not there any more" in refused(db, one, before)
        gone = client()
        gone.run("SELECT pg_sleep(60)")
        (away,) = listed(look(db), gone)
        gone.close()
        assert "is not there any more" in refused(db, one, away)


def test_whose_it_is_and_how_long(db: Base) -> None:
    with clients(db) as client:
        one = client()
        one.run("SELECT pg_sleep(60)")
        (target,) = listed(look(db), one)
        assert "who is not in `users`" in refused(db, one, target, users=("reader",))
        assert "has not lasted so long" in refused(db, one, target, older=60.0)


def named(db: Base, pid: int) -> Target:
    """Name any session, also one that `activity` never would."""
    epoch = "(extract(epoch FROM {}) * 1000000)::bigint"
    words = f"{epoch.format('backend_start')}, {epoch.format('coalesce(query_start, now())')}"
    ((began, since),) = db.sql(f"SELECT {words} FROM pg_stat_activity WHERE pid = %s", pid)
    return Target(pid=pid, began=began, since=since)


def test_whom_it_never_ends(db: Base) -> None:
    everybody: dict[str, Any] = {"users": ("app", "owner", "watcher")}
    with clients(db) as client:
        root = client("owner")
        root.run("SELECT pg_sleep(60)")
        assert "is a superuser's" in refused(db, root, named(db, root.pid), **everybody)
        assert listed(look(db), root) == ()  # and `activity` gives it no name
        idle = client()
        idle.do("SELECT 1")
        assert "does nothing that could be ended" in refused(db, idle, named(db, idle.pid))
        there = client("app", "web", "postgres")
        there.run("SELECT pg_sleep(60)")
        assert "is of another database" in refused(db, there, named(db, there.pid))
        dump = client("app", "pg_dump")
        dump.do("BEGIN")
        assert "copies data" in refused(db, dump, named(db, dump.pid))
        ours = client("watcher", "opskit:index-fix:run0")
        ours.run("SELECT pg_sleep(60)")
        assert "is a session of opskit" in refused(db, ours, named(db, ours.pid), **everybody)
        ((writer,),) = db.sql(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        )
        output = end(db, "terminate", [replace(named(db, root.pid), pid=writer)])
        assert "nobody was signalled" in output.reason
        assert db.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", writer)


def test_what_copies_data_is_refused_however_it_is_written(db: Base) -> None:
    db.server.since(14)  # an older one does not tell who copies
    with clients(db) as client:
        for text in ("/* a dump */ -- of it\nCOPY (SELECT pg_sleep(60)) TO STDOUT",
                     "SELECT 1; COPY (SELECT pg_sleep(60)) TO STDOUT"):  # fmt: skip
            one = client()
            one.connection.pgconn.send_query(text.encode())
            copying = f"SELECT 1 FROM pg_stat_progress_copy WHERE pid = {one.pid}"
            until(lambda asked=copying: bool(db.sql(asked)))  # type: ignore[misc]
            assert "copies data" in refused(db, one, named(db, one.pid), "cancel")


def test_a_sender_to_a_standby_is_refused(db: Base) -> None:
    url = db.owner.replace("//owner@", "//walker@")
    db.sql("DO $$ BEGIN CREATE ROLE walker LOGIN REPLICATION; EXCEPTION WHEN duplicate_object"
           " THEN NULL; END $$")  # fmt: skip
    with psycopg.connect(url, replication="database", autocommit=True) as sender:
        pid = sender.info.backend_pid
        output = end(db, "terminate", [named(db, pid)], users=("walker",))
        assert output.outcome == "failed"
        assert db.sql("SELECT backend_type FROM pg_stat_activity WHERE pid = %s", pid) == [
            ("walsender",)
        ]
    assert f"process {pid} is no client's: it is a process of the server" in output.reason


def test_a_role_that_may_not_end_others_ends_nobody(db: Base) -> None:
    """One that may be ended comes first: it lives, too."""
    db.sql("DO $$ BEGIN CREATE ROLE looker LOGIN IN ROLE pg_monitor, reader; EXCEPTION WHEN "
           "duplicate_object THEN NULL; END $$")  # fmt: skip
    with clients(db) as client:
        mine, others = client("reader"), client()
        mine.run("SELECT pg_sleep(60)")
        others.run("SELECT pg_sleep(60)")
        targets = listed(look(db), mine, others)
        db.use(Database(name="main", url=db.owner.replace("//owner@", "//looker@")))
        output = end(db, "terminate", targets, users=("app", "reader"))
        assert "GRANT pg_signal_backend" in output.reason
        assert mine.alive
        assert others.alive


def test_a_look_ends_nobody(db: Base) -> None:
    with clients(db) as client:
        one = client()
        one.run("SELECT pg_sleep(60)")
        targets = listed(look(db), one)
        assert end(db, "cancel", targets, probe=True).outcome == "succeeded"
        assert db.sql("SELECT state FROM pg_stat_activity WHERE pid = %s", one.pid) == [("active",)]
        output = end(db, "cancel", targets, probe=True, users=("reader",))
        assert (output.outcome, output.status) == ("failed", 1)


def test_what_does_not_end_is_told(db: Base) -> None:
    """A client that is cancelled in something that does not look: it is not said to be over."""
    db.sql(
        "CREATE OR REPLACE FUNCTION deaf() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN"
        " PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
    with clients(db) as client:
        one = client()
        one.run("SELECT deaf()")
        targets = listed(look(db), one)
        output = end(db, "cancel", targets, wait=0.5)
        assert output.outcome == "failed"
        assert "still run what they were to stop" in output.reason
        assert "terminate them" in output.reason
        quick = client()
        quick.run("SELECT pg_sleep(60)")
        both = (*targets, *listed(look(db), quick))
        output = end(db, "cancel", both, wait=1.0, rest=True)
        assert output.reason.startswith("2 of 2 cancelled, 1 of them terminated; "), output.reason
        assert (one.alive, quick.alive) == (False, True)
        assert output.evidence["terminated"] == [one.pid]
        assert re.search(rf"^{one.pid} .* local .* terminated ", db.printed, re.MULTILINE)
        one = client()
        one.run("SELECT deaf()")
        targets = listed(look(db), one)
        output = end(db, "terminate", targets)
        assert output.outcome == "succeeded"
        assert not one.alive


def test_literals_of_what_was_ended_are_not_kept(db: Base) -> None:
    with clients(db) as client:
        one = client()
        one.run("SELECT pg_sleep(60), 'hunter2'")
        output = end(db, "cancel", listed(look(db), one))
    assert output.outcome == "succeeded"
    assert "hunter2" not in str(output.evidence) + db.printed
    assert "pg_sleep(?)" in str(output.evidence)


def test_who_has_lost_the_lock_of_the_run_signals_nobody(db: Base) -> None:
    db.sql(";".join([f"DROP SCHEMA IF EXISTS {MARKERS} CASCADE", *ddl(MARKERS, "watcher")]))
    with clients(db) as client:
        one = client()
        one.run("SELECT pg_sleep(60)")
        targets = listed(look(db), one)
        early, late = (
            db.as_run(f"r{n}", *lease_words(["web"], "aa", n, f"r{n} (books), by ann", ""))
            for n in (3, 4)
        )
        early.driver.open("main")
        late.driver.open("main")
        found = end(early, "cancel", targets)
        assert (found.outcome, found.sent) == ("failed", False)
        assert found.reason == "not started: its lock is held there by run r4 (books), by ann"
        assert one.alive
        assert end(late, "cancel", targets).outcome == "succeeded"
        assert "canceling statement" in one.ended()


def work(targets: tuple[Target, ...], do: str = "terminate") -> Sessions:
    return Sessions(
        do=do, database="main", targets=targets, users=("app",), older=0.0  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_was_lost_from_sight_is_settled_by_who_is_gone(db: Base) -> None:
    with clients(db) as client:
        one, two = client(), client()
        for each in (one, two):
            each.run("SELECT pg_sleep(60)")
        targets = listed(look(db), one, two)
        found = db.find(work(targets), left=0.2)
        assert (found.outcome, found.again, found.sent) == ("failed", True, False)
        one.close()
        found = db.find(work(targets), left=0.2)
        assert (found.outcome, found.again) == ("failed", False)
        assert "1 of 2 are gone" in found.reason
        two.close()
        found = db.find(work(targets), left=0.2)
        assert found.outcome == "succeeded"
        assert "by whose hand is not known" in db.printed


@pytest.mark.parametrize("turns", [4, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("do", ["cancel", "terminate"])
def test_killed_at_any_moment_it_ends_those_once_and_no_others(
    db: Base, do: str, turns: int
) -> None:
    """opskit is killed while it does it, and comes back: a bystander and what comes next live."""
    chance = random.Random(7)
    came: Counter[str] = Counter()
    with clients(db) as client:
        bystander = client()
        bystander.run("SELECT pg_sleep(3000)")
        for _ in range(turns):
            one, two = client(), client()
            for each in (one, two):
                each.run("SELECT pg_sleep(60)")
            todo = work(listed(look(db), one, two), do)
            child = os.fork()
            if child == 0:
                try:
                    db.do(todo)
                finally:
                    os._exit(0)
            time.sleep(chance.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = db.find(todo, left=0.5)
            came["again" if found.again else found.outcome] += 1
            if found.again:
                assert db.do(todo).outcome == "succeeded"
            else:
                assert found.outcome == "succeeded", found.reason
            for each in (one, two):
                assert each.ended()
                assert each.alive == (do == "cancel")
                if do == "cancel":
                    each.do("SELECT pg_sleep(0.01)")  # what it does next goes on
                each.close()
            assert db.sql(
                "SELECT query FROM pg_stat_activity WHERE pid = %s AND state = 'active'",
                bystander.pid,
            ) == [("SELECT pg_sleep(3000)",)]
    assert sum(came.values()) == turns
    sys.stdout.write(f"{do}, killed {turns} times: {dict(came)}\n")
    assert db.quiet()
