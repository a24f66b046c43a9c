"""What an action does: data for a driver, which alone does it."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.model.expected import Expected, Index
from opskit.model.frozen import frozen
from opskit.model.keys import Keys
from opskit.model.ledger import Ledger
from opskit.model.payouts import Payouts
from opskit.model.queues import Messages, Queues
from opskit.model.rows import Rows
from opskit.model.text import Text
from opskit.model.value import Json, SecretRef
from opskit.model.warm import Warm


@frozen
class Command:
    """A text for a shell on the target.

    `shell`: run by `sh -eu`; otherwise a script that obeys its first line, with `args`.
    `secrets`: environment variable → name of the secret it gets.
    """

    text: Text
    shell: bool = True
    args: tuple[Text, ...] = ()
    cwd: Text | None = None
    stdin: Text | SecretRef | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    sudo: str | None = None
    summary: str = ""
    """What to show instead of the text where the text is opskit's own (traffic)."""
    check: Text | None = None
    """What a health check looks at; its exit status then says OK, WARN, CRIT or UNKNOWN."""
    bearing: Mapping[str, str] = field(default_factory=dict)
    """What a health check means beside its level: `severity`, `next`, `system`."""
    verdict: bool = False
    """It is a gate: it ends with a verdict, and without one nothing is known."""


@frozen
class FileRef:
    """A file beside the person who runs: absolute path, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@frozen
class Upload:
    """Put a file, or the tree in an archive, at `dest`: written aside, checked, renamed.

    With `unpack` the archive's tree becomes the directory `dest`, which must not exist yet or must
    be the very same tree (then nothing is done).
    """

    content: FileRef | Text
    dest: Text
    mode: str | None = None
    unpack: bool = False
    sudo: str | None = None


@frozen
class Remove:
    """Take back an upload: restore what stood at `dest` before, or remove what the run created."""

    dest: Text
    of: str
    sudo: str | None = None
    """The key of the upload's action."""


@frozen
class Expect:
    """What an answer must be: status (empty: any 2xx), headers, JSON by dotted path, text.

    `has`: what each value of a header must contain. `at_most`: a number that a header may be;
    `at_least`: one that the first number in it must be.
    """

    status: tuple[int, ...] = ()
    headers: Mapping[str, Text] = field(default_factory=dict)
    has: Mapping[str, Text] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    json: Mapping[str, "Json | Text"] = field(default_factory=dict)
    body: Text | None = None
    latency: float | None = None
    warn_latency: float | None = None
    """A health check that takes longer than this is a WARN."""


@frozen
class Request:
    """One HTTP request; redirects are answers, not followed."""

    url: Text
    method: str = "GET"
    headers: Mapping[str, Text | SecretRef] = field(default_factory=dict)
    body: Text | None = None
    expect: Expect = field(default_factory=Expect)
    via: Literal["controller", "host"] = "controller"
    idempotency_key: bool = False
    check: Text | None = None
    """What a health check looks at; without an answer it is then UNKNOWN rather than failed."""
    bearing: Mapping[str, str] = field(default_factory=dict)


@frozen
class Wait:
    """Let time pass; seconds, counted from the recorded start."""

    seconds: float


@frozen
class Check:
    """Expressions that must all be true; late parts are filled first ("True" or "False")."""

    that: tuple[Text, ...]
    message: Text


@frozen
class Ask:
    """A question to a person (confirm), or work that a person does and reports (manual)."""

    question: Text
    manual: bool = False


@frozen
class Notify:
    """A message to the record and whoever watches, and to the channels that are named.

    How severe it is says `severity`; None: in `always` the status of the run, else it is none.
    `required`: where it is not delivered the step fails.
    """

    message: Text
    to: tuple[str, ...] = ()
    severity: Text | None = None
    required: bool = False


@frozen
class Recall:
    """Fetch a value that an earlier run saved for this host.

    Of the newest run of `runbook` that touched the host and ended as one of `status`; nothing found
    gives `default`, or fails when that is None.
    """

    runbook: str
    value: str
    host: str
    run: Text | None = None
    status: tuple[str, ...] = ("succeeded",)
    default: str | None = None
    planned: str | None = None
    """What it came to when the plan was made, which has used it; any other value fails."""


@frozen
class Limits:
    """When a number that a server brings is a WARN or a CRIT, such as `> 80`; empty: never."""

    label: str
    warn: str = ""
    crit: str = ""


@frozen
class Query:
    """SQL for a database: a read is one statement, a change one transaction.

    `transaction` False: one statement that can't be in one. `rows`: what is saved, the first value
    of the first row or all rows as JSON; `expect`: what that value must be. `kept` says that
    something is saved, `told` that a `done_when` can tell whether it was done. `judged`: the first
    value says in words what is wrong, so that nothing is kept; empty, all is well. `check`: it is a
    health check, and its rows are weighed.
    """

    text: Text
    database: str
    transaction: bool = True
    rows: Literal["text", "json"] = "text"
    expect: Text | None = None
    kept: bool = False
    told: bool = False
    judged: bool = False
    check: Limits | None = None
    bearing: Mapping[str, str] = field(default_factory=dict)


