"""A small plan, and the events of a run of it."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from opskit.audit import Journal, Store
from opskit.model.codec import digest, to_json
from opskit.model.event import Event
from opskit.model.inventory import Connection, Host
from opskit.model.plan import Action, Plan, Stage
from opskit.model.problem import Place
from opskit.model.runbook import Save
from opskit.model.text import text
from opskit.model.value import Json, Secret
from opskit.model.work import Command

HOSTS = ("web1", "web2")


def plan(runbook: str = "deploy", *, secret_save: bool = False) -> Plan:
    """Return a plan of one step on two hosts, which saves what it prints."""
    stage = Stage(
        position="1",
        name="Look",
        kind="run",
        place=Place(file=f"{runbook}.yaml", line=7),
        phase="main",
        effect="change",
        scope="each",
        save=Save(name="previous", secret=secret_save),
    )
    actions = tuple(
        Action(
            key=f"1/{host}",
            position="1",
            batch=0,
            host=host,
            target=host,
            work=Command(text=text("readlink current")),
        )
        for host in HOSTS
    )
    bare = Plan(
        runbook=runbook,
        version="1.2.0",
        file=f"{runbook}.yaml",
        inventory="lab.yaml",
        parameters={"release": "r7"},
        hosts={
            h: Host(name=h, address="127.0.0.2", connection=Connection(user="ops")) for h in HOSTS
        },
        batches=(HOSTS,),
        max_failures=0,
        on_failure="undo",
        locks=("web",),
        stages={"1": stage},
        actions=actions,
    )
    return replace(bare, digest=digest(to_json(bare)))


def begin(
    store: Store,
    runbook: str = "deploy",
    *,
    kind: str = "run",
    locks: tuple[str, ...] = ("web",),
    secrets: tuple[Secret, ...] = (),
    steal: str | None = None,
    secret_save: bool = False,
) -> Journal:
    return store.create(
        plan(runbook, secret_save=secret_save),
        kind=kind,
        who="ann",
        origin="laptop",
        reason="ticket 7",
        command=f"opskit run {runbook}",
        documents={"runbook": "name: deploy\n", "inventory": "hosts: {}\n"},
        locks=locks,
        secrets=secrets,
        steal=steal,
    )


def started(host: str = "web1") -> Event:
    data: Mapping[str, Json] = {"target": host, "digest": "d"}
    return Event(kind="step started", key=f"1/{host}", host=host, step="Look", attempt=1, data=data)


def ended(host: str = "web1", sizes: Mapping[str, Json] | None = None, **data: Json) -> Event:
    return Event(
        kind="step ended",
        key=f"1/{host}",
        host=host,
        step="Look",
        attempt=1,
        data={"outcome": "succeeded", **data, **(sizes or {})},
    )


def finished(status: str = "succeeded", state: str = "done") -> Event:
    hosts: Mapping[str, Json] = dict.fromkeys(HOSTS, state)
    return Event(kind="run ended", data={"status": status, "hosts": hosts, "exit": 0})


def waiting() -> Event:
    data: Mapping[str, Json] = {"why": "confirm", "question": "Go on?", "choices": ["yes", "no"]}
    return Event(kind="waiting", key="1/web1", host="web1", step="Look", data=data)


def whole_run(store: Store, runbook: str = "deploy", *, previous: str = "r6") -> str:
    """Record a run that does its step on both hosts; return its id."""
    with begin(store, runbook) as journal:
        for host in HOSTS:
            journal.append(started(host))
            sink = journal.output(f"1/{host}", host, 1)
            sink.write("stdout", f"{previous}\n".encode())
            journal.append(ended(host, sink.close(), saved={"previous": previous}), wait=False)
        journal.append(finished())
    return journal.run


def tell_everywhere(store: Store, secret: Secret) -> str:
    """Record a run with a secret in every place that takes text; return its id."""
    text = f"it is {secret.reveal()}"
    with store.create(
        plan(),
        kind="run",
        who=text,
        origin=text,
        reason=text,
        command=f"opskit run -p '{secret.name}={secret.reveal()}'",
        documents={"runbook": f"# {text}\n"},
        secrets=[secret],
    ) as journal:
        journal.append(started(), Event(kind="note", data={"text": text, "deep": [{text: text}]}))
        sink = journal.output("1/web1", "web1", 1)
        sink.write("stdout", text.encode())
        saved: Mapping[str, Json] = {"saved": {"line": text}, "evidence": {"body": {"t": text}}}
        journal.append(ended("web1", {**sink.close(), **saved}), finished())
    return journal.run


def python(code: str, *words: str) -> "subprocess.Popen[str]":
    """Start another process that runs `code` with the project at hand."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
