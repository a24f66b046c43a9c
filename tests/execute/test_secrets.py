"""Secrets that steps save: for their own host, for later steps, in no record and on no screen."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from opskit.errors import InputError
from opskit.execute import Outside, Stop, execute
from opskit.execute.driver import Write
from opskit.model.event import Chunk, Event
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from opskit.model.value import Json, Secret
from tests.support.world import FACTS, Crash, Paper, World, hosts, planned, runbook


@dataclass
class Vault(World):
    """Says a secret of its own on each host; keeps what every job was given."""

    given: dict[str, Mapping[str, str]] = field(default_factory=dict)
    evidence: bool = False
    papers: list[Paper] = field(default_factory=list)

    def perform(self, job: Job, write: Write) -> Output:
        self.given[job.key] = {name: secret.reveal() for name, secret in job.secrets.items()}
        said = f"secret of {job.host.name}\n".encode()
        write("stdout", said)
        write("stderr", b"a remark\n")
        body: dict[str, Json] = {"body": said.decode(), "latency_ms": 1.0} if self.evidence else {}
        return replace(super().perform(job, write), stdout=said, evidence=body)


def carry_out(plan: Plan, world: Vault, *, poor: bool = False) -> tuple[Paper, list[Chunk]]:
    paper, chunks = Paper(world), list[Chunk]()
    world.papers.append(paper)

    def watch(item: Event | Chunk) -> None:
        chunks.extend([item] if isinstance(item, Chunk) else [])

    def hide(secret: Secret) -> None:
        if poor:
            raise InputError("it is too short")

    outside = Outside(targets=world, journal=paper, secrets={}, watch=watch, stop=Stop(), hide=hide)
    execute(plan, [], outside, FACTS)
    return paper, chunks


READ = "  - {name: read, run: read, effect: read, save: {name: mine, secret: true}}\n"
USE = """
  - {name: variable, run: use, secrets: {T: mine}, undo: [{run: back, secrets: {T: mine}}]}
  - {name: input, run: use, stdin: '{{ mine }}'}
  - {name: page, http: {url: 'http://x/', method: POST}, secrets: {Authorization: mine}}
"""


def test_each_host_gets_the_secret_that_was_saved_for_it(tmp_path: Path) -> None:
    plan = planned(runbook(READ + USE, "batches: [2]\n"), tmp_path, hosts=3)
    world = Vault()
    paper, _ = carry_out(plan, world)
    assert set(hosts(paper).values()) == {"done"}
    for host in ("web1", "web2", "web3"):
        for step in ("2", "3", "4"):
            assert world.given[f"{step}/{host}"] == {"mine": f"secret of {host}"}


def test_what_one_host_saves_for_all_reaches_all(tmp_path: Path) -> None:
    once = READ.replace("effect", "on: once, effect")
    world = Vault()
    carry_out(planned(runbook(once + USE), tmp_path), world)
    assert world.given["2/web2"] == world.given["3/web2"] == {"mine": "secret of web1"}


def test_a_secret_within_an_include_stays_there_unless_it_is_exported(tmp_path: Path) -> None:
    head = "opskit: 1\nname: inner\nversion: 1.0.0\nsummary: s\nexport: [mine]\n"
    other = (
        READ.replace("mine", "other")
        + "  - {run: use, secrets: {T: other}, stdin: '{{ other }}'}\n"
    )
    (tmp_path / "inner.yaml").write_text(f"{head}steps:\n{READ}{USE}{other}")
    outer = "  - {name: in, runbook: inner}\n" + USE
    world = Vault()
    plan = planned(runbook(outer), tmp_path)
    paper, _ = carry_out(plan, world)
    assert set(hosts(paper).values()) == {"done"}
    assert world.given["1.2/web2"] == world.given["2/web2"] == {"mine": "secret of web2"}
    assert world.given["1.6/web1"] == {"1:other": "secret of web1"}


def test_a_secret_that_is_not_there_fails_its_step_before_anything_is_sent(tmp_path: Path) -> None:
    skipped = READ.replace("effect", "when: \"run.id and host.name == 'web2'\", effect")
    use = USE.replace("run: use", "when: run.id, run: use").replace(
        "http:", "when: run.id, http:", 1
    )
    plan = planned(runbook(skipped + use, "max_failures: 1\n"), tmp_path)
    world = Vault()
    paper, _ = carry_out(plan, world)
    assert hosts(paper) == {"web1": "failed", "web2": "done"}
    assert "2/web1" not in world.sent
    said = [e.event.data.get("reason") for e in paper.entries if e.event.key == "2/web1"]
    assert "the secret `mine` is not there" in str(said[-1])


def test_nobody_who_watches_sees_what_is_saved_as_a_secret(tmp_path: Path) -> None:
    world = Vault(evidence=True)
    paper, chunks = carry_out(planned(runbook(READ), tmp_path), world)
    assert {(c.stream, c.data) for c in chunks} == {("stderr", b"a remark\n")}
    ended = [e.event for e in paper.entries if e.event.kind == "step ended"]
    assert [e.data["evidence"] for e in ended] == [{"latency_ms": 1.0}] * 2


def test_a_value_that_cannot_be_kept_secret_fails_the_step(tmp_path: Path) -> None:
    paper, _ = carry_out(planned(runbook(READ + USE), tmp_path), world := Vault(), poor=True)
    assert hosts(paper)["web1"] == "failed"
    assert set(world.sent) <= {"1/web1", "1/web2"}
    reasons = {
        str(e.event.data.get("reason")) for e in paper.entries if e.event.kind == "step ended"
    }
    assert reasons == {"its output can't be saved as a secret: it is too short"}


def resumed(plan: Plan, world: Vault, paper: Paper) -> list[Chunk]:
    """Go on in another process, which knows no secret that was saved."""
    world.dead = False
    chunks = list[Chunk]()

    def watch(item: Event | Chunk) -> None:
        chunks.extend([item] if isinstance(item, Chunk) else [])

    outside = Outside(
        targets=world, journal=paper, secrets={}, watch=watch, stop=Stop(), hide=lambda secret: None
    )
    execute(plan, list(paper.entries), outside, FACTS)
    return chunks


def test_a_secret_that_was_read_is_read_again_by_a_resume(tmp_path: Path) -> None:
    plan = planned(runbook(READ + USE, "batches: [1]\n"), tmp_path, hosts=1)
    world = Vault(crash_after="3/web1")
    with suppress(Crash):
        carry_out(plan, world)
    paper = Paper(world, entries=world.papers[-1].entries)
    resumed(plan, world, paper)
    assert hosts(paper) == {"web1": "done"}
    assert world.sent.count("1/web1") == 2
    assert world.given["4/web1"] == {"mine": "secret of web1"}
    assert [e for e in world.effects if e.startswith("3/")] == ["3/web1@1"]


def test_where_a_secret_is_lost_for_good_no_output_is_kept(tmp_path: Path) -> None:
    made = READ.replace(", effect: read", "")
    plan = planned(runbook(made + "  - {name: two, run: two}\n"), tmp_path, hosts=1)
    world = Vault(crash_after="2/web1")
    with suppress(Crash):
        carry_out(plan, world)
    paper = Paper(world, entries=world.papers[-1].entries)
    assert resumed(plan, world, paper) == []
    assert hosts(paper) == {"web1": "done"}
    last = [e.event for e in paper.entries if e.event.key == "2/web1"][-1]
    assert "not kept" in str(last.data["evidence"])