@frozen
class Survey:
    """Look before the first change whether a database is the one that is meant.

    `marks`: changes come that can be told by their mark alone, so it must be possible to leave one.
    """

    database: str
    marks: bool = False


PING = "ping"
"""The figure of a Redis that INFO does not have: how long it takes to answer, in milliseconds."""


@frozen
class RedisCall:
    """Commands for a Redis server, each a row of arguments; or a script with keys and arguments.

    A change is done as a whole and leaves its mark; `transaction` False: one command that can't be.
    `rows`: what is saved of the last answer, its first value or all of it as JSON; `expect`: what
    that value must be. `kept` says that something is saved, `told` that a `done_when` can tell.
    `check`: it is a health check, and what each command answers is weighed; or, with `figure`, what
    INFO says, as the difference within `window` seconds.
    """

    server: str
    commands: tuple[tuple[Text, ...], ...] = ()
    script: Text | None = None
    keys: tuple[Text, ...] = ()
    args: tuple[Text, ...] = ()
    transaction: bool = True
    rows: Literal["text", "json"] = "text"
    expect: Text | None = None
    kept: bool = False
    told: bool = False
    check: Limits | None = None
    figure: str = ""
    window: float = 0.0
    bearing: Mapping[str, str] = field(default_factory=dict)


@frozen
class RedisLook:
    """Look before the first change whether a Redis server is the one that is meant.

    `spread`: what is changed there may be spread over the primaries of a cluster.
    """

    server: str
    spread: bool = False


@frozen
class Verify:
    """Compare a database with what is expected of it; a check that is OK, WARN, CRIT or UNKNOWN.

    `file` is where that was written. `leave_out`: checks that are not made; `levels`: those that
    weigh otherwise than by default. An index is unused when nobody has in `unused_after` seconds.
    `amcheck`: read indexes to see whether they are whole, alone or with the rows of their tables;
    `pgstatindex`: to see how full they are. `timing`: call and read what has a limit of time, and
    with `writers` what writes, too: it is rolled back. `standbys`: databases of the inventory that
    count for themselves who uses an index.
    """

    database: str
    expected: Expected
    file: str
    leave_out: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    unused_after: float = 30 * 86400.0
    amcheck: Literal["", "index", "rows"] = ""
    pgstatindex: bool = False
    timing: bool = True
    writers: bool = False
    standbys: tuple[str, ...] = ()


@frozen
class Duplicates:
    """Search a ledger for what was paid twice; a check that is OK, WARN, CRIT or UNKNOWN.

    `file` is where the ledger was described. `since`, `until` and `as_of` are ISO times in UTC or
    numbers of seconds before now, "" for none; `full`: all of a large table may be looked at.
    `window` in seconds: how close two payments are that look alike. `provider`: what a provider
    says that it has paid. `evidence`: the folder in which each report gets its own ("": below the
    state directory). `patience`: how long one statement may take, `max_lag`: how far a standby may
    be behind, both in seconds. `leave_out` and `levels` as for `Verify`.
    """

    database: str
    ledger: Ledger
    file: str
    since: str = ""
    until: str = ""
    as_of: str = ""
    full: bool = False
    window: float = 600.0
    provider: FileRef | None = None
    evidence: str = ""
    patience: float = 300.0
    max_lag: float = 60.0
    leave_out: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)


@frozen
class Repair:
    """Make an index what it is to be, while others read and write its table.

    `do`: `create` what is missing or broken, `rebuild` what is bloated, `tidy` up what a REINDEX
    has left behind on a table, `drop` the index that is named, `undo` what the action `of` did.
    `index` stands on `relation`. `leftover`: a valid one may be dropped. `bloat`: how many times as
    large as it must be. `free`: bytes that are free on the server's disk. `probe`: only look
    whether there is anything to do.
    """

    database: str
    do: Literal["create", "rebuild", "tidy", "drop", "undo"]
    relation: str = ""
    view: bool = False
    index: Index | None = None
    name: str = ""
    leftover: bool = False
    bloat: float = 2.0
    free: Text | None = None
    of: str = ""
    probe: bool = False


AtDatabase: TypeAlias = (
    Query | Verify | Duplicates | Repair | Payouts | Rows | Activity | Sessions | Bloat
)
"""What is done at a database of the inventory, by its name."""

AtRedis: TypeAlias = RedisCall | Keys | Warm | Queues | Messages
"""What is done at a Redis server of the inventory, by its name."""

Work: TypeAlias = (
    Command
    | Upload
    | Remove
    | Request
    | Query
    | Survey
    | Verify
    | Duplicates
    | Repair
    | RedisCall
    | RedisLook
    | Keys
    | Warm
    | Queues
    | Messages
    | Payouts
    | Rows
    | Activity
    | Sessions
    | Bloat
    | Wait
    | Check
    | Ask
    | Notify
    | Recall
)
