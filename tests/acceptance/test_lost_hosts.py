"""Hosts that are cut off, reset, frozen or rebooted before, during and after a step.

Every case has a host of its own that is harmed, and shares one that is sound. All go on at once,
since most of their time is waiting.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

import pytest

from opskit import lab as labs
from opskit.lab import Lab
from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, fails_on, held, step, until

pytestmark = pytest.mark.acceptance

Harm = Literal["cut", "reset", "freeze", "reboot", "blip"]
Moment = Literal["before", "change", "read", "between", "undo", "back", "once", "once-change"]
LIMIT, LONG = 20.0, 90.0
"""Seconds that a step may take, at the least; LONG: where it is to come to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """What is done to a host and when, and what must be true then.

    `tally`: what the host itself says once it is well again; several where that is up to chance.
    """

    harm: Harm
    moment: Moment
    exit: int
    state: str
    tally: tuple[str, ...]
    says: str = ""
    after: tuple[int, str, str] | None = None
    """What a resume comes to once the host is well again: exit status, its tally, the sound one's.

    None: the host can't tell, so the resume asks.
    """

    @property
    def name(self) -> str:
        return f"{self.harm}-{self.moment}"


GONE = "may go on at the host"
TWICE = tuple(
    f"one {rest}"
    for rest in (
        "begin-two begin-two two", "begin-two begin-two two two", "begin-two two begin-two two",
    )
)  # fmt: skip
"""A read is made again; the shell of the first one may still be busy with it."""
HALF = ("one begin-two", "one begin-two two")


def lost(
    harm: Harm,
    moment: Moment,
    status: int,
    state: str,
    *tally: str,
    says: str = "",
    after: tuple[int, str, str] | None = None,
) -> Lost:
    return Lost(
        harm=harm, moment=moment, exit=status, state=state, tally=tally, says=says, after=after
    )


DONE = (0, "one begin-two two three", "one begin-two two three")


CASES = [
    # Before the run: nothing is sent.
    lost("cut", "before", 1, "unreachable", "", says="no answer in time"),
    lost("reset", "before", 1, "unreachable", "", says="refused"),
    lost("freeze", "before", 1, "unreachable", ""),
    lost("reboot", "before", 0, "done", "one two"),
    # While a change runs: it goes on there, and nobody here knows.
    lost("cut", "change", 4, "unknown", "one begin-two two", says="can't tell", after=DONE),
    lost("reset", "change", 4, "unknown", "one begin-two two", says="can't be asked", after=DONE),
    lost("freeze", "change", 4, "unknown", "one begin-two two", says="can't tell", after=DONE),
    lost("reboot", "change", 4, "unknown", "one begin-two", says="started anew since"),
    lost("blip", "change", 0, "done", "one begin-two two three", says="it is looked for until"),
    # While a read runs: it has failed, and that is all there is to know.
    lost("cut", "read", 1, "failed", *HALF, says="can't tell"),
    lost("reset", "read", 1, "failed", *HALF),
    lost("freeze", "read", 1, "failed", *HALF, says="can't tell"),
    lost("reboot", "read", 1, "failed", "one begin-two begin-two"),
    lost("blip", "read", 0, "done", *TWICE),
    # Between two steps: what is sent into silence is unknown, what can't be sent is not.
    lost("cut", "between", 4, "unknown", "one", "one two", after=(0, "one two", "one two")),
    lost("reset", "between", 1, "unreachable", "one", says="refused"),
    lost("freeze", "between", 4, "unknown", "one", "one two", after=(0, "one two", "one two")),
    lost("reboot", "between", 0, "done", "one two"),
    # While it is taken back.
    lost(
        "cut",
        "undo",
        4,
        "unknown",
        "one two begin-undo-one undo-one",
        after=(1, "one two begin-undo-one undo-one", "one two"),
    ),
    lost("blip", "undo", 1, "undone", "one two begin-undo-one undo-one"),
    lost("reboot", "undo", 4, "unknown", "one two begin-undo-one"),
    # What can't be taken back, because the host is gone.
    lost("reset", "back", 1, "undo failed", "one", says="refused"),
    # Before a step that is done once, and while it is done: it goes elsewhere only if not sent.
    lost("cut", "once", 1, "unreachable", ""),
    lost(
        "reset",
        "once-change",
        4,
        "unknown",
        "begin-pay pay",
        says="can't be asked",
        after=(0, "begin-pay pay two", "two"),
    ),
]
SOUND = f"web{len(CASES) + 1}"
SOUNDS: Mapping[Moment, tuple[str, str]] = {
    "before": ("done", "one two"),
    "change": ("begun", "one begin-two two"),
    "read": ("done", "one begin-two two"),
    "between": ("done", "one two"),
    "undo": ("done", "one two"),
    "back": ("done", "one two"),
    "once": ("done", "pay two"),
    "once-change": ("not started", ""),
}
"""How the sound host comes out, and its tally."""


