"""Who keeps an SQLite file to itself, as the kernel's table of locks has it.

It is not opened for that: to close it again would break the locks that this process has on it.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from opskit.audit.queries import named
from opskit.model.frozen import frozen


@frozen
class Keeper:
    """A process that may write to a store right now; `stopped`: it stands still, as by SIGSTOP."""

    pid: int
    stopped: bool
    run: str = ""
    """What it carries out, where the record tells."""

    @property
    def words(self) -> str:
        about = [f"carries out run {self.run}"] if self.run else []
        about += ["stands still"] if self.stopped else []
        return f"process {self.pid}" + (f", which {' and '.join(about)}," if about else "")


def keeper(path: Path) -> Keeper | None:
    """Return the other process that keeps a store to itself; None where that can't be known."""
    pid = next((pid for pid in _writers(path) if pid > 0 and pid != os.getpid()), None)
    if pid is None:
        return None
    return Keeper(pid=pid, stopped=_state(pid) in ("T", "t"), run=_run(path, pid))


_WRITE = 120
"""The byte of NAME-shm that whoever writes has locked."""


def _writers(path: Path) -> list[int]:
    try:
        seen = Path(f"{path}-shm").stat()
        table = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    file = f"{os.major(seen.st_dev):02x}:{os.minor(seen.st_dev):02x}:{seen.st_ino}"
    found = []
    for line in table.splitlines():
        words = line.split()
        # "1: POSIX  ADVISORY  WRITE 4711 08:01:4242 120 120"; one with "->" only waits
        if len(words) < 8 or words[1] == "->" or words[3] != "WRITE" or words[5] != file:
            continue
        first, last = int(words[6]), words[7]
        if first <= _WRITE and (last == "EOF" or int(last) >= _WRITE):
            found.append(int(words[4]))
    return found


def _run(path: Path, pid: int) -> str:
    """Return the run that a process of this machine drives: to read, nobody is in the way."""
    machine = os.uname().nodename
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as connection:
        found = connection.execute(
            named("sqlite")["run_of_process"], {"machine": machine, "pid": pid}
        ).fetchone()
        return str(found[0]) if found else ""
    return ""


def _state(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]
