"""What two looks at a broker, and what its workers have answered, say is wrong."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from itertools import pairwise

from opskit.drivers.postgres.findings import Found
from opskit.drivers.redis.broker import Head, Moment, Taken
from opskit.drivers.redis.connection import EndedError, Watch
from opskit.drivers.redis.session import Access, opened
from opskit.errors import UnreachableError
from opskit.model.frozen import frozen
from opskit.model.queues import Queues
from opskit.steps.units import duration

_SAFE = "noeviction"
_RAISE = "let visibility_timeout be longer than the longest task"
_SOONER = "send such tasks later, or let visibility_timeout be longer than the furthest eta"
_NO_LIMIT = "nothing limits how long a task may run (task_time_limit)"
_WEIGHTS = ("WARN", "CRIT").index
_FEW = 10
_NAMED = 20
"""So many messages or tasks are named by each check."""


@frozen
class Looked:
    """What was seen, from the first moment of `seen` to its last. `bound`: the queues that the
    broker knows; `repeated`: messages that were taken several times, and how often; `server`:
    memory in percent; `results`: why the server that results go to can't be used, "" where it can.
    """

    work: Queues
    bound: tuple[str, ...]
    first: Moment | None
    last: Moment | None
    seen: Sequence[Moment]
    heads: Mapping[str, list[Head]]
    repeated: Sequence[tuple[Head, int]]
    server: float | None
    policy: str
    results: str

    def level(self, check: str, value: float) -> str:
        """Return what a value weighs; "" for nothing."""
        limit = self.work.limits[check]
        return "CRIT" if value >= limit.crit else "WARN" if value >= limit.warn else ""


@frozen
class Answers:
    """What workers have said, and from which queues each takes, where it has said that.

    `doubt`: why nothing is known of them.
    """

    said: Mapping[str, Mapping[str, int]]
    takes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    doubt: str = ""

    @property
    def active(self) -> int:
        return sum(one.get("active", 0) for one in self.said.values())

    @property
    def done(self) -> int:
        return sum(one.get("processed", 0) - one.get("before", 0) for one in self.said.values())

    def idle(self, name: str) -> bool:
        """Tell whether a worker ran nothing when it was asked, and had done nothing before."""
        one = self.said[name]
        return not one.get("active") and one.get("processed", 0) == one.get("before", 0)

    def nobody(self, queue: str) -> bool:
        """Tell whether all have said from which queues they take, and none takes from this one."""
        return self.takes.keys() == self.said.keys() and not any(
            queue in names for names in self.takes.values()
        )


def answers(work: Queues) -> Answers | None:
    """Read what workers have answered; None: nobody was asked."""
    if work.answers is None:
        return None
    try:
        found = json.loads(work.answers.fixed())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Answers(
            said={}, doubt="what was asked of the workers has no answer that can be read"
        )
    if "error" in found:
        return Answers(said={}, doubt=f"the workers could not be asked: {found['error']}"[:300])
    told = {str(name): one for name, one in found.items() if isinstance(one, dict)}
    numbers = {name: {k: v for k, v in one.items() if isinstance(v, int)}
               for name, one in told.items()}  # fmt: skip
    takes = {name: frozenset(map(str, one["takes"])) for name, one in told.items()
             if isinstance(one.get("takes"), list)}  # fmt: skip
    return Answers(said=numbers, takes=takes)


def reached(other: Access | None, watch: Watch) -> str:
    """Return why the server that results go to can't be used; "" where it can."""
    if other is None:
        return ""
    try:
        opened(other, watch, reads=True).close()
    except EndedError:
        raise
    except UnreachableError as error:
        return error.line
    return ""


def found_by(looked: Looked) -> Iterator[Found]:
    """Yield what is wrong."""
    said = answers(looked.work)
    yield from _server(looked)
    yield from _workers(looked.work, said)
    first, last = looked.first, looked.last
    if first is None or last is None:
        told = "no queue of Celery is known there: see the server, its database and `prefix`"
        yield Found(check="queues", name="broker", text=told, unknown=True)
        return
    yield from _names(looked, last)
    if not (said is not None and not said.doubt and not said.said):  # that explains the rest
        yield from _stuck(looked, first, last, said)
        yield from _apart(looked, first, last, said)
    yield from _repeated(looked, last)
    yield from _twice(looked, said)
    yield from _old(looked, last, visibility(looked.work, said))
    yield from _falling(looked, first, last)
    for queue in last.queues.values():
        if weight := looked.level("depth", queue.waiting):
            before = first.queues[queue.name].waiting
            text = f"{queue.waiting} messages wait{_change(queue.waiting - before, looked.work)}"
            yield Found(check="depth", name=queue.name, text=text, weight=weight)


def _change(by: int, work: Queues) -> str:
    if not work.window:
        return ""
    how = f"{abs(by)} {'more' if by > 0 else 'fewer'}" if by else "as many"
    return f", {how} than {duration(work.window)} before"


