"""What is done with a set of keys of a Redis server."""

from typing import Literal

from opskit.model.frozen import frozen

Deed = Literal["show", "remove", "restore"]
"""`show` which keys there are, `remove` them, `restore` what was removed."""


@frozen
class Rate:
    """How often something is allowed within how many seconds; of keys that begin with `head`."""

    head: str
    count: int
    seconds: int


@frozen
class Windows:
    """Counters whose names are digests that django-ratelimit makes, of the window that is now.

    `parts` are joined with the window before `methods`; `head` comes before the digest.
    """

    head: str
    parts: tuple[str, ...]
    value: str
    seconds: int
    methods: str = ""


@frozen
class Keys:
    """A deed on the keys `names`, on those of `windows`, or on those that fit `pattern`.

    All of them begin with one of `allow`. `most`: so many keys at most; `share`: so much of all
    keys at most, in percent (of a pattern); `override`: why more may be. `digest`: what the set of
    names must be. `evidence`: the folder in which each removal gets its own ("": beside the
    record). `archive`: values are kept, so that they can be put back; otherwise names alone are.
    `of`: the key of the action that is taken back.
    """

    do: Deed
    server: str
    allow: tuple[str, ...]
    names: tuple[str, ...] = ()
    windows: tuple[Windows, ...] = ()
    pattern: str = ""
    rates: tuple[Rate, ...] = ()
    most: int = 1000
    share: float = 20.0
    override: str = ""
    digest: str = ""
    evidence: str = ""
    archive: bool = True
    of: str = ""
