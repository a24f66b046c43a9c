"""SSH connections that are cut at any byte, either way: nothing twice, nothing lost, nothing asked.

Every change adds a word to a file on its host, which is alive all the time: so the record must end
up with what the host did, and `unknown` is never an answer. Cuts come by FIN or by RST, several in
a run: while a session is set up, within a request, within an answer, between steps.
"""

import hashlib
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from opskit import audit
from opskit.lab import Lab
from opskit.model.event import Event
from tests.support.fleet import Fleet
from tests.support.proxy import Proxy, proxy
from tests.support.trouble import Trouble, did, step

pytestmark = pytest.mark.acceptance

CASES = 8
SOAK = int(os.environ.get("OPSKIT_CUTS", "300"))
FILE = random.Random("file").randbytes(50_000)
SLOW = f"{did('begin')}; for n in 1 2 3 4 5; do echo slow-$n; sleep 0.25; done; {did('end')}"
STEPS = (
    step("one", did("one"))
    + step("loud", f"seq 1 3000; {did('loud')}; seq 3001 6000")
    + "  - {name: put, upload: {src: put.bin, dest: '/tmp/{{ tag }}.put'}}\n"
    + step("look", "seq 1 4000", effect="read")
    + step("slow", SLOW)
    + step("root", "echo root >>/home/ops/{{ tag }}", sudo="root")
    + step("given", f"wc -c; {did('given')}", stdin="x" * 9000)
    + step("last", did("last"))
)
TALLY = "one loud begin end root given last"
TRAFFIC = 170_000
"""About as many bytes as pass in a run that nobody disturbs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuts:
    """After how many bytes the connections are cut, each counted from the cut before."""

    number: int
    after: Sequence[int]
    hard: bool


def drawn(count: int, seed: str) -> list[Cuts]:
    """Draw cuts; the same for the same seed. Some come close together: while it comes back."""
    rng = random.Random(seed)
    cases = []
    for number in range(count):
        after = [rng.randrange(TRAFFIC)]
        for _ in range(rng.choice((0, 1, 2, 3))):
            after.append(rng.randrange(rng.choice((3_000, 30_000, TRAFFIC))))
        cases.append(Cuts(number=number, after=after, hard=rng.random() < 0.5))
    return cases


def through(lab: Lab, host: str, line: Proxy, folder: Path) -> Path:
    """Write an inventory that has one host of the lab, by way of a relay; return its path."""
    there = lab.layout.host(host)
    keys = lab.layout.known_hosts.read_text().splitlines()
    key = next(key for key in keys if key.startswith(f"[{there.address}]:"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{line.port} {key.partition(' ')[2]}\n")
    connection = (
        f"user: {lab.layout.user}, port: {line.port}, key: {lab.layout.key}, "
        f"known_hosts: {folder / 'known_hosts'}, connect_timeout: 10s"
    )
    path = folder / "through.yaml"
    path.write_text(
        f"opskit: 1\nconnection: {{{connection}}}\nhosts:\n"
        f"  {host}: {{address: 127.0.0.1}}\ngroups:\n  web: {{hosts: [{host}]}}\n"
    )
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Carries out one case."""

    case: Cuts
    host: str
    trouble: Trouble

    def check(self) -> int:
        """Return how often connections were really cut."""
        fleet = self.trouble.fleet
        (fleet.folder / "put.bin").write_bytes(FILE)
        self.trouble.write(STEPS, hosts=self.host)
        there = fleet.lab.layout.host(self.host)
        with proxy((there.address, 2222)) as line:
            environ = {"OPSKIT_INVENTORY": str(through(fleet.lab, self.host, line, fleet.folder))}
            line.cut_after, *line.then = self.case.after
            line.hard = self.case.hard
            said = self._to_the_end(environ)
            cuts = line.cuts
        self._whole(said)
        return cuts

    def _to_the_end(self, environ: Mapping[str, str]) -> str:
        """Run; where a host could not be reached, nothing was sent, and a retry sends the rest."""
        words: list[str] = self.trouble.words()
        said = ""
        for _ in range(len(self.case.after) + 1):
            done = self.trouble.fleet.opskit(*words, status=None, environ=environ)
            said += done.stdout + done.stderr
            if done.returncode == 0:
                return said
            states = self.trouble.fleet.hosts("last")
            assert done.returncode in (1, 5), f"{self.case}\n{said}"
            assert states[self.host] == "unreachable", f"{self.case}\n{said}"
            words = ["retry", "last", "--hosts", "failed", "--yes"]
        raise AssertionError(f"{self.case}\n{said}")

    def _whole(self, said: str) -> None:
        assert " ".join(self.trouble.tally(self.host)) == TALLY, f"{self.case}\n{said}"
        put = self.trouble.sh(self.host, f"sha256sum </tmp/{self.trouble.tag}.put").split()[0]
        assert put == hashlib.sha256(FILE).hexdigest(), self.case
        store = audit.open(self.trouble.fleet.environ["OPSKIT_STORE"])
        try:
            run = store.load(store.find("last"))
            for one in run.actions.values():
                parts = store.output(run.id, one.key, one.attempt, "stdout")
                assert b"".join(parts).decode() == OUTPUTS.get(one.step, ""), f"{self.case} {one}"
            for entry in store.entries(run.id):
                assert honest(entry.event), f"{self.case}\n{entry.event}\n{said}"
            assert store.verify() == []
        finally:
            store.close()


OUTPUTS: Mapping[str, str] = {
    "loud": "".join(f"{number}\n" for number in range(1, 6001)),
    "look": "".join(f"{number}\n" for number in range(1, 4001)),
    "slow": "".join(f"slow-{number}\n" for number in range(1, 6)),
    "given": "9000\n",
}


def honest(event: Event) -> bool:
    """Tell whether an event may stand in the record: no change has failed, none is unknown."""
    if event.kind in ("waiting", "decided"):
        return event.data.get("choice") == "retry"  # this test's own
    if event.kind != "step ended":
        return True
    if event.data["outcome"] == "failed":
        return event.data.get("sent") is False or event.step == "look"
    return event.data["outcome"] == "succeeded"


def carried_out(
    lab: Lab, factory: pytest.TempPathFactory, cases: Sequence[Cuts], at_once: int
) -> Iterator[Sequence["Future[int]"]]:
    with ThreadPoolExecutor(at_once) as pool:
        yield [
            pool.submit(
                Cut(
                    case=case,
                    host=f"web{1 + case.number % 4}",
                    trouble=Trouble(fleet=Fleet(lab=lab, folder=factory.mktemp("cut")), name="t"),
                ).check
            )
            for case in cases
        ]


@pytest.fixture(scope="module")
def outcomes(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence["Future[int]"]]:
    yield from carried_out(lab, tmp_path_factory, drawn(CASES, "sample"), 4)


@pytest.mark.parametrize("case", drawn(CASES, "sample"), ids=lambda case: f"{case.number}")
def test_a_cut_leaves_no_trace(case: Cuts, outcomes: Sequence["Future[int]"]) -> None:
    outcomes[case.number].result()


@pytest.mark.soak
def test_hundreds_of_cuts_leave_no_trace(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cuts = 0
    for turn in range(SOAK):
        for futures in carried_out(lab, tmp_path_factory, drawn(40, f"turn {turn}"), 4):
            cuts += sum(future.result() for future in futures)
        sys.stderr.write(f"{cuts} cuts\n")
        if cuts >= SOAK:
            return
    raise AssertionError(f"only {cuts} cuts")
