"""A removal of keys of which names alone are kept, for a cache that the application fills again.

It costs a small part of one that can be taken back: no value passes through opskit.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain

from opskit.drivers.redis import names
from opskit.drivers.redis.batches import Batches
from opskit.drivers.redis.chunks import Pieces
from opskit.drivers.redis.cluster import RESHARDED
from opskit.drivers.redis.connection import ServerError, spelled
from opskit.drivers.redis.fates import Fate, Fates
from opskit.drivers.redis.keys import Deed, agreed_before, begin, in_turn, piece, said, same
from opskit.drivers.redis.listing import listed_names, raise_refused, scan
from opskit.drivers.redis.names import Roll
from opskit.drivers.redis.session import Session
from opskit.model.job import Output


def clear(deed: Deed, session: Session) -> Output:
    """Remove what is listed, in pieces that each leave a mark: whoever goes on does none twice."""
    if wrong := deed.unable(session):
        return deed.unsent(wrong)
    pieces = deed.pieces(session)
    if digest := agreed_before(deed, pieces):
        kept = deed.roll(session)
        same(kept, digest)
    else:
        listed = listed_names(session, deed.work)
        deed.listed(listed)
        kept = names.kept(session, deed.work, listed, deed.folder, deed.job.run)
    session.forget()  # what was there before is no answer to whether it is there now
    begin(deed, pieces, kept)
    return cleared_said(deed, session, kept, _done(deed, session, pieces, kept))


def _done(deed: Deed, session: Session, pieces: Pieces, kept: Roll) -> list[Fate]:
    """Remove one piece after the other; the next is written out while the server is at one."""
    if kept.layout is not None:
        return _swept(deed, pieces, kept)
    batches = Batches(session, pieces)
    if batches.able():
        return _removed(deed, batches, kept.chunks)
    written = (pieces.clearing(number, some) for number, some in enumerate(kept.chunks))
    return in_turn(deed, pieces, written, [len(some) for some in kept.chunks])


def _removed(deed: Deed, batches: Batches, chunks: Sequence[Sequence[bytes]]) -> list[Fate]:
    """The same by transactions."""
    found: list[Fate] = []
    batches.look(0)
    following = batches.spelt(0, chunks[0])
    for number, some in enumerate(chunks):
        deed.watch()
        data = following
        batches.send(data)
        if number + 1 < len(chunks):
            following = batches.spelt(number + 1, chunks[number + 1])
        found.append(piece(partial(batches.became, number, data, len(some)), len(some)))
        if found[-1].why:
            break
    return found


def _swept(deed: Deed, pieces: Pieces, kept: Roll) -> list[Fate]:
    """The same in a cluster."""
    pieces.places, found = kept.places, list[Fate]()
    for number, some in enumerate(kept.chunks):
        deed.watch()
        found.append(piece(partial(pieces.sweep, number, some), len(some)))
        if found[-1].why:
            break
    return found


def cleared_said(deed: Deed, session: Session, kept: Roll, found: list[Fate]) -> Output:
    """Look what is there of what was removed, and say what became of the keys.

    The script of a piece has seen that its keys were gone: what is there by now was made anew.
    """
    fates, chunks = Fates.of(found), kept.chunks
    done = [some for some, fate in zip(chunks, found, strict=False) if not fate.why]
    counts = fates.counts
    anew, unseen = 0, ""
    try:
        anew = _there(deed, session, done)
    except ServerError as error:
        if error.code != RESHARDED:
            raise
        unseen = error.what
    left = counts["e"] + counts["-"] + sum(map(len, chunks[len(found) :]))
    deed.more |= {"removed": counts["r"], "gone": counts["g"],
                  "anew": anew, "left": left}  # fmt: skip
    return said(deed, kept, counts["r"], fates, unseen=unseen)


def _there(deed: Deed, session: Session, done: list[Sequence[bytes]]) -> int:
    """Return how many keys of these pieces are there: by a walk, where hardly others are."""
    count = sum(map(len, done))
    total = session.connection.call("DBSIZE") if deed.work.pattern else None
    if isinstance(total, int) and total < count:
        there = {name for names_of in scan(session, deed.work.pattern) for name in names_of}
        return len(there.intersection(chain.from_iterable(done))) if there else 0
    number = 0
    for some in done:
        if session.layout is not None:  # a command takes keys of one slot
            said = session.connection.calls([("EXISTS", name) for name in some])
            raise_refused(said)
            number += said.count(1)
            continue
        found = session.connection.ask(
            b"*%d\r\n$6\r\nEXISTS\r\n%s" % (len(some) + 1, spelled(some))
        )
        assert isinstance(found, int)
        number += found
    return number
