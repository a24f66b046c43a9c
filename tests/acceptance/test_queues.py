"""The shipped queue-… runbooks at a real worker of Celery: looked at, put aside, put back."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.celery import WORKER, Shop, shop
from tests.support.redis import Server, server, until
from tests.support.sshd import Sshd, sshd

pytestmark = pytest.mark.acceptance
RUNBOOKS = Path(__file__).parents[2] / "runbooks"
SECRET = "card-4111-of-a-customer"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="module")
def store() -> Iterator[Server]:
    with server() as found:
        yield found


@pytest.fixture(scope="module")
def works(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(store, tmp_path_factory.mktemp("shop")) as found:
        yield found


@dataclass
class Desk:
    """A folder with an inventory of a host with a worker, and its broker; the record is its own."""

    works: Shop
    host: Sshd
    folder: Path

    def write(self, **queue: object) -> None:
        made = self.host.host("worker1").connection
        assert made is not None
        inventory = {
            "opskit": 1,
            "connection": {
                "user": made.user, "port": made.port, "key": made.key,
                "known_hosts": made.known_hosts, "state_dir": str(self.folder / "there"),
            },
            "hosts": {"worker1": {"address": "127.0.0.1", "vars": {"worker": WORKER}}},
            "groups": {"workers": ["worker1"]},
            "services": {"shop": {"hosts": "workers", "queue": {**self.works.queue, **queue}}},
            "redis": {"main": {"url": f"redis://127.0.0.1:{self.works.server.port}/0"}},
        }  # fmt: skip
        (self.folder / "i.yaml").write_text(yaml.safe_dump(inventory))

    @property
    def settings(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")}
        return {
            **kept, "OPSKIT_STORE": str(self.folder / "store.db"), "NO_COLOR": "1",
            "OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }  # fmt: skip

    def opskit(self, *words: str, status: int | None = 0, program: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *(program or ("opskit",)), *words],
            env=self.settings, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=90, check=False,
        )  # fmt: skip
        said = f"$ opskit {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        assert status in (None, done.returncode), f"exit {done.returncode}\n{said}"
        assert SECRET not in said
        return done.stdout + done.stderr

    def go(self, how: str, runbook: str, status: int | None = 0, kill: str = "",
           **params: object) -> str:  # fmt: skip
        given = [word for k, v in params.items() for word in ("-p", f"{k}={v}")]
        words = (how, runbook, *given, *(("--yes",) if how == "run" else ()))
        program = ("tests.support.deadly", *kill.split()) if kill else ()
        return self.opskit(*words, status=None if kill else status, program=program)

    def look(self, status: int | None = 0, **params: object) -> str:
        given: dict[str, Any] = {"window": "1s", **params}
        return self.go("run", "queue-recovery", status, answer=1, **given)

    def evidence(self, key: str) -> dict[str, Any]:
        lines = self.opskit("audit", "log", "last", "--json").splitlines()
        ended = [e for e in map(json.loads, lines) if e["event"] == "step ended"]
        found = [e["evidence"] for e in ended if key in e.get("evidence", {})]
        one: dict[str, Any] = found[-1]
        return one

    def call(self, *words: str | bytes) -> Any:  # noqa: ANN401 - what a server answers
        return self.works.server.call(*words)

    def proved(self) -> None:
        """Nothing that tasks were called with stands in the record, and the record is whole."""
        self.opskit("audit", "verify")
        kept = [path for path in self.folder.glob("store.db*") if path.is_file()]
        assert kept
        for secret in (SECRET, base64.b64encode(SECRET.encode()).decode()[:20]):
            assert not any(secret.encode() in path.read_bytes() for path in kept)


@pytest.fixture
def desk(works: Shop, host: Sshd, tmp_path: Path) -> Desk:
    found = Desk(works, host, tmp_path)
    found.write()
    return found


def test_each_of_several_ills_is_found_and_mended(desk: Desk) -> None:
    """One that lacks, a queue that nobody takes from though all answer, a message that loops."""
    notes = desk.folder / "notes"
    control = f"shop.app.control.%s_consumer('mail', destination=['{WORKER}'], reply=True)"
    desk.works.python(
        f"print({control % 'cancel'})\n"
        f"shop.note.apply_async(('{notes}', 'first'), queue='mail')\n"
        f"shop.poison.apply_async(('{SECRET}',))"
    )
    desk.look(1, workers=f"{WORKER},w2@lab", window="2s")
    found = desk.evidence("diagnosis")
    bad = {(one["check"], one["table"] or one["name"]) for one in found["findings"]}
    assert found["diagnosis"] == "workers"
    assert bad >= {("workers", "w2@lab"), ("stuck", "mail"), ("redelivered", "shop.poison")}
    assert "no worker that has answered takes from it" in str(found["findings"])
    (name,) = {o["name"] for o in found["findings"] if o["table"] == "shop.poison"}
    add = control % "add"
    desk.works.python(f"print({add})\nprint({control.replace('mail', 'celery') % 'cancel'})")
    until(lambda: desk.call("LLEN", "celery"), 60)
    desk.go("run", "queue-park", queue="celery", ids=name, max_share=100)
    assert desk.call("LLEN", "opskit:parked:celery") == 1
    desk.works.python(f"print({add.replace('mail', 'celery')})")
    until(lambda: notes.exists() and notes.read_text() == "first\n", 60)
    words = ("-p", "answer=1", "-p", "window=1s")
    assert "OK" in desk.opskit("run", "queue-recovery", "--nagios", *words)
    assert "a task may run for 50s (task_time_limit), and the broker gives it to another" in (
        desk.look(1, window=0, visibility="40s", once="celery")
    )
    refused = desk.go("run", "queue-restore", 5, queue="celery", idempotent="shop.note")
    assert "messages of shop.poison are meant, too" in refused
    desk.call("DEL", "opskit:parked:celery")
    desk.proved()


def test_workers_that_can_not_be_asked_are_unknown(desk: Desk) -> None:
    desk.write(celery="/nowhere/celery")
    assert "the workers could not be asked" in desk.look(6, window=0)
    desk.write(cwd="/nowhere")  # the broker is looked at all the same
    said = desk.look(6, window=0)
    assert "the workers could not be asked: see the step before" in said
    assert "nothing is taken and not acknowledged" in said
    desk.write(workers=[])
    assert "nobody is named who must answer" in desk.look(2)
    assert "`celery purge` throws away what waits in queues" in desk.opskit(
        "exec", "workers", "--", "celery -A shop purge -f", status=2
    )


def test_f9_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """`celery events` waits for a person for ever; whatever is asked has its time."""
    steps = yaml.safe_load((RUNBOOKS / "queue-recovery.yaml").read_text())["steps"]
    text = steps[0]["script"]["text"]
    assert text.count("+ 60") == 1
    endless = tmp_path / "endless"
    endless.write_text(f"#!/bin/sh\necho $$ >>{tmp_path}/pids\nexec sleep 600\n")
    endless.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", text.replace("+ 60", "+ 0"), "1", str(endless)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"error": "`inspect` does not end: is the broker there?"}
    pids = (tmp_path / "pids").read_text().split()
    assert pids
    assert [pid for pid in pids if Path("/proc", pid).exists()] == []


def test_what_was_put_aside_is_done_after_all(desk: Desk) -> None:
    notes = desk.folder / "notes"
    os.kill(int(desk.works.pid.read_text()), signal.SIGSTOP)
    try:
        # The server gives to one that it waits for, whether that one runs or not.
        until(lambda: b"blocked_clients:0\r" in desk.call("INFO", "clients"), 60)
        desk.works.python(
            f"for n in range(20): shop.note.apply_async(('{notes}', str(n)), queue='mail')"
        )
        desk.go("run", "queue-park", queue="mail", tasks="shop.note", max_share=100)
    finally:
        os.kill(int(desk.works.pid.read_text()), signal.SIGCONT)
    said = desk.go(
        "run", "queue-restore", queue="mail", idempotent="shop.note", pause="1s", first=10
    )
    assert "put back into the queue 2 of 2 messages" in said
    assert "put back into the queue 18 of 18 messages" in said
    until(lambda: len(notes.read_text().split()) == 20, 60)
    assert notes.read_text().split() == [str(n) for n in range(20)]


def test_queues_are_worked_off_again_and_one_beat_runs(desk: Desk) -> None:
    pids = desk.folder / "beats"
    pids.write_text("1 2\n")
    desk.write(beat=f"cat {pids}")
    said = desk.go("run", "queue-verify", 1, queues="mail", window="1s", within="1m")
    assert "2 beats run (worker1: 2)" in said
    assert said.count("ok       1 A canary comes back") == 1
    pids.write_text("1\n")
    desk.go("run", "queue-verify", window="1s")
    desk.write()
    assert "queue.beat" in desk.go("plan", "queue-verify", 2)


RESTART: dict[str, Any] = {"queues": "celery, mail", "begin": "2m", "within": "1m"}


def test_workers_are_restarted_one_at_a_time_when_they_are_done(desk: Desk) -> None:
    notes, key, log = desk.folder / "notes", desk.folder / "key", desk.works.folder / "worker.log"
    before, warm = desk.works.pid.read_text(), log.read_text().count("Warm shutdown")
    desk.works.python(f"shop.gate.delay('{notes}', '{key}')\nshop.note.delay('{notes}', 'next')")
    until(lambda: desk.call("HLEN", "unacked"), 60)
    said: list[str] = []
    thread = threading.Thread(
        target=lambda: said.append(desk.go("run", "queue-restart", **RESTART))
    )
    thread.start()
    try:
        until(lambda: log.read_text().count("Warm shutdown") > warm, 60)
        assert desk.works.alive()
        assert desk.works.pid.read_text() == before
    finally:
        key.touch()
        thread.join(120)
    assert notes.read_text().split()[0] == "gate"  # it was not cut off
    assert desk.works.pid.read_text() != before
    assert desk.works.alive()
    assert said[0].count("A canary comes back") >= 2
    until(lambda: sorted(notes.read_text().split()) == ["gate", "next"], 60)


def test_a_worker_that_does_not_finish_is_left_to_a_person_and_not_killed(desk: Desk) -> None:
    notes, key = desk.folder / "notes", desk.folder / "key"
    before = desk.works.pid.read_text()
    desk.works.python(f"shop.gate.delay('{notes}', '{key}')")
    until(lambda: desk.call("HLEN", "unacked"), 60)
    # What tells the processes says nothing any more once it is stopped: nobody else may be started.
    told = desk.folder / "told"
    ways = {name: str(desk.works.queue[name]) for name in ("pids", "stop")}
    desk.write(pids=f"[ -e {told} ] || {ways['pids']}", stop=f"touch {told} && {ways['stop']}")
    said = desk.go("run", "queue-restart", 1, warm="1s", **RESTART)
    told.unlink()
    desk.write()
    assert "It has finished what it did" in said
    assert desk.works.alive()
    assert desk.works.pid.read_text() == before
    assert not notes.exists()
    key.touch()
    until(lambda: not desk.works.run("./pids"), 60)  # by itself, once it has finished
    try:
        assert notes.read_text() == "gate\n"
        assert "no worker runs here" in desk.go("run", "queue-restart", 5, **RESTART)
    finally:
        desk.works.start()


def test_a_canary_that_does_not_come_back_is_told(desk: Desk) -> None:
    said = desk.go("run", "queue-canary", queues="mail, ,", within="1m")
    assert "succeeded" in said.lower()
    assert "#2" not in said  # what stands between two commas is no queue
    said = desk.go("run", "queue-canary", 1, queues="nobody", within="4s")
    assert "It comes back" in said
    desk.call("DEL", "nobody")
