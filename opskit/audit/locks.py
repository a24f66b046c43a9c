"""The locks of runs: a run has them from its first event until it has ended.

A run that waits, or whose process died half way, keeps them, because what it left half done is
still there. Another run gets such a lock only when the first one ended without giving it back, or
died before it had started anything, or when a person takes it away from it.
"""

import json
import time
from collections.abc import Sequence

from opskit.audit import chain, holders
from opskit.audit.database import Row, Rows
from opskit.audit.fold import OPEN
from opskit.audit.holders import Onlooker
from opskit.audit.masking import Masker
from opskit.errors import LockedError
from opskit.model.event import Event


def take(
    rows: Rows,
    names: Sequence[str],
    run: Row,
    onlooker: Onlooker,
    *,
    who: str,
    steal: str | None = None,
) -> None:
    """Give these locks to a run; LockedError names who has one.

    `steal`: a run whose locks a person wants taken away from it, whatever process drives it.
    """
    for name in sorted(set(names)):
        lock = rows.one("lock", name=name)
        if lock is not None and lock["run"] == run["number"]:
            continue
        if lock is not None:
            if lock["id"] == steal:
                _note(rows, lock, run, who)
            else:
                _refuse(rows, lock, onlooker, steal)
            # Its process may live all the same: without its row it can write nothing any more.
            rows.run("release", run=lock["run"])
            rows.run("free_lock", name=name)
        rows.run("take_lock", name=name, run=run["number"], since=time.time())


def _refuse(rows: Rows, lock: Row, onlooker: Onlooker, steal: str | None) -> None:
    """Refuse unless the run that has the lock needs it no more."""
    holder = rows.one("holder", run=lock["run"])
    if holder is not None:
        error = _locked(rows, lock, holder, alive=True, steal=steal)
        onlooker.refuse_living(rows, lock["run"], holder, error)
    if not given_up(rows, lock["run"], lock["state"]):
        raise _locked(rows, lock, holder, alive=False, steal=steal)


def _note(rows: Rows, lock: Row, run: Row, who: str) -> None:
    """Leave a word in the record of the run whose lock is taken away."""
    text = f"its lock {lock['name']!r} was taken away by run {run['id']} ({run['runbook']})"
    event = Event(kind="note", data={"who": who, "text": text, "taken_by": run["id"]})
    of = {"number": lock["run"], "id": lock["id"]}
    chain.extend(rows, of, [chain.dated(event, time.time(), Masker([]))])


def given_up(rows: Rows, run: int, state: str) -> bool:
    """Tell whether a run that no process drives needs its locks no more."""
    if state == "waiting":
        return False
    return state not in OPEN or rows.one("anything_started", run=run) is None


def _locked(
    rows: Rows, lock: Row, holder: Row | None, *, alive: bool, steal: str | None
) -> LockedError:
    run = lock["id"]
    what = f"the lock {lock['name']!r} is held by run {run} ({lock['runbook']})"
    what += f" since {holders.utc(lock['since'])}"
    what += f", by {holders.words(holder)}" if holder else ""
    if alive:
        what += holders.doing(rows, lock["run"]) + _misnamed(steal)
        hint = f"wait for it; `opskit status {run}` shows where it is, and `--wait 10m` waits;"
        return LockedError(what, hint=f"{hint} {holders.hangs(run)}")
    if lock["state"] == "waiting":
        stopped = _waits_because(rows, lock["run"]) == "interrupted"
        what += "; it was stopped and can be resumed" if stopped else "; it waits for a person"
    else:
        what += f"; its process is gone{holders.doing(rows, lock['run'], 'it was')}"
    what += _misnamed(steal)
    hint = (
        f"`opskit resume {run}` goes on with it, `opskit undo {run}` takes it back,"
        f" `opskit abort {run}` leaves things as they are, `--steal {run}` takes its"
        " locks away"
    )
    return LockedError(what, hint=hint)


def _misnamed(steal: str | None) -> str:
    """Say that the run whose locks a person wants is not the one that has this lock."""
    return f"; --steal names {steal!r}, which is not that run" if steal else ""


def _waits_because(rows: Rows, run: int) -> str:
    last = rows.one("last_waiting", run=run)
    return str(json.loads(last["body"]).get("data", {}).get("why", "")) if last else ""
