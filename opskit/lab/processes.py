"""Processes that outlive the command that started them: found again, and ended for sure.

A process is its pid *and* its start time: after a crash or a long night the number alone may
belong to somebody else.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import programs
from opskit.model.frozen import frozen

MARK = "OPSKIT_LAB_MARK"


@frozen
class Process:
    """One process of this machine; `begun` is in clock ticks since the machine's boot."""

    pid: int
    begun: int

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_time(self.pid) == self.begun


class TooLateError(OpskitError):
    """Something that was started did not get ready."""


def start_time(pid: int) -> int | None:
    """When a process began, or None when there is none or only a zombie is left."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def parent_of(pid: int) -> int | None:
    """The pid of the parent, or None when the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def identify(pid: int) -> Process | None:
    """The process that has this pid now."""
    begun = start_time(pid)
    return None if begun is None else Process(pid=pid, begun=begun)


def every() -> Iterator[int]:
    """The pids of this moment."""
    for entry in os.listdir("/proc"):  # noqa: PTH208  # names alone, no Path for each
        if entry.isdigit():
            yield int(entry)


def children_of(pid: int) -> tuple[int, ...]:
    """Direct children, oldest first."""
    return tuple(sorted(child for child in every() if parent_of(child) == pid))


def marked(folder: Path, marks: Mapping[str, str] | None = None) -> tuple[int, ...]:
    """The processes that were started for the lab in this folder, whether recorded or not."""
    wanted = {
        f"{key}={value}".encode() for key, value in {MARK: str(folder), **(marks or {})}.items()
    }
    found = []
    for pid in every():
        with contextlib.suppress(OSError):
            if wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                found.append(pid)
    return tuple(found)


def families(pids: Iterable[int]) -> tuple[int, ...]:
    """These processes and all that descend from them, oldest first; zombies left out."""
    found = set(pids)
    parents = {pid: parent_of(pid) for pid in every()}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return tuple(sorted(pid for pid in found if start_time(pid) is not None))


def in_pid_namespace_of(pid: int) -> tuple[int, ...]:
    """All pids that share a process's pid namespace: the process tree of one host."""
    namespace = _namespace(pid)
    return tuple(sorted(other for other in every() if namespace and _namespace(other) == namespace))


def _namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def start(
    words: Sequence[str | Path],
    *,
    record: Path,
    log: Path,
    folder: Path,
    pass_fds: Iterable[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a daemon for the lab in `folder`: own session, default signals, marked, recorded.

    It belongs to nobody who waits for it, so it goes on when this process ends.
    """
    record.unlink(missing_ok=True)
    starter = [programs.program("setsid"), "-f", "/bin/sh", folder / "bin" / "start.sh", record]
    with log.open("ab") as output:
        subprocess.run(
            [str(word) for word in (*starter, *words)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=programs.plain_environment() | {MARK: str(folder)} | dict(environment or {}),
            pass_fds=tuple(pass_fds),
            cwd="/",
            check=True,
        )
    wait_until(record.exists, 10, f"{words[0]} to start")
    process = recorded(record)
    assert process is not None
    return process


def recorded(record: Path) -> Process | None:
    """The process that a record names, alive or not."""
    try:
        pid, begun = record.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return Process(pid=int(pid), begun=int(begun))


def end(processes: Iterable[Process], *, patience: float = 10) -> tuple[Process, ...]:
    """Kill and wait until they are gone; returns those that are not."""
    processes = tuple(processes)
    for process in processes:
        _kill(process)
    deadline = time.monotonic() + patience
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.005)
    return tuple(process for process in processes if process.alive())


def _kill(process: Process) -> None:
    """SIGKILL by a handle on the process, so that a number taken over meanwhile is never hit."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if process.alive():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], 1)
    finally:
        os.close(handle)


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll with short sleeps; raises TooLateError that names what did not come."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TooLateError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.005)