def _server(looked: Looked) -> Iterator[Found]:
    if looked.policy != _SAFE:
        told = f"maxmemory-policy is {looked.policy or '(not told)'}: the broker may lose messages"
        text = f"{told}; set {_SAFE} before anything else"
        yield Found(check="policy", name="broker", text=text)
    if looked.server is not None and (weight := looked.level("memory", looked.server)):
        text = f"{looked.server:.0f} % of its memory is used: producers are refused when it is full"
        yield Found(check="memory", name="broker", text=text, weight=weight)
    if looked.results:
        text = f"results can't be kept: {looked.results}"
        yield Found(check="results", name=looked.work.results, text=text)


def _workers(work: Queues, said: Answers | None) -> Iterator[Found]:
    if said is None:
        return
    if said.doubt:
        yield Found(check="workers", name="workers", text=said.doubt, unknown=True)
        return
    missing = [name for name in work.workers if name not in said.said]
    if missing and len(missing) == len(work.workers) and not said.said:
        text = f"none of {len(missing)} workers answers: see whether they run, and whether they"
        yield Found(check="workers", name="workers", text=f"{text} reach the broker")
        return
    for name in missing:
        text = "does not answer: stopped, cut off, or busy in a pool that answers nobody meanwhile"
        yield Found(check="workers", name=name, text=text)
    for name in sorted(said.said.keys() - set(work.workers)):
        text = "answers, and is not among those that are expected"
        yield Found(check="workers", name=name, text=text, weight="INFO")


def _names(looked: Looked, last: Moment) -> Iterator[Found]:
    for name, queue in last.queues.items():
        if name not in looked.bound and not queue.waiting:
            known = ", ".join(looked.bound[:10]) or "none"
            text = f"the broker knows no such queue; it knows {known}: see the name and `prefix`"
            yield Found(check="queues", name=name, text=text, unknown=True)
    for name in looked.work.once:
        if name not in looked.bound and name not in last.queues:
            text = "the broker knows no such queue, of which tasks must not be done twice (once)"
            yield Found(check="queues", name=name, text=text, unknown=True)


def _consumed(name: str, first: Moment, last: Moment) -> bool:
    """Tell whether anybody took a message of a queue: what was next then is not next now."""
    return not set(first.queues[name].next) <= set(last.queues[name].next)


def _stuck(looked: Looked, first: Moment, last: Moment, said: Answers | None) -> Iterator[Found]:
    """Tell of queues in which messages wait that nobody takes."""
    if not looked.work.window:
        return
    window = duration(looked.work.window)
    moving = any(_consumed(name, first, last) for name in last.queues)
    busy = said is not None and (said.active > 0 or said.done > 0)
    for name, queue in last.queues.items():
        if not first.queues[name].waiting or not queue.waiting or _consumed(name, first, last):
            continue
        text = f"none of {queue.waiting} messages was taken within {window}"
        if said is not None and said.said and said.nobody(name):
            text += ": no worker that has answered takes from it (-Q of the worker, add_consumer)"
            yield Found(check="stuck", name=name, text=text)
        elif busy or moving:
            text += ": the workers do other things; a canary in this queue tells for sure"
            yield Found(check="stuck", name=name, text=text, weight="WARN")
        elif said is not None and said.said:
            text += f", though {len(said.said)} workers answer, run nothing and have done nothing:"
            yield Found(check="stuck", name=name, text=f"{text} restart them one at a time")
        else:
            yield Found(check="stuck", name=name, text=f"{text}: see whether workers run")


def _apart(looked: Looked, first: Moment, last: Moment, said: Answers | None) -> Iterator[Found]:
    """Tell of a worker that answers and does nothing while others do and messages wait for it.

    It may have had nothing to do when it was asked, so it weighs what the queue weighs.
    """
    if not looked.work.window or said is None or all(map(said.idle, said.said)):
        return
    for name, takes in sorted(said.takes.items()):
        waits = [
            queue
            for queue in last.queues.values()
            if queue.name in takes and queue.waiting and first.queues[queue.name].waiting
        ]
        if not waits or not said.idle(name):
            continue
        text = (
            f"answers, runs nothing and has done nothing, though messages wait in {waits[0].name}"
        )
        weight = max((looked.level("depth", one.waiting) or "WARN" for one in waits), key=_WEIGHTS)
        text += ", which others take from: where it stays so, restart it"
        yield Found(check="stuck", name=name, text=text, weight=weight)


def _falling(looked: Looked, first: Moment, last: Moment) -> Iterator[Found]:
    """Tell of queues that are not worked off, where that was asked.

    A few that wait while others are taken are no backlog: they come and go.
    """
    if not looked.work.falling:
        return
    for name, queue in last.queues.items():
        counts = [one.queues[name].waiting for one in looked.seen]
        falls = all(later < sooner for sooner, later in pairwise(counts))
        if falls or not queue.waiting or (queue.waiting <= _FEW and _consumed(name, first, last)):
            continue
        told = ", ".join(map(str, counts))
        text = f"what waits does not fall from look to look ({duration(looked.work.window)} apart)"
        yield Found(check="falling", name=name, text=f"{text}: {told}")
    before, now = _oldest(first), _oldest(last)
    if before and now and before[1] == now[1] and looked.level("old", now[0]):
        text = f"what was taken longest ago is still there, after {duration(round(now[0]))}"
        yield Found(check="falling", name="broker", text=text)


