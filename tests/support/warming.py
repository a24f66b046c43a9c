# ruff: noqa: ANN401 - keywords are those of a Warm
"""Deeds that fill a cache by the real driver, from files of the test."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.drivers.redis import archive
from opskit.model.inventory import Host
from opskit.model.job import Contact, Job, Output
from opskit.model.warm import Source, Warm
from tests.support.redis import Keys

HOUR = 3_600_000
Row = Mapping[str, object]


def rows(count: int, *, size: int = 20, head: str = "t:") -> list[Row]:
    return [{"key": f"{head}{n:06}", "value": f"{n}-" + "v" * size} for n in range(count)]


class Stove:
    """Deeds of one run, whose list and evidence lie in a folder of the test."""

    def __init__(self, db: Keys, folder: Path) -> None:
        self.db, self.folder = db, folder
        self.out = bytearray()
        self.contact: Contact | None = None
        self.source = Source(ttl="3600.0")
        self.key = "2/"

    def rows(self, found: Sequence[Row], **how: str) -> None:
        self.lines("".join(json.dumps(row) + "\n" for row in found).encode(), **how)

    def lines(self, data: bytes, name: str = "rows.jsonl", **how: str) -> None:
        path = self.folder / name
        path.write_bytes(data)
        file = {"path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        self.source = Source(**{"ttl": "3600.0", **file, **how})  # type: ignore[arg-type]

    def job(self, do: str, *, attempt: int = 1, timeout: float = 30.0, **how: Any) -> Job:
        of = self.key if do == "restore" else ""
        deed = Warm(**{
            "do": do, "server": self.db.redis.name, "source": self.source, "allow": ("t:",),
            "evidence": str(self.folder / "evidence"), "of": of, "cpu": 0.0, **how,
        })  # fmt: skip
        return Job(
            run=self.db.run, key=f"{self.key}!1" if do == "restore" else self.key, attempt=attempt,
            host=Host(name="redis:main", address="main"), work=deed, timeout=timeout,
            effect="read" if do in ("show", "hits") else "change", contact=self.contact,
        )  # fmt: skip

    def do(self, do: str, **how: Any) -> Output:
        if self.contact is None and do not in ("show", "hits"):
            self.contact = self.db.open()
        self.out.clear()
        return self.db.driver.perform(self.job(do, **how), self._write)

    def find(self, do: str, **how: Any) -> Output:
        return self.db.driver.rejoin(self.job(do, **how), self._write, 20.0)

    def _write(self, stream: str, data: bytes) -> None:
        self.out += data

    @property
    def printed(self) -> str:
        return self.out.decode()

    @property
    def place(self) -> Path:
        return archive.place_of(str(self.folder / "evidence"), "warm", self.db.run, self.key)

    def fill(self, count: int, head: str = "t:", value: str = "old") -> None:
        with self.db.server.peer() as peer:
            for n in range(count):
                peer.call("SET", f"{head}{n:06}", f"{value}{n}", "PX", str(2 * HOUR))
