"""A short way to have a command run, for the tests of the drivers."""

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opskit.drivers.local import LocalWire
from opskit.drivers.session import Session
from opskit.drivers.targets import Targets
from opskit.drivers.wire import Stream
from opskit.model.inventory import CONTROLLER, Connection, Host
from opskit.model.job import Job, Output
from opskit.model.runbook import Effect
from opskit.model.text import Text, text
from opskit.model.value import Secret, SecretRef
from opskit.model.work import Command, Work

RUN = f"run{os.getpid()}"
"""Processes are found by the name of their run: that of tests elsewhere is another one."""

SHELLS: Mapping[str, tuple[str, ...]] = {
    "dash": ("dash",),
    "bash": ("bash", "--posix"),
    "busybox": ("busybox", "sh"),
}


@dataclass(kw_only=True)
class Heard:
    """An output with all that was written on both streams."""

    output: Output
    out: bytes
    err: bytes

    @property
    def outcome(self) -> str:
        return self.output.outcome


@dataclass(kw_only=True)
class Kit:
    """Targets with a counter for keys."""

    targets: Targets
    host: Host
    run: str
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def do(
        self,
        command: str = "",
        *,
        effect: Effect = "read",
        timeout: float = 30.0,
        secrets: Mapping[str, str] | None = None,
        stdin: str | Text | SecretRef | None = None,
        args: tuple[str, ...] = (),
        shell: bool = True,
        sudo: str | None = None,
        cwd: str | None = None,
        key: str | None = None,
        attempt: int = 1,
        heard: Callable[[Stream, bytes], None] | None = None,
    ) -> Heard:
        known = {name: Secret(name, value) for name, value in (secrets or {}).items()}
        work = Command(
            text=text(command),
            shell=shell,
            args=tuple(text(a) for a in args),
            cwd=None if cwd is None else text(cwd),
            stdin=text(stdin) if isinstance(stdin, str) else stdin,
            secrets={name: name for name in known},
            sudo=sudo,
        )
        return self.perform(
            work, effect=effect, timeout=timeout, secrets=known, key=key, attempt=attempt,
            heard=heard,
        )  # fmt: skip

    def perform(
        self,
        work: Work,
        *,
        effect: Effect = "change",
        timeout: float = 30.0,
        secrets: Mapping[str, Secret] | None = None,
        key: str | None = None,
        attempt: int = 1,
        heard: Callable[[Stream, bytes], None] | None = None,
    ) -> Heard:
        streams: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

        def write(stream: Stream, data: bytes) -> None:
            (heard or (lambda s, d: streams[s].extend(d)))(stream, data)

        job = self.job(
            work, effect=effect, timeout=timeout, secrets=secrets, key=key, attempt=attempt
        )
        output = self.targets.perform(job, write)
        return Heard(output=output, out=bytes(streams["stdout"]), err=bytes(streams["stderr"]))

    def job(
        self,
        work: Work,
        *,
        effect: Effect = "change",
        timeout: float = 30.0,
        secrets: Mapping[str, Secret] | None = None,
        key: str | None = None,
        attempt: int = 1,
    ) -> Job:
        return Job(
            run=self.run,
            key=key or f"{next(self._count)}:{self.host.name}",
            attempt=attempt,
            host=self.host,
            work=work,
            effect=effect,
            timeout=timeout,
            secrets=secrets or {},
        )


def kit(host: Host, run: str = RUN) -> Kit:
    return Kit(targets=Targets(run, {host.name: host}), host=host, run=run)


def here(state_dir: str, **connection: object) -> Host:
    """Return the controller, with a state directory of the test's own."""
    how = Connection(state_dir=state_dir, **connection)  # type: ignore[arg-type]
    return Host(name=CONTROLLER, address="localhost", connection=how)


def session(shell: str, mine: tuple[str, ...] = ()) -> Session:
    """Start a shim in one of the shells."""
    made = Session(LocalWire(SHELLS[shell]))
    made.hello(None, mine, 20)
    return made
