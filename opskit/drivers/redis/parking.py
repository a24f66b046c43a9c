"""Which messages are moved, and what is kept of them before: exactly these, and no others.

Messages are in the order in which they lie in their list, the newest first: what is taken next
stands last.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from opskit.drivers.evidence import EvidenceError, Folder, opened
from opskit.drivers.redis.archive import MOST_BYTES
from opskit.drivers.redis.broker import Head, head, known, lists_of, raise_other_steps
from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.connection import ServerError, encoded
from opskit.drivers.redis.fates import Fate
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.session import Session
from opskit.errors import InputError
from opskit.model.evidence import FORMAT, MANIFEST, Manifest, Source
from opskit.model.frozen import frozen
from opskit.model.queues import Messages
from opskit.steps.messages import MOST, PARKED

KIND = "messages"
FILE = "messages.jsonl"
PIECE, PIECE_BYTES, PIECE_WALK = 50, 1024 * 1024, 200_000
"""So many messages, bytes, and messages that are walked past, are moved at once: the server does
nothing else meanwhile."""
_SLICE = 200


@frozen
class Message:
    """A message: the number of its list, its bytes, and those of the next older one that stays."""

    list: int
    raw: bytes
    older: bytes
    head: Head


@frozen
class Sought:
    """What was found of what is meant. `total`: how many messages there are at all."""

    messages: tuple[Message, ...]
    total: int

    @property
    def digest(self) -> str:
        found = hashlib.sha256()
        for one in self.messages:
            found.update(b"%d %d\n%s\n" % (one.list, len(one.raw), one.raw))
        return found.hexdigest()

    @property
    def share(self) -> float:
        return 100 * len(self.messages) / max(self.total, len(self.messages), 1)

    @property
    def said(self) -> str:
        count = f"{len(self.messages)} message{'' if len(self.messages) == 1 else 's'}"
        return f"{count}, {self.share:.3g} % of {self.total}; digest {self.digest}"


@frozen
class Kept:
    """What is moved, and the digest of the manifest. `walk`: how long the longest list was."""

    path: Path
    digest: str
    messages: tuple[Message, ...]
    walk: int

    @property
    def pieces(self) -> tuple[tuple[Message, ...], ...]:
        """Return what is moved at once: the same pieces however often this is asked."""
        most = max(1, min(PIECE, PIECE_WALK // max(self.walk, 1)))
        found: list[list[Message]] = []
        size = 0
        for one in self.messages:
            size += len(one.raw) + len(one.older)
            if not found or len(found[-1]) >= most or size > PIECE_BYTES:
                found.append([])
                size = len(one.raw) + len(one.older)
            found[-1].append(one)
        return tuple(map(tuple, found))


def ways(work: Messages) -> list[tuple[bytes, bytes]]:
    """Return for each list of the queue from where to where its messages go, or went."""
    homes = lists_of(work.layout, work.queue)
    pairs = [(home, encoded(PARKED) + home) for home in homes]
    parked = work.do in ("park", "unpark")
    return pairs if parked else [(away, home) for home, away in pairs]


class NoneError(ListingError):
    """No message is meant."""


def sought(session: Session, work: Messages) -> Sought:
    """Find what is meant; ListingError where nothing may be done with it."""
    there = _others(session, work) if work.do == "park" else ()
    found: list[Message] = []
    total = 0
    for number, (source, _) in enumerate(ways(work), 1):
        count, some = _of_list(session, work, number, source)
        total += count
        found += some
    if work.do == "replay":
        strange = {one.head.task for one in found} - set(work.idempotent)
        if strange:
            told = f"messages of {', '.join(sorted(strange)[:5])} are meant, too"
            raise ListingError(f"{told}: not among the tasks that may be done twice; name `tasks`")
    if not found:
        place = "of what was put aside" if work.do == "replay" else "that wait there"
        told = f"none of {total} messages {place} is meant"
        if not total and there and work.queue not in there:
            told = f"the broker knows no queue {work.queue[:80]}; it knows {', '.join(there[:10])}"
        raise NoneError(f"{told}: see the queue, tasks and ids")
    result = Sought(messages=tuple(found), total=total)
    if wrong := _too_much(result, work):
        raise ListingError(wrong)
    return _part(result, work)


def _others(session: Session, work: Messages) -> tuple[str, ...]:
    """Return the queues that the broker knows; refuse a layout by which some of the messages of
    this one would be overlooked."""
    with suppress(ServerError):  # who may not see these sees no more than the lists
        raise_other_steps(session, work.layout, [work.queue])
        return known(session, work.layout)
    return ()


def _part(found: Sought, work: Messages) -> Sought:
    """Return the oldest part of it, of each list as much as of the others."""
    if work.part >= 100:
        return found
    count = max(1, int(len(found.messages) * work.part / 100))
    lists = sorted({one.list for one in found.messages})
    by = {number: [one for one in found.messages if one.list == number] for number in lists}
    taken: list[Message] = []
    while len(taken) < count:
        taken += [by[number].pop() for number in lists if by[number]][: count - len(taken)]
    chosen = set(map(id, taken))
    rest = tuple(one for one in found.messages if id(one) in chosen)
    return replace(found, messages=rest)


def _too_much(found: Sought, work: Messages) -> str:
    count = len(found.messages)
    if count > MOST:
        return f"more than {MOST} messages are meant, which is more than is moved at once"
    if work.override:
        return ""
    if count > work.most:
        told = f"{count} messages are meant, and {work.most} are allowed (max_messages)"
        return f"{told}: narrow it, or give an override: a reason"
    if work.do == "park" and found.share > work.share:
        told = f"{found.said}: more than {work.share:g} % (max_share)"
        return f"{told}: narrow it, or give an override: a reason"
    return ""


def _of_list(
    session: Session, work: Messages, number: int, source: bytes
) -> tuple[int, list[Message]]:
    """Return how many messages a list has, and those of it that are meant.

    It is read from its newest end: what comes meanwhile shifts what was read already, so that some
    may be found twice. The second time it is not there to be moved.
    """
    found: list[Message] = []
    waits: list[Message] = []
    total = 0
    for raw in lying(session, source):
        total += 1
        if (one := _meant(work, raw)) is None:
            found += [replace(mine, older=raw) for mine in waits]
            waits.clear()
        else:
            waits.append(Message(list=number, raw=raw, older=b"", head=one))
        if len(found) + len(waits) > MOST:
            break
    return total, found + waits


def lying(session: Session, source: bytes) -> Iterator[bytes]:
    """Yield the messages of a list, the newest first."""
    first = 0
    while True:
        said = session.connection.call("LRANGE", source, str(first), str(first + _SLICE - 1))
        some = [one for one in said if isinstance(one, bytes)] if isinstance(said, list) else []
        yield from some
        first += len(some)
        if len(some) < _SLICE:
            return


def _meant(work: Messages, raw: bytes) -> Head | None:
    """Return the head of a message that is meant. Few are: the others are not parsed."""
    words = work.tasks or work.ids
    if words and not any(json.dumps(word)[1:-1].encode() in raw for word in words):
        return None
    one = head(raw)
    fits = (not work.tasks or one.task in work.tasks) and (not work.ids or one.id in work.ids)
    return one if fits else None


# --- what is kept


def kept(session: Session, work: Messages, found: Sought, path: Path, run: str) -> Kept:
    """Keep all of it on the disk; what another attempt has left half-way is made anew."""
    shutil.rmtree(path, ignore_errors=True)
    if sum(len(one.raw) + len(one.older) for one in found.messages) > MOST_BYTES:
        told = f"more than {MOST_BYTES >> 20} MiB would have to be kept"
        raise ListingError(f"{told}: move fewer messages at once")
    try:
        folder = Folder.made(path.parent, path.name)
    except InputError as error:
        raise ListingError(error.line) from None
    try:
        file = folder.file(FILE)
        file.rows = 0
        for one in found.messages:
            file.write(_line(one))
            file.rows += 1
        digest = folder.close(_manifest(session, work, found, run))
    except OSError as error:
        folder.remove()
        why = error.strerror or str(error)
        raise ListingError(f"what would be moved can't be kept at {path}: {why}") from None
    except BaseException:
        folder.remove()
        raise
    return Kept(path=folder.path, digest=digest, messages=found.messages, walk=found.total)


def _line(one: Message) -> str:
    row = {
        "list": one.list, "task": one.head.task, "id": one.head.id,
        "message": base64.b64encode(one.raw).decode(),
        "older": base64.b64encode(one.older).decode(),
    }  # fmt: skip
    return json.dumps(row, sort_keys=True) + "\n"


def read(path: Path) -> Kept:
    """Read what was kept; EvidenceError where it is not what it was."""
    evidence = opened(path / MANIFEST)
    file = Path(evidence.folder) / FILE
    data = file.read_bytes()
    piece = next((one for one in evidence.manifest.pieces if one.name == FILE), None)
    if piece is None or hashlib.sha256(data).hexdigest() != piece.sha256:
        raise EvidenceError("it is not what it was", where=str(file))
    found = []
    for line in data.splitlines():
        row = json.loads(line)
        raw, older = base64.b64decode(row["message"]), base64.b64decode(row["older"])
        one = Head(id=row["id"], task=row["task"])
        found.append(Message(list=row["list"], raw=raw, older=older, head=one))
    walk = evidence.manifest.counts["total"]
    return Kept(path=path, digest=evidence.digest, messages=tuple(found), walk=walk)


def _manifest(session: Session, work: Messages, found: Sought, run: str) -> Manifest:
    who = session.identity
    source = Source(
        run=run, database=work.server, system=who.run_id, server=f"Redis {who.version}",
        role=who.role, standby=who.role != "master", ledger=work.queue, description="",
        snapshot="", lsn="", now="", catalog=str(session.index),
    )  # fmt: skip
    asked = {
        "do": work.do, "tasks": ",".join(work.tasks), "ids": ",".join(work.ids),
        "max_messages": str(work.most), "max_share": f"{work.share:g}",
        "override": work.override, "digest": found.digest,
    }  # fmt: skip
    count = len(found.messages)
    return Manifest(
        format=FORMAT, source=source, asked=asked, rows=count, totals=(), level="",
        counts={"kept": count, "total": found.total}, findings=[], pieces=(),
    )  # fmt: skip


# --- pieces of it


class Moves(Pieces):
    """The pieces of one action on messages at one server."""

    def move(self, work: Messages, number: int, some: Sequence[Message]) -> Fate:
        args = [word for one in some for word in (b"%d" % one.list, one.raw)]
        return self.do("move", number, _keys(work), args, len(some))

    def put_back(self, work: Messages, number: int, some: Sequence[Message]) -> Fate:
        args = [word for one in some for word in (b"%d" % one.list, one.raw, one.older)]
        return self.do("return", number, _keys(work), args, len(some))


def _keys(work: Messages) -> list[bytes]:
    return [key for way in ways(work) for key in way]
