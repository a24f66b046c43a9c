"""A practice service for quick tests, and a fleet for those that need real hosts."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import address, release

UP_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningService:
    """The practice service as a process of this machine, with no host around it."""

    address: str
    port: int
    shared: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/"


Start = Callable[..., RunningService]


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Start]:
    """Start the service of a release, in a free net; it is ended with the test."""
    net, holder = address.claim()
    running: list[RunningService] = []

    def start(name: str = "A", fault: str | None = None) -> RunningService:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in release.files(name, fault).items():
            (folder / file).write_bytes(content)
        ready = tmp_path / f"{name}.ready"
        host = address.address(net, len(running))
        shared = tmp_path / f"{name}.shared"
        process = subprocess.Popen(
            [sys.executable, "-IS", "app.py", host, str(address.SERVICE), str(shared)],
            cwd=folder,
            env={"START_SECONDS": "0.01", "READY_FILE": str(ready)},
        )
        service = RunningService(address=host, port=address.SERVICE, shared=shared, process=process)
        running.append(service)
        deadline = time.monotonic() + 10
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return service

    with holder:
        yield start
        for service in running:
            service.process.kill()
            service.process.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """A lab and the seconds that it took to come up."""

    lab: labs.Lab
    seconds: float


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Six hosts, for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("fleet") / "lab"
    begun = time.monotonic()
    lab = labs.up(folder, web=4, lb=2)
    try:
        yield Fleet(lab=lab, seconds=time.monotonic() - begun)
    finally:
        lab.down()


@pytest.fixture
def lab(fleet: Fleet) -> labs.Lab:
    """The fleet's lab."""
    return fleet.lab
