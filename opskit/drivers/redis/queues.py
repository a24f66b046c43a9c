"""A look at the queues of a broker, and what is wrong about them."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from opskit.drivers.postgres.findings import Weighed, evidence, told, weighed
from opskit.drivers.postgres.findings import table as findings
from opskit.drivers.postgres.told import aligned
from opskit.drivers.redis.broker import (
    HEADS,
    Head,
    Moment,
    Taken,
    heads,
    known,
    moment,
    raise_other_steps,
    taken_by,
)
from opskit.drivers.redis.connection import BrokenError, EndedError, ServerError, TooLongError
from opskit.drivers.redis.diagnosing import Looked, found_by, reached
from opskit.drivers.redis.doing import refused
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.session import Access, Session, opened
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import UnreachableError
from opskit.model.frozen import frozen
from opskit.model.job import Job, Output
from opskit.model.queues import Queues
from opskit.model.value import Json
from opskit.steps.queues import CHECKS
from opskit.steps.units import duration

_MOST = 200
"""So many queues are looked at."""
_LOOK, _LOOKS = 0.2, 100
"""How often it is looked whether it shall go on (seconds), and what is taken, in a window."""
_TASKS = 20
"""So many tasks of a queue are told of."""
_ORDER = ("UNKNOWN", "CRIT", "WARN", "INFO")


@frozen
class _Look:
    """What a look has in hand. `until`: by when it must be over."""

    access: Access
    other: Access | None
    work: Queues
    running: Running
    write: Write
    until: float

    def watch(self) -> None:
        if self.running.give_up.is_set():
            raise EndedError(self.running.because)
        if time.monotonic() > self.until:
            raise EndedError("not over in time")

    def tell(self, text: str) -> None:
        self.write("stdout", text.encode(errors="backslashreplace"))


def perform(
    access: Access, other: Access | None, job: Job, running: Running, write: Write
) -> Output:
    """Look and tell. What goes wrong outside is in the output, never raised.

    `other`: where results go, if that is another server.
    """
    work = job.work
    assert isinstance(work, Queues)
    look = _Look(access=access, other=other, work=work, running=running, write=write,
                 until=time.monotonic() + job.timeout)  # fmt: skip
    try:
        session = opened(access, look.watch, reads=True)
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        proof = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=proof)
    try:
        return _looked(look, session)
    except ListingError as error:
        return Output(outcome="unknown", reason=error.what)
    except ServerError as error:
        return Output(outcome="unknown", reason=refused(error, ""))
    except TooLongError as error:
        cure = "see max_output of the server in the inventory"
        return Output(outcome="unknown", reason=f"messages are too large: {error.what}: {cure}")
    except BrokenError as error:
        return Output(outcome="failed", lost=True, reason=f"the line broke: {error.what}")
    except EndedError as error:
        running.stopped = "confirmed gone"
        proof = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", reason=error.what, evidence=proof)
    finally:
        session.close()


def _looked(look: _Look, session: Session) -> Output:
    work = look.work
    there = known(session, work.layout)
    names = work.names or there
    if len(names) > _MOST:
        raise ListingError(f"there are more than {_MOST} queues: name those that are meant")
    raise_other_steps(session, work.layout, names)
    first = moment(session, work.layout, names) if names else None
    times, seen = _Times(), [first] if first is not None else []
    if first is not None and work.window:
        times.add(first.known.values())
        for _ in range(max(work.falling, 2) - 1):
            _wait(look, session, times)
            seen.append(moment(session, work.layout, names))
            times.add(seen[-1].known.values())
    last = seen[-1] if seen else None
    heads_of = _heads(session, last) if last is not None else {}
    looked = Looked(
        work=work, bound=there, first=first, last=last, seen=seen, heads=heads_of,
        repeated=times.repeated(), server=_memory(session), policy=session.identity.policy,
        results=reached(look.other, look.watch) if look.other is not None else "",
    )  # fmt: skip
    found = weighed(found_by(looked), work.leave_out, (), CHECKS)
    found.sort(key=lambda one: (_ORDER.index(one.level), list(CHECKS).index(one.found.check)))
    if last is not None and first is not None:
        look.tell(_table(first, last, heads_of))
    line = told(found, work.server, _summary(last))
    look.tell(findings(found) + line.partition("; ")[0] + "\n")
    return Output(
        outcome="succeeded", reason=line, status=0,
        evidence={**session.identity.evidence(session.index), **evidence(found),
                  "diagnosis": _diagnosis(found), **_data(last, heads_of)},
    )  # fmt: skip


def _diagnosis(found: Sequence[Weighed]) -> str:
    """Return the check that says what is wrong; "" where nothing is."""
    return next((one.found.check for one in found if one.level != "INFO"), "")


class _Times:
    """When each message was seen to have been taken."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._since: dict[bytes, set[float]] = {}

    def add(self, some: Iterable[Taken]) -> None:
        for one in some:
            self._heads[one.tag] = one.head
            self._since.setdefault(one.tag, set()).add(one.since)

    def repeated(self) -> list[tuple[Head, int]]:
        """Return those that were taken several times, and how often that was seen."""
        found = [(self._heads[tag], len(times)) for tag, times in self._since.items()]
        return [(head, count) for head, count in found if count > 1 and head.id]


