"""A connection that is lost, a server that dies: no entry is lost, none is there twice."""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from opskit import audit
from opskit.audit import Journal, Store
from opskit.audit.postgres import watchdog
from opskit.audit.postgres.database import PostgresDatabase
from opskit.errors import RefusedError, StoreError
from opskit.model.event import Event
from tests.contract.samples import begin, ended, finished, started, whole_run
from tests.support.postgres import Server, rows, server
from tests.support.proxy import Proxy, proxy

pytestmark = pytest.mark.acceptance

TURNS = 30


@pytest.fixture
def line(postgres: Server) -> Iterator[Proxy]:
    with proxy(postgres.socket) as found:
        yield found


@pytest.fixture
def through(postgres: Server, line: Proxy) -> str:
    """A store behind the relay; it is waited for, 20 s."""
    name = urlsplit(postgres.database()).path[1:]
    return line.url(name, more="&patience=20")


@pytest.fixture
def store(through: str) -> Iterator[Store]:
    opened = audit.open(through)
    yield opened
    opened.close()


def database_of(store: Store) -> PostgresDatabase:
    database = store._database
    assert isinstance(database, PostgresDatabase)
    return database


def noted(store: Store, run: str) -> list[str]:
    return [str(e.event.data["text"]) for e in store.entries(run) if e.event.kind == "note"]


def note(journal: Journal, number: int, *, wait: bool = True) -> None:
    journal.append(Event(kind="note", data={"text": str(number)}), wait=wait)


@pytest.mark.parametrize(
    "seed",
    [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 100))],
)
def test_cuts_at_random_bytes_lose_nothing_and_double_nothing(
    store: Store, line: Proxy, seed: int
) -> None:
    with begin(store) as journal:
        line.again = random.Random(seed)
        line.cut_after = line.again.randrange(1, 3000)
        for number in range(TURNS):
            sink = journal.output("1/web1", "web1", number)
            sink.write("stdout", b"line %d\n" % number * 20)
            end = replace(ended("web1", sink.close()), attempt=number)
            note(journal, number, wait=False)
            journal.append(end, wait=number % 3 > 0)
        line.again = line.cut_after = None

    assert line.cuts > 3
    assert noted(store, journal.run) == [str(number) for number in range(TURNS)]
    for number in range(TURNS):
        printed = b"".join(store.output(journal.run, "1/web1", number, "stdout"))
        assert printed == b"line %d\n" % number * 20
    assert store.verify() == []


def test_an_answer_that_is_lost_at_any_byte_of_a_commit_is_found_out_about(
    store: Store, line: Proxy
) -> None:
    """The cut wanders through everything that one batch makes pass, both ways."""
    with begin(store) as journal:
        note(journal, 0)
        for number in range(1, 60):
            line.cut_after = number * 29
            note(journal, number)
            line.cut_after = None

    assert line.cuts > 20
    assert noted(store, journal.run) == [str(number) for number in range(60)]
    assert store.verify() == []


def test_reading_goes_on_over_a_cut(store: Store, line: Proxy) -> None:
    run = whole_run(store)
    line.cut()
    assert store.load(run).state == "succeeded"
    for after in range(1, 4000, 97):
        line.cut_after = after
        assert store.load(run).state == "succeeded"
        line.cut_after = None


def test_a_remark_is_made_once(store: Store, line: Proxy) -> None:
    run = whole_run(store)
    for number in range(25):
        line.cut_after = 40 + number * 61
        store.append(run, Event(kind="note", data={"text": str(number)}))
        line.cut_after = None

    assert noted(store, run) == [str(number) for number in range(25)]
    assert store.verify() == []


def test_while_the_store_is_away_nothing_is_started_and_then_it_goes_on(
    store: Store, line: Proxy
) -> None:
    told: list[str] = []
    store.attend(told.append, lambda: False)
    begun = threading.Event()
    with begin(store) as journal:
        line.refusing = True
        line.cut()

        def start() -> None:
            journal.append(started())
            begun.set()

        thread = threading.Thread(target=start)
        thread.start()
        assert not begun.wait(2.0)
        line.refusing = False
        assert begun.wait(60.0)
        thread.join()
        journal.append(ended(), finished())

    assert store.load(journal.run).state == "succeeded"
    assert len(told) == 2
    assert "can't be reached" in told[0]
    assert "nothing new is sent" in told[0]
    assert "the record is back after" in told[1]
    assert store.verify() == []


def test_patience_has_an_end_and_the_run_can_be_resumed(postgres: Server, line: Proxy) -> None:
    direct = postgres.database()
    store = audit.open(line.url(urlsplit(direct).path[1:], more="&patience=1"))
    journal = begin(store)
    journal.append(started())
    line.refusing = True
    line.cut()
    with pytest.raises(StoreError, match="can't be reached") as raised:
        journal.append(ended())
    assert "it was waited for" in str(raised.value)
    before = time.monotonic()
    with pytest.raises(StoreError):
        store.load(journal.run)  # who has given up waits no more
    with pytest.raises(StoreError):
        journal.close()
    assert time.monotonic() - before < 5
    store.close()

    other = audit.open(direct)
    with other.reopen(journal.run, who="bob", origin="desk") as again:
        again.append(ended(), finished())
    assert other.load(journal.run).state == "succeeded"
    assert other.verify() == []
    other.close()


