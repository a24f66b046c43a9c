"""Keys being written from a list that lies on the disk, and what came of it."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field

from opskit.drivers.redis.connection import Reply
from opskit.drivers.redis.guards import Guard
from opskit.drivers.redis.listing import SOME
from opskit.drivers.redis.pace import Polite, Unhurried
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.shelf import Notes, Shelf
from opskit.drivers.redis.stocking import Batch, Fate, Range, Writer
from opskit.drivers.redis.supply import Heap, Item
from opskit.drivers.redis.warm import Warming, done
from opskit.model.evidence import MANIFEST
from opskit.model.frozen import frozen, mutable
from opskit.model.job import Output

_SAMPLE, _SHARE = 100, 0.01
_GONE = 0.1
"""So much of a sample may be gone since; and half of it may be written by others since."""
_COPIED = 200
"""So many keys are copied and overwritten at once: a change of any of them costs all of it."""
_TRIES = 100
"""So often in a row a key may change between a look and a write."""


@frozen
class Clock:
    """The server's clock, by ours."""

    offset: float

    @classmethod
    def of(cls, session: Session) -> "Clock":
        said = session.connection.call("TIME")
        assert isinstance(said, list)
        seconds, micro = (int(one) for one in said if isinstance(one, bytes))
        return cls(offset=seconds + micro / 1e6 - time.monotonic())

    def ms(self) -> int:
        return int((self.offset + time.monotonic()) * 1000)


@mutable
class Filling:
    """Keys on their way. `why` nothing more is written; `wrong`: what the server has refused."""

    deed: Warming
    session: Session
    writer: Writer
    kept: Shelf
    notes: Notes
    pace: "Unhurried | Polite"
    ranges: list[Range]
    why: str = ""
    wrong: Counter[str] = field(default_factory=Counter)

    def took(self, first: int, count: int, base: int, fate: Fate) -> None:
        self.notes.said(first, count, fate.stood)
        self.ranges.append(Range(first=first, count=count, base=base))
        self.wrong += fate.wrong


def paced(deed: Warming, kept: Shelf) -> "Unhurried | Polite":
    """Return how quickly keys are to be written; UnreachableError where no bystander can be had."""
    if not deed.work.rate:
        return Unhurried()
    return Polite(deed.access, deed.work, deed.watch, kept.path)


def filled(
    deed: Warming, session: Session, writer: Writer, kept: Shelf, pace: "Unhurried | Polite"
) -> Output:
    """Write what is not written yet, and say what came of all of it."""
    ranges = list(writer.seize())
    notes = Notes(kept)
    filling = Filling(deed=deed, session=session, writer=writer, kept=kept, notes=notes,
                      pace=pace, ranges=ranges)  # fmt: skip
    began, before = time.perf_counter(), done(ranges)
    try:
        found_out(session, kept, ranges, notes)
        writer.watch()
        keeps = deed.work.do == "refresh" and deed.work.keep
        (_replace if keeps else _stream)(filling, Clock.of(session))
    finally:
        notes.close()
    seconds = time.perf_counter() - began
    deed.more |= {"seconds": round(seconds, 3), **pace.evidence()}
    if seconds and (count := done(ranges) - before):
        deed.more["keys_per_second"] = round(count / seconds)
    if filling.wrong:
        filling.why = "; ".join(f"{what} ({n} keys)" for what, n in filling.wrong.items())
    return said(deed, session, kept, ranges, filling.why)


def found_out(session: Session, kept: Shelf, ranges: Sequence[Range], notes: Notes) -> None:
    """Look what became of keys whose answers were lost: which of them are as they were written."""
    known = {one.start for one in kept.there()[0]}
    for one in ranges:
        if one.first in known:
            continue
        items = _items(kept, one.first, one.count)
        stood: list[int] = []
        if kept.fills:
            stood = [n for n, seen in enumerate(_seen(session, items, one.base)) if seen != "ours"]
        notes.said(one.first, one.count, stood)


def _items(kept: Shelf, first: int, count: int) -> list[Item]:
    found: list[Item] = []
    for _, some in kept.items(first):
        found += some
        if len(found) >= count:
            break
    return found[:count]


