"""What a run is follows from its entries."""

import pytest

from opskit.audit import fold
from opskit.model.event import Entry, Event, EventKind
from opskit.model.run import HostState, Run
from opskit.model.states import RunState
from opskit.model.value import Json

PLAN: dict[str, Json] = {
    "batches": [["web1", "web2"], ["web3"]],
    "stages": {
        "1": {"scope": "each", "effect": "change", "kind": "run"},
        "2": {"scope": "each", "effect": "change", "kind": "run"},
        "3": {"scope": "each", "effect": "change", "kind": "wait"},
        "4": {"scope": "each", "effect": "read", "kind": "http"},
        "c1": {"scope": "controller", "effect": "change", "kind": "run"},
    },
    "actions": [
        {"key": f"{p}/{h}", "host": h, "batch": 0, "position": p}
        for p in ("1", "2")
        for h in ("web1", "web2", "web3")
    ]
    + [{"key": f"{p}/web3", "host": "web3", "batch": 1, "position": p} for p in ("3", "4")],
}


def event(kind: EventKind, key: str = "", host: str = "", **data: Json) -> Event:
    return Event(kind=kind, key=key, host=host, step="s", attempt=1, data=data)


def run_of(*events: Event, driver: str = "") -> Run:
    created = Event(kind="run created", data={"kind": "run", "runbook": "deploy"})
    entries = [
        Entry(run="r", number=n, at=float(n), previous="", hash="", event=e)
        for n, e in enumerate([created, *events], start=1)
    ]
    return fold.run("r", 1, entries, lambda: PLAN, driver=driver)


START = event("step started", "1/web1", "web1")
OK = event("step ended", "1/web1", "web1", outcome="succeeded")
ASK = event("waiting", why="pause", question="Go on?")
UNDO = event("undo began", why="asked")


def test_a_question_stands_until_it_is_answered_whoever_came_and_went() -> None:
    asked = run_of(START, ASK)
    again = run_of(START, ASK, event("run resumed", who="bob"), event("message", text="hm"))
    assert again.question == asked.question is not None
    assert (again.state, again.asked) == ("waiting", asked.asked)
    answered = run_of(START, ASK, event("run resumed"), event("decided", choice="go on"))
    assert (answered.question, answered.asked) == (None, 0)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "planned"),
        ([event("note", text="hm")], "planned"),
        ([event("host opened", host="web1")], "running"),
        ([START], "running"),
        ([START, OK], "running"),
        ([START, ASK], "waiting"),
        ([START, ASK, OK], "waiting"),
        ([START, ASK, event("note", text="hm")], "waiting"),
        ([ASK, event("decided", choice="go on")], "running"),
        ([ASK, event("run resumed", who="bob")], "waiting"),
        ([ASK, event("run resumed", who="bob"), event("host opened", host="web1")], "running"),
        ([START, UNDO], "undoing"),
        ([START, UNDO, event("step started", "1/web1!1", "web1")], "undoing"),
        ([START, UNDO, event("host opened", host="web1")], "undoing"),
        ([START, UNDO, event("step started", "1/web3", "web3")], "running"),
        ([START, OK, event("run ended", status="undone", hosts={})], "undone"),
        ([event("run ended", status="failed", hosts={}), event("run resumed")], "running"),
        ([event("run ended", status="failed", hosts={}), event("note")], "failed"),
        ([event("run ended", status="succeeded", hosts={}), UNDO], "undoing"),
    ],
)
def test_the_state_of_a_run(events: list[Event], state: RunState) -> None:
    assert run_of(*events).state == state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "not started"),
        ([START], "unknown"),
        ([START, OK], "begun"),
        ([event("step skipped", "1/web1", "web1", why="no")], "not started"),
        ([START, OK, event("step started", "2/web1", "web1")], "unknown"),
        ([START, OK, event("step skipped", "2/web1", "web1", why="no")], "done"),
        ([START, event("step ended", "1/web1", "web1", outcome="failed")], "failed"),
        ([START, event("step ended", "1/web1", "web1", outcome="unknown")], "unknown"),
        ([event("host unreachable", host="web1", reason="no route")], "unreachable"),
        ([START, OK, event("run ended", status="failed", hosts={"web1": "undone"})], "undone"),
    ],
)
def test_the_state_of_a_host(events: list[Event], state: HostState) -> None:
    assert run_of(*events).hosts["web1"] == state


def test_what_a_living_process_has_started_is_not_in_doubt() -> None:
    last = event("step started", "2/web1", "web1")

    assert run_of(START, driver="ann").hosts["web1"] == "begun"
    assert run_of(START, OK, last, driver="ann").hosts["web1"] == "begun"
    assert run_of(START, OK, last).hosts["web1"] == "unknown"


def test_a_run_that_has_ended_is_driven_by_nobody() -> None:
    ended = event("run ended", status="failed", hosts={})

    assert run_of(START, driver="ann").driver == "ann"
    assert run_of(ended, driver="ann").driver == ""


def test_a_host_is_unreachable_until_it_answers() -> None:
    gone = event("host unreachable", host="web1", reason="no route")
    back = event("host opened", host="web1")

    assert run_of(gone).unreachable == {"web1": "no route"}
    assert run_of(gone, back).unreachable == {}
    assert run_of(gone, back).hosts["web1"] == "not started"


def test_hosts_are_those_of_the_batches() -> None:
    assert list(run_of().hosts) == ["web1", "web2", "web3"]


def test_saved_values_belong_to_their_host_or_to_all() -> None:
    one = event("step ended", "1/web1", "web1", outcome="succeeded", saved={"previous": "r6"})
    two = event(
        "step ended", "1/web2", "web2", outcome="succeeded", saved={"ticket": 7}, shared=True
    )

    assert run_of(one, two).saved == {"web1": {"previous": "r6"}, "": {"ticket": "7"}}


def test_a_run_that_went_on_has_not_ended() -> None:
    ended = event("run ended", status="failed", hosts={"web1": "failed"})

    assert run_of(ended).ended == 2.0
    assert run_of(ended, event("run resumed")).ended is None


def test_a_read_or_a_wait_that_was_cut_short_is_not_unknown() -> None:
    done = [event("step ended", f"{n}/web3", "web3", outcome="succeeded") for n in ("1", "2", "3")]
    cut = event("step started", "4/web3", "web3")
    assert run_of(*done, cut).hosts["web3"] == "begun"
    assert run_of(*done, cut).actions["4/web3"].state == "planned"
    waits = event("step started", "3/web3", "web3")
    assert run_of(*done[:2], waits).hosts["web3"] == "begun"
    assert run_of(waits).hosts["web3"] == "not started"
    assert run_of(event("step started", "2/web3", "web3")).hosts["web3"] == "unknown"


def test_a_host_that_a_person_left_out_is_excluded_until_it_is_tried_again() -> None:
    failed = event("step ended", "1/web1", "web1", outcome="failed")
    out = event("decided", "1/web1", "web1", choice="exclude")
    again = event("decided", host="web1", choice="retry")
    assert run_of(START, failed, ASK, out).hosts["web1"] == "excluded"
    assert run_of(START, failed, ASK, out, again).hosts["web1"] == "failed"
    lost = event("step ended", "1/web1", "web1", outcome="unknown")
    assert run_of(START, lost, ASK, out).hosts["web1"] == "unknown"
