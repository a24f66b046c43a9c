"""What Celery has laid down in a Redis: queues, messages in them, and those that were taken.

Of a message only its head is read here, and of that nothing that a task was called with.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from opskit.drivers.redis.connection import Connection, encoded
from opskit.drivers.redis.listing import ListingError, raise_refused, scan
from opskit.drivers.redis.session import Session
from opskit.model.frozen import frozen
from opskit.model.queues import Layout
from opskit.model.value import Json

HEADS = 100
"""So many messages are looked into, of all queues; and so many of those that were taken."""
_PARTS = 3
"""A binding is a routing key, a pattern and a queue, with `sep` between."""
_APART = (
    "the broker's bindings are written with another separator: see `sep` of the application's"
    " transport options, and say separator"
)
_WIDE = 120
UNREADABLE = "(unreadable)"


@frozen
class Head:
    """What a message says of itself. `again`: it was taken before, and put back."""

    id: str
    task: str
    retries: int = 0
    again: bool = False
    eta: str = ""


@frozen
class Taken:
    """A message that a worker has taken and not acknowledged: since when, by its clock, and of
    which queue."""

    tag: bytes
    since: float
    head: Head
    queue: str = ""


@frozen
class Queue:
    """A queue at one moment. `lists`: key → how many wait there; `next`: which are taken next."""

    name: str
    lists: Mapping[bytes, int]
    next: tuple[bytes, ...]

    @property
    def waiting(self) -> int:
        return sum(self.lists.values())


@frozen
class Moment:
    """All of it at one moment. `taken` is how many; of the oldest and the newest more is known."""

    queues: Mapping[str, Queue]
    taken: int
    known: Mapping[bytes, Taken]
    now: float


def head(raw: object) -> Head:
    """Read what a message says of itself; what is none of Celery's has no name."""
    return _head(_parsed(raw))


def _head(found: Json) -> Head:
    headers = found.get("headers") if isinstance(found, Mapping) else None
    if not isinstance(headers, Mapping) or not isinstance(headers.get("task"), str):
        return Head(id="", task=UNREADABLE)
    retries = headers.get("retries")
    return Head(
        id=_word(headers.get("id")),
        task=_word(headers.get("task")) or UNREADABLE,
        retries=retries if isinstance(retries, int) else 0,
        again=headers.get("redelivered") is True,
        eta=_word(headers.get("eta")),
    )


def _parsed(raw: object) -> Json:
    try:
        return json.loads(raw) if isinstance(raw, bytes) else None
    except (ValueError, RecursionError):
        return None


def _word(value: object) -> str:
    return value[:_WIDE] if isinstance(value, str) else ""


def lists_of(layout: Layout, name: str) -> tuple[bytes, ...]:
    """Return the keys in which the messages of a queue lie, the one that is taken first first."""
    ends = (f"{layout.separator}{step}" if step else "" for step in layout.steps)
    return tuple(encoded(f"{layout.prefix}{name}{end}") for end in ends)


def known(session: Session, layout: Layout) -> tuple[str, ...]:
    """Return the queues that the broker knows, less those through which workers are asked.

    Kombu writes bindings with the same `sep` as priorities: one that has no such parts was written
    with another, and so were the lists of what has a priority, which nobody would find.
    """
    head, found = encoded(f"{layout.prefix}_kombu.binding."), set[str]()
    between = encoded(layout.separator)
    for keys in scan(session, f"{_literal(layout.prefix)}_kombu.binding.*"):
        for key in keys:
            members = session.connection.call("SMEMBERS", key) if key.startswith(head) else []
            for member in members if isinstance(members, list) else ():
                parts = member.split(between) if isinstance(member, bytes) else []
                if len(parts) < _PARTS:
                    raise ListingError(_APART)
                name = parts[-1]
                if name and b"celery.pidbox" not in name and not name.startswith(b"celeryev"):
                    found.add(name.decode("utf-8", "surrogateescape"))
    return tuple(sorted(found))


