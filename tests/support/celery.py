"""A real application of Celery with a real worker, at a Redis of the tests' own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis import Server, until

WORKER = "w1@lab"
SHOP = """
import os, time
from celery import Celery
from celery.exceptions import Reject

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 60}, task_time_limit=50,
)


@app.task(name="shop.canary")
def canary():
    return "back"


@app.task(name="shop.note")
def note(path, text):
    with open(path, "a") as file:
        file.write(text + "\\n")


@app.task(name="shop.gate")
def gate(path, key):
    # busy until somebody makes the file; a minute at most
    for _ in range(600):
        if os.path.exists(key):
            break
        time.sleep(0.1)
    with open(path, "a") as file:
        file.write("gate\\n")


@app.task(name="shop.poison")
def poison(secret):
    time.sleep(0.05)
    raise Reject("no", requeue=True)
"""
CANARY = """
import sys, shop
print(shop.canary.apply_async(queue=sys.argv[1]).get(timeout=float(sys.argv[2])))
"""


@dataclass
class Shop:
    """The application in a folder. `pid`: where its worker says which process it is."""

    server: Server
    folder: Path

    @property
    def pid(self) -> Path:
        return self.folder / "worker.pid"

    @property
    def environ(self) -> Mapping[str, str]:
        return {**os.environ, "BROKER": f"redis://127.0.0.1:{self.server.port}/0"}

    def write(self) -> None:
        (self.folder / "shop.py").write_text(SHOP)
        (self.folder / "canary.py").write_text(CANARY)
        broker = f"export BROKER={self.environ['BROKER']}\n"
        scripts = {
            "celery": f'cd {self.folder} && exec {sys.executable} -m celery -A shop "$@"\n',
            "start": f"cd {self.folder}\nsetsid ./celery worker -P threads -c 1 -n {WORKER}"
            f" -Q celery,mail -l WARNING >>worker.log 2>&1 </dev/null &\necho $! >{self.pid}\n",
            "stop": f"kill -s TERM $(cat {self.pid})\n",
            "pids": f"pid=$(cat {self.pid}) && kill -0 $pid 2>/dev/null && echo $pid; true\n",
            "canary": f'cd {self.folder} && exec {sys.executable} canary.py "$1" 50\n',
        }
        for name, text in scripts.items():
            path = self.folder / name
            path.write_text(f"#!/bin/sh\n{broker}{text}")
            path.chmod(0o755)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        return done.stdout

    def python(self, text: str) -> str:
        """Let the application do something: send tasks."""
        return self.run(sys.executable, "-c", f"import shop\n{text}")

    def start(self) -> None:
        self.run("./start")
        self.python("print(shop.canary.apply_async(queue='mail').get(timeout=40))")

    def alive(self) -> bool:
        with suppress(OSError, ValueError):
            os.kill(int(self.pid.read_text()), 0)
            state = Path(f"/proc/{int(self.pid.read_text())}/stat").read_text()
            return state.rpartition(") ")[2][0] != "Z"
        return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the worker by its process, and wait until it is gone."""
        with suppress(OSError, ValueError):
            os.kill(int(self.pid.read_text()), number)
        end = time.monotonic() + 20
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        if self.alive():
            os.kill(int(self.pid.read_text()), signal.SIGKILL)
            until(lambda: not self.alive())

    @property
    def queue(self) -> Mapping[str, object]:
        """What an inventory says of it."""
        names = ("celery", "start", "stop", "pids", "canary")
        return {"workers": [WORKER], **{name: str(self.folder / name) for name in names}}


@contextmanager
def shop(server: Server, folder: Path) -> Iterator[Shop]:
    """Give the application with a worker that has begun; nothing of it runs afterwards."""
    found = Shop(server, folder)
    found.write()
    try:
        found.start()
        yield found
    finally:
        found.end()