def patience(lab: Lab) -> float:
    """Return for how long a step must last, so that its host is harmed within that time.

    All cases go on at once, and harm their hosts one after the other: it is seen how long that
    takes on a machine that is as busy as this one.
    """
    began = time.monotonic()
    lab.cut(SOUND)
    lab.heal(SOUND)
    return max(LIMIT, 25 * (time.monotonic() - began))


def steps(case: Lost, host: str, gate: Path, seconds: float) -> str:
    """Write the steps of a case."""
    limit = f"{max(LONG, seconds) if case.harm == 'blip' else seconds:.0f}s"
    one = step("one", did("one"), undo=held("undo-one"), timeout=limit)
    two = step("two", did("two"), timeout=limit)
    match case.moment:
        case "before":
            return one + two
        case "change":
            return one + step("two", held("two"), timeout=limit) + step("three", did("three"))
        case "read":
            return one + step("two", held("two"), timeout=limit, effect="read")
        case "between" | "back":
            wait = f"touch {gate}.come; while ! test -e {gate}.go; do sleep 0.05; done"
            return one + step("gate", wait, on="controller", timeout="60s") + two
        case "undo":
            return one.replace("undo-one, run", f"undo-one, timeout: {limit}, run") + step(
                "two", fails_on("two", host), on_failure="undo"
            )
        case "once" | "once-change":
            pay = did("pay") if case.moment == "once" else held("pay")
            return step("pay", pay, on="once", timeout=limit) + two


