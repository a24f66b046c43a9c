"""What every store promises about runs: begun, added to, read, found."""

import threading
import time
from dataclasses import replace

import pytest

from opskit import audit
from opskit.audit import Store
from opskit.audit.chain import link
from opskit.errors import InputError, StoreError
from opskit.execute import journal as execute
from opskit.model.codec import canonical, digest, to_json
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.text import text
from opskit.model.value import Secret
from opskit.model.work import Recall
from opskit.plan.make import seal
from tests.contract import samples
from tests.contract.samples import begin, ended, finished, started, waiting, whole_run


def test_a_new_run_says_who_wants_what(store: Store) -> None:
    before = time.time()
    with begin(store) as journal:
        run = store.load(journal.run)

    assert (run.kind, run.runbook, run.version) == ("run", "deploy", "1.2.0")
    assert (run.who, run.origin, run.reason) == ("ann", "laptop", "ticket 7")
    assert run.state == "planned"
    assert run.plan == samples.plan().digest
    assert run.hosts == {"web1": "not started", "web2": "not started"}
    assert before <= run.created <= time.time()
    (created,) = store.entries(journal.run)
    assert created.event.data["command"] == "opskit run deploy"
    assert created.event.data["hosts"] == {"web1": "ops@127.0.0.2", "web2": "ops@127.0.0.2"}


def test_how_a_run_stands_can_be_asked_by_itself(store: Store) -> None:
    with begin(store) as journal:
        assert store.state(journal.run) == store.load(journal.run).state == "planned"
        journal.append(started())
        assert store.state(journal.run) == store.load(journal.run).state == "running"
        journal.append(finished())
        assert store.state(journal.run) == store.load(journal.run).state == "succeeded"


def test_what_people_said_is_read_without_the_rest(store: Store) -> None:
    runs = []
    for _ in range(2):
        with begin(store) as journal:
            note = Event(kind="note", data={"who": "me", "text": "x"})
            journal.append(started(), note, finished())
            runs.append(store.load(journal.run))
    store.append(runs[1].id, Event(kind="decided", data={"who": "me", "choice": "skip"}))
    for since, runbook, of in (
        (0.0, None, runs), (runs[1].created, None, runs[1:]), (0.0, "deploy", runs),
        (0.0, "other", []),
    ):  # fmt: skip
        found = store.said(since, runbook)
        assert list(found) == [run.id for run in of]
        for run in of:
            whole = [e for e in store.entries(run.id) if e.event.kind in ("note", "decided")]
            assert list(found[run.id]) == whole


def test_what_a_run_came_from_is_kept(store: Store) -> None:
    with begin(store) as journal:
        assert store.plan(journal.run) == samples.plan()
        documents = store.documents(journal.run)

    assert documents["runbook"] == "name: deploy\n"
    assert documents["inventory"] == "hosts: {}\n"
    assert documents["plan"].encode() == canonical(to_json(samples.plan()))


def test_an_append_that_has_returned_is_there_for_others(store: Store, location: str) -> None:
    other = audit.open(location)
    with begin(store) as journal:
        journal.append(started(), started("web2"))

        kinds = [(e.number, e.event.kind, e.event.host) for e in other.entries(journal.run)]

    other.close()
    assert kinds == [
        (1, "run created", ""),
        (2, "step started", "web1"),
        (3, "step started", "web2"),
    ]


def test_what_is_not_waited_for_is_durable_with_what_is(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), wait=False)
        journal.append(ended(), wait=False)
        journal.append(Event(kind="note", data={"text": "all?"}))

        assert [e.number for e in store.entries(journal.run)] == [1, 2, 3, 4]


def test_closing_keeps_what_nobody_waited_for(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), wait=False)

    assert len(list(store.entries(journal.run))) == 2


def test_a_closed_journal_takes_nothing(store: Store) -> None:
    with begin(store) as journal:
        pass
    with pytest.raises(StoreError, match="closed"):
        journal.append(started())


def test_entries_chain_by_hashes_that_anyone_can_compute(store: Store) -> None:
    run = whole_run(store)
    previous = ""
    for entry in store.entries(run):
        body = canonical(to_json(entry.event))
        assert entry.previous == previous
        assert entry.hash == link(
            run=run, number=entry.number, at=entry.at, previous=previous, body=body
        )
        previous = entry.hash