def _seen(session: Session, items: Sequence[Item], base: int) -> Iterator[str]:
    """Say of each key whether it stands as it was written, otherwise, or not at all."""
    for at in range(0, len(items), SOME // 2):
        some = items[at : at + SOME // 2]
        asked = [words for key, _, _ in some for words in (("GET", key), ("PEXPIRETIME", key))]
        said = session.connection.calls(asked)
        for (_, value, ms), got, end in zip(some, said[::2], said[1::2], strict=True):
            yield _judged(got, end, value, base + ms)


def _judged(got: Reply, end: Reply, value: bytes, due: int) -> str:
    if got is None:
        return "gone"
    return "ours" if got == value and end == due else "other"


# --- as quickly as it goes: while the server does a batch the next one is on its way, and the one
# after that is written out


def _stream(filling: Filling, clock: Clock) -> None:
    guard = Guard(filling.session.connection, filling.deed.work)
    writer, absent = filling.writer, filling.deed.work.do == "fill"
    cut = _cut(filling)

    def following() -> tuple[Batch, int] | None:
        for first, heap in cut:
            base = clock.ms()
            return writer.made(first, heap, base, absent=absent), base
        return None

    current, ahead = following(), following()
    while current is not None:
        (batch, base), coming = current, ahead[0] if ahead is not None else None
        filling.deed.watch()
        if not batch.taken:  # else the server waits for nothing but the word to do it
            filling.why = guard.look() or filling.pace.wait(batch.count)
            if filling.why:
                return
        early = coming if filling.pace.early and not guard.due else None
        writer.send(batch, early)
        current, ahead = ahead, following()
        fate = writer.fate(batch)
        if early is not None and (fate.changed or fate.why):
            writer.drop(early)
        if fate.changed:
            writer.watch()  # which says that somebody else goes on, or that marks are gone
            filling.why = "the key of this run has been touched"
        filling.why = filling.why or fate.why
        if filling.why:
            return
        filling.took(batch.first, batch.count, base, fate)


def _cut(filling: Filling) -> Iterator[tuple[int, Heap]]:
    """Yield what is left to write, as many at a time as the pace has it."""
    for first, heap in filling.kept.heaps(done(filling.ranges)):
        at = 0
        while at < len(heap):
            size = filling.pace.size
            yield first + at, heap.cut(at, size)
            at += size


# --- with a copy of what is overwritten, which must be what it was when it was copied


def _replace(filling: Filling, clock: Clock) -> None:
    guard, size, tries = Guard(filling.session.connection, filling.deed.work), _COPIED, 0
    for first, heap in _cut(filling):
        at = 0
        while at < len(heap):
            filling.deed.watch()
            some = heap.cut(at, size)
            filling.why = guard.look() or filling.pace.wait(len(some))
            fate, base = (
                _replaced(filling, first + at, some, clock) if not filling.why else (Fate(), 0)
            )
            tries = tries + 1 if fate.changed else 0
            if tries > _TRIES:
                filling.why = f"{some.keys[0]!r} is written by others all the time"
            filling.why = filling.why or fate.why
            if filling.why:
                return
            if fate.changed:
                size = max(1, size // 2)
                continue
            filling.took(first + at, len(some), base, fate)
            at, size = at + len(some), min(_COPIED, size * 2)


def _replaced(filling: Filling, first: int, heap: Heap, clock: Clock) -> tuple[Fate, int]:
    """Copy what is there, bring it to the disk, and overwrite it unless it has changed since."""
    writer = filling.writer
    writer.watch(heap.keys)
    filling.notes.keep(first, writer.before(heap.keys))
    base = clock.ms()
    batch = writer.made(first, heap, base, absent=False)
    writer.send(batch)
    return writer.fate(batch), base


# --- what came of it


def said(deed: Warming, session: Session, kept: Shelf, ranges: Sequence[Range], why: str) -> Output:
    """Look at some of what was written, and say what became of the list."""
    count = done(ranges)
    stood = kept.there()[1]
    written = count - len(stood)
    sample = _sampled(session, kept, ranges, stood)
    deed.more |= {
        "written": written, "stood": len(stood), "left": kept.count - count,
        "sampled": sample.total(), "changed": sample["other"], "gone": sample["gone"],
    }  # fmt: skip
    told = {"stood": "were there and stay", "left": "are NOT written"}
    more = [f"{deed.more[key]} {words}" for key, words in told.items() if deed.more[key]]
    line = "; ".join([f"wrote {written} of {kept.count} keys", *more])
    if sample.total():
        line += f"; {sample['ours']} of {sample.total()} looked at are as they were written"
    deed.tell(line, f"{kept.path / MANIFEST}", f"sha256 {kept.digest}")
    number = sample.total()
    if not why and (sample["gone"] > _GONE * number or 2 * sample["ours"] < number):
        why = f"{sample['gone']} of them are gone, {sample['other']} are something else"
    if why or kept.count > count:
        reason = f"{line}: {why}" if why else line
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(
        outcome="succeeded", status=0, reason=line, stdout=b"%d" % written, evidence=deed.more
    )


def _sampled(
    session: Session, kept: Shelf, ranges: Sequence[Range], stood: set[int]
) -> Counter[str]:
    """Look at a hundredth of what was written, and at a hundred at least."""
    count, found = done(ranges), Counter[str]()
    wanted = min(count, max(_SAMPLE, round(count * _SHARE)))
    chosen = sorted(set(random.SystemRandom().sample(range(count), wanted)) - stood)
    bases = iter(ranges)
    current = next(bases, None)
    by_base: dict[int, list[int]] = {}
    for number in chosen:
        while current is not None and number >= current.first + current.count:
            current = next(bases, None)
        assert current is not None
        by_base.setdefault(current.base, []).append(number)
    items = kept.picked(chosen)
    for base, numbers in by_base.items():
        found.update(_seen(session, [items[n] for n in numbers], base))
    return found
