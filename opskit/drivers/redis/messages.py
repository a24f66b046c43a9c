"""One attempt at moving messages of a queue aside or back, or at taking that back."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from opskit.drivers.redis import aftermath, archive, parking
from opskit.drivers.redis.broker import moment
from opskit.drivers.redis.chunks import done
from opskit.drivers.redis.connection import ServerError
from opskit.drivers.redis.deeds import Attempt, carried_out, no_other
from opskit.drivers.redis.doing import refused, unfit
from opskit.drivers.redis.fates import Fate, Fates, LostError, in_order
from opskit.drivers.redis.parking import Kept, Message, Moves, Sought
from opskit.drivers.redis.rejoin import NOT_DONE
from opskit.drivers.redis.session import Access, Session
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.evidence import MANIFEST
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.queues import Messages

_PRINTED = 200
_SAFE = "noeviction"


@mutable
class Deed(Attempt):
    """An attempt at moving messages."""

    @property
    def work(self) -> Messages:
        work = self.job.work
        assert isinstance(work, Messages)
        return work

    @property
    def action(self) -> str:
        """The key of the deed that this is, or takes back."""
        return self.work.of or self.job.key

    @property
    def folder(self) -> Path:
        return archive.place_of(self.work.evidence, parking.KIND, self.job.run, self.action)

    def barred(self, session: Session) -> str:
        return no_other(self._ended(session, parking.read(self.folder)))

    def _ended(self, session: Session, kept: Kept) -> list[Fate | None]:
        """Let no more of it be done, and return what became of each piece."""
        pieces = self.moves(session)
        if not self.work.of:
            return [pieces.bar(number, len(some)) for number, some in enumerate(kept.pieces)]
        pieces.seize()
        return done(pieces, _lacking(self.moves(session, self.action), kept))

    def moves(self, session: Session, key: str = "") -> Moves:
        return Moves(session, self.job.run, key or self.job.key, self.word)


def perform(access: Access, job: Job, running: Running, write: Write, word: str) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    deed = Deed(access=access, job=job, running=running, write=write, word=word,
                until=time.monotonic() + job.timeout)  # fmt: skip
    if deed.work.probe:
        return carried_out(deed, lambda session: _foreseen(deed, session))
    do = _taken_back if deed.work.of else _moved
    return carried_out(deed, lambda session: do(deed, session))


_CLUSTER = "it is part of a cluster, where opskit moves no messages yet"


def _evicts(session: Session) -> str:
    """Return why nothing may be kept at a broker; "" where it may."""
    policy = session.identity.policy
    if policy == _SAFE:
        return ""
    told = f"maxmemory-policy is {policy or '(not told)'}: the broker may lose what is put aside"
    return f"{told}; set {_SAFE} first"


def _foreseen(deed: Deed, session: Session) -> Output:
    """Look which messages would be moved."""
    if wrong := _evicts(session) or unfit(deed.access, session):
        return deed.unsent(wrong, 1)
    found = _sought(deed, session)
    if found is None:
        return _nothing(deed)
    _list(deed, session, found)
    return Output(outcome="succeeded", status=0, reason=found.said, evidence=deed.more)


def _sought(deed: Deed, session: Session) -> Sought | None:
    """Find what is meant; None where there is nothing, and that is no failure."""
    try:
        return parking.sought(session, deed.work)
    except parking.NoneError:
        if deed.work.none == "ok":
            return None
        raise


def _nothing(deed: Deed) -> Output:
    return Output(outcome="succeeded", status=0, reason="there is no message", evidence=deed.more)


def _list(deed: Deed, session: Session, found: Sought) -> None:
    """Tell what was found; not what it carries."""
    deed.more |= {
        "matched": len(found.messages), "of": found.total, "digest": found.digest,
        "tasks": dict(Counter(one.head.task for one in found.messages).most_common(20)),
    }  # fmt: skip
    deed.tell(found.said)
    for number, one in enumerate(found.messages):
        if number == _PRINTED:
            deed.tell(f"… {len(found.messages) - number} more")
            break
        deed.tell(_shown(f"{one.head.task}  {one.head.id}"))
    if deed.work.do == "park" and (count := _in_flight(deed.work, session)):
        deed.more["taken"] = count
        deed.tell(f"{count} more are taken by a worker at this moment, and are not touched")


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _in_flight(work: Messages, session: Session) -> int:
    """Return how many of those that are meant a worker has at this moment, as far as is seen."""
    known = moment(session, work.layout, ()).known.values()
    fits = [one.head for one in known if one.head.id]
    return sum((not work.tasks or one.task in work.tasks)
               and (not work.ids or one.id in work.ids) for one in fits)  # fmt: skip


def _moved(deed: Deed, session: Session) -> Output:
    if wrong := deed.unable(session, _CLUSTER) or _evicts(session):
        return deed.unsent(wrong)
    pieces = deed.moves(session)
    kept = _kept(deed, session, pieces)
    if kept is None:
        return _nothing(deed)
    pieces.agreed(kept.digest)
    archive.begin(kept.path)
    deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
    deed.acting = True
    found: list[Fate] = []
    for number, some in enumerate(kept.pieces):
        deed.watch()
        found.append(_piece(pieces, deed.work, number, some))
        if found[-1].why:
            break
    return moved_said(deed, session, kept, found)


def _piece(pieces: Moves, work: Messages, number: int, some: Sequence[Message]) -> Fate:
    """Move a piece. What refuses its script refuses its first write, before anything is done."""
    try:
        return pieces.move(work, number, some)
    except ServerError as error:
        return Fate(letters="-" * len(some), why=refused(error, ""))


def _kept(deed: Deed, session: Session, pieces: Moves) -> Kept | None:
    """Return what is moved: what was kept before, where it has begun; else what is meant now."""
    path = deed.folder
    if digest := pieces.list_digest():
        kept = parking.read(path)
        if kept.digest != digest:
            raise LostError(f"it was begun by another list than the one at {path}")
        return kept
    if archive.begun(path):
        raise LostError(f"its marks are gone from the server, and it may have begun: see {path}")
    found = _sought(deed, session)
    if found is None:
        return None
    _list(deed, session, found)
    return parking.kept(session, deed.work, found, path, deed.job.run)


def moved_said(deed: Deed, session: Session, kept: Kept, found: Sequence[Fate]) -> Output:
    """See where the messages are by now, and say what became of them."""
    counts, why = Fates.of(found).counts, Fates.of(found).why
    count, total = counts["r"], len(kept.messages)
    left = counts["e"] + counts["-"] + sum(map(len, kept.pieces[len(found) :]))
    astray = _read_back(deed.work, session, kept, found)
    deed.more |= {"moved": count, "gone": counts["g"], "left": left, "astray": astray}
    verb = "put aside" if deed.work.do == "park" else "put back into the queue"
    line = f"{verb} {count} of {total} messages"
    if counts["g"]:
        line += f"; {counts['g']} were taken meanwhile"
    if left:
        line += f"; {left} are LEFT"
    if astray:
        line += f"; {astray} are not where they were put"
    deed.tell(line, str(kept.path / MANIFEST), f"sha256 {kept.digest}")
    if left or astray:
        reason = f"{line}: {why}" if why else line
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(
        outcome="succeeded", status=0, reason=line, stdout=b"%d" % count, evidence=deed.more
    )


def _read_back(work: Messages, session: Session, kept: Kept, found: Sequence[Fate]) -> int:
    """Return how many that were put aside are not there; what was put back workers may have."""
    if work.do != "park":
        return 0
    to = [away for _, away in parking.ways(work)]
    moved = [one for some, fate in zip(kept.pieces, found, strict=False)
             for one, letter in zip(some, fate.letters, strict=True) if letter == "r"]  # fmt: skip
    there: Counter[tuple[int, bytes]] = Counter()
    for number in {one.list for one in moved}:
        there.update((number, raw) for raw in parking.lying(session, to[number - 1]))
    there.subtract((one.list, one.raw) for one in moved)
    return -sum(count for count in there.values() if count < 0)


def _taken_back(deed: Deed, session: Session) -> Output:
    if wrong := deed.unable(session, _CLUSTER):
        return deed.unsent(wrong)
    theirs = deed.moves(session, deed.action)
    digest, path = theirs.list_digest(), deed.folder
    if not digest:
        if archive.begun(path):
            told = "its marks are gone from the server: what is there now may be newer"
            return deed.unsent(f"{told}; what was kept is at {path}")
        return Output(outcome="succeeded", status=0, reason="nothing was moved", evidence=deed.more)
    kept = parking.read(path)
    if kept.digest != digest:
        raise LostError(f"it was moved by another list than the one at {path}")
    deed.acting = True
    ours, found = deed.moves(session), []
    ours.seize()
    for number, some in enumerate(kept.pieces):
        deed.watch()
        what = theirs.bar(number, len(some))
        mine = moved_of(some, what)
        found.append(_back(ours, deed.work, number, mine))
        if found[-1].why:
            break
    return taken_back_said(deed, found)


def moved_of(some: Sequence[Message], what: Fate | None) -> list[Message]:
    """Return those of a piece that were moved."""
    if what is None:
        return []
    return [one for one, letter in zip(some, what.letters, strict=True) if letter == "r"]


def _lacking(theirs: Moves, kept: Kept) -> list[int]:
    """Return how many messages of each piece are to be put back: those that were moved."""
    found = theirs.fates(list(map(len, kept.pieces)))
    return [len(moved_of(some, what)) for some, what in zip(kept.pieces, found, strict=True)]


def _back(pieces: Moves, work: Messages, number: int, some: Sequence[Message]) -> Fate:
    try:
        return pieces.put_back(work, number, some)
    except ServerError as error:
        return Fate(letters="-" * len(some), why=refused(error, ""))


def taken_back_said(deed: Deed, found: Sequence[Fate]) -> Output:
    fates = Fates.of(found)
    counts = fates.counts
    left = counts["e"] + counts["-"]
    deed.more |= {"returned": counts["r"], "elsewhere": counts["b"], "left": left}
    line = f"put {counts['r']} messages back where they were"
    if counts["b"]:
        again = "somebody has put them back, or away"
        who = again if deed.work.do == "unpark" else "a worker has taken them"
        line += f"; {counts['b']} are not there any more: {who};"
        line += f" what they were is at {deed.folder}"
    if left:
        line += f"; {left} are NOT put back"
    deed.tell(line)
    if left:
        reason = f"{line}: {fates.why}"
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(outcome="succeeded", status=0, reason=line, evidence=deed.more)


# --- lost from sight


def rejoin(access: Access, job: Job, write: Write) -> Output:
    """Say what became of an attempt that was lost from sight; nothing is done by this."""
    deed = aftermath.lost(Deed, access, job, write)
    return aftermath.asked(access, lambda session: _became(deed, session))


def _became(deed: Deed, session: Session) -> Output:
    pieces, theirs = deed.moves(session), deed.moves(session, deed.action)
    if not theirs.list_digest():
        if archive.begun(deed.folder):
            raise LostError("its marks are not there, and it may have begun")
        if not deed.folder.exists():  # it may be on another machine
            aftermath.sure(deed, session, pieces)
        return Output(outcome="failed", sent=False, again=True, reason=NOT_DONE)
    kept = parking.read(deed.folder)
    if kept.digest != theirs.list_digest():
        raise LostError(f"it was begun by another list than the one at {kept.path}")
    sizes = _lacking(theirs, kept) if deed.work.of else list(map(len, kept.pieces))
    found = in_order(pieces.fates(sizes), kept.path)
    if not deed.work.of and (len(found) == len(sizes) or any(one.why for one in found)):
        deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
        return moved_said(deed, session, kept, found)
    if deed.work.of and len(found) == len(sizes):
        return taken_back_said(deed, found)
    aftermath.sure(deed, session, pieces)
    return aftermath.in_part(len(found), len(sizes))
