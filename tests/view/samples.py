"""Plans and runs to look at, built from model values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from opskit.model.event import Event, Outcome
from opskit.model.inventory import Connection, Host
from opskit.model.plan import Action, Plan, Stage
from opskit.model.problem import Place
from opskit.model.run import ActionRecord, HostState, Run
from opskit.model.runbook import Effect, Save, Until
from opskit.model.states import ActionState, RunState
from opskit.model.text import Fixed, Late, Text, text
from opskit.model.value import Json
from opskit.model.work import Command, Expect, FileRef, Request, Upload, Work

PLACE = Place(file="runbooks/deploy.yaml", line=12, column=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A reading of a dry run."""

    outcome: Outcome = "succeeded"
    text: str = ""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    at: float = 1_800_000_000.0


def stage(position: str, name: str, kind: str, effect: Effect, **more: object) -> Stage:
    made = Stage(
        position=position,
        name=name,
        kind=kind,
        place=PLACE,
        phase="main",
        effect=effect,
        scope="each",
    )
    return replace(made, **more)  # type: ignore[arg-type]


STAGES = {
    "1": stage("1", "Healthy before we begin", "http", "read", phase="preflight"),
    "2": stage("2", "Remember what is live", "run", "read", save=Save(name="previous")),
    "3": stage("3", "Put the release in place", "upload", "change"),
    "4": stage("4", "Switch", "run", "change"),
    "4u1": stage("4u1", "Switch back", "run", "change"),
    "5": stage("5", "It answers as B", "http", "read", until=Until(limit=30.0, successes=3)),
    "a1": stage("a1", "Tell the channel", "run", "change", phase="always", scope="controller"),
}

RELEASE = FileRef(path="/home/ann/app-B.tar.gz", size=12_345_678, sha256="3f9a12bc0d41" * 5)


def host(number: int, **connection: str) -> Host:
    return Host(
        name=f"web{number}",
        address=f"10.0.{number // 250}.{number % 250 + 1}",
        connection=Connection(**connection),  # type: ignore[arg-type]
        groups=("web",),
    )


def late(*parts: str) -> Text:
    """Alternate known text and templates: known, late, known, …"""
    made = [
        Late(source=f"{{{{ {part} }}}}", names=(part.split(".")[0],), context="word")
        if index % 2
        else Fixed(text=part)
        for index, part in enumerate(parts)
    ]
    return Text(parts=tuple(made))


def action(position: str, host: str, work: Work, batch: int, **more: object) -> Action:
    made = Action(
        key=f"{position}@{host}",
        position=position,
        batch=batch,
        host=host,
        target=host,
        work=work,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def _health(target: Host, release: str = "") -> Request:
    headers = {"X-Release": text(release)} if release else {}
    return Request(
        url=text(f"http://{target.address}:8000/health/"),
        expect=Expect(status=(200,), headers=headers, json={"status": "healthy"}),
    )


def _switch(target: str, batch: int) -> Action:
    switch = late(
        "ln -sfnT releases/B .current.", "run.id", "\nmv -Tf .current.", "run.id", " current\n"
    )
    back = late("ln -sfnT ", "previous", " current && systemctl restart app")
    undo = action("4u1", target, Command(text=back), batch, undoes=f"4@{target}")
    work = Command(text=switch, cwd=text("/srv/app"), sudo="app")
    return action("4", target, work, batch, undo=(undo,))


def _batch(number: int, members: Sequence[Host]) -> list[Action]:
    live = Command(text=text("readlink -e current || test ! -e current"), cwd=text("/srv/app"))
    put = Upload(content=RELEASE, dest=text("/srv/app/releases/B"), unpack=True)
    return [
        *(action("2", h.name, live, number) for h in members),
        *(action("3", h.name, put, number) for h in members),
        *(_switch(h.name, number) for h in members),
        *(action("5", h.name, _health(h, "B"), number) for h in members),
    ]


def plan(count: int = 4, sizes: Sequence[int] = (1, 1, 2)) -> Plan:
    """A rolling deploy over `count` hosts in batches of `sizes` (the last repeats)."""
    hosts = [host(number) for number in range(1, count + 1)]
    batches: list[list[Host]] = []
    rest = hosts
    while rest:
        size = sizes[min(len(batches), len(sizes) - 1)]
        batches.append(rest[:size])
        rest = rest[size:]
    tell = late("notify ", "run.status", ": B")
    actions = [
        *(action("1", h.name, _health(h), -1) for h in hosts),
        *(a for number, members in enumerate(batches) for a in _batch(number, members)),
        action("a1", "", Command(text=tell), -2, target="controller"),
    ]
    return Plan(
        runbook="deploy",
        version="1.2.0",
        file="runbooks/deploy.yaml",
        inventory="inventories/production.yaml",
        parameters={"release": "B", "artifact": "/home/ann/app-B.tar.gz"},
        hosts={h.name: h for h in hosts},
        batches=tuple(tuple(h.name for h in members) for members in batches),
        max_failures=0,
        on_failure="undo",
        locks=("web",),
        stages=STAGES,
        actions=tuple(actions),
        digest="9c1185a5c5e9fc54612808977ee8f548b2258d31" + "0" * 24,
    )


def record(
    key: str, state: ActionState, step: str = "Switch", **data: Json
) -> tuple[str, ActionRecord]:
    made = ActionRecord(
        key=key,
        host=key.split("@")[1] or "controller",
        step=step,
        state=state,
        attempt=1,
        started=1_800_000_010.0,
        ended=1_800_000_012.5,
        data=data,
    )
    return key, made


def run(
    state: RunState,
    hosts: Mapping[str, HostState],
    actions: Mapping[str, ActionRecord] | None = None,
    **more: object,
) -> Run:
    made = Run(
        id="20270115-080000-k3f9",
        kind="run",
        runbook="deploy",
        version="1.2.0",
        plan="9c1185a5c5e9",
        state=state,
        who="ann@desk",
        origin="10.9.8.7",
        reason="INC-7",
        created=1_800_000_000.0,
        ended=1_800_000_092.0,
        hosts=hosts,
        actions=actions or {},
        saved={},
    )
    return replace(made, **more)  # type: ignore[arg-type]


def started(key: str, step: str = "Switch") -> Event:
    return Event(
        kind="step started", key=key, host=key.split("@")[1] or "controller", step=step, attempt=1
    )


def silent(key: str, **data: Json) -> Event:
    return replace(started(key), kind="step silent", data={"seconds": 300.0, **data})


def ended(key: str, outcome: Outcome = "succeeded", step: str = "Switch", **data: Json) -> Event:
    return Event(
        kind="step ended",
        key=key,
        host=key.split("@")[1] or "controller",
        step=step,
        attempt=1,
        data={"outcome": outcome, "seconds": 1.25, **data},
    )
