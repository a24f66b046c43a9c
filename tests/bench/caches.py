"""Whom opskit is measured beside at a Redis: clients and programs of others, and a bystander."""

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from tests.bench.apart import beside
from tests.bench.figures import FailedError
from tests.support.redis import Peer

SET = """
import json, sys, time
import redis
port, path = int(sys.argv[1]), sys.argv[2]
rows = [json.loads(line) for line in open(path)]
rows = [(row["key"], row["value"]) for row in rows]
client = redis.Redis(port=port)
client.ping()
began = time.perf_counter()
for first in range(0, len(rows), 1000):
    pipe = client.pipeline(transaction=False)
    for key, value in rows[first : first + 1000]:
        pipe.set(key, value, ex=3600)
    assert all(pipe.execute())
print(json.dumps(time.perf_counter() - began))
"""
_DJANGO = """
import json, sys, time
from django.conf import settings
settings.configure(CACHES={"default": {
    "BACKEND": "django_redis.cache.RedisCache",
    "LOCATION": "redis://127.0.0.1:%s/0" % sys.argv[1],
}})
from django.core.cache import cache
cache.get("nothing")
"""
SET_MANY = (
    _DJANGO
    + """
rows = [json.loads(line) for line in open(sys.argv[2])]
rows = [(row["key"], row["value"]) for row in rows]
began = time.perf_counter()
for first in range(0, len(rows), 1000):
    cache.set_many(dict(rows[first : first + 1000]), timeout=3600)
print(json.dumps(time.perf_counter() - began))
"""
)
DELETE_PATTERN = (
    _DJANGO
    + """
began = time.perf_counter()
cache.delete_pattern(sys.argv[2].removeprefix(":1:"), itersize=int(sys.argv[3]))
print(json.dumps(time.perf_counter() - began))
"""
)


def program(name: str) -> str:
    """Return where a program is: on the PATH, or where REDIS_CLI and its like say; "": nowhere."""
    return os.environ.get(name.upper().replace("-", "_")) or shutil.which(name) or ""


def has_django(python: Path) -> bool:
    words = [str(python), "-c", "import django_redis"]
    done = subprocess.run(words, check=False, capture_output=True)
    return done.returncode == 0


def scripted(python: Path, script: str, *words: object) -> float:
    """Run a script of a client; the seconds are those that it says its work took."""
    command = [str(python), "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise FailedError(done.stderr[-2000:])
    return float(json.loads(done.stdout))


def piped(path: Path, rows: Mapping[str, str], seconds: int) -> None:
    """Write a file with the commands for `redis-cli --pipe`."""

    def word(text: str) -> str:
        return f"${len(text.encode())}\r\n{text}\r\n"

    end = word("EX") + word(str(seconds))
    path.write_bytes("".join(
        f"*5\r\n{word('SET')}{word(key)}{word(value)}{end}" for key, value in rows.items()
    ).encode())  # fmt: skip


def children() -> float:
    """Return what the processes that have ended here have taken of the processor, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(kw_only=True, slots=True)
class Asked:
    """How long a bystander has waited for a key, 500 times a second; when each wait was over, and
    whether the key was there by then.
    """

    waits: list[tuple[float, float, bool]] = field(default_factory=list)

    def before(self, seconds: float) -> list[float]:
        """Return the waits of so many seconds before the key was there; of all, if it never was."""
        end = next((at for at, _, there in self.waits if there), self.waits[-1][0])
        return [wait for at, wait, _ in self.waits if end - seconds <= at <= end]


@contextmanager
def bystander(port: int, key: str) -> Iterator[Asked]:
    found = Asked()

    def go(over: Event) -> None:
        peer = Peer(port)
        while not over.wait(0.002):
            began = time.perf_counter()
            there = peer.call("GET", key) is not None
            ended = time.perf_counter()
            found.waits.append((ended, ended - began, there))
        peer.close()

    with beside(go):
        yield found


def part(times: Sequence[float], share: float) -> float:
    """Return the wait that so large a part of all stays under, in ms."""
    found = sorted(times)
    return 1000 * found[min(int(len(found) * share), len(found) - 1)]
