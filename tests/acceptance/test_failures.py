"""Steps that fail, on real hosts: who stops, what is taken back, how the run ends."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from opskit.lab import Lab
from tests.support.fleet import Fleet
from tests.support.trouble import Case, Trouble, did, fails_on, held, step, until

pytestmark = pytest.mark.acceptance

ALL = "web1 web2 web3 web4"


def three(*failing: str, at: str = "two", undo: bool = True, **keys: object) -> str:
    """Return three steps, of which one fails on some hosts; each has an undo."""
    return "".join(
        step(
            name,
            fails_on(name, *failing) if name == at else did(name),
            undo=did(f"undo-{name}") if undo else "",
            **(keys if name == at else {}),
        )
        for name in ("one", "two", "three")
    )


DONE, HALF = "one two three", "one two"
BACK = "one two undo-two undo-one"
WHOLLY = "one two three undo-three undo-two undo-one"

FAILED = re.compile(r"^\S+ +web2 +FAILED", re.MULTILINE)
CASES = [
    Case(
        name="stop-leaves-things-as-they-are",
        head="batches: [1]\n",
        steps=three("web2"),
        exit=1,
        state="failed",
        hosts="web1: done, web2: failed, web3 web4: not started",
        tally={"web1": DONE, "web2": HALF, "web3": "", "web4": ""},
        says=["failed on web2: 2 two", "more than 0 failed: web2", "--hosts failed,not-started"],
    ),
    Case(
        name="undo-takes-back-all",
        head="batches: [1]\non_failure: undo\n",
        steps=three("web2"),
        exit=3,
        state="undone",
        hosts="web1 web2: undone, web3 web4: not started",
        tally={"web1": WHOLLY, "web2": BACK, "web3": "", "web4": ""},
        says=["UNDONE", "taking back what was done: too many hosts failed"],
    ),
    Case(
        name="within-a-number",
        head="batches: [2]\nmax_failures: 1\non_failure: undo\n",
        steps=three("web2"),
        exit=1,
        state="failed",
        hosts="web1 web3 web4: done, web2: undone",
        tally={"web1": DONE, "web2": BACK, "web3": DONE, "web4": DONE},
        says=["failed, then undone on web2: 2 two"],
    ),
    Case(
        name="within-a-percentage",
        head="batches: [1, 25%]\nmax_failures: 25%\n",
        steps=three("web1"),
        exit=1,
        state="failed",
        hosts="web1: failed, web2 web3 web4: done",
        tally={"web1": HALF, "web2": DONE, "web3": DONE, "web4": DONE},
    ),
    Case(
        name="a-percentage-is-rounded-down",
        head="batches: [1]\nmax_failures: 49%\n",
        steps=three("web1", "web3"),
        exit=1,
        state="failed",
        hosts="web1 web3: failed, web2: done, web4: not started",
        tally={"web1": HALF, "web2": DONE, "web3": HALF, "web4": ""},
        says=["more than 1 failed: web1, web3"],
    ),
    Case(
        name="half-is-not-more-than-half",
        head="batches: [1]\nmax_failures: 50%\n",
        steps=three("web1", "web3"),
        exit=1,
        state="failed",
        hosts="web1 web3: failed, web2 web4: done",
        tally={"web1": HALF, "web2": DONE, "web3": HALF, "web4": DONE},
    ),
    Case(
        name="what-is-in-flight-finishes",
        head="batches: [3]\n",
        steps=step("one", did("one"))
        + step("two", "test {{ host }} = web2 || { " + held("two") + "; exit 0; }; exit 7")
        + step("three", did("three")),
        exit=1,
        state="failed",
        hosts="web2: failed, web1 web3: begun, web4: not started",
        held=("web1", "web3"),
        tally={"web1": "one begin-two two", "web2": "one", "web3": "one begin-two two"},
    ),
    Case(
        name="in-flight-then-taken-back",
        head="batches: [2]\non_failure: undo\n",
        held=("web1",),
        steps=step("one", did("one"), undo=did("undo-one"))
        + step(
            "two",
            "test {{ host }} = web2 || { " + held("two") + "; exit 0; }; exit 7",
            undo=did("undo-two"),
        ),
        exit=3,
        state="undone",
        hosts="web1 web2: undone, web3 web4: not started",
        tally={
            "web1": "one begin-two two undo-two undo-one",
            "web2": "one undo-two undo-one",
            "web3": "",
        },
    ),
    Case(
        name="once-fails-for-all",
        head="batches: [1]\nmax_failures: 100%\n",
        steps=step("one", did("one")) + step("two", "false", on="once") + step("three", did("no")),
        exit=1,
        state="failed",
        hosts="web1: failed, web2 web3 web4: not started",
        tally={"web1": "one", "web2": "", "web3": "", "web4": ""},
    ),
    Case(
        name="once-passes-a-failed-host-by",
        head="max_failures: 1\n",
        steps=step("one", fails_on("one", "web1"))
        + step("two", did("two"), on="once")
        + step("three", did("three")),
        exit=1,
        state="failed",
        hosts="web1: failed, web2 web3 web4: done",
        tally={"web1": "one", "web2": DONE, "web3": "one three", "web4": "one three"},
    ),
    Case(
        name="batch-is-once-a-batch",
        head="batches: [2]\nmax_failures: 1\n",
        steps=step("one", fails_on("one", "web1")) + step("two", did("two"), on="batch"),
        exit=1,
        state="failed",
        hosts="web1: failed, web2 web3 web4: done",
        tally={"web1": "one", "web2": "one two", "web3": "one two", "web4": "one"},
    ),
    Case(
        name="group-per-host-batch-and-run",
        head="batches: [2]\non_failure: undo\n",
        steps=step(
            "host", did("h-{{ host }}"), undo=did("u-{{ host }}"), on="{group: lb, per: host}"
        )
        + step("batch", did("b"), undo=did("ub"), on="{group: lb, per: batch}")
        + step("run", did("r"), undo=did("ur"), on="{group: lb, per: run}")
        + step("own", fails_on("own", "web4")),
        exit=1,
        state="failed",
        hosts=f"{ALL}: undone",
        tally={
            "lb1": "h-web1 h-web2 b r h-web3 h-web4 b ub u-web4 u-web3 ur ub u-web2 u-web1",
            "web1": "own",
            "web4": "own",
        },
    ),
    Case(
        name="an-undo-that-fails",
        head="batches: [2]\non_failure: undo\n",
        steps=step("one", did("one"), undo=did("undo-one"))
        + step("two", did("two"), undo=fails_on("undo-two", "web1"))
        + step("three", fails_on("three", "web2"), undo=did("undo-three")),
        exit=1,
        state="failed",
        hosts="web1: undo failed, web2: undone, web3 web4: not started",
        tally={"web1": "one two three undo-three undo-two", "web2": WHOLLY, "web3": ""},
        says=["undo failed on web1", "undo-two"],
    ),
    Case(
        name="always-that-fails",
        steps=step("one", did("one")),
        always=step("say", "echo {{ run.status }} >>~/{{ tag }}; exit 7", on="batch")
        + step("last", did("last")),
        exit=1,
        state="failed",
        hosts=f"{ALL}: done",
        tally={"web1": "one succeeded last", "web2": "one last", "web4": "one last"},
        says=["failed on web1: a1 say"],
    ),
    Case(
        name="always-after-the-undo",
        head="on_failure: undo\n",
        steps=three("web2", at="one"),
        always=step("say", "echo {{ run.status }} >>~/{{ tag }}"),
        exit=3,
        state="undone",
        hosts=f"{ALL}: undone",
        tally=dict.fromkeys(ALL.split(), "one undo-one undone"),
    ),
    Case(
        name="preflight-refuses",
        head="on_failure: undo\n",
        steps=step(
            "look", "test {{ host }} != web3", effect="read", phase="preflight"
        ) + three(),
        always=step("say", did("always")),
        exit=5,
        state="failed",
        hosts="web3: failed, web1 web2 web4: not started",
        tally={"web1": "always", "web3": "always"},
        says=["failed on web3: 1 look"],
    ),
    Case(
        name="continue-counts-for-nothing",
        head="on_failure: undo\n",
        steps=three(*ALL.split(), at="one", undo=False, on_failure="continue"),
        exit=0,
        state="succeeded",
        hosts=f"{ALL}: done",
        tally={"web1": DONE, "web4": DONE},
    ),
    Case(
        name="ask-waits-where-nobody-is",
        head="on_failure: ask\n",
        steps=three("web2"),
        exit=4,
        state="waiting",
        hosts="web1 web3 web4: begun, web2: failed",
        tally={"web1": HALF, "web2": HALF, "web3": HALF, "web4": HALF},
        says=["[retry/done/skip/failed/exclude/undo/abort]", "opskit decide"],
    ),
    Case(
        name="a-step-may-say-undo-for-itself",
        head="max_failures: 1\n",
        steps=three("web2", at="three", on_failure="undo"),
        exit=1,
        state="failed",
        hosts="web1 web3 web4: done, web2: undone",
        tally={"web1": DONE, "web2": WHOLLY, "web3": DONE},
    ),
    Case(
        name="retry-repeats-what-failed",
        steps=step(
            "one",
            did("one") + "; test $(grep -c one ~/{{ tag }}) -ge 3",
            retry="{times: 2, backoff: 0.1s}",
        ),
        exit=0,
        state="succeeded",
        hosts=f"{ALL}: done",
        tally={"web1": "one one one", "web4": "one one one"},
    ),
    Case(
        name="retry-ends",
        head="batches: [1]\n",
        steps=step("one", fails_on("one", *ALL.split()), retry="{times: 2, backoff: 0.1s}"),
        exit=1,
        state="failed",
        hosts="web1: failed, web2 web3 web4: not started",
        tally={"web1": "one one one", "web2": ""},
    ),
]  # fmt: skip


def check(trouble: Trouble, case: Case) -> None:
    """Carry out one case."""
    trouble.write(case.steps, case.head, case.always)
    begun = trouble.start()
    try:
        if case.held:
            until(lambda: FAILED.search(begun.said()) is not None, "that it is told of")
            trouble.let_go(*case.held)
    finally:
        status, said = begun.end(), begun.said()
    assert trouble.tallies(tuple(case.tally)) == case.tally, said
    assert trouble.ended() == (case.exit, case.state, case.expected()), said
    assert status == case.exit, said
    assert [text for text in case.says if text not in said] == [], said
    trouble.proved()


@pytest.fixture(scope="module")
def outcomes(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[None]"]]:
    """Carry out all cases, some at once: they share no lock, and each has its own tally."""
    with ThreadPoolExecutor(3) as pool:
        found = {}
        for case in CASES:
            fleet = Fleet(lab=lab, folder=tmp_path_factory.mktemp(case.name))
            found[case.name] = pool.submit(check, Trouble(fleet=fleet), case)
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_ends_as_the_rules_say(
    case: Case, outcomes: Mapping[str, "Future[None]"]
) -> None:
    outcomes[case.name].result()
