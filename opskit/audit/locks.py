"""Who may work now: the process that drives a run, and the run that has a lock.

A process holds a run while it drives it, by a claim that dies with it. A run holds its locks from
its first event until it has ended: a run that waits, or whose process died half way, keeps them,
because what it left half done is still there. Another run gets such a lock only when the first one
ended without giving it back, or died before it had started anything.
"""

import json
import os
import secrets
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from opskit.audit.database import Claim, Database, Row, Rows
from opskit.audit.fold import OPEN
from opskit.errors import LockedError, RefusedError
from opskit.model.frozen import frozen


@frozen
class Hold:
    """That this process drives a run: its claim, a token for each write, and where it stands among
    all that have held something in this store (the later, the higher)."""

    claim: Claim
    token: str
    store: str
    number: int


def hold(database: Database, rows: Rows, run: Row, *, who: str, origin: str) -> Hold:
    """Make this process the one that drives a run."""
    claim = database.claim(run["id"])
    if claim is None:
        raise _held(rows, run)
    token = secrets.token_hex(8)
    rows.run("release", run=run["number"])  # of a process that died
    rows.run(
        "hold",
        run=run["number"],
        token=token,
        who=who,
        origin=origin,
        machine=os.uname().nodename,
        pid=os.getpid(),
        started=_process_start(),
        boot=_boot_id(),
        since=time.time(),
    )
    rows.run("count_token")
    store = rows.one("store")
    assert store is not None
    return Hold(claim=claim, token=token, store=store["id"], number=store["tokens"])


def driver(rows: Rows, run: int) -> str:
    """Say which other process is carrying out a run right now; empty where none is."""
    holder = _living(rows, run)
    return _who(holder) if holder is not None else ""


def driver_pid(rows: Rows, run: int) -> int | None:
    """Return the other process on this machine that is carrying out a run right now."""
    holder = _living(rows, run)
    here = holder is not None and holder["machine"] == os.uname().nodename
    return int(holder["pid"]) if holder is not None and here else None


def _living(rows: Rows, run: int) -> Row | None:
    """Look for another process that drives a run.

    The look is in nobody's way: it tries no claim, so that a resume meanwhile is not refused.
    """
    holder = rows.one("holder", run=run)
    if holder is None:
        return None
    if holder["machine"] != os.uname().nodename:
        return holder if rows.one("claimed", run=run) is not None else None
    if holder["pid"] == os.getpid():
        return None
    alive = holder["boot"] == _boot_id() and holder["started"] == _process_start(holder["pid"])
    return holder if alive else None


def _held(rows: Rows, run: Row) -> RefusedError:
    holder = rows.one("holder", run=run["number"])
    by = f" by {_who(holder)}" if holder else ""
    return RefusedError(
        f"run {run['id']} is being carried out right now{by}{_doing(rows, run['number'])}",
        hint=f"wait for it; `opskit status {run['id']}` shows where it is",
    )


def take(
    database: Database, rows: Rows, names: Sequence[str], run: Row, *, steal: str | None = None
) -> None:
    """Give these locks to a run; RefusedError names who has one.

    `steal`: a run whose locks a person wants taken away from it; not while a process drives it.
    """
    for name in sorted(set(names)):
        lock = rows.one("lock", name=name)
        if lock is not None and lock["run"] == run["number"]:
            continue
        if lock is not None:
            _take_over(database, rows, lock, steal)
            rows.run("free_lock", name=name)
        rows.run("take_lock", name=name, run=run["number"], since=time.time())


def _take_over(database: Database, rows: Rows, lock: Row, steal: str | None) -> None:
    """Refuse unless the run that has the lock needs it no more."""
    claim = database.claim(lock["id"])
    if claim is None:
        raise _locked(rows, lock, alive=True)
    claim.release()
    if lock["id"] != steal and not given_up(rows, lock["run"], lock["state"]):
        raise _locked(rows, lock, alive=False)


def given_up(rows: Rows, run: int, state: str) -> bool:
    """Tell whether a run that no process drives needs its locks no more."""
    if state == "waiting":
        return False
    return state not in OPEN or rows.one("anything_started", run=run) is None


def _locked(rows: Rows, lock: Row, *, alive: bool) -> LockedError:
    holder = rows.one("holder", run=lock["run"])
    what = f"the lock {lock['name']!r} is held by run {lock['id']} ({lock['runbook']})"
    what += f" since {_utc(lock['since'])}" + (f", by {_who(holder)}" if holder else "")
    if alive:
        what += _doing(rows, lock["run"])
        hint = f"wait for it; `opskit status {lock['id']}` shows where it is"
        return LockedError(what, hint=hint)
    if lock["state"] == "waiting":
        stopped = _waits_because(rows, lock["run"]) == "interrupted"
        what += "; it was stopped and can be resumed" if stopped else "; it waits for a person"
    else:
        what += f"; its process is gone{_doing(rows, lock['run'], 'it was')}"
    hint = (
        f"`opskit resume {lock['id']}` goes on with it, `opskit undo {lock['id']}` takes it back,"
        f" `opskit abort {lock['id']}` leaves things as they are, `--steal {lock['id']}` takes its"
        " locks away"
    )
    return LockedError(what, hint=hint)


def _who(holder: Row) -> str:
    return f"{holder['who']} (process {holder['pid']} on {holder['machine']})"


def _doing(rows: Rows, run: int, verb: str = "it is") -> str:
    last = rows.one("last_started", run=run)
    if last is None:
        return ""
    step = json.loads(last["body"]).get("step", "")
    return f"; {verb} at {step!r}" + (f" on {last['host']}" if last["host"] else "")


def _waits_because(rows: Rows, run: int) -> str:
    last = rows.one("last_waiting", run=run)
    return str(json.loads(last["body"]).get("data", {}).get("why", "")) if last else ""


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _process_start(pid: int | str = "self") -> str:
    """Return when a process began, in clock ticks since boot; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name, in brackets, may hold anything; the 22nd field is the 20th after it.
    return text.rpartition(")")[2].split()[19]
