"""Stopping by signals and time-outs: what ran on the hosts is gone, or said not to be.

All cases go on at once, on one host: most of their time is waiting.
"""

import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from opskit.lab import Lab
from tests.support.fleet import Fleet
from tests.support.trouble import Trouble, did, held, step

pytestmark = pytest.mark.acceptance

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
MARK = "export MARK={{ tag }}."
"""What the processes of a run are known by on their host."""
ENDLESS = f"{did('begin-two')}; {MARK}; sleep 900; {did('two')}"
CHILDREN = f'{did("begin-two")}; {MARK}; (sleep 900; true) & sh -c "sleep 900; true" & wait'
DEAF = f'trap "" TERM; {ENDLESS}'
ASTRAY = f"{MARK}; setsid -f sleep 900 >/dev/null 2>&1 </dev/null; {ENDLESS}"
TREE = """
(trap '' TERM; (sleep 901; true) & sleep 901; true) &
setsid sh -c '(sleep 901; true) & sleep 901; true' &
(setsid sh -c 'sleep 901; true' 9>&- >/dev/null 2>&1 </dev/null & sleep 900) &
"""
"""Children and theirs, some deaf to TERM, some in sessions of their own; all below the command."""
LEAVES = """
(env -i MARK="$MARK" setsid sh -c 'sleep 902; true' 9>&- >/dev/null 2>&1 </dev/null &)
"""
"""It has left session and tree, and thrown away what it would be known by but for our own mark."""
READ = f"test -e ~/{{{{ tag }}}}.go || {{ {ENDLESS}; }}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A run whose second step is stopped: by signals, or (without any) by a rule of its own.

    `exit`, `state` of the host and `tally` are what must be true then; `resumed` is the exit status
    of a resume where nobody can be asked, `after` the tally after it.
    """

    name: str
    two: str
    exit: int
    state: str
    tally: str
    signals: Sequence[signal.Signals] = ()
    read: bool = False
    timeout: str = "60s"
    silent: str = "5m"
    says: str = ""
    left: bool = False
    """Whether something of it may be left on the host."""
    family: str = ""
    """What it starts besides: a script that is put on the host first."""
    sudo: bool = False
    resumed: int | None = None
    after: str = ""

    @property
    def keys(self) -> dict[str, str]:
        back = {} if self.read else {"undo": did("undo-two")}
        rules = {"timeout": self.timeout, "silent": self.silent}
        read = {"effect": "read"} if self.read else {}
        return {**rules, **read, **({"sudo": "root"} if self.sudo else {}), **back}


def once(name: str, *signals: signal.Signals, read: bool = False) -> Stop:
    """What is under way goes on to its end, and the run goes on from there."""
    return Stop(
        name=name, two=held("two"), signals=signals, read=read, exit=130, state="begun",
        tally="one begin-two two", says="nothing new starts", resumed=0,
        after="one begin-two two three",
    )  # fmt: skip


def twice(name: str, two: str, *signals: signal.Signals, left: bool = False) -> Stop:
    """What is under way is ended; whether to do it again is for a person to say."""
    return Stop(
        name=name, two=two, signals=signals or (INT, INT), exit=130, tally="one begin-two",
        state="unknown" if left else "failed", left=left, resumed=4, after="one begin-two",
        says="stopped by a person, " + ("can't tell" if left else "confirmed gone"),
    )  # fmt: skip


def family(*, leaves: bool, read: bool, sudo: bool, timeout: bool) -> Stop:
    """Three generations are ended, wherever in the tree they are; who has left it is told of."""
    how = ("leaves" if leaves else "stays", "read" if read else "change", "root" if sudo else "me")
    verdict = "can't tell" if leaves else "confirmed gone"
    known: dict[str, Any] = {
        "name": "-".join((*how, "timeout" if timeout else "stop")), "two": FAMILY, "read": read,
        "sudo": sudo, "left": leaves, "family": TREE + (LEAVES if leaves else ""),
    }  # fmt: skip
    if timeout:
        back = "one begin-two undo-one" if read else BACK
        unknown = leaves and not read
        return Stop(
            **known, timeout="1.5s", says=f"timed out after 1.5 s, {verdict}",
            exit=4 if unknown else 3, state="unknown" if unknown else "undone",
            tally="one begin-two" if unknown else back,
        )  # fmt: skip
    return Stop(
        **known, signals=(INT, INT), says=f"stopped by a person, {verdict}", exit=130,
        state="unknown" if leaves and not read else "failed", tally="one begin-two",
    )  # fmt: skip


FAMILY = (
    f"{MARK}; . /tmp/{{{{ tag }}}}.sh; echo begin-two >>/home/ops/{{{{ tag }}}}; sleep 900; true"
)
BACK = "one begin-two undo-two undo-one"
FLAGS = (False, True)
CASES = [
    once("int", INT),
    once("term", TERM),
    once("hup", HUP),
    once("term-twice", TERM, TERM),
    once("hup-then-term", HUP, TERM),
    once("int-in-a-read", INT, read=True),
    twice("int-int", ENDLESS),
    twice("int-int-children", CHILDREN),
    twice("int-int-deaf", DEAF),
    twice("int-int-astray", ASTRAY, left=True),
    twice("term-int", ENDLESS, TERM, INT),
    Stop(
        name="int-int-in-a-read", two=READ, signals=(INT, INT), read=True, exit=130,
        state="failed", tally="one begin-two", says="stopped by a person, confirmed gone",
        resumed=0, after="one begin-two three",
    ),
    Stop(
        name="timeout", two=ENDLESS, timeout="1s", exit=3, state="undone", tally=BACK,
        says="timed out after 1 s, confirmed gone",
    ),
    Stop(
        name="timeout-children", two=CHILDREN, timeout="1s", exit=3, state="undone", tally=BACK,
        says="timed out after 1 s, confirmed gone",
    ),
    Stop(
        name="timeout-deaf", two=DEAF, timeout="1s", exit=3, state="undone", tally=BACK,
        says="timed out after 1 s, confirmed gone",
    ),
    Stop(
        name="timeout-astray", two=ASTRAY, timeout="1s", exit=4, state="unknown",
        tally="one begin-two", says="timed out after 1 s, can't tell", left=True, resumed=4,
        after="one begin-two",
    ),
    Stop(
        name="silent", two=CHILDREN, silent="{after: 1s, stop: true}", exit=3, state="undone",
        tally=BACK, says="ended because it printed nothing for 1s, confirmed gone",
    ),
    Stop(
        name="silent-in-a-read", two=ENDLESS, silent="{after: 1s, stop: true}", read=True, exit=3,
        state="undone", tally="one begin-two undo-one",
        says="ended because it printed nothing for 1s, confirmed gone",
    ),
    Stop(
        name="silent-astray", two=ASTRAY, silent="{after: 1s, stop: true}", exit=4,
        state="unknown", tally="one begin-two", left=True, resumed=4, after="one begin-two",
        says="ended because it printed nothing for 1s, can't tell",
    ),
    Stop(
        name="timeout-of-a-read", two=ENDLESS, timeout="1s", read=True, exit=3, state="undone",
        tally="one begin-two undo-one", says="timed out after 1 s, confirmed gone",
    ),
]  # fmt: skip
FAMILIES = [
    (family(leaves=leaves, read=read, sudo=sudo, timeout=timeout), leaves ^ read ^ sudo ^ timeout)
    for leaves in FLAGS for read in FLAGS for sudo in FLAGS for timeout in FLAGS
]  # fmt: skip
CASES += [case for case, odd in FAMILIES if not odd]
REST = [case for case, odd in FAMILIES if odd]
HOST = "web1"


def check(trouble: Trouble, case: Stop) -> None:
    """Carry out one case."""
    one, three = step("one", did("one"), undo=did("undo-one")), step("three", did("three"))
    two = step("two", case.two, **case.keys)
    trouble.write(one + two + three, "on_failure: undo\n", hosts=HOST)
    if case.family:
        text = shlex.quote(case.family)
        trouble.sh(HOST, f"printf %s {text} >/tmp/{trouble.tag}.sh; : >>/home/ops/{trouble.tag}")
    begun = trouble.start()
    try:
        if case.signals:
            trouble.until(HOST, "begin-two")
        for number in case.signals:
            begun.process.send_signal(number)
            time.sleep(0.4)
        if case.state == "begun":
            assert begun.process.poll() is None  # it waits for what it has begun
            trouble.let_go(HOST)
        status = begun.end()
        ended(trouble, case, status, begun.said())
        resumed(trouble, case)
    finally:
        begun.end(1)
        for pid in running(trouble):
            trouble.fleet.sh(HOST, f"kill -KILL {pid}")


def ended(trouble: Trouble, case: Stop, status: int, said: str) -> None:
    code, _, hosts = trouble.ended()
    assert (status, code, hosts) == (case.exit, case.exit, {HOST: case.state}), said
    assert " ".join(trouble.tally(HOST)) == case.tally, said
    assert bool(running(trouble)) is case.left, said
    assert case.says in said, said
    trouble.proved()


def resumed(trouble: Trouble, case: Stop) -> None:
    if case.resumed is not None:
        trouble.let_go(HOST)
        trouble.fleet.opskit("resume", "last", status=case.resumed)
        assert " ".join(trouble.tally(HOST)) == case.after
        trouble.proved()


def running(trouble: Trouble) -> list[int]:
    """Return the processes of this run on its host, as the host numbers them, by its root."""
    found = trouble.fleet.sh(HOST, f"grep -lsaF MARK={trouble.tag}. /proc/[0-9]*/environ || true")
    return [int(path.split("/")[2]) for path in found.split()]


def carried_out(
    lab: Lab, factory: pytest.TempPathFactory, cases: Sequence[Stop]
) -> Iterator[Mapping[str, "Future[None]"]]:
    """Carry out all cases at once."""
    with ThreadPoolExecutor(8) as pool:
        found = {}
        for case in cases:
            fleet = Fleet(lab=lab, folder=factory.mktemp(case.name))
            found[case.name] = pool.submit(check, Trouble(fleet=fleet, name=case.name), case)
        yield found


@pytest.fixture(scope="module")
def outcomes(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[None]"]]:
    yield from carried_out(lab, tmp_path_factory, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stop_ends_as_the_rules_say(case: Stop, outcomes: Mapping[str, "Future[None]"]) -> None:
    outcomes[case.name].result()


@pytest.mark.soak
def test_the_other_families_end_as_the_rules_say(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for futures in carried_out(lab, tmp_path_factory, REST):
        for future in futures.values():
            future.result()
