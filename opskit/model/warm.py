"""What is put into a cache before anybody asks for it."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from opskit.model.frozen import frozen
from opskit.model.text import Text

Deed = Literal["show", "fill", "refresh", "restore", "hits"]
"""`show` what there is to write; `fill` what is not there yet; `refresh` all of it; `restore` what
was there before that; `hits`: how much of what is asked for is there."""

Format = Literal["seen", "json", "raw"]
"""What is written for: readers who take what is `seen` there, JSON, or bytes as they are."""


Row: TypeAlias = Mapping[str, object]
"""A row of a source: its columns by their names."""


@frozen
class Table:
    """Rows of a query that follow each other; `first` is the number of the first.

    Cells are texts in UTF-8, as the server has written them.
    """

    first: int
    columns: tuple[str, ...]
    rows: Sequence[tuple[bytes | None, ...]]


@frozen
class Source:
    """Where rows come from: a file beside the person who runs, or a query of a database.

    `key`, `value` and `ttl` say how a row becomes a key: in each `{name}` stands for a column.
    """

    path: str = ""
    size: int = 0
    sha256: str = ""
    database: str = ""
    query: Text | None = None
    key: str = "{key}"
    value: str = "{value}"
    ttl: str = "{ttl}"


@frozen
class Warm:
    """A deed on the keys that `source` brings, all of which begin with one of `allow`.

    `format`: what those who read them take.
    `jitter`: by how much of it a time to live is longer or shorter. `most`: so many keys at most.
    `memory`: of what the server may use, so much at most, in percent. `wait`: nothing is begun
    where another client waits longer for an answer, in seconds (0: not looked at). `cpu`: nor where
    the server's processor is busier, in percent (0: not looked at). `rate`: so many
    keys a second (0: as many as go), halved where it slows others down; after so many `breaches` it
    ends. `keep`: what is overwritten is kept, so that it can be put back. `override`: why keys may
    stay for more than 30 days. `digest`: what the list must be. `evidence`: the folder in which
    each deed gets its own ("": beside the record). `of`: the key of the action that is taken back.
    `window`: how many seconds lookups are counted; fewer hits than `warn` and `crit` percent are
    told of, and fail.
    """

    do: Deed
    server: str
    source: Source | None = None
    allow: tuple[str, ...] = ()
    format: Format = "seen"
    jitter: float = 0.1
    most: int = 100_000
    memory: float = 80.0
    wait: float = 0.2
    cpu: float = 80.0
    rate: float = 0.0
    breaches: int = 10
    keep: bool = True
    override: str = ""
    digest: str = ""
    evidence: str = ""
    of: str = ""
    window: float = 0.0
    warn: float = 0.0
    crit: float = 0.0
