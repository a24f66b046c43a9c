"""What a part of a migration does: what taking it back comes to, and what is wrong with it."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from opskit.model.frozen import frozen

Weight: TypeAlias = Literal["additive", "reversible", "destructive", "unread"]
"""What taking it back comes to; each outweighs those before it."""
Fault: TypeAlias = Literal["", "shape", "lock", "unread"]
"""shape: programs that run already can't live with it; lock: it stops the table; unread: unseen."""


@frozen
class Effect:
    """What a part of a statement does, what is wrong with that, and what to write instead."""

    weight: Weight = "additive"
    fault: Fault = ""
    what: str = ""
    write: str = ""


def lock(what: str, write: str) -> Effect:
    return Effect(weight="additive", fault="lock", what=what, write=write)


LATER = "do it in a later release, when no program needs it: -p phase=contract"


def shape(what: str, write: str = LATER) -> Effect:
    return Effect(weight="destructive", fault="shape", what=what, write=write)


def unread(what: str) -> Effect:
    return Effect(
        weight="unread",
        fault="unread",
        what=what,
        write="read it yourself, then name the migration: -p reviewed=APP.NAME",
    )


def heaviest(weights: Sequence[Weight]) -> Weight:
    """Return the weight that outweighs all others; a migration without any is additive."""
    order: tuple[Weight, ...] = ("unread", "destructive", "reversible")
    return next((weight for weight in order if weight in weights), "additive")