def test_a_person_who_stops_the_run_need_not_wait(store: Store, line: Proxy) -> None:
    stopped = threading.Event()
    store.attend(lambda _: stopped.set(), stopped.is_set)
    journal = begin(store)
    line.refusing = True
    line.cut()
    before = time.monotonic()
    with pytest.raises(StoreError, match="can't be reached"):
        journal.append(started())
    assert time.monotonic() - before < 10
    with pytest.raises(StoreError):
        journal.close()


def test_who_loses_the_connection_may_write_nothing_once_another_has_taken_over(
    store: Store, postgres: Server, line: Proxy, through: str
) -> None:
    journal = begin(store)
    journal.append(started())
    direct = postgres.url(urlsplit(through).path[1:])
    line.refusing = True
    line.cut()
    other = audit.open(direct)
    with pytest.raises(RefusedError, match="is being carried out right now by ann"):
        other.reopen(journal.run, who="bob", origin="desk")  # its process lives
    again = other.reopen(journal.run, who="bob", origin="desk", steal=journal.run)
    again.append(Event(kind="note", data={"text": "mine"}))
    line.refusing = False
    with pytest.raises(StoreError, match="was taken over by bob "):
        journal.append(ended())
    with pytest.raises(StoreError):
        journal.close()
    again.close()

    assert [e.event.kind for e in other.entries(journal.run)][-1] == "note"
    assert other.verify() == []
    other.close()


def test_who_loses_the_connection_goes_on_on_another_where_nobody_took_over(
    store: Store, postgres: Server, line: Proxy, through: str
) -> None:
    with begin(store) as journal:
        journal.append(started())
        line.cut()
        journal.append(ended())
        other = audit.open(postgres.url(urlsplit(through).path[1:]))
        with pytest.raises(RefusedError, match="is being carried out right now by ann"):
            other.reopen(journal.run, who="bob", origin="desk")
        other.close()


def test_a_session_that_the_server_has_not_missed_yet_is_ended_first(
    store: Store, postgres: Server, line: Proxy, through: str
) -> None:
    """The line may be cut on one side only: the old session could still carry out what it has."""
    with begin(store) as journal:
        old = database_of(store)._self["pid"]
        writer = database_of(store)._writer
        assert writer is not None
        writer.pgconn.finish()  # on our side only: the relay holds the other end open
        note(journal, 1)
        found = rows(
            postgres.url(urlsplit(through).path[1:]),
            f"select count(*) from pg_stat_activity where pid = {old}",
        )
        assert found == [(0,)]
    assert store.verify() == []


def test_a_server_that_is_killed_and_comes_back_costs_time_and_nothing_else() -> None:
    with server(fsync="on") as mine:
        store = audit.open(mine.database() + "&patience=60")
        with begin(store) as journal:
            stop = threading.Event()
            count = 0

            def work() -> None:
                nonlocal count
                while not stop.is_set():
                    note(journal, count)
                    count += 1

            thread = threading.Thread(target=work)
            thread.start()
            for _ in range(3):
                time.sleep(0.4)
                mine.kill()
                time.sleep(0.2)
                mine.start()
            time.sleep(0.4)
            stop.set()
            thread.join(timeout=60)
            assert not thread.is_alive()
        assert noted(store, journal.run) == [str(number) for number in range(count)]
        assert count > 3
        assert store.verify() == []
        store.close()


def test_a_record_that_has_lost_what_it_had_confirmed_is_not_written_to(
    store: Store, postgres: Server, line: Proxy, through: str
) -> None:
    """A standby that lagged behind has taken over: what the run stands on is gone."""
    journal = begin(store)
    journal.append(started(), ended())
    direct = postgres.url(urlsplit(through).path[1:])
    rows(direct, "alter table events disable trigger user")
    rows(direct, "alter table heads disable trigger user")
    rows(direct, "delete from events where number = 3")
    rows(direct, "update heads set entries = 2, hash = (select hash from events where number = 2)")
    rows(direct, "alter table events enable trigger user")
    with pytest.raises(StoreError, match="has lost entries"):
        journal.append(finished())
    with pytest.raises(StoreError):
        journal.close()


def test_a_server_that_stands_still_is_waited_for_like_one_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "SILENCE", 1.0)
    told: list[str] = []
    with server() as mine:
        store = audit.open(mine.database() + "&patience=60")
        store.attend(told.append, lambda: False)
        with begin(store) as journal:
            journal.append(started())
            mine.freeze()
            thread = threading.Thread(target=note, args=(journal, 1))
            thread.start()
            until = time.monotonic() + 60
            while not told:
                assert time.monotonic() < until
                time.sleep(0.1)
            assert thread.is_alive()
            mine.freeze(thaw=True)
            thread.join(timeout=60)
            assert not thread.is_alive()
            journal.append(ended(), finished())
        assert noted(store, journal.run) == ["1"]
        assert store.verify() == []
        assert "can't be reached" in told[0]
        store.close()


def test_a_server_that_is_restarted_in_order_and_a_session_that_is_ended_cost_nothing() -> None:
    with server() as mine:
        url = mine.database()
        store = audit.open(url + "&patience=60")
        end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        with begin(store) as journal:
            for number in range(6):
                note(journal, number)
                if number == 3:
                    mine.stop()
                    mine.start()
                elif number % 2:
                    rows(url, f"{end} and application_name = 'opskit'")
            with pytest.raises(RefusedError):
                store.reopen(journal.run, who="bob", origin="desk")
        assert noted(store, journal.run) == [str(number) for number in range(6)]
        assert store.verify() == []
        store.close()
