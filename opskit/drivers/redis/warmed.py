"""What a fill has written being taken back; and a fill that was lost from sight."""

import time
from collections.abc import Iterator, Sequence

from opskit.drivers.redis import archive, shelf
from opskit.drivers.redis.aftermath import asked, sure
from opskit.drivers.redis.archive import CHUNK, CHUNK_BYTES, Kept
from opskit.drivers.redis.connection import ServerError
from opskit.drivers.redis.doing import refused
from opskit.drivers.redis.fates import Fate, Fates, LostError
from opskit.drivers.redis.filling import found_out, said
from opskit.drivers.redis.rejoin import NOT_DONE, PATIENCE, then_of
from opskit.drivers.redis.session import Access, Session
from opskit.drivers.redis.shelf import Notes, Shelf
from opskit.drivers.redis.stocking import Range, based, ours
from opskit.drivers.redis.warm import CLUSTER, Warming, done
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.evidence import MANIFEST
from opskit.model.job import Job, Output
from opskit.model.warm import Table

Piece = tuple[Sequence[Kept], Sequence[bytes]]
"""Keys as they were before, and what tells each as it was written."""


def take_back(deed: Warming, session: Session) -> Output:
    """Remove what was written and is still so; put back what it has overwritten."""
    if wrong := deed.unable(session, CLUSTER):
        return deed.unsent(wrong)
    kept = _kept(deed, session)
    if kept is None:
        return Output(outcome="succeeded", status=0, reason="nothing was written",
                      evidence=deed.more)  # fmt: skip
    deed.acting = True
    writer = deed.writer(session)
    ranges = writer.seize()
    notes = Notes(kept)
    try:
        found_out(session, kept, ranges, notes)
    finally:
        notes.close()
    pieces, found = deed.pieces(session), []
    for number, (keys, written) in enumerate(_pieces(kept, ranges)):
        deed.watch()
        try:
            found.append(pieces.take_back(number, keys, written, writer.fence))
        except ServerError as error:  # it refuses the script's first write: nothing is done
            found.append(Fate(letters="-" * len(keys), why=refused(error, "")))
        if found[-1].why:
            break
    return taken_said(deed, kept, ranges, found)


def _kept(deed: Warming, session: Session) -> Shelf | None:
    """Return the list that was written from; None where nothing was."""
    digest, path = deed.writer(session).begun_by(), deed.folder
    if not digest:
        if archive.begun(path):
            told = "its marks are gone from the server: what is there now may be newer"
            raise LostError(f"{told}; what was written and what was there before is at {path}")
        return None
    kept = shelf.read(path)
    if kept.digest != digest:
        raise LostError(f"it was written by another list than the one at {path}")
    return kept


def _pieces(kept: Shelf, ranges: Sequence[Range]) -> Iterator[Piece]:
    """Yield what was written, in pieces that are the same however often this is asked."""
    old, (_, stood) = kept.old(), kept.there()
    keys: list[Kept] = []
    written: list[bytes] = []
    size, bases = 0, based(ranges)
    for first, items in kept.items():
        for number, (item, base) in enumerate(zip(items, bases, strict=False), first):
            if number in stood:
                continue
            was = old.get(number)
            dump = was.dump if was is not None else b""
            if keys and (len(keys) >= CHUNK or size + len(dump) > CHUNK_BYTES):
                yield keys, written
                keys, written, size = [], [], 0
            keys.append(Kept(name=item[0], end=was.end if was is not None else 0, dump=dump))
            written.append(ours(item, base))
            size += len(dump)
    if keys:
        yield keys, written


def taken_said(
    deed: Warming, kept: Shelf, ranges: Sequence[Range], found: Sequence[Fate]
) -> Output:
    fates = Fates.of(found)
    counts = fates.counts
    written = done(ranges) - len(kept.there()[1])
    left = written - sum(counts[letter] for letter in "rong")
    deed.more |= {"removed": counts["r"], "restored": counts["o"], "newer": counts["n"],
                  "gone": counts["g"], "left": left}  # fmt: skip
    told = {"restored": "are what they were before", "newer": "are something else by now, and stay",
            "gone": "had gone", "left": "are NOT taken back"}  # fmt: skip
    more = [f"{deed.more[key]} {words}" for key, words in told.items() if deed.more[key]]
    line = "; ".join([f"removed {counts['r']} of {written} keys", *more])
    deed.tell(line)
    if left:
        reason = f"{line}: {fates.why}"
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(outcome="succeeded", status=0, reason=line, evidence=deed.more)


def far(deed: Warming, session: Session, kept: Shelf, ranges: Sequence[Range]) -> str:
    """Say how far it is, now that the fence is moved."""
    marks, counts = deed.pieces(session), [len(keys) for keys, _ in _pieces(kept, ranges)]
    found = [marks.so_far(number, count) for number, count in enumerate(counts)]
    whole = sum(one is not None and not one.why for one in found)
    return f"{whole} of {len(found)} pieces are taken back, and no other will be"


# --- lost from sight


def rejoin(access: Access, job: Job, write: Write) -> Output:
    """Say what became of an attempt that was lost from sight; what is left another one does."""
    then = then_of(job.contact)
    deed = Warming(
        access=access, job=job, running=Running(key=job.key, attempt=job.attempt), write=write,
        word=then.word if then else "", until=time.monotonic() + PATIENCE, queried=_nobody,
    )  # fmt: skip
    return asked(access, lambda session: _became(deed, session))


def _nobody(*_: object) -> Iterator[Table]:
    raise AssertionError("whoever looks for a lost fill reads no rows")


def _became(deed: Warming, session: Session) -> Output:
    writer = deed.writer(session)
    if not writer.begun_by():
        if archive.begun(deed.folder):
            raise LostError("its marks are not there, and it may have begun")
        if not deed.folder.exists():  # it may be on another machine
            sure(deed, session, writer)
        return Output(outcome="failed", sent=False, again=True, reason=NOT_DONE)
    kept = _kept(deed, session)
    assert kept is not None
    sure(deed, session, writer)
    ranges = writer.seize()  # from here on nobody else writes
    if deed.work.do == "restore":
        return _taken(deed, session, kept, ranges)
    if done(ranges) == kept.count:
        deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
        notes = Notes(kept)
        try:
            found_out(session, kept, ranges, notes)
        finally:
            notes.close()
        return said(deed, session, kept, ranges, "")
    reason = f"{done(ranges)} of {kept.count} keys are written; it goes on with the rest"
    return Output(outcome="failed", again=True, part=True, reason=reason)


def _taken(deed: Warming, session: Session, kept: Shelf, ranges: Sequence[Range]) -> Output:
    marks = deed.pieces(session)
    every = [len(keys) for keys, _ in _pieces(kept, ranges)]
    looked = [marks.so_far(number, count) for number, count in enumerate(every)]
    found = [one for one in looked if one is not None and not one.why]
    if len(found) == len(every):
        return taken_said(deed, kept, ranges, found)
    reason = f"{len(found)} of {len(every)} pieces are taken back; it goes on with the rest"
    return Output(outcome="failed", again=True, part=True, reason=reason)
