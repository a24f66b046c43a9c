"""A small world to execute plans in: effects are counted, crashes and failures happen on cue.

It stands where sshd and the store stand, so that every crash point can be tried in milliseconds.
Whole runs against the real ones are in tests/acceptance.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from opskit import load
from opskit.errors import UnreachableError
from opskit.execute import Outside, Stop, execute
from opskit.execute.driver import Write
from opskit.model.event import Chunk, Entry, Event
from opskit.model.job import Contact, Job, Output
from opskit.model.plan import Plan
from opskit.model.run import ActionRecord
from opskit.model.states import RunState
from opskit.model.value import Json, Secret
from opskit.model.work import Command, FileRef
from opskit.plan import progress
from opskit.plan.make import make

FACTS: Mapping[str, Json] = {"id": "r1", "status": "running", "user": "me", "reason": ""}


class Crash(BaseException):
    """The process is gone: nothing that it would have done afterwards happens."""


@dataclass
class World:
    """Targets that count. `fails`: action key → how often it fails first (-1: always)."""

    effects: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    answers: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Actions whose host can no longer be reached when they are to be sent."""
    stopped: set[str] = field(default_factory=set)
    """Actions that a person stops while they run, the first time."""
    forgets: bool = False
    """Whether hosts have lost what they knew of earlier attempts."""
    acts: dict[str, Callable[[Write], None]] = field(default_factory=dict)
    """What actions do while they run, besides being counted: action key → that."""
    ended: dict[tuple[str, int], str] = field(default_factory=dict)
    """Attempts that were to be ended, and why."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set once something was to be ended."""
    results: dict[str, Output] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    barred: set[str] = field(default_factory=set)
    crash_before: str = ""
    crash_after: str = ""
    dead: bool = False
    lock: Lock = field(default_factory=Lock)

    def open(self, host: str, *, writes: bool, become: str | None = None) -> Contact:
        if host in self.gone:
            raise UnreachableError("no route", where=host)
        return Contact(nonce="n", boot_id="b", state_dir="/s", user="u", address="a")

    def perform(self, job: Job, write: Write) -> Output:
        if act := self.acts.get(job.key):
            act(write)
        with self.lock:
            self._die(job.key, self.crash_before)
            if job.key in self.lost:
                return Output(outcome="failed", sent=False, unreachable=True, reason="no route")
            self.sent.append(job.key)
            if job.effect == "change":
                assert f"{job.key}@{job.attempt}" not in self.barred
                self.effects.append(f"{job.key}@{job.attempt}")
            left = self.fails.get(job.key, 0)
            self.fails[job.key] = left - 1 if left > 0 else left
            result = self._result(job, failed=bool(left))
            self.results[f"{job.key}@{job.attempt}"] = result
            self._die(job.key, self.crash_after)
            if job.key in self.stopped:
                self.stopped.discard(job.key)
                evidence: Mapping[str, Json] = {"stopped": "confirmed gone"}
                return Output(outcome="failed", status=143, reason="stopped", evidence=evidence)
        if job.key in self.unknown:
            return Output(outcome="unknown", reason="the line broke")
        return result

    def _result(self, job: Job, *, failed: bool) -> Output:
        if failed:
            return Output(outcome="failed", status=1, reason="exit status 1")
        return Output(outcome="succeeded", status=0, stdout=self.answers.get(job.key, b""))

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        """Tell what became of an attempt, as its host would."""
        with self.lock:
            if self.dead:
                raise Crash
            self.asked.append(job.key)
        if act := self.acts.get(job.key):
            act(write)
        with self.lock:
            if self.forgets:
                return Output(outcome="unknown", reason="its traces were removed")
            known = self.results.get(f"{job.key}@{job.attempt}")
            if known is None:
                self.barred.add(f"{job.key}@{job.attempt}")
                return Output(outcome="failed", sent=False, again=True, reason="not started")
            return known

    def _die(self, key: str, cue: str) -> None:
        if self.dead or (cue and key == cue):
            self.dead = True
            self.crash_before = self.crash_after = ""
            raise Crash

    def probe(self, job: Job) -> Output:
        return Output(outcome="succeeded", evidence={"same": False})

    def stop(self, grace: float) -> Mapping[str, str]:
        return {}

    def end(self, why: Mapping[tuple[str, int], str], grace: float) -> None:
        self.ended |= why
        self.over.set()

    def close(
        self, keep: Collection[str] = (), *, unread: Collection[str] = (), over: bool = True
    ) -> None:
        pass


