"""What waits in the queues of a broker, and which messages of them are put aside."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.activity import Limit
from opskit.model.frozen import frozen
from opskit.model.text import Text


@frozen
class Layout:
    """How an application's Celery lays its queues out in a Redis, as its transport options say.

    A queue is a list for each of `steps`: its own name for 0, else the name, `separator` and the
    step. `prefix` stands before every key.
    """

    prefix: str = ""
    separator: str = "\x06\x16"
    steps: tuple[int, ...] = (0, 3, 6, 9)


@frozen
class Queues:
    """Look at the queues of Celery on a Redis; a check that is OK, WARN, CRIT or UNKNOWN.

    `names`: which queues; none: those that the broker knows. `window`: between two looks, in
    seconds. `limits`: check → what it finds too much. `workers`: who must have answered, in
    `answers`. `results`: the server that results go to, where it is another. `visibility`: after
    how long the broker gives to another what was not acknowledged, `longest`: how long a task may
    take, both in seconds and 0 where the answers say it. `once`: queues whose tasks must not be
    done twice. `falling`: so many looks, in each of which less must wait than before; 0: two looks.
    """

    server: str
    layout: Layout
    names: tuple[str, ...] = ()
    window: float = 10.0
    limits: Mapping[str, Limit] = field(default_factory=dict)
    workers: tuple[str, ...] = ()
    answers: Text | None = None
    results: str = ""
    visibility: float = 0.0
    longest: float = 0.0
    once: tuple[str, ...] = ()
    falling: int = 0
    leave_out: tuple[str, ...] = ()


MessageDeed = Literal["park", "replay", "unpark", "unreplay"]
"""`park` messages beside their queue, `replay` what was parked; take back what one of both did."""


@frozen
class Messages:
    """Move messages of `queue` to where nobody takes them, or back.

    Those of the tasks `tasks` and with the ids `ids` are meant; both empty: all. `idempotent`: the
    tasks that may be done twice. `most`: so many at most; `share`: so much of what is there at
    most, in percent; `override`: why more may be. `part`: only so much of what is meant, in
    percent, the oldest first, one at least. `evidence`: the folder in which each deed gets its own
    ("": beside the record). `none`: whether it is a failure that there is none. `of`: the key of
    the action that is taken back. `probe`: only look.
    """

    do: MessageDeed
    server: str
    queue: str
    layout: Layout
    tasks: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()
    most: int = 100
    share: float = 20.0
    override: str = ""
    part: float = 100.0
    evidence: str = ""
    none: Literal["fail", "ok"] = "fail"
    of: str = ""
    probe: bool = False