def _oldest(moment: Moment) -> tuple[float, bytes] | None:
    """Return how long ago was taken what was due and is not acknowledged, and which it is."""
    known = [(moment.now - max(one.since, _due(one) or 0.0), one.tag)
             for one in moment.known.values()]  # fmt: skip
    return max((one for one in known if one[0] >= 0), default=None)


def _repeated(looked: Looked, last: Moment) -> Iterator[Found]:
    """Tell of messages that come again and again."""
    for one, count in looked.repeated[:_NAMED]:
        text = f"{one.task} was taken {count} times within {duration(looked.work.window)}"
        text += ": it is given up each time; park it"
        yield Found(check="redelivered", table=one.task, name=one.id, text=text)
    every = [*(one for some in looked.heads.values() for one in some),
             *(one.head for one in last.known.values())]  # fmt: skip
    again = Counter(one.task for one in every if one.again)
    for task, count in again.most_common(_NAMED):
        if weight := looked.level("redelivered", count):
            text = f"{count} messages were taken, given up and put back"
            yield Found(check="redelivered", name=task, text=text, weight=weight)
    tasks = {one.id: one.task for one in every if one.id}
    for name, count in Counter(one.id for one in every if one.id).most_common(_NAMED):
        if weight := looked.level("copies", count):
            text = f"the same message of {tasks[name]} is there {count} times"
            yield Found(check="copies", name=name, text=text, weight=weight)
    tried = sorted((one for one in every if one.id), key=lambda one: -one.retries)
    for head in tried[:_NAMED]:
        if weight := looked.level("retries", head.retries):
            text = f"{head.task} was tried {head.retries} times before"
            yield Found(check="retries", name=head.id, text=text, weight=weight)


def visibility(work: Queues, said: Answers | None) -> float:
    """Return after how long the broker gives to another worker what was not acknowledged."""
    told = [
        one["visibility"] for one in (said.said if said else {}).values() if "visibility" in one
    ]
    return work.visibility or min(told, default=0) or work.limits["old"].crit


def _twice(looked: Looked, said: Answers | None) -> Iterator[Found]:
    """Tell of tasks that may run for longer than the broker waits: another worker gets them, too.

    Only what is acknowledged when it is done (`late`); what somebody has named as the longest task
    may wait behind another in any case.
    """
    work, waits = looked.work, visibility(looked.work, said)

    def weight(*names: str) -> str:
        """Return what it weighs of these workers; who has not said so may take from any queue."""
        takes = said.takes if said else {}
        known = names and all(name in takes for name in names)
        queues = {queue for name in names for queue in takes[name]} if known else {*looked.bound}
        return "CRIT" if {*work.once} & queues else "WARN"

    gives = f"and the broker gives it to another worker after {duration(waits)}: it is done twice"
    if work.longest > waits:
        text = f"the longest task takes up to {duration(work.longest)}, {gives}"
        yield Found(check="twice", name="broker", text=f"{text}; {_RAISE}", weight=weight())
    alike: dict[int, list[str]] = {}
    for name, one in sorted((said.said if said else {}).items()):
        if (due := one.get("due", 0)) > waits:
            text = f"it holds a task that is due in {duration(due)}, {gives}"
            yield Found(check="twice", name=name, text=f"{text}; {_SOONER}", weight=weight(name))
        if not one.get("late"):
            continue
        if (ran := one.get("running", 0)) > waits:
            text = f"it has run a task for {duration(ran)}, {gives}"
            yield Found(check="twice", name=name, text=text, weight="CRIT")
        limit = one.get("limit", 0)
        if not work.longest and not 0 < limit <= waits:
            alike.setdefault(limit, []).append(name)
    for limit, names in alike.items():
        may = f"a task may run for {duration(limit)} (task_time_limit)" if limit else _NO_LIMIT
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        text = f"{may}, {gives}; {_RAISE}"
        yield Found(check="twice", name=names[0] + more, text=text, weight=weight(*names))


def _old(looked: Looked, last: Moment, late: float) -> Iterator[Found]:
    """Tell of messages that were taken long ago; not of those whose time has not come.

    `late`: after how long the broker gives them to another.
    """
    for one in sorted(last.known.values(), key=lambda one: one.since)[:_NAMED]:
        due = _due(one)
        age = last.now - max(one.since, due or 0.0)
        if due is not None and due > last.now:
            if due - one.since > late:
                text = (
                    f"{one.head.task} is due {duration(round(due - one.since))} after it was taken"
                )
                text += f", and the broker gives it to another worker after {duration(late)}"
                weight = "CRIT" if one.queue in looked.work.once else "WARN"
                yield Found(check="old", name=one.head.id, text=text, weight=weight)
        elif weight := looked.level("old", age):
            text = f"{one.head.task} was taken {duration(round(age))} ago and not acknowledged"
            yield Found(check="old", name=one.head.id, text=text, weight=weight)


def _due(one: Taken) -> float | None:
    try:
        return datetime.fromisoformat(one.head.eta).timestamp() if one.head.eta else None
    except (ValueError, OverflowError):
        return None
