"""One attempt at filling a cache: a look, keys that are written, or what takes them back."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from pathlib import Path

from opskit.drivers.redis import archive, shelf
from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.connection import EndedError
from opskit.drivers.redis.deeds import Attempt, carried_out
from opskit.drivers.redis.fates import LostError
from opskit.drivers.redis.foreign import Taste, raise_foreign, unfit_json
from opskit.drivers.redis.guards import Processor, raise_unfit, standing
from opskit.drivers.redis.listing import ListingError
from opskit.drivers.redis.servers import Queried
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.shelf import RECORD, RECORD_BYTES, Shelf, Totals
from opskit.drivers.redis.stocking import Range, Writer
from opskit.drivers.redis.supply import LARGE, Heap, Item, in_file, items
from opskit.errors import OpskitError, UnreachableError
from opskit.model.evidence import MANIFEST
from opskit.model.frozen import mutable
from opskit.model.job import Output
from opskit.model.warm import Row, Source, Table, Warm

_PRINTED = 20
CLUSTER = (
    "it is part of a cluster, where keys are spread over several masters: opskit writes no lists of"
    " keys there yet"
)


@mutable
class Warming(Attempt):
    """An attempt under way."""

    queried: Queried
    taste: Taste = field(default_factory=lambda: Taste(keys=[]))

    @property
    def work(self) -> Warm:
        work = self.job.work
        assert isinstance(work, Warm)
        return work

    @property
    def action(self) -> str:
        """The key of what writes, which this is or takes back."""
        return self.work.of or self.job.key

    @property
    def folder(self) -> Path:
        return archive.place_of(self.work.evidence, "warm", self.job.run, self.action)

    def writer(self, session: Session) -> Writer:
        return Writer(session, self.job.run, self.action, self.word)

    def pieces(self, session: Session) -> Pieces:
        return Pieces(session, self.job.run, self.job.key, self.word)

    def barred(self, session: Session) -> str:
        ranges = self.writer(session).seize()
        kept = shelf.read(self.folder)
        if self.work.do == "restore":
            from opskit.drivers.redis import warmed

            return warmed.far(self, session, kept, ranges)
        return f"{done(ranges)} of {kept.count} keys are written, and no other will be"


def perform(deed: Warming) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    return carried_out(deed, lambda session: _doer(deed.work.do)(deed, session))


def _doer(do: str) -> Callable[[Warming, Session], Output]:
    match do:
        case "show":
            return _show
        case "hits":
            from opskit.drivers.redis import hits

            return hits.count
        case "restore":
            from opskit.drivers.redis import warmed

            return warmed.take_back
        case _:
            return _write


def done(ranges: Sequence[Range]) -> int:
    return sum(one.count for one in ranges)


# --- what there is to write


def supplied(deed: Warming) -> Iterator[Heap]:
    """Yield what is to be written, some at a time."""
    work = deed.work
    source = work.source
    assert source is not None
    long = bool(work.override)
    found: Iterator[Heap]
    if source.path:
        found = map(Heap.of, heaps(items(source, in_file(source), work.allow, set(), long=long)))
    else:
        left = max(1.0, deed.until - time.monotonic())
        rows = _asked(deed.queried(source, deed.watch, left))
        found = _of_columns(source, rows, work.allow, long=long)
    for heap in found:
        deed.watch()
        deed.taste.add(heap)
        if work.format == "json" and (wrong := unfit_json(heap)):
            raise ListingError(wrong)
        yield heap


def _of_columns(
    source: Source, found: Iterator[Table], allow: tuple[str, ...], *, long: bool
) -> Iterator[Heap]:
    """Make keys of many rows at once, or of one after the other where that is not plain."""
    from opskit.drivers.redis.columns import Columns  # a file has no use for it

    columns, seen, before = Columns(source, allow, long=long), set[bytes](), list[Sequence[bytes]]()
    for rows in found:
        heap = columns.made(rows)
        if heap is not None and _added(heap.keys, seen, before):
            yield heap
            continue
        single = enumerate(map(partial(_row, rows.columns), rows.rows), rows.first)
        for one in map(Heap.of, heaps(items(source, single, allow, seen, long=long))):
            before.append(one.keys)
            yield one


def _row(columns: tuple[str, ...], cells: tuple[bytes | None, ...]) -> Row:
    texts = (None if one is None else one.decode("utf-8", "surrogateescape") for one in cells)
    return dict(zip(columns, texts, strict=True))


def _added(keys: Sequence[bytes], seen: set[bytes], before: list[Sequence[bytes]]) -> bool:
    """Note keys as seen, unless one of them has been, or stands there twice.

    `before`: those that were seen, to have them again where some of these are among them.
    """
    count = len(seen) + len(keys)
    seen.update(keys)
    if len(seen) < count:
        seen.clear()
        seen.update(*before)
        return False
    before.append(keys)
    return True


def lots(heap: Heap, jitter: float) -> list[int]:
    """Return how long each key is to stay (ms): by lot longer or shorter."""
    lot, low, width = random.random, 1 - jitter, 2 * jitter
    shortest = min(heap.times)
    if shortest == max(heap.times) and shortest * low >= 1:
        least, more = shortest * low + 0.5, shortest * width
        return [int(least + more * lot()) for _ in heap.times]
    return [max(1, round(ms * (low + width * lot()))) for ms in heap.times]


def heaps(found: Iterator[Item]) -> Iterator[list[Item]]:
    """Put keys together that are written at once: neither too many nor too large."""
    some: list[Item] = []
    size = 0
    for item in found:
        if some and (len(some) >= RECORD or size + len(item[1]) > RECORD_BYTES):
            yield some
            some, size = [], 0
        some.append(item)
        size += len(item[1])
    if some:
        yield some


def _asked(rows: Iterator[Table]) -> Iterator[Table]:
    """Pass rows on. What another driver can't do is said as what this one can't."""
    try:
        yield from rows
    except EndedError:
        raise
    except OpskitError as error:
        raise ListingError(error.line) from None


def _show(deed: Warming, session: Session) -> Output:
    if session.identity.clustered:
        raise ListingError(CLUSTER)
    if session.identity.role != "master":
        raise ListingError(f"{deed.access.where} is a {session.identity.role}: name the master")
    seen, counting = Processor(session.connection), shelf.Counting(session.index)
    first: list[Item] = []
    for heap in supplied(deed):
        counting.add(heap)
        shelf.within(counting, deed.work)
        if len(first) < _PRINTED:
            first += heap.cut(0, _PRINTED - len(first)).items
    totals = _same(deed, counting.totals())
    before = {**standing(session), **raise_unfit(session, deed.work, totals, seen)}
    raise_foreign(session, deed.work, deed.taste.keys)
    deed.tell(totals.said, *map(_line, first))
    if totals.count > len(first):
        deed.tell(f"… {totals.count - len(first)} more")
    evidence = {**deed.more, "keys": totals.count, "bytes": totals.size, "digest": totals.digest,
                "before": before}  # fmt: skip
    return Output(
        outcome="succeeded", status=0, reason=totals.said, stdout=totals.digest.encode(),
        evidence=evidence,
    )  # fmt: skip


def _line(item: Item) -> str:
    key, value, ttl = item
    return f"{key.decode(errors='backslashreplace')}  {len(value)} bytes  {ttl / 1000:g} s"


def _same(deed: Warming, totals: Totals) -> Totals:
    agreed = deed.work.digest
    if agreed and totals.digest != agreed:
        told = "the rows are others than those that were agreed on"
        raise ListingError(f"{told}: {totals.said}, and not {agreed[:80]}; look again")
    if totals.largest > LARGE:
        deed.tell(f"WARN: the largest value has {totals.largest} bytes")
    return totals


# --- writing it


def _write(deed: Warming, session: Session) -> Output:
    if wrong := deed.unable(session, CLUSTER):
        return deed.unsent(wrong)
    from opskit.drivers.redis import filling  # a look has no use for it

    writer = deed.writer(session)
    kept = _listed(deed, session, writer)
    try:
        pace = filling.paced(deed, kept)
    except UnreachableError as error:
        return deed.unsent(f"a bystander's line can't be had: {error.line}")
    try:
        writer.raise_unable()
        writer.agreed(kept.digest)
        archive.begin(kept.path)
        deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
        deed.acting = True
        found = filling.filled(deed, session, writer, kept, pace)
        with suppress(OpskitError):  # what is done is done, whatever becomes of this
            found = replace(found, evidence={**found.evidence, "after": standing(session)})
        return found
    finally:
        pace.close()


def _listed(deed: Warming, session: Session, writer: Writer) -> Shelf:
    """Return what is written: the list of before, where it has begun; else what there is now."""
    path = deed.folder
    if digest := writer.begun_by():
        kept = shelf.read(path)
        if kept.digest != digest:
            raise LostError(f"it was begun by another list than the one at {path}")
        return kept
    if archive.begun(path):
        raise LostError(f"its marks are gone from the server, and some keys with it: see {path}")
    seen = Processor(session.connection)
    pieces = ((heap, lots(heap, deed.work.jitter)) for heap in supplied(deed))
    made, totals = shelf.laid(pieces, session, deed.work, path, deed.job.run)
    try:
        _same(deed, totals)
        before = {**standing(session), **raise_unfit(session, deed.work, totals, seen)}
        raise_foreign(session, deed.work, deed.taste.keys)
    except ListingError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    deed.tell(totals.said)
    deed.more |= {"digest": totals.digest, "keys": totals.count, "bytes": totals.size,
                  "before": before}  # fmt: skip
    return made
