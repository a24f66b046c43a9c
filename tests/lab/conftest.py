"""A practice service for quick tests, and a fleet for those that need real hosts."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from opskit import lab as labs
from opskit.lab import address, programs, release

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


def link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


@dataclass(frozen=True, kw_only=True, slots=True)
class Stranger:
    """An ordinary user of this machine, with a folder of his and a copy of opskit in it."""

    name: str
    home: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, with nothing of ours in the environment."""
        become = ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups"]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "OPSKIT_LAB": str(self.home / "lab"),
            "PYTHONPATH": str(self.home / "packages"),
        }
        return subprocess.run(
            [*become, *words],
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def install(self, *names: str) -> None:
        """Give this user packages that are installed here, as second names of the same files."""
        for name in names:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            package = Path(spec.origin).parent
            for part in (package, package.with_name(f"{name}.libs")):
                if part.exists():
                    shutil.copytree(part, self.home / "packages" / part.name, copy_function=link)

    def lab(self, *words: str) -> str:
        """Run `opskit lab` as this user; it must succeed."""
        done = self.run(programs.host_python(), "-m", "opskit", "lab", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A user made for one test."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a user; the other tests ran as an ordinary one")
    useradd, userdel = programs.find("useradd"), programs.find("userdel")
    if useradd is None or userdel is None or not programs.host_python().startswith("/usr"):
        pytest.skip("needs useradd, and a Python that other users may run")
    name = f"opskit-lab-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="opskit-lab-") as home:
        subprocess.run([useradd, "-M", "-d", home, "-s", "/bin/bash", name], check=True)
        try:
            packages = Path(home) / "packages"
            shutil.copytree(Path(labs.__file__).parents[1], packages / "opskit")
            shutil.copytree(Path(click.__file__).parent, packages / "click")
            subprocess.run(["chown", "-R", name, home], check=True)
            yield Stranger(name=name, home=Path(home))
        finally:
            subprocess.run([userdel, name], check=True, capture_output=True)
