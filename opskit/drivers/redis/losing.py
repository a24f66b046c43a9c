"""Whether a change would throw away what waits in a queue: then it is not sent.

Only what is meant as a command is looked at; what a script of a runbook does nobody can tell.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from opskit.drivers.redis.broker import head
from opskit.drivers.redis.connection import ServerError, encoded
from opskit.drivers.redis.flags import EMPTYING, LOSING, Known, Words, shown
from opskit.drivers.redis.listing import of_a_queue
from opskit.drivers.redis.session import Session
from opskit.steps.messages import PARKED

_MANY = frozenset({"del", "unlink"})
"""These take several keys; of the others it is the first word."""
_TAKEN = (b"unacked", b"unacked_index")
"""What ends so holds messages that workers have."""
_PARK = "queue-park puts messages aside and keeps each"


def loses(session: Session, todo: Sequence[Words], known: Mapping[int, Known]) -> str:
    """Return why commands would lose messages of a queue of Celery; "" where they would not."""
    for number, words in enumerate(todo):
        name = known[number].name if number in known else ""
        if name in EMPTYING and (wrong := _emptied(session, name)):
            return f"{shown(words)}: {wrong}"
        for key in (words[1:] if name in _MANY else words[1:2]) if name in LOSING else ():
            if _holds(session, key):
                told = "messages of a queue (Celery) lie there, and nothing would keep them"
                return f"{shown(words)} {key.decode(errors='replace')[:80]}: {told}: {_PARK}"
    return ""


def _emptied(session: Session, name: str) -> str:
    if of_a_queue(session, thoroughly=True):
        return f"database {session.index} is that of a queue (Celery): {_PARK}"
    if name == "flushall" and (others := _others(session)):
        told = f"it empties all databases, and nobody has looked at {', '.join(others)}"
        return f"{told}: FLUSHDB empties the one that is meant"
    return ""


def _others(session: Session) -> list[str]:
    """Return the other databases that have keys."""
    with suppress(ServerError):
        said = session.connection.call("INFO", "keyspace")
        lines = said.decode(errors="replace").split() if isinstance(said, bytes) else []
        names = [line.partition(":")[0] for line in lines if line.startswith("db")]
        return [name for name in names if name != f"db{session.index}"]
    return []


def _holds(session: Session, key: bytes) -> bool:
    """Tell whether messages lie in a key; what was put aside was kept before."""
    if key.startswith(encoded(PARKED)):
        return False
    with suppress(ServerError):  # another kind of key, or one that the user may not see
        if key.endswith(_TAKEN):
            return bool(session.connection.call("EXISTS", key))
        said = session.connection.call("LRANGE", key, "-1", "-1")
        return any(head(one).id for one in said) if isinstance(said, list) else False
    return False
