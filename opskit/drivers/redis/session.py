"""A session at a Redis server: what holds in it, and who it turns out to be with."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from opskit.drivers.redis.connection import (
    BrokenError,
    Connection,
    Reply,
    ServerError,
    TooLongError,
    Watch,
    accepted,
    connect,
    elsewhere,
    index_of,
    packed,
    user_of,
)
from opskit.drivers.redis.slots import Layout
from opskit.drivers.relay import Open
from opskit.errors import UnreachableError
from opskit.model.frozen import frozen
from opskit.model.inventory import Redis
from opskit.model.value import Json

OLDEST = (7, 0)
"""The oldest server that will do: older ones don't say of a subcommand what it does."""
_ASK = ("INFO", "server", "replication", "persistence", "stats", "cluster", "memory")
Commands = Sequence[tuple[bytes | str, ...]]


@frozen
class Identity:
    """Who answers. `lineage` is of its data: another one after a switch to another master."""

    version: str
    run_id: str
    lineage: str
    role: str
    mode: str
    loading: bool
    clustered: bool
    evicted: int
    policy: str

    def evidence(self, index: int) -> Mapping[str, Json]:
        """Return what the record keeps of who answered."""
        return {
            "version": self.version,
            "run_id": self.run_id,
            "replid": self.lineage,
            "role": self.role,
            "db": index,
        }


@frozen
class Access:
    """How a server is reached. `through` opens a way to its host, where it has one."""

    server: Redis
    run: str
    runbook: str
    password: str = ""
    met: str = ""
    """The run id of the server that this run has met there before."""
    through: Callable[[], Open] | None = None

    @property
    def where(self) -> str:
        return f"redis {self.server.name}"

    def __repr__(self) -> str:
        return f"Access({self.server.name})"


class Session:
    """A connection with whom the inventory means."""

    tags: tuple[str, ...] = ("",)
    """Where marks are left: at each primary of a cluster, beside its keys."""
    layout: Layout | None = None
    """Which primary has which keys, where there are several."""

    def __init__(self, connection: Connection, identity: Identity, index: int) -> None:
        self.connection = connection
        self.lines: Sequence[Connection] = (connection,)
        """One to each server that has keys: what is asked of all of them goes by these."""
        self.identity = identity
        self.index = index

    def again(self) -> Identity:
        """Ask once more who answers."""
        return identity(self.connection)

    @property
    def shape(self) -> str:
        """What tells this layout from another one; "" where there is none."""
        return self.layout.shape if self.layout is not None else ""

    def forget(self) -> None:
        """Ask anew whatever was asked ahead."""
        for one in self.lines:
            one.forget()

    def close(self) -> None:
        self.connection.close()


def opened(
    access: Access, watch: Watch = lambda: None, *, reads: bool = False, anybody: bool = False,
    besides: Commands = (),
) -> Session:  # fmt: skip
    """Open a session and make sure that it is with whom the inventory means.

    `reads`: it is for reads alone. `anybody`: whoever answers will do, who is asked for what was.
    `besides`: what will be asked then, and changes nothing at whoever answers: that is sent along.
    Raises UnreachableError, which says why not; nothing has been done then.
    """
    connection = None
    try:
        connection = connect(access.server, watch, access.through)
        ahead = [packed(words) for words in besides]
        said = _greeted(connection, access, [packed(_ASK), *ahead], reads=reads)
        found = _identity(accepted(next(said)))
        if not anybody:
            _assert(found, access)
        try:
            connection.foresee(ahead, said)
        except TooLongError:  # what is asked next would wait behind it: whoever needs it is told
            connection.close()
            return opened(access, watch, reads=reads, anybody=anybody)
        return Session(connection, found, index_of(access.server))
    except (BrokenError, ServerError, TooLongError) as error:
        close(connection)
        raise UnreachableError(
            f"no session can be had: {error.what}", where=access.where, hint=_hint(error)
        ) from None
    except BaseException:
        close(connection)
        raise


def beside(access: Access, address: tuple[str, int], watch: Watch, *, reads: bool) -> Connection:
    """Connect to another server of the same cluster, as the one that the inventory names."""
    connection = connect(elsewhere(access.server, *address), watch, access.through)
    try:
        _greeted(connection, access, (), reads=reads)
    except BaseException:
        connection.close()
        raise
    return connection


def close(*connections: Connection | None) -> None:
    for one in connections:
        if one is not None:
            one.close()


def _greeted(
    connection: Connection, access: Access, then: Sequence[bytes], *, reads: bool
) -> Iterator[Reply]:
    """Say who comes, and send what is asked then along; return what is answered to that."""
    user, index = user_of(access.server), index_of(access.server)
    must, may = list[tuple[str, ...]](), list[tuple[str, ...]]()
    if access.password:
        must.append(("AUTH", *((user,) if user else ()), access.password))
    if index:
        must.append(("SELECT", str(index)))
    # So that others see who it is, where that is allowed.
    may.append(("CLIENT", "SETNAME", f"opskit:{access.runbook}:{access.run}"))
    if reads:  # since 7.2: what is read does not count as used
        may.append(("CLIENT", "NO-TOUCH", "ON"))
    said = connection.each([*map(packed, must + may), *then])
    for _ in must:
        accepted(next(said))
    for _ in may:
        next(said)
    return said


def _hint(error: BrokenError | ServerError | TooLongError) -> str:
    code = error.code if isinstance(error, ServerError) else ""
    if code in ("NOAUTH", "WRONGPASS"):
        return "see the user in `url`, and the secret that is named under `password`"
    if code == "NOPERM":
        return "give the user the rights that the page on Redis lists"
    return "see that it runs and can be reached from here, or through the host in `via`"


def identity(connection: Connection) -> Identity:
    return _identity(connection.call(*_ASK))


def _identity(said: Reply) -> Identity:
    if not isinstance(said, bytes):
        raise BrokenError("what answers does not say who it is")
    pairs = (line.partition(":") for line in said.decode(errors="replace").splitlines())
    found = {name: value.strip() for name, colon, value in pairs if colon}
    return Identity(
        version=found.get("redis_version", ""),
        run_id=found.get("run_id", ""),
        lineage=found.get("master_replid", ""),
        role={"slave": "replica"}.get(found.get("role", ""), found.get("role", "")),
        mode=found.get("redis_mode", ""),
        loading=found.get("loading") == "1" or found.get("async_loading") == "1",
        clustered=found.get("cluster_enabled") == "1",
        evicted=int(found.get("evicted_keys", "0")),
        policy=found.get("maxmemory_policy", ""),
    )


def _assert(found: Identity, access: Access) -> None:
    """Refuse what is no Redis, is not ready, or is not the one that is meant."""
    server, wrong, hint = access.server, "", ""
    version = tuple(int(part) for part in found.version.split(".")[:2] if part.isdigit())
    if found.mode == "sentinel":
        wrong, hint = "a sentinel answers", "name the server itself in `url`"
    elif version < OLDEST:
        wrong = f"the server is Redis {found.version or '(not told)'}"
        hint = f"opskit needs {'.'.join(map(str, OLDEST))} or newer"
    elif found.loading:
        wrong, hint = "it is still loading its data", "wait until INFO says loading:0"
    elif server.run_id not in (None, found.run_id):
        wrong = f"another server answers: its run_id is {found.run_id}"
        hint = f"the inventory says {server.run_id}; it was started anew, or `url` leads elsewhere"
    elif found.role != server.role:
        wrong = f"a {found.role} answers, and the {server.role} is meant"
        hint = "see where `url` leads: the roles may have changed"
    if wrong:
        raise UnreachableError(wrong, where=access.where, hint=hint)