def test_threads_that_append_at_once_lose_nothing(store: Store) -> None:
    with begin(store) as journal:

        def add(worker: int) -> None:
            for turn in range(20):
                event = Event(kind="note", data={"text": f"{worker}.{turn}"})
                journal.append(event, wait=turn % 3 == 0)

        threads = [threading.Thread(target=add, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)

    entries = list(store.entries(journal.run))
    assert [e.number for e in entries] == list(range(1, 162))
    for worker in range(8):
        told = [str(e.event.data["text"]) for e in entries if e.event.kind == "note"]
        mine = [text for text in told if text.startswith(f"{worker}.")]
        assert mine == [f"{worker}.{turn}" for turn in range(20)]
    assert store.verify() == []


def test_a_run_that_ended_tells_all_of_it(store: Store) -> None:
    run = store.load(whole_run(store))

    assert run.state == "succeeded"
    assert run.ended is not None
    assert run.hosts == {"web1": "done", "web2": "done"}
    assert run.saved == {"web1": {"previous": "r6"}, "web2": {"previous": "r6"}}
    assert {key: record.state for key, record in run.actions.items()} == {
        "1/web1": "succeeded",
        "1/web2": "succeeded",
    }
    assert run.entries == 6


def test_a_run_that_waits_has_its_question(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), ended(), waiting())
        run = store.load(journal.run)

    assert run.state == "waiting"
    assert run.hosts == {"web1": "done", "web2": "not started"}
    assert run.question is not None
    assert run.question["question"] == "Go on?"
    assert (run.question["key"], run.question["host"]) == ("1/web1", "web1")


def test_a_remark_can_be_added_while_a_run_is_carried_out(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started())
        store.append(journal.run, Event(kind="note", data={"who": "bob", "text": "watching"}))
        journal.append(ended())

    assert [e.event.kind for e in store.entries(journal.run)][2:] == ["note", "step ended"]
    assert store.verify() == []


def test_runs_are_listed_newest_first_with_how_they_ended(store: Store) -> None:
    first, second = whole_run(store), whole_run(store, "rollback")
    with begin(store) as journal:
        journal.append(started())
        runs = store.runs()

    assert [run.id for run in runs] == [journal.run, second, first]
    assert [run.state for run in runs] == ["running", "succeeded", "succeeded"]
    assert [run.number for run in runs] == [3, 2, 1]
    assert runs[2].hosts == {"web1": "done", "web2": "done"}
    assert runs[0].hosts == {"web1": "unknown", "web2": "not started"}


def test_a_listed_run_says_the_same_as_the_loaded_one(store: Store) -> None:
    whole_run(store)
    (listed,) = store.runs()
    loaded = store.load(listed.id)

    names = ("kind", "runbook", "version", "plan", "state", "who", "origin", "reason", "created",
             "ended", "exit", "hosts", "number", "entries", "question")  # fmt: skip
    assert {n: getattr(listed, n) for n in names} == {n: getattr(loaded, n) for n in names}


def test_runs_can_be_asked_for_by_time_runbook_and_number(store: Store) -> None:
    whole_run(store)
    between = time.time()
    second, third = whole_run(store, "rollback"), whole_run(store)

    assert [run.id for run in store.runs(since=between)] == [third, second]
    assert [run.id for run in store.runs(runbook="rollback")] == [second]
    assert [run.id for run in store.runs(limit=1)] == [third]


def test_a_run_is_found_by_its_beginning_its_end_or_as_the_last(store: Store) -> None:
    first, last = whole_run(store), whole_run(store)

    assert store.find(first) == first
    assert store.find(first[-4:]) == first
    assert store.find("last") == last
    prefix = next(first[:n] for n in range(1, 21) if first[:n] != last[:n])
    assert store.find(prefix) == first


def test_the_last_run_is_no_dry_run(store: Store) -> None:
    with begin(store, locks=()) as journal:
        pass
    begin(store, kind="preview", locks=()).close()

    assert store.find("last") == journal.run
    assert [run.kind for run in store.runs()] == ["preview", "run"]
    assert [run.kind for run in store.runs(previews=False)] == ["run"]


def test_a_name_that_fits_no_run_or_several_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no runs yet"):
        store.find("last")
    first, second = whole_run(store), whole_run(store)

    with pytest.raises(InputError, match=f"could be any of {second}, {first}"):
        store.find("20")
    for nothing in ("nothing", "", "%", "_"):
        with pytest.raises(InputError, match="no run is named"):
            store.find(nothing)


@pytest.mark.parametrize("ask", ["load", "plan", "documents", "entries", "verify"])
def test_a_run_that_is_not_there_is_said_so(store: Store, ask: str) -> None:
    with pytest.raises(InputError, match="there is no run 'x'"):
        list(getattr(store, ask)("x"))


# ---- values of earlier runs


def recall(store: Store, host: str = "web1", value: str = "previous", **more: object) -> str | None:
    return store.recall(Recall(runbook="deploy", value=value, host=host, **more))  # type: ignore[arg-type]