def raise_other_steps(session: Session, layout: Layout, names: Sequence[str]) -> None:
    """Refuse a layout that does not name all priorities: what waits in others nobody would see."""
    heads = {encoded(f"{layout.prefix}{name}{layout.separator}"): name for name in names}
    lists = {key for name in names for key in lists_of(layout, name)}
    between = _literal(layout.separator)
    for keys in scan(session, f"{_literal(layout.prefix)}*{between}[0-9]*"):
        for key in keys:
            head, step = _split(key, encoded(layout.separator))
            if head in heads and step and key not in lists:
                told = f"messages of {heads[head]} wait with priority {step}, which is not among"
                raise ListingError(f"{told} steps: see priority_steps of its transport options")


def _split(key: bytes, between: bytes) -> tuple[bytes, str]:
    """Return what of a key stands before its priority, and that; "" where it has none."""
    head, found, step = key.rpartition(between)
    return head + found, step.decode() if step.isdigit() else ""


def _literal(prefix: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in prefix)


def moment(session: Session, layout: Layout, names: Sequence[str]) -> Moment:
    """See how much waits, what is next, and what was taken."""
    lists = [(name, key) for name in names for key in lists_of(layout, name)]
    asked: list[tuple[bytes | str, ...]] = [("TIME",), ("HLEN", _own(layout, "unacked"))]
    asked += [("LLEN", key) for _, key in lists] + [("LRANGE", key, "-1", "-1") for _, key in lists]
    said = session.connection.calls(asked)
    raise_refused(said)
    (clock, taken), rest = said[:2], said[2:]
    lengths, tails = rest[: len(lists)], rest[len(lists) :]
    found: dict[str, dict[bytes, int]] = {name: {} for name in names}
    following: dict[str, list[bytes]] = {name: [] for name in names}
    for (name, key), length, tail in zip(lists, lengths, tails, strict=True):
        if isinstance(length, int) and length:
            found[name][key] = length
            following[name] += [one for one in _many(tail) if isinstance(one, bytes)]
    return Moment(
        queues={n: Queue(name=n, lists=found[n], next=tuple(following[n])) for n in names},
        taken=taken if isinstance(taken, int) else 0,
        known={one.tag: one for one in taken_by(session, layout)},
        now=_seconds(clock),
    )


def _own(layout: Layout, name: str) -> bytes:
    return encoded(f"{layout.prefix}{name}")


def _many(said: object) -> list[object]:
    return said if isinstance(said, list) else []


def _seconds(clock: object) -> float:
    found = [float(one) for one in _many(clock) if isinstance(one, bytes)]
    return found[0] + found[1] / 1e6 if len(found) == 2 else 0.0


def taken_by(session: Session, layout: Layout) -> Iterator[Taken]:
    """Yield the oldest and the newest of what was taken."""
    connection = session.connection
    index, half = _own(layout, "unacked_index"), str(HEADS // 2 - 1)
    asked = [("ZRANGE", index, "0", half, *more, "WITHSCORES") for more in ((), ("REV",))]
    ends = connection.calls(asked)
    raise_refused(ends)
    words = [one for end in ends for one in _many(end)]
    scores = {tag: score for tag, score in zip(words[::2], words[1::2], strict=True)
              if isinstance(tag, bytes) and isinstance(score, bytes)}  # fmt: skip
    if not scores:
        return
    values = connection.call("HMGET", _own(layout, "unacked"), *scores)
    for (tag, score), value in zip(scores.items(), _many(values), strict=True):
        if isinstance(value, bytes):  # else it was acknowledged meanwhile
            packed = _parsed(value)
            parts = packed if isinstance(packed, list) else []
            inner, queue = parts[0] if parts else None, parts[2] if len(parts) > 2 else ""
            yield Taken(tag=tag, since=float(score), head=_head(inner), queue=_word(queue))


def heads(connection: Connection, queue: Queue, most: int) -> list[Head]:
    """Return the heads of the messages that are taken next."""
    found: list[Head] = []
    for key in queue.lists:
        if (count := most - len(found)) > 0:
            said = _many(connection.call("LRANGE", key, str(-count), "-1"))
            found += map(head, reversed(said))
    return found