def _wait(look: _Look, session: Session, times: _Times) -> None:
    """Wait for the window, and see meanwhile which messages are taken again and again."""
    end, every = time.monotonic() + look.work.window, max(_LOOK, look.work.window / _LOOKS)
    look.tell(f"looking again in {duration(look.work.window)}\n")
    following = time.monotonic() + every
    while (left := end - time.monotonic()) > 0:
        look.running.give_up.wait(min(_LOOK, left))
        look.watch()
        if time.monotonic() >= following:
            times.add(taken_by(session, look.work.layout))
            following = time.monotonic() + every


def _heads(session: Session, now: Moment) -> Mapping[str, list[Head]]:
    """Read some heads of each queue, and no more than so many of all."""
    some = [one for one in now.queues.values() if one.waiting]
    most = HEADS // max(len(some), 1) or 1
    return {one.name: heads(session.connection, one, most) for one in some[:HEADS]}


def _memory(session: Session) -> float | None:
    """Return how much of its memory the server uses, in percent; None: it has no limit."""
    said = session.connection.call("INFO", "memory")
    lines = said.decode(errors="replace").splitlines() if isinstance(said, bytes) else []
    pairs = dict(line.split(":", 1) for line in lines if ":" in line)
    most = int(pairs.get("maxmemory", "0") or 0)
    return 100 * int(pairs.get("used_memory", "0")) / most if most else None


def _tasks(some: Sequence[Head]) -> Iterator[tuple[str, int]]:
    yield from Counter(one.task for one in some).most_common(_TASKS)


def _table(first: Moment, last: Moment, heads_of: Mapping[str, list[Head]]) -> str:
    rows = [("QUEUE", "WAITING", "BEFORE", "LISTS", "TASKS OF THOSE THAT ARE NEXT")]
    for name, queue in last.queues.items():
        lists = "+".join(str(count) for count in queue.lists.values())
        tasks = ", ".join(f"{task} {n}" for task, n in _tasks(heads_of.get(name, ())))
        before = first.queues[name].waiting
        rows.append((name, str(queue.waiting), str(before), lists or "-", tasks or "-"))
    return aligned(rows) + _in_flight(last)


def _in_flight(now: Moment) -> str:
    if not now.taken:
        return "nothing is taken and not acknowledged\n"
    tasks = ", ".join(f"{t} {n}" for t, n in _tasks([one.head for one in now.known.values()]))
    oldest = max((now.now - one.since for one in now.known.values()), default=0.0)
    return f"{now.taken} taken and not acknowledged, the oldest for {oldest:.0f} s: {tasks}\n"


def _summary(now: Moment | None) -> str:
    if now is None:
        return "no queue is known"
    count = sum(one.waiting for one in now.queues.values())
    return f"{count} wait in {len(now.queues)} queues, {now.taken} taken"


def _data(now: Moment | None, heads_of: Mapping[str, list[Head]]) -> dict[str, Json]:
    if now is None:
        return {"queues": [], "taken": 0}
    return {
        "queues": [
            {"name": one.name, "waiting": one.waiting, "lists": list(one.lists.values()),
             "tasks": dict(_tasks(heads_of.get(one.name, ())))}
            for one in now.queues.values()
        ],
        "taken": now.taken,
    }  # fmt: skip