def test_the_newest_run_of_the_runbook_on_the_host_gives_the_value(store: Store) -> None:
    whole_run(store, previous="r1")
    whole_run(store, previous="r2")
    whole_run(store, "other", previous="r3")
    with begin(store) as journal:
        journal.append(started("web2"), ended("web2", saved={"previous": "r4"}), finished())

    assert recall(store) == "r2"
    assert recall(store, host="web2") == "r4"
    assert recall(store, host="web9") is None
    assert recall(store, value="nothing") is None


def test_only_runs_in_the_wanted_states_are_recalled(store: Store) -> None:
    whole_run(store, previous="r1")
    with begin(store) as journal:
        journal.append(started(), ended(saved={"previous": "r2"}), finished("failed", "failed"))

    assert recall(store) == "r1"
    assert recall(store, status=("failed",)) == "r2"
    assert recall(store, status=("undone",)) is None


def test_a_preview_is_not_recalled(store: Store) -> None:
    with begin(store, kind="preview", locks=()) as journal:
        journal.append(started(), ended(saved={"previous": "r2"}), finished())

    assert recall(store) is None


def test_a_particular_run_can_be_recalled(store: Store) -> None:
    first = whole_run(store, previous="r1")
    whole_run(store, previous="r2")

    assert recall(store, run=text(first)) == "r1"
    assert recall(store, run=text(first[-4:])) == "r1"


def test_a_value_that_was_saved_for_all_hosts_is_recalled_for_each(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), ended(saved={"ticket": "7"}, shared=True))
        journal.append(started("web2"), ended("web2"), finished())

    assert recall(store, host="web2", value="ticket") == "7"


def test_a_store_can_be_closed_and_opened_again(store: Store, location: str) -> None:
    run = whole_run(store)
    store.close()
    again = audit.open(location)

    assert again.load(run).state == "succeeded"
    assert b"".join(again.output(run, "1/web1", 1, "stdout")) == b"r6\n"
    assert again.verify() == []
    again.close()


def test_a_plan_of_ten_thousand_actions_is_kept(store: Store) -> None:
    big = samples.plan()
    many = replace(big, actions=big.actions * 5_000, digest="")
    many = replace(many, digest=digest(to_json(many)))
    journal = store.create(many, kind="run", who="a", origin="b", documents={})
    journal.close()

    assert store.plan(journal.run) == many
    assert store.verify(journal.run) == []


def test_a_journal_is_what_the_executor_needs(store: Store) -> None:
    with begin(store) as journal:
        needed: execute.Journal = journal
        sink: execute.Sink = needed.output("1/web1", "web1", 1)
        assert sink.close() == {}


def other_plan() -> Plan:
    """Return the same plan with another value of its parameter."""
    return seal(replace(samples.plan(), parameters={"release": "r8"}))


def test_a_run_carries_out_the_plan_that_it_was_given_last(store: Store) -> None:
    with begin(store) as journal:
        journal.append(started(), ended())
        answer = Event(kind="decided", key="1/web1", host="web1", data={"choice": "retry"})
        journal.amend(other_plan(), {"who": "ann", "parameters": {"release": "r8"}}, answer)
        assert store.plan(journal.run) == other_plan()
    kinds = [entry.event.kind for entry in store.entries(journal.run)]
    assert kinds[-2:] == ["plan amended", "decided"]
    assert store.load(journal.run).plan == other_plan().digest != samples.plan().digest
    documents = store.documents(journal.run)
    assert documents["plan"].encode() == canonical(to_json(other_plan()))
    assert documents["runbook"] == "name: deploy\n"
    with store.reopen(journal.run, who="bob", origin="desk") as again:
        again.amend(samples.plan(), {"who": "bob"})
        again.append(finished())
    assert store.plan(journal.run) == samples.plan()
    assert store.plan(journal.run, first=True) == samples.plan()
    assert store.verify() == []
    assert store.verify(journal.run) == []


def test_the_list_of_runs_names_the_plan_that_a_run_came_to_its_end_with(store: Store) -> None:
    with begin(store) as journal:
        journal.amend(other_plan(), {"who": "ann", "parameters": {"release": "r8"}})
        assert store.runs()[0].plan == other_plan().digest
        end = finished()
        journal.append(replace(end, data={**end.data, "plan": other_plan().digest}))
    assert store.plan(journal.run, first=True) == samples.plan()
    (found,) = store.runs()
    assert found.plan == store.load(journal.run).plan == other_plan().digest


def test_a_plan_that_shows_a_secret_is_not_taken(store: Store) -> None:
    secret = Secret("token", "correct-horse")
    shown = seal(replace(samples.plan(), parameters={"release": "correct-horse"}))
    with begin(store, secrets=(secret,)) as journal:
        with pytest.raises(InputError, match="stands open in the plan"):
            journal.amend(shown, {"who": "ann"})
        journal.append(started())
        assert store.plan(journal.run) == samples.plan()
