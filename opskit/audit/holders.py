"""The process that drives a run: who it is, whether it lives, and how another takes its place.

A row in the store says who drives a run, with a token that this process shows at each write. Who
takes its place writes another row, and the first token is worth nothing from then on, whether its
process lives or not. So nothing rests on knowing that a process is dead: judging it only keeps
people out of each other's way.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, assert_never

from opskit.audit.database import Row, Rows
from opskit.errors import RefusedError, TakenOverError
from opskit.model.frozen import frozen

OVERDUE = 15.0
"""Seconds without a sign of life after which a process elsewhere is taken for gone."""
_LOOK = 0.5
"""Seconds between two looks at a process of which that can't be told yet."""

T = TypeVar("T")
Verdict = Literal["lives", "gone", "unsure"]

_ours: set[str] = set()
"""Tokens of what this very process holds: its own rows with other tokens were left behind."""


@frozen
class Hold:
    """That this process drives a run: a token for each write, and where it stands among all that
    have held something in this store (the later, the higher).

    `heard`: the last entry of the run then; `displaced`: who was driving it, and may still live.
    """

    token: str
    store: str
    number: int
    heard: int
    displaced: str = ""


@frozen
class Driver:
    """The process that drives a run. `heard`: the last entry in which it looked for wishes; `sure`:
    whether it is known to live, else a further look within `OVERDUE` may find it gone."""

    token: str
    words: str
    heard: int
    sure: bool


class UnsureError(RefusedError):
    """It can't be told yet whether a process elsewhere lives; `refusal` is what is said if so."""

    def __init__(self, refusal: RefusedError) -> None:
        super().__init__(refusal.what, where=refusal.where, hint=refusal.hint)
        self.refusal = refusal


class Onlooker:
    """Judges whether processes live. One elsewhere is judged by a count that it lets grow, and by
    our own clock: the clocks of two machines are never compared."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def judge(self, rows: Rows, run: int, holder: Row) -> Verdict:
        """Say whether the process of this row lives, as far as has been seen by now."""
        if _is_here(holder):
            return "lives" if _exists(holder) else "gone"
        now = time.monotonic()
        with self._lock:
            beats, since = self._seen.get(holder["token"], (holder["beats"], now))
            moved = beats != holder["beats"]
            self._seen[holder["token"]] = (holder["beats"], now if moved else since)
        if moved:
            return "lives"
        quiet = rows.one("quiet", run=run)  # by the clock of the store itself, where it has one
        silent = now - since if quiet is None else max(now - since, quiet["seconds"])
        return "gone" if silent >= OVERDUE else "unsure"

    def refuse_living(self, rows: Rows, run: int, holder: Row, error: RefusedError) -> None:
        """Raise this error where a process lives; UnsureError where that can't be told yet."""
        verdict = self.judge(rows, run, holder)
        match verdict:
            case "lives":
                raise error
            case "unsure":
                raise UnsureError(error)
            case "gone":
                pass
            case _:
                assert_never(verdict)

    def driver(self, rows: Rows, run: int) -> Driver | None:
        """Return the other process that drives a run; None where there is none, or it is gone.

        One of which it can't be told yet counts, but for what is left from before this machine was
        started anew.
        """
        holder = rows.one("holder", run=run)
        if holder is None or holder["token"] in _ours:
            return None
        verdict = self.judge(rows, run, holder)
        if verdict == "gone":
            return None
        rebooted = holder["machine"] == os.uname().nodename and not _same_boot(holder)
        if verdict == "unsure" and rebooted and rows.one("quiet", run=run) is None:
            return None
        return Driver(
            token=holder["token"],
            words=words(holder),
            heard=holder["heard"],
            sure=verdict == "lives",
        )


def patiently(
    attempt: Callable[[], T], tell: Callable[[str], None], stopped: Callable[[], bool]
) -> T:
    """Try something; where a process elsewhere may live or not, watch it until that is clear."""
    told = False
    while True:
        try:
            return attempt()
        except UnsureError as unsure:
            if stopped():
                raise unsure.refusal from None
            if not told:
                tell(f"{unsure.what}; seeing whether that process lives, up to {OVERDUE:.0f} s")
                told = True
        time.sleep(_LOOK)


