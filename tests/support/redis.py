# ruff: noqa: ANN401 - keywords are those of a RedisCall, a Job, a Redis
"""A Redis of the tests' own, and attempts at commands on it through the real driver."""

import contextlib
import itertools
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hiredis

from opskit.drivers.redis.servers import About, Servers
from opskit.lab import redis as lab
from opskit.load.commands import split
from opskit.model.inventory import Host, Redis
from opskit.model.job import Contact, Job, Output
from opskit.model.runbook import Effect
from opskit.model.text import Text
from opskit.model.text import text as known
from opskit.model.value import Secret
from opskit.model.work import RedisCall
from opskit.render import text
from tests.support import ports

_runs = itertools.count(1)


class Peer:
    """A plain client, to look and act behind opskit's back."""

    def __init__(self, port: int, patience: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), patience)
        self._reader = hiredis.Reader()

    def call(self, *words: str | bytes) -> Any:
        self.send(*words)
        found = self.next()
        if isinstance(found, hiredis.ReplyError):
            raise found
        return found

    def send(self, *words: str | bytes) -> None:
        """Send it; `next` is what the server answers."""
        sent = [word if isinstance(word, bytes) else word.encode() for word in words]
        lengths = (b"$%d\r\n%s\r\n" % (len(word), word) for word in sent)
        self._socket.sendall(b"*%d\r\n%s" % (len(sent), b"".join(lengths)))

    def next(self) -> Any:
        while (found := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            assert data, "the server is gone"
            self._reader.feed(data)
        return found

    def close(self) -> None:
        self._socket.close()


class Server:
    """A server that can be killed and started again. Nothing of it stays on the disk by itself."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self.port = ports.free()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = str(lab.find("auto")[1] / "redis-server")
        settings = {
            "bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), "save": '""',
            "appendonly": "no", "enable-debug-command": "yes", **self.settings,
        }  # fmt: skip
        conf = self.folder / "redis.conf"
        conf.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(conf)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with self.peer() as peer:
                return bool(peer.call("PING") == b"PONG")
        except (OSError, hiredis.ReplyError) as error:
            return "NOAUTH" in str(error)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def call(self, *words: str | bytes) -> Any:
        with self.peer() as peer:
            return peer.call(*words)

    @contextlib.contextmanager
    def peer(self) -> Iterator[Peer]:
        found = Peer(self.port)
        try:
            yield found
        finally:
            found.close()

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Note what is sent to the server meanwhile, as MONITOR tells it: from `[` on."""
        found: list[str] = []
        with self.peer() as peer:
            peer.call("MONITOR")
            yield found
            self.call("ECHO", "over")
            while '"ECHO" "over"' not in (line := peer.next().decode()):
                found.append(line.partition(" ")[2])


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Server]:
    """Give a server that runs, with these settings (`_` for `-`), and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix="opskit-redis."))
    found = Server(folder, {name.replace("_", "-"): value for name, value in settings.items()})
    try:
        found.start()
        yield found
    finally:
        with contextlib.suppress(AssertionError):
            found.kill()
        shutil.rmtree(folder)


@dataclass
class Keys:
    """A server with nothing in it, and opskit's way to it."""

    server: Server
    run: str
    redis: Redis
    out: dict[str, bytearray] = field(default_factory=dict)
    driver: Servers = field(init=False)

    def __post_init__(self) -> None:
        self.use(self.redis)

    def use(self, redis: Redis, through: Callable[[str], Any] | None = None,
            **secrets: str) -> "Keys":  # fmt: skip
        self.redis = redis
        held = {name: Secret(name=name, value=value) for name, value in secrets.items()}
        about = About(run=self.run, runbook="books", secrets=held)
        self.driver = Servers(about, {redis.name: redis}, {redis.name}, through or no_host)
        return self

    def changed(self, **how: Any) -> "Keys":
        return self.use(replace(self.redis, **how))

    def call(self, *words: str | bytes) -> Any:
        return self.server.call(*words)

    def job(
        self, commands: str | Sequence[Sequence[str]] = (), effect: Effect = "change", *,
        key: str = "1/", attempt: int = 1, timeout: float = 20.0, contact: Contact | None = None,
        given: Mapping[str, object] | None = None, script: str | None = None,
        keys: Sequence[str] = (), args: Sequence[str] = (), expect: str | None = None,
        capture: int = 1024 * 1024, **how: Any,
    ) -> Job:  # fmt: skip
        rows = split(commands) if isinstance(commands, str) else commands

        def made(words: Sequence[str]) -> tuple[Text, ...]:
            return tuple(text(word, given or {}, context="argument") for word in words)

        work = RedisCall(
            server=self.redis.name, commands=tuple(made(row) for row in rows),
            script=None if script is None else known(script), keys=made(keys), args=made(args),
            expect=None if expect is None else known(expect), **how,
        )  # fmt: skip
        return Job(
            run=self.run, key=key, attempt=attempt, host=Host(name="redis:main", address="main"),
            work=work, effect=effect, timeout=timeout, contact=contact, capture=capture,
        )  # fmt: skip

    def do(self, *words: Any, **how: Any) -> Output:
        """Carry it out, once the run has come there."""
        if not self.driver._met:
            self.open()
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        return self.driver.perform(self.job(*words, **how), self._write)

    def read(self, *words: Any, **how: Any) -> Output:
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        return self.driver.perform(self.job(*words, **{**how, "effect": "read"}), self._write)

    def find(self, *words: Any, **how: Any) -> Output:
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        return self.driver.rejoin(self.job(*words, **how), self._write, 20.0)

    def open(self) -> Contact:
        return self.driver.open("main", writes=True)

    def _write(self, stream: str, data: bytes) -> None:
        self.out[stream] += data

    @property
    def printed(self) -> bytes:
        return bytes(self.out["stdout"])

    def marks(self) -> list[str]:
        """Return the names of the marks of this run, less what is the same in all."""
        found = self.call("KEYS", f"opskit:mark:{self.run}:*")
        return sorted(one.decode().removeprefix(f"opskit:mark:{self.run}:") for one in found)

    def own(self) -> dict[bytes, bytes]:
        """Return the texts that are there besides what opskit has left."""
        names = [n for n in self.call("KEYS", "*") if not n.startswith(b"opskit:")]
        return {name: self.call("GET", name) for name in sorted(names)}

    @contextlib.contextmanager
    def under_way(self, *words: Any, **how: Any) -> Iterator[list[Output]]:
        """Do something in another thread, which has begun when this returns."""
        found: list[Output] = []
        thread = threading.Thread(target=lambda: found.append(self.do(*words, **how)))
        thread.start()
        until(self.driver.busy)
        try:
            yield found
        finally:
            thread.join(60)


def in_the_window(found: Server, act: Callable[[], object]) -> threading.Thread:
    """Do something once figures were read for the first time: a window is open then."""
    seen = Peer(found.port)
    seen.call("MONITOR")

    def wait() -> None:
        with contextlib.closing(seen):
            line = b""
            while b'"INFO"' not in line or b'"replication"' in line:  # which asks who it is
                line = seen.next()
        time.sleep(0.05)  # the answer is on its way
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def keys(found: Server) -> Keys:
    """Empty a server for a test."""
    found.call("FLUSHALL")
    redis = Redis(name="main", url=f"redis://127.0.0.1:{found.port}/0")
    return Keys(found, f"run{next(_runs)}", redis)


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be so"
        time.sleep(0.02)


def no_host(name: str) -> Any:
    raise AssertionError(f"{name} was asked for a way")
