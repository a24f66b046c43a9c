"""opskit killed, its record unwritable, two at once: nothing is done twice, nothing goes unsaid."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from opskit.lab import Lab
from tests.support.fleet import Fleet
from tests.support.terminal import terminal
from tests.support.trouble import Trouble, did, held, step

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """opskit is killed once `word` stands in the tally of web1.

    `exit`, `state` of web1 and `tally` are what a resume must come to where nobody can be asked;
    `answers` are a person's after that, and `end` and `after` what they lead to.
    """

    name: str
    steps: str
    word: str
    exit: int
    state: str
    tally: str
    head: str = ""
    always: str = ""
    answers: Sequence[str] = ()
    end: int = 0
    after: str = ""
    single: bool = False
    """Whether it happens on web1 alone."""


ONE, THREE = step("one", did("one"), undo=did("undo-one")), step("three", did("three"))
TWO = step("two", held("two"), undo=did("undo-two"))
UNDO = "on_failure: undo\n"
LOOKING = f"test -e ~/{{{{ tag }}}}.go || {{ {did('begin-two')}; sleep 20; }}"
LOOK = '{name: look, run: "test -e ~/{{ tag }}.go", effect: read}'


def change(name: str, answers: Sequence[str], end: int, after: str, head: str = UNDO) -> Kill:
    """A change is under way; a resume asks, and does what the person says."""
    return Kill(
        name=name, steps=ONE + TWO + THREE, word="begin-two", exit=4, state="unknown",
        tally="one begin-two two", answers=answers, end=end, after=after, head=head,
    )  # fmt: skip


CASES = [
    change("change-done", ["done"], 0, "one begin-two two three"),
    change("change-failed", ["failed"], 3, "one begin-two two undo-two undo-one"),
    change("change-retry", ["retry"], 0, "one begin-two two begin-two two three"),
    change("change-abort", ["abort"], 6, "one begin-two two"),
    Kill(
        name="change-that-counts-as-failed",
        steps=ONE + step("two", held("two"), undo=did("undo-two"), on_unknown="fail") + THREE,
        word="begin-two", exit=6, state="unknown", tally="one begin-two two", head=UNDO,
        answers=["done"], end=0, after="one begin-two two three",
    ),
    Kill(
        name="change-that-tells",
        steps=ONE + step("two", held("two"), undo=did("undo-two"), done_when=LOOK) + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two two three",
    ),
    Kill(
        name="change-that-may-be-repeated",
        steps=ONE + step("two", held("two"), repeatable="true", on_unknown="retry") + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two two begin-two two three",
    ),
    Kill(
        name="read",
        steps=ONE + step("two", LOOKING, effect="read") + THREE,
        word="begin-two", exit=0, state="done", tally="one begin-two three",
    ),
    Kill(
        name="wait", steps=ONE + "  - {name: two, wait: 2s}\n" + THREE,
        word="one", exit=0, state="done", tally="one three",
    ),
    Kill(
        name="once", steps=step("pay", held("pay"), on="once") + THREE,
        word="begin-pay", exit=4, state="unknown", tally="begin-pay pay",
        answers=["done"], end=0, after="begin-pay pay three", single=True,
    ),
    Kill(
        name="undo",
        steps=step("one", did("one"), undo=held("undo-one")) + step("two", "false"), head=UNDO,
        word="begin-undo-one", exit=4, state="unknown", tally="one begin-undo-one undo-one",
        answers=["done", "done"], end=1, after="one begin-undo-one undo-one",
    ),
    Kill(
        name="always",
        steps=ONE, always=step("say", held("say"), on="batch"),
        word="begin-say", exit=4, state="unknown", tally="one begin-say say",
        answers=["done"], end=0, after="one begin-say say", single=True,
    ),
]  # fmt: skip
HOSTS = ("web1", "web2")


def check(trouble: Trouble, case: Kill) -> None:
    trouble.write(case.steps, case.head, case.always, hosts="web1:web2")
    killed(trouble, case)
    done = trouble.fleet.opskit("resume", "last", status=case.exit)
    code, _, hosts = trouble.ended()
    assert (code, hosts["web1"]) == (case.exit, case.state), done.stdout
    assert " ".join(trouble.tally("web1")) == case.tally, done.stdout
    if case.answers:
        answered(trouble, case)
    trouble.proved()


def killed(trouble: Trouble, case: Kill) -> None:
    """Start the run, kill opskit, let what it began come to its end on the hosts."""
    begun = trouble.start()
    try:
        for host in HOSTS[:1] if case.single else HOSTS:
            trouble.until(host, case.word)
    finally:
        begun.process.kill()
        begun.end()
    assert trouble.ended()[:2] in ((130, "running"), (130, "undoing"))
    trouble.let_go(*HOSTS)
    last = case.word.removeprefix("begin-")
    if case.name != "read":
        trouble.until("web1", last)


def answered(trouble: Trouble, case: Kill) -> None:
    """A second resume asks the same again; then a person answers."""
    trouble.fleet.opskit("resume", "last", status=4)
    assert " ".join(trouble.tally("web1")) == case.tally
    environ, folder = trouble.fleet.environ, trouble.fleet.folder
    with terminal(["resume", "last", "--no-live"], environ=environ, folder=folder) as person:
        for number, answer in enumerate([*case.answers, *case.answers]):
            end = time.monotonic() + 30
            while person.text().count("abort] ") <= number and person.process.poll() is None:
                assert time.monotonic() < end, person.text()
                time.sleep(0.05)
            if person.process.poll() is not None:
                break
            person.type(answer + "\n")
        assert person.end() == case.end, person.text()
    assert trouble.ended()[0] == case.end
    assert " ".join(trouble.tally("web1")) == case.after, person.text()


@pytest.fixture(scope="module")
def outcomes(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[None]"]]:
    """Carry out all cases at once."""
    with ThreadPoolExecutor(5) as pool:
        found = {}
        for case in CASES:
            fleet = Fleet(lab=lab, folder=tmp_path_factory.mktemp(case.name))
            found[case.name] = pool.submit(check, Trouble(fleet=fleet, name=case.name), case)
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_killed_run_repeats_nothing_by_itself(
    case: Kill, outcomes: Mapping[str, "Future[None]"]
) -> None:
    outcomes[case.name].result()