def hold(
    rows: Rows, run: Row, onlooker: Onlooker, *, who: str, origin: str, steal: str | None = None
) -> Hold:
    """Make this process the one that drives a run; RefusedError while another lives that does.

    `steal`: the id of a run that is taken from whatever process has it.
    """
    holder = rows.one("holder", run=run["number"])
    if holder is not None and run["id"] != steal:
        onlooker.refuse_living(rows, run["number"], holder, _held(rows, run, holder))
    token = secrets.token_hex(8)
    rows.run("release", run=run["number"])
    rows.run(
        "hold",
        run=run["number"],
        token=token,
        who=who,
        origin=origin,
        machine=os.uname().nodename,
        pid=os.getpid(),
        started=_status(os.getpid())[1],
        boot=_place(),
        since=time.time(),
    )
    rows.run("count_token")
    store, head = rows.one("store"), rows.one("head", run=run["number"])
    assert store is not None
    assert head is not None
    _ours.add(token)
    return Hold(
        token=token,
        store=store["id"],
        number=store["tokens"],
        heard=head["entries"],
        displaced=words(holder) if holder is not None else "",
    )


def refuse_cut_off(rows: Rows, run: Row, token: str, where: str) -> Row:
    """Refuse to write where another process goes on with a run; return the run's head."""
    head = rows.one("head", run=run["number"])
    if head is None or head["token"] != token:
        raise TakenOverError(
            f"run {run['id']} was taken over by {successor(rows, run['number'])};"
            " nothing more is done here",
            where=where,
            hint=f"`opskit status {run['id']}` shows what became of it",
        )
    return head


def let_go(token: str) -> None:
    """Know in this process that it drives a run no more, whatever the store says of it."""
    _ours.discard(token)


def successor(rows: Rows, run: int) -> str:
    """Say who has taken the place of a process whose token counts no more."""
    holder = rows.one("holder", run=run)
    if holder is not None:
        return f"{words(holder)} since {utc(holder['since'])}"
    for found in rows.all("takers", run=run):
        data = json.loads(found["body"]).get("data", {})
        if found["kind"] == "run resumed" or "taken_by" in data:
            return str(data.get("who", ""))
    return "another process"


def words(holder: Row) -> str:
    return f"{holder['who']} (process {holder['pid']} on {holder['machine']})"


def _held(rows: Rows, run: Row, holder: Row) -> RefusedError:
    return RefusedError(
        f"run {run['id']} is being carried out right now by {words(holder)},"
        f" since {utc(holder['since'])}{doing(rows, run['number'])}",
        hint=f"wait for it; `opskit status {run['id']}` shows where it is; {hangs(run['id'])}",
    )


def hangs(run: str) -> str:
    return f"if that process hangs or is cut off, `--steal {run}` takes its place"


def doing(rows: Rows, run: int, verb: str = "it is") -> str:
    """Say what was begun last in a run, as the rest of a sentence."""
    last = rows.one("last_started", run=run)
    if last is None:
        return ""
    step = json.loads(last["body"]).get("step", "")
    return f"; {verb} at {step!r}" + (f" on {last['host']}" if last["host"] else "")


def utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


# ---- processes


def _is_here(holder: Row) -> bool:
    """Tell whether we would see the process of this row: same machine, same boot, and not in a
    container whose processes have numbers of their own."""
    return holder["boot"] in (_place(), _boot_id())


def _same_boot(holder: Row) -> bool:
    return str(holder["boot"]).partition(" ")[0] == _boot_id()


def _exists(holder: Row) -> bool:
    pid = int(holder["pid"])
    if pid == os.getpid():
        return holder["token"] in _ours
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    state, started = _status(pid)
    return not started or (started == holder["started"] and state not in ("Z", "X"))


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@cache
def _place() -> str:
    """Return what names the processes that this one sees: the boot, and the process namespace."""
    try:
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return _boot_id()
    return f"{_boot_id()} {space}"


def _status(pid: int) -> tuple[str, str]:
    """Return the state of a process and when it began, in clock ticks since boot.

    Both are empty where there is none, or where it can't be looked at.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    # The name, in brackets, may hold anything; the 3rd and the 22nd field come after it.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
