"""The primaries of a cluster as if they were one server: each command goes to whoever has its key.

A script of opskit's own takes keys of many slots: they are handed over as arguments, and the server
itself refuses each that is not there (or on its way to another primary). What is declared as keys,
the mark and the key of the run, bears a tag of that primary, so that it lies where the keys do.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from opskit.drivers.redis.connection import (
    BrokenError,
    Connection,
    Refusal,
    Reply,
    ServerError,
    TooLongError,
    Watch,
    encoded,
)
from opskit.drivers.redis.session import (
    Access,
    Commands,
    Identity,
    Session,
    beside,
    close,
    identity,
    opened,
)
from opskit.drivers.redis.slots import SLOTS, Layout, Primary, slot_of
from opskit.errors import UnreachableError

RESHARDED = "RESHARDED"
_MOVED = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"})
_WAIT = "see that the cluster is whole and no slot is on its way (CLUSTER NODES); then try again"


class Spread(Connection):
    """The connections to all primaries, used as one."""

    def __init__(self, layout: Layout, connections: Sequence[Connection]) -> None:
        self.layout = layout
        self.connections = connections

    def call(self, *words: bytes | str) -> Reply:
        match encoded(words[0]).upper(), len(words):
            case b"DBSIZE", _:
                return sum(_number(one.call("DBSIZE")) for one in self.connections)
            case b"EXISTS", count if count > 2:
                return sum(_number(self.call("EXISTS", name)) for name in words[1:])
            case b"TIME", _:
                return self.connections[0].call(*words)
            case b"EVAL", _:
                return self._to(words[3], words)
            case _:
                return self._to(words[1], words)

    def ask(self, data: bytes) -> Reply:
        raise TypeError("what is written out already has no key to go by")

    def calls(self, commands: Sequence[tuple[bytes | str, ...]]) -> list[Reply]:
        """Send each to whoever has its key; the answers come in the order of the commands."""
        places = [self.layout.of(encoded(words[1])) for words in commands]
        found: list[Reply] = [None] * len(commands)
        for number, one in enumerate(self.connections):
            mine = [at for at, place in enumerate(places) if place == number]
            if mine:
                said = one.calls([commands[at] for at in mine])
                for at, answer in zip(mine, said, strict=True):
                    found[at] = _moved(answer) if isinstance(answer, Refusal) else answer
        return found

    def of_each(self, names: Sequence[bytes], *commands: str) -> Callable[[], list[Reply]]:
        return lambda: self.calls([(one, name) for name in names for one in commands])

    def close(self) -> None:
        for one in self.connections:
            one.close()

    def _to(self, key: bytes | str, words: Sequence[bytes | str]) -> Reply:
        try:
            return self.connections[self.layout.of(encoded(key))].call(*words)
        except ServerError as error:
            found = _moved(Refusal(error.what))
            raise ServerError(found.what, code=found.code) from None


class Wide(Session):
    """A session with all primaries of a cluster."""

    connection: Spread

    def __init__(self, connection: Spread, found: Identity, access: Access) -> None:
        super().__init__(connection, found, 0)
        self.layout = connection.layout
        self.tags = connection.layout.tags
        self.lines = connection.connections
        self._access = access

    def again(self) -> Identity:
        """Ask once more who answers; another layout is another identity."""
        return _known(self._access, self.connection)


def reached(
    access: Access, watch: Watch = lambda: None, *, reads: bool = False, anybody: bool = False,
    besides: Commands = (),
) -> Session:  # fmt: skip
    """Open a session as `opened` does; where a cluster answers, with all of its primaries."""
    session = opened(access, watch, reads=reads, anybody=anybody, besides=besides)
    if not session.identity.clustered:
        return session
    try:
        return _widened(access, session, watch, reads=reads)
    except (BrokenError, ServerError, TooLongError) as error:
        raise UnreachableError(
            f"the cluster can't be reached as a whole: {error.what}", where=access.where, hint=_WAIT
        ) from None
    finally:
        session.close()


def _widened(access: Access, session: Session, watch: Watch, *, reads: bool) -> Wide:
    host = session.connection.host
    layout = _layout(_nodes(session.connection, host))
    connections: list[Connection] = []
    try:
        for one in layout.primaries:
            connections.append(_beside(access, one, watch, reads=reads))
        spread = Spread(layout, connections)
        return Wide(spread, _known(access, spread), access)
    except BaseException:
        close(*connections)
        raise


def _beside(access: Access, one: Primary, watch: Watch, *, reads: bool) -> Connection:
    try:
        return beside(access, (one.host, one.port), watch, reads=reads)
    except (BrokenError, ServerError, TooLongError) as error:
        raise BrokenError(f"its primary {one.host}:{one.port}: {error.what}") from None


def _known(access: Access, spread: Spread) -> Identity:
    """Ask all who they are, and say it as one; refuse where they do not agree on who has what."""
    now: list[Primary] = []
    who: list[Identity] = []
    for one in spread.connections:  # what is no primary with slots any more says nothing of itself
        now += [node for myself, node in _nodes(one, one.host) if myself]
        who.append(identity(one))
    if wrong := [one.role for one in who if one.role != "master" or one.loading]:
        gone = f"one of its primaries is none any more ({wrong[0]}): another one has taken over"
        raise ServerError(gone, code=RESHARDED)
    told = [(one.id, one.slots) for one in now]
    if told != [(one.id, one.slots) for one in spread.layout.primaries]:
        raise ServerError(
            "slots have moved, or its servers do not agree on who has them", code=RESHARDED
        )
    if moving := [one.port for one in now if one.moving]:
        raise ServerError(f"slots are on their way to or from port {moving[0]}", code=RESHARDED)
    return replace(
        who[0],
        run_id=_digest(f"{one} {him.run_id}" for one, him in zip(told, who, strict=True)),
        lineage=_digest(one.lineage for one in who),
        evicted=sum(one.evicted for one in who),
        policy=", ".join(sorted({one.policy for one in who})),
    )


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha1("\n".join(texts).encode(), usedforsecurity=False).hexdigest()


def _nodes(connection: Connection, host: str) -> list[tuple[bool, Primary]]:
    """Return the primaries that have slots, each with whether it is who was asked."""
    said = connection.call("CLUSTER", "NODES")
    if not isinstance(said, bytes):
        raise BrokenError("what answers does not say who else is in its cluster")
    return list(_read(said.decode(errors="replace"), host))


def _read(said: str, host: str) -> Iterator[tuple[bool, Primary]]:
    for line in said.splitlines():
        name, address, flags, _, _, _, _, _, *slots = line.split(" ")
        if "master" not in flags.split(",") or not slots:
            continue
        where, _, port = address.partition("@")[0].rpartition(":")
        yield "myself" in flags, Primary(
            id=name, host=where.strip("[]") or host, port=int(port),
            slots=tuple(_range(one) for one in slots if not one.startswith("[")),
            moving=any(one.startswith("[") for one in slots),
        )  # fmt: skip


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _layout(nodes: Iterable[tuple[bool, Primary]]) -> Layout:
    primaries = tuple(sorted((one for _, one in nodes), key=lambda one: one.id))
    table = [-1] * SLOTS
    for number, one in enumerate(primaries):
        for first, last in one.slots:
            table[first : last + 1] = [number] * (last + 1 - first)
    if -1 in table:
        raise ServerError(f"nobody has slot {table.index(-1)}", code=RESHARDED)
    return Layout(primaries=primaries, table=tuple(table), tags=tuple(_tags(table, len(primaries))))


def _tags(table: Sequence[int], count: int) -> Iterator[str]:
    """Yield for each primary the first number whose slot is there."""
    first: dict[int, str] = {}
    number = 0
    while len(first) < count:
        first.setdefault(table[slot_of(b"%d" % number)], str(number))
        number += 1
    for one in range(count):
        yield first[one]


def _moved(said: Refusal) -> Refusal:
    """Say it otherwise where it was refused because slots were moved."""
    if said.code not in _MOVED:
        return said
    found = Refusal(moved(said.what))
    found.code = RESHARDED  # a word of opskit's own, which nobody is told
    return found


def moved(why: str) -> str:
    """Say of what was refused, by a server or in a script, where slots were moved meanwhile."""
    if "non local key" in why or why.split(" ", 1)[0] in _MOVED:
        return f"the cluster has moved slots meanwhile ({why}): look again once it is whole"
    return why


def _number(said: Reply) -> int:
    if not isinstance(said, int):
        raise BrokenError("a server answers with something else than a number")
    return said
