"""A removal of keys of which names alone are kept, for a cache that the application fills again.

It costs a small part of one that can be taken back: no value passes through opskit.
"""

from functools import partial

from opskit.drivers.redis import names
from opskit.drivers.redis.chunks import Fate, Fates
from opskit.drivers.redis.connection import written
from opskit.drivers.redis.keys import CLUSTER, Deed, agreed_before, begin, piece, said, same
from opskit.drivers.redis.listing import listed_names
from opskit.drivers.redis.names import Roll
from opskit.drivers.redis.session import Session
from opskit.model.job import Output


def clear(deed: Deed, session: Session) -> Output:
    """Remove what is listed, in pieces that each leave a mark: whoever goes on does none twice."""
    if wrong := deed.unable(session, CLUSTER):
        return deed.unsent(wrong)
    pieces = deed.pieces(session)
    if digest := agreed_before(deed, pieces):
        kept = names.read(deed.folder)
        same(kept, digest)
    else:
        listed = listed_names(session, deed.work)
        deed.listed(listed)
        kept = names.kept(session, deed.work, listed, deed.folder, deed.job.run)
    begin(deed, pieces, kept)
    found: list[Fate] = []
    sent: list[bytes] = []
    for number, some in enumerate(kept.chunks):
        deed.watch()
        sent.append(written(some))
        found.append(piece(partial(pieces.clear, number, sent[-1], len(some)), len(some)))
        if found[-1].why:
            break
    return cleared_said(deed, session, kept, found, sent)


def cleared_said(
    deed: Deed, session: Session, kept: Roll, found: list[Fate], sent: list[bytes] | None = None
) -> Output:
    """Look what is there of what was removed, and say what became of the keys.

    The script of a piece has seen that its keys were gone: what is there by now was made anew.
    `sent`: the names of each piece as they were sent, where that is known still.
    """
    fates, anew = Fates.of(found), 0
    chunks = kept.chunks
    for some, fate, names_of in zip(chunks, found, sent or map(written, chunks), strict=False):
        if not fate.why:
            anew += _there(session, names_of, len(some))
    counts = fates.counts
    left = counts["e"] + counts["-"] + sum(map(len, chunks[len(found) :]))
    deed.more |= {"removed": counts["r"], "gone": counts["g"], "anew": anew, "left": left}
    return said(deed, kept, counts["r"], fates)


def _there(session: Session, names_of: bytes, count: int) -> int:
    """Return how many of so many keys are there; their names are written out already."""
    found = session.connection.ask(b"*%d\r\n$6\r\nEXISTS\r\n%s" % (count + 1, names_of))
    assert isinstance(found, int)
    return found
