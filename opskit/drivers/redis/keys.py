"""One attempt at a deed on a set of keys: a look, a removal, or putting back what was removed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from opskit.drivers.redis import archive, cluster, names
from opskit.drivers.redis.archive import Archive, Kept
from opskit.drivers.redis.chunks import Pieces, done, lacking
from opskit.drivers.redis.cluster import RESHARDED
from opskit.drivers.redis.connection import ServerError, Watch
from opskit.drivers.redis.counters import described, shown
from opskit.drivers.redis.deeds import Attempt, carried_out, no_other
from opskit.drivers.redis.doing import refused
from opskit.drivers.redis.fates import Fate, Fates, LostError, in_order, removed
from opskit.drivers.redis.foresight import foreseen
from opskit.drivers.redis.listing import (
    MANY,
    Listing,
    ListingError,
    Names,
    listed,
    listed_names,
    looked_at,
    raise_refused,
)
from opskit.drivers.redis.names import Roll
from opskit.drivers.redis.session import Access, Commands, Session
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.evidence import MANIFEST
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.keys import Keys
from opskit.model.value import Json

_PRINTED = 1000
"""So many keys are told of one by one."""


@mutable
class Deed(Attempt):
    """An attempt at a set of keys. `had`: what was listed, once it is known."""

    had: "Archive | Roll | None" = None

    @property
    def work(self) -> Keys:
        work = self.job.work
        assert isinstance(work, Keys)
        return work

    @property
    def action(self) -> str:
        """The key of the removal that this is, or takes back."""
        return self.work.of or self.job.key

    @property
    def folder(self) -> Path:
        return archive.folder_of(self.work, self.job.run, self.action)

    def opened(self, watch: Watch, *, reads: bool = False, besides: Commands = ()) -> Session:
        return cluster.reached(self.access, watch, reads=reads, besides=besides)

    def foreseen(self) -> Commands:
        return foreseen(self.work, self.job.run, self.action, self.word)

    def pieces(
        self, session: Session, key: str = "", kept: "Archive | Roll | None" = None
    ) -> Pieces:
        made = Pieces(session, self.job.run, key or self.job.key, self.word)
        made.places = kept.places if kept is not None else ()
        return made

    def kept(self, session: Session) -> Archive | Roll:
        """Read what was listed."""
        return self.stock(session) if self.work.archive else self.roll(session)

    def stock(self, session: Session) -> Archive:
        found = archive.read(self.folder)
        unmoved(found.shape, session, found.path)
        return replace(found, layout=session.layout)

    def roll(self, session: Session) -> Roll:
        found = names.read(self.folder)
        unmoved(found.shape, session, found.path)
        return Roll.of(found.path, found.digest, found.names, found.shape, session.layout)

    def listed(self, found: Names) -> None:
        """Tell what was."""
        self.tell(found.said)
        self.more |= {"matched": len(found.names), "of": found.total, "digest": found.digest}

    def barred(self, session: Session) -> str:
        if self.had is not None:  # to read it again could take longer than there is time
            unmoved(self.had.shape, session, self.had.path)
        return no_other(self._ended(session, self.had or self.kept(session)))

    def _ended(self, session: Session, kept: Archive | Roll) -> list[Fate | None]:
        """Let no more of it be done, and return what became of each piece."""
        pieces = self.pieces(session, kept=kept)
        if self.work.do != "restore":
            return pieces.bars(list(map(len, kept.chunks)))
        assert isinstance(kept, Archive), "of names alone there is no undo"
        pieces.seize()
        return done(pieces, lacking(self.pieces(session, self.action, kept), kept), back=True)


def unmoved(shape: str, session: Session, path: Path) -> None:
    """Make sure that each key and each mark is where it was when the list was made."""
    if shape != session.shape:
        told = "slots of the cluster have moved since it was listed: nothing more is done by it"
        raise LostError(f"{told}; what was kept is at {path}")


def perform(access: Access, job: Job, running: Running, write: Write, word: str) -> Output:
    """Do it once, or look. What goes wrong outside is in the output, never raised."""
    deed = Deed(access=access, job=job, running=running, write=write, word=word,
                until=time.monotonic() + job.timeout)  # fmt: skip
    do = _DEEDS[deed.work.do]
    if deed.work.do == "remove" and not deed.work.archive:
        from opskit.drivers.redis import clearing  # it imports this

        do = clearing.clear
    return carried_out(deed, lambda session: do(deed, session))


# --- a look ---


def _show(deed: Deed, session: Session) -> Output:
    found = listed_names(session, deed.work)
    deed.tell(found.said)
    first = Listing(keys=tuple(looked_at(session, found.names[:_PRINTED])), found=found)
    deed.tell(*described(session.connection, first, deed.work.rates))
    if len(found.names) > _PRINTED:
        deed.tell(f"… {len(found.names) - _PRINTED} more")
    evidence = {**deed.more, "keys": len(found.names), "of": found.total,
                "digest": found.digest}  # fmt: skip
    return Output(
        outcome="succeeded", status=0, reason=found.said, stdout=found.digest.encode(),
        evidence=evidence,
    )  # fmt: skip


# --- a removal ---


def _remove(deed: Deed, session: Session) -> Output:
    if wrong := deed.unable(session):
        return deed.unsent(wrong)
    pieces = deed.pieces(session)
    if digest := agreed_before(deed, pieces):
        kept = deed.stock(session)
        same(kept, digest)
    else:
        kept = _listed(deed, session, pieces)
    session.forget()  # from here on what has been removed is looked for anew
    begin(deed, pieces, kept)
    found = _removed(deed, session, pieces, kept)
    if len(found) == len(kept.chunks) and not any(one.why for one in found):
        archive.end(kept.path)  # so that an undo knows how many marks there were
    return removed_said(deed, session, kept, found)


def _removed(deed: Deed, session: Session, pieces: Pieces, kept: Archive) -> list[Fate]:
    chunks = kept.chunks
    if len(chunks) == 1 and not session.identity.clustered:
        deed.watch()
        return [_piece(lambda _, keys: pieces.alone(keys), 0, chunks[0])]
    if not session.identity.clustered:
        written = (pieces.removing(number, keys) for number, keys in enumerate(chunks))
        return in_turn(deed, pieces, written, [len(keys) for keys in chunks])
    pieces.places, found = kept.places, list[Fate]()
    for number, keys in enumerate(chunks):
        deed.watch()
        found.append(_piece(pieces.remove, number, keys))
        if found[-1].why:
            break
    return found


def in_turn(
    deed: Deed, pieces: Pieces, written: Iterator[bytes], counts: Sequence[int]
) -> list[Fate]:
    """Remove one piece after the other; the next is written out while the server is at one.

    `counts`: how many keys each has. After one that is refused no other is begun.
    """
    found: list[Fate] = []
    following = next(written, b"")
    for count in counts:
        deed.watch()
        data = following
        pieces.send(data)
        following = next(written, b"")
        found.append(piece(partial(pieces.became, data, count), count))
        if found[-1].why:
            break
    return found


def agreed_before(deed: Deed, pieces: Pieces) -> str:
    """Return by which list it has begun, "" where it has not; LostError where nobody can tell."""
    digest = pieces.list_digest()
    if not digest and archive.begun(deed.folder):
        told = f"its marks are gone from the server, and some keys with it: see {deed.folder}"
        raise LostError(told)
    return digest


def same(kept: Archive | Roll, digest: str) -> None:
    """Make sure that a list is the one by which it was begun."""
    if kept.digest != digest:
        raise LostError(f"it was begun by another list than the one at {kept.path}")


def begin(deed: Deed, pieces: Pieces, kept: Archive | Roll) -> None:
    """Note on both sides by which list it is done: from now on something may be removed."""
    pieces.agreed(kept.digest)
    archive.begin(kept.path)
    deed.more |= {"manifest": str(kept.path / MANIFEST), "sha256": kept.digest}
    deed.had, deed.acting = kept, True


def _piece(do: Callable[[int, Sequence[Kept]], Fate], number: int, keys: Sequence[Kept]) -> Fate:
    return piece(lambda: do(number, keys), len(keys))


def piece(do: Callable[[], Fate], count: int) -> Fate:
    """Do a piece. What refuses its script refuses its first write, before anything is done."""
    try:
        return do()
    except ServerError as error:
        return Fate(letters="-" * count, why=refused(error, ""))


def _listed(deed: Deed, session: Session, pieces: Pieces) -> Archive:
    """Keep what is there, and return it; that is what is removed."""
    listing = listed(session, deed.work)
    if lacking := pieces.lacking():
        told = f"nothing is removed, as it could not be put back: {lacking}"
        raise ListingError(f"{told}: give the user the rights that the page on rate limits has")
    deed.listed(listing.found)
    return archive.kept(session, deed.work, listing, deed.folder, deed.job.run)


def removed_said(deed: Deed, session: Session, kept: Archive, found: list[Fate]) -> Output:
    """Look whether the keys are gone, and say what became of them."""
    fates = Fates.of(found)
    still, anew, unseen = list[bytes](), 0, ""
    try:
        still, anew = _read_back(session, kept, found)
    except ServerError as error:
        if error.code != RESHARDED:
            raise
        unseen = error.what
    counts = fates.counts
    number = counts["r"] + counts["c"]
    left = counts["e"] + counts["-"] + counts["k"] + len(still)
    left += sum(map(len, kept.chunks[len(found) :]))
    deed.more |= {"removed": number, "gone": counts["g"] + kept.gone, "changed": counts["c"],
                  "anew": anew, "left": left}  # fmt: skip
    return said(deed, kept, number, fates, still=still, unseen=unseen)


def said(
    deed: Deed, kept: Archive | Roll, number: int, fates: Fates, *,
    still: Sequence[bytes] = (), unseen: str = "",
) -> Output:  # fmt: skip
    """Say what became of so many keys: as many as fitted are removed or have gone, or it failed.

    `unseen`: why nobody could look whether they are gone.
    """
    count = len(kept.names) if isinstance(kept, Roll) else len(kept.keys) + kept.gone
    line, left = _sentence(number, count, deed.more), deed.more["left"]
    deed.tell(line, *(f"still there: {shown(name)}" for name in still[:20]),
              f"{kept.path / MANIFEST}", f"sha256 {kept.digest}")  # fmt: skip
    if left or unseen:
        why = cluster.moved(fates.why) or unseen
        reason = f"{line}: {why}" if why else line
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(
        outcome="succeeded", status=0, reason=line, stdout=b"%d" % number, evidence=deed.more
    )


def _sentence(number: int, count: int, said: Mapping[str, Json]) -> str:
    told = {
        "gone": "had gone meanwhile",
        "changed": "had changed since they were kept (undo has their last value)",
        "anew": "have been made anew since, and stay",
        "left": "are LEFT",
    }
    more = [f"{said[key]} {words}" for key, words in told.items() if said.get(key)]
    return "; ".join([f"removed {number} of {count} keys", *more])


def _read_back(session: Session, kept: Archive, found: list[Fate]) -> tuple[list[bytes], int]:
    """Return which keys are there though they were removed, and how many were made anew."""
    keys = [one for piece, fate in zip(kept.chunks, found, strict=False)
            for one in removed(piece, fate)]  # fmt: skip
    still, anew = [], 0
    for first in range(0, len(keys), MANY):
        some = keys[first : first + MANY]
        said = session.connection.of_each([key.name for key in some], "PEXPIRETIME")()
        raise_refused(said)
        for key, end in zip(some, said, strict=True):
            if end == -2:
                continue
            same = session.connection.call("DUMP", key.name) == key.dump and end == key.end
            still += [key.name] if same and end != -1 else []
            anew += not (same and end != -1)
    return still, anew


# --- putting back ---


def _restore(deed: Deed, session: Session) -> Output:
    if wrong := deed.unable(session):
        return deed.unsent(wrong)
    theirs = deed.pieces(session, deed.action)
    digest, path = theirs.list_digest(), deed.folder
    if not digest:
        if archive.begun(path):
            told = "its marks are gone from the server: what is there now may be newer"
            return deed.unsent(f"{told}; what was kept is at {path}")
        return Output(outcome="succeeded", status=0, reason="nothing was removed",
                      evidence=deed.more)  # fmt: skip
    kept = deed.stock(session)
    if kept.digest != digest:
        raise LostError(f"it was removed by another list than the one at {path}")
    deed.had, deed.acting = kept, True
    theirs = deed.pieces(session, deed.action, kept)
    what = theirs.bars(list(map(len, kept.chunks)))  # no more is removed
    try:
        in_order(what, kept.path, whole=archive.ended(kept.path))
    except LostError as error:
        return deed.unsent(error.what)
    ours, found = deed.pieces(session, kept=kept), list[Fate]()
    ours.seize()
    for number, (keys, fate) in enumerate(zip(kept.chunks, what, strict=True)):
        deed.watch()
        gone = removed(keys, fate) if fate is not None else []
        found.append(_piece(ours.restore, number, gone))
        if found[-1].why:
            break
    return restored_said(deed, found)


def restored_said(deed: Deed, found: list[Fate]) -> Output:
    fates = Fates.of(found)
    counts = fates.counts
    left = counts["e"] + counts["-"]
    deed.more |= {"restored": counts["r"], "newer": counts["b"], "over": counts["x"], "left": left}
    told = {"newer": "stand there anew, and stay", "over": "would be over by now",
            "left": "are NOT put back"}  # fmt: skip
    more = [f"{deed.more[key]} {words}" for key, words in told.items() if deed.more[key]]
    line = "; ".join([f"put back {counts['r']} keys", *more])
    deed.tell(line)
    if left:
        reason = f"{line}: {cluster.moved(fates.why)}"
        return Output(outcome="failed", status=1, reason=reason, evidence=deed.more)
    return Output(outcome="succeeded", status=0, reason=line, evidence=deed.more)


_DEEDS: Mapping[str, Callable[[Deed, Session], Output]] = {
    "show": _show,
    "remove": _remove,
    "restore": _restore,
}