@dataclass
class Paper:
    """A journal in memory. `crash_at`: the process dies at this append, before it or after it."""

    world: World
    entries: list[Entry] = field(default_factory=list)
    crash_at: int = -1
    keeps: bool = True
    run: str = "r1"
    lock: Lock = field(default_factory=Lock)

    def append(self, *events: Event, wait: bool = True) -> None:
        for event in events:
            with self.lock:
                if self.world.dead:
                    raise Crash
                dies = len(self.entries) == self.crash_at
                if not dies or self.keeps:
                    self._keep(event)
                if dies:
                    self.world.dead = True
                    self.crash_at = -1
                    raise Crash

    def _keep(self, event: Event) -> None:
        number = len(self.entries)
        self.entries.append(
            Entry(run="r1", number=number, at=time.time(), previous="", hash="", event=event)
        )

    def output(self, key: str, host: str, attempt: int, *, again: bool = False) -> "Nothing":
        return Nothing()

    def hide(self, secret: Secret) -> None:
        pass


class Nothing:
    def write(self, stream: str, data: bytes) -> None:
        pass

    def close(self) -> Mapping[str, Json]:
        return {}


def planned(text: str, folder: Path, hosts: int = 2, **parameters: Json) -> Plan:
    """Plan a runbook given as YAML, on web1, web2 … and lb1."""
    (folder / "r.yaml").write_text(text)
    names = [f"web{n + 1}" for n in range(hosts)]
    lines = "".join(f"  {name}: {{address: 10.0.0.{n + 1}}}\n" for n, name in enumerate(names))
    (folder / "i.yaml").write_text(
        f"opskit: 1\nhosts:\n{lines}  lb1: {{address: 10.0.1.1}}\n"
        f"groups: {{web: [{', '.join(names)}], lb: [lb1]}}\n"
    )
    runbook = load.runbook(folder / "r.yaml", [])
    return make(runbook, load.inventory(folder / "i.yaml"), parameters, files=no_files)


def no_files(path: Path) -> FileRef:
    return FileRef(path=str(path), size=3, sha256="0" * 64)


def runbook(steps: str, head: str = "") -> str:
    """Return the YAML of a runbook with these steps (indented by two)."""
    top = "opskit: 1\nname: r\nversion: 1.0.0\nsummary: s\nhosts: web\n"
    return f"{top}{head}steps:\n{steps}"


def go(
    plan: Plan,
    world: World,
    paper: Paper | None = None,
    watch: Callable[[Event | Chunk], None] = lambda item: None,
    stop: Stop | None = None,
    **options: bool,
) -> tuple[RunState, Paper]:
    """Execute a plan in a world, from where the paper stands."""
    world.dead = False
    paper = paper or Paper(world)
    outside = Outside(
        targets=world,
        journal=paper,
        secrets={},
        watch=watch,
        stop=stop or Stop(),
        hide=lambda secret: None,
    )
    return execute(plan, list(paper.entries), outside, FACTS, **options), paper


def records(paper: Paper) -> Mapping[str, ActionRecord]:
    return progress(paper.entries)


def hosts(paper: Paper) -> Mapping[str, Json]:
    """Return how each host came out, as the end of the run has it."""
    found = paper.entries[-1].event.data["hosts"]
    assert isinstance(found, Mapping)
    return found


def texts(plan: Plan) -> list[str]:
    return [str(a.work.text) for a in plan.actions if isinstance(a.work, Command)]