@dataclass(frozen=True, kw_only=True, slots=True)
class Harmed:
    """Carries out one case."""

    case: Lost
    host: str
    trouble: Trouble
    lock: Lock
    patience: float

    @property
    def gate(self) -> Path:
        return self.trouble.fleet.folder / "gate"

    def harm(self) -> None:
        lab = self.trouble.fleet.lab
        with self.lock:
            match self.case.harm:
                case "cut":
                    lab.cut(self.host)
                case "reset" | "blip":
                    lab.cut(self.host, reset=True)
                case "freeze":
                    lab.freeze(self.host)
                case "reboot":
                    assert lab.reboot(self.host)

    def heal(self) -> None:
        with self.lock:
            self.trouble.fleet.lab.heal(self.host)

    def come(self) -> None:
        """Wait for the moment at which the host is harmed."""
        match self.case.moment:
            case "change" | "read":
                self.trouble.until(self.host, "begin-two")
            case "between" | "back":
                until(Path(f"{self.gate}.come").exists, "the gate")
            case "undo":
                self.trouble.until(self.host, "begin-undo-one")
            case "once-change":
                self.trouble.until(self.host, "begin-pay")

    def check(self) -> None:
        self.trouble.write(
            steps(self.case, self.host, self.gate, self.patience),
            head="max_failures: 1\n" + ("on_failure: undo\n" if self.case.moment == "back" else ""),
            hosts=f"{self.host}:{SOUND}",
        )
        try:
            self.trouble.let_go(SOUND)
            if self.case.moment in ("before", "once"):
                self.harm()
                begun = self.trouble.start()
            else:
                begun = self.trouble.start()
                self.come()
                self.harm()
                Path(f"{self.gate}.go").touch()
            if self.case.harm == "blip":
                time.sleep(1)
                self.heal()
                self.trouble.let_go(self.host)
            status = begun.end(60 + 5 * self.patience)
        finally:
            self.heal()
        self.trouble.let_go(self.host)
        self.ended(status, begun.said())
        self.resumed()

    def ended(self, status: int, said: str) -> None:
        case = self.case
        code, _, hosts = self.trouble.ended()
        assert (status, code, hosts[self.host]) == (case.exit, case.exit, case.state), said
        assert hosts[SOUND] == ("done" if case.harm == "blip" else SOUNDS[case.moment][0]), said
        assert case.says in said, said
        self.trouble.proved()

    def resumed(self) -> None:
        """A resume without a terminal repeats nothing; on the host all was done at most once."""
        tally = self.trouble.tally
        if self.case.after is not None:
            until(lambda: " ".join(tally(self.host)) in self.case.tally, str(self.case))
            status, mine, sound = self.case.after
            self.trouble.fleet.opskit("resume", "last", status=status)
            assert (" ".join(tally(self.host)), " ".join(tally(SOUND))) == (mine, sound)
            self.trouble.proved()
            return
        if self.case.exit == 4:
            again = self.trouble.fleet.opskit("resume", "last", status=4)
            assert "Nobody knows whether" in again.stdout
        until(lambda: " ".join(tally(self.host)) in self.case.tally, str(self.case))
        sound = SOUNDS[self.case.moment][1]
        if (self.case.harm, self.case.moment) == ("blip", "change"):
            sound += " three"
        assert " ".join(tally(SOUND)) == sound


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a fleet that may be harmed: a host for each case, and one that stays sound."""
    folder = tmp_path_factory.mktemp("rough") / "fleet"
    try:
        lab = labs.up(folder, web=len(CASES) + 1, lb=0)
        text = lab.inventory.read_text()
        lab.inventory.write_text(
            text.replace("connection: {", "connection: {connect_timeout: 10s, ")
        )
        yield lab
    finally:
        labs.down(folder)


@pytest.fixture(scope="module")
def outcomes(
    rough: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[None]"]]:
    """Carry out all cases at once."""
    lock, seconds = Lock(), patience(rough)
    with ThreadPoolExecutor(7) as pool:
        found = {}
        for number, case in enumerate(CASES):
            fleet = Fleet(lab=rough, folder=tmp_path_factory.mktemp(case.name))
            harmed = Harmed(
                case=case,
                host=f"web{number + 1}",
                trouble=Trouble(fleet=fleet),
                lock=lock,
                patience=seconds,
            )
            found[case.name] = pool.submit(harmed.check)
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_lost_host_ends_as_the_rules_say(
    case: Lost, outcomes: Mapping[str, "Future[None]"]
) -> None:
    outcomes[case.name].result()


GONE_FOR = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Away:
    """A host that is off the net for half a minute is come back to before the time-out."""

    trouble: Trouble
    host: str
    harm: Harm
    read: bool
    lock: Lock

    def check(self) -> None:
        trouble, lab = self.trouble, self.trouble.fleet.lab
        effect = {"effect": "read"} if self.read else {}
        two = step("two", held("two"), timeout="180s", **effect)
        trouble.write(step("one", did("one")) + two + step("three", did("three")), hosts=self.host)
        begun = trouble.start()
        try:
            trouble.until(self.host, "begin-two")
            with self.lock:
                if self.harm == "freeze":
                    lab.freeze(self.host)
                else:
                    lab.cut(self.host, reset=self.harm == "reset")
            time.sleep(GONE_FOR)
            with self.lock:
                lab.heal(self.host)
            back = time.monotonic()
            trouble.let_go(self.host)
            status = begun.end(120)
            took = time.monotonic() - back
        finally:
            begun.end(1)
        assert status == 0, begun.said()
        # A line that was only silent lives on; over a new one a read is made again.
        wanted = ["one begin-two two three"]
        if self.read:  # the shell of the first one may be busy with it even after what follows
            wanted += [f"{known} three" for known in TWICE]
            wanted += ["one begin-two begin-two two three two"]
        assert " ".join(trouble.tally(self.host)) in wanted
        assert took < 45, begun.said()
        trouble.proved()


@pytest.mark.soak
def test_a_run_goes_on_by_itself_when_the_net_is_back(rough: Lab, tmp_path: Path) -> None:
    harms: tuple[Harm, ...] = ("cut", "reset", "freeze")
    lock = Lock()
    with ThreadPoolExecutor(6) as pool:
        work = []
        for number, (harm, read) in enumerate((h, r) for h in harms for r in (False, True)):
            folder = tmp_path / f"{harm}{read}"
            folder.mkdir()
            away = Away(
                trouble=Trouble(fleet=Fleet(lab=rough, folder=folder)),
                host=f"web{number + 1}", harm=harm, read=read, lock=lock,
            )  # fmt: skip
            work.append(pool.submit(away.check))
        for one in work:
            one.result()
