"""What a deed on keys will ask before it changes anything: that goes along with the greeting."""

from opskit.drivers.redis.archive import copied
from opskit.drivers.redis.chunks import head_of
from opskit.drivers.redis.listing import sighted
from opskit.drivers.redis.marks import tried
from opskit.drivers.redis.session import Commands
from opskit.model.keys import Keys


def foreseen(work: Keys, run: str, action: str, word: str) -> Commands:
    """Return what is asked, as far as that is known before the server is.

    The trial is done only where the key of this run has this word, and nobody ever sees it.
    """
    head = head_of(run, action)
    begun = ("GET", f"{head}list")
    match work.do:
        case "show":
            return sighted(work)
        case "restore":
            return (begun,)
        case _ if not work.archive:
            return (begun, *sighted(work))
        case _:
            return (begun, *sighted(work), tried(run, head, word), *copied(work))
