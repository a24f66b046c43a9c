# ruff: noqa: ANN401 - keywords are those of works on queues
"""Queues of Celery on a real server, as kombu lays them down, and looks at them."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opskit.lab import broker
from opskit.model.activity import Limit
from opskit.model.inventory import Host
from opskit.model.job import Contact, Job, Output
from opskit.model.queues import Layout, MessageDeed, Messages, Queues
from opskit.model.text import text
from opskit.steps.health import judge
from opskit.steps.queues import LIMITS
from tests.support.redis import Keys, Peer, until

DEFAULTS = {check: Limit(warn=warn, crit=crit) for check, (warn, crit, _) in LIMITS.items()}


@dataclass
class Broker:
    """A broker, and what opskit sees of it."""

    db: Keys
    folder: str = ""
    out: bytearray = field(default_factory=bytearray)
    contact: Contact | None = None

    def send(self, *commands: broker.Command) -> None:
        with self.db.server.peer() as peer:
            for words in commands:
                peer.call(*words)

    def queue(self, name: str, count: int, task: str = "mail.send", first: int = 0,
              at: str = "", **headers: object) -> None:  # fmt: skip
        """Let messages wait; `at`: what stands behind the name of the queue."""
        self.send(*broker.bound(name))
        self.send(*(("LPUSH", name + at, broker.message(first + number, task, name, **headers))
                    for number in range(count)))  # fmt: skip

    def taken(self, number: int, ago: float, task: str = "mail.send", **headers: object) -> None:
        raw = broker.message(number, task, "celery", **headers)
        self.send(*broker.taken(raw, "celery", time.time() - ago))

    def waiting(self, key: str = "celery") -> list[bytes]:
        found: list[bytes] = self.db.call("LRANGE", key, "0", "-1")
        return found

    def look(self, **how: Any) -> Output:
        given = {"window": 0.3, "limits": DEFAULTS, "layout": Layout(), **how}
        given["answers"] = text(given["answers"]) if given.get("answers") is not None else None
        job = Job(
            run=self.db.run, key="1/", attempt=1, host=Host(name="redis:main", address="main"),
            work=Queues(server="main", **given), effect="read", timeout=20.0,
        )  # fmt: skip
        self.out.clear()
        return judge(job.work, self.db.driver.perform(job, self._write))

    def found(self, output: Output, key: str) -> list[str]:
        """Return this of each finding."""
        findings: Any = output.evidence["findings"]
        return [one[key] for one in findings]

    def job(self, do: MessageDeed = "park", *, attempt: int = 1, key: str = "2/",
            probe: bool = False, **how: Any) -> Job:  # fmt: skip
        taking = {"unpark": "2/!1", "unreplay": "2/!1"}
        work = Messages(**{
            "do": do, "server": "main", "queue": "celery", "layout": Layout(), "share": 100.0,
            "evidence": self.folder, "of": key if do in taking else "", "probe": probe, **how,
        })  # fmt: skip
        return Job(
            run=self.db.run, key=f"{key}!1" if do in taking else key, attempt=attempt,
            host=Host(name="redis:main", address="main"), work=work, timeout=20.0,
            effect="read" if probe else "change", contact=self.contact,
        )  # fmt: skip

    def do(self, do: MessageDeed = "park", **how: Any) -> Output:
        if self.contact is None and not how.get("probe"):
            self.contact = self.db.open()
        self.out.clear()
        return self.db.driver.perform(self.job(do, **how), self._write)

    def find(self, do: MessageDeed = "park", **how: Any) -> Output:
        return self.db.driver.rejoin(self.job(do, **how), self._write, 20.0)

    def _write(self, stream: str, data: bytes) -> None:
        assert stream == "stdout"
        self.out += data

    @property
    def printed(self) -> str:
        return self.out.decode()


@contextmanager
def beside(db: Keys, act: Any) -> Iterator[list[int]]:
    """Let another client act on the server all the time; give the count of its acts.

    It acts already when this returns.
    """
    stop, count = threading.Event(), [0]

    def go() -> None:
        peer = Peer(db.server.port)
        while not stop.wait(0.01):
            act(peer, count[0])
            count[0] += 1
        peer.close()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        until(lambda: count[0])
        yield count
    finally:
        stop.set()
        thread.join(20)


def said(**workers: Mapping[str, object]) -> str:
    """Return what a step that asks workers saves."""
    return json.dumps({f"celery@{name}": one for name, one in workers.items()})
