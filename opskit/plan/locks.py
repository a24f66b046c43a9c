"""What a run must have alone: the locks of its runbook, each under the names that it may go by.

A lock is a text, and two runs keep apart where the texts are the same. So what a lock is for must
be called the same by both: the only server where none is named, and one that has two names.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from opskit.model.inventory import Database, Host, Inventory, Redis
from opskit.model.runbook import Runbook
from opskit.plan.expand import inner_frame
from opskit.plan.values import Frame
from opskit.render import text

Entry = TypeVar("Entry", Database, Redis)
Place = tuple[str, str, str, str]
"""Through which host, at which address and port, which of its databases."""

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def locks(
    runbook: Runbook, frame: Frame, inventory: Inventory, base: Mapping[str, object]
) -> tuple[str, ...]:
    """Return the locks of a runbook and of all that it includes, each once."""
    found: dict[str, None] = {}
    if runbook.lock:
        found |= dict.fromkeys(_called(runbook.lock, frame, inventory, base))
    for step in [*runbook.steps, *runbook.always]:
        if step.include:
            within = inner_frame(step, step.include, frame)
            found |= dict.fromkeys(locks(step.include, within, inventory, base))
    return tuple(found)


def _called(
    lock: str, frame: Frame, inventory: Inventory, base: Mapping[str, object]
) -> Iterator[str]:
    """Yield a lock as it is called with each name of the database and the server it is for."""
    if "{" not in lock:
        yield text(lock, {}).fixed()
        return
    names = frame.names(base)
    databases = _meant(names, "database", inventory.databases, inventory.hosts, _of_database)
    servers = _meant(names, "server", inventory.redis, inventory.hosts, _of_redis)
    for one, other in product(databases, servers):
        yield text(lock, {**names, **one, **other}).fixed()


def _meant(
    names: Mapping[str, object],
    word: str,
    known: Mapping[str, Entry],
    hosts: Mapping[str, Host],
    places: Callable[[Entry, Mapping[str, Host]], frozenset[Place]],
) -> list[dict[str, object]]:
    """Return what `word` stands for: the entry that it names, or the only one as a step takes it;
    and under which other names the inventory has the same.
    """
    name = names.get(word)
    if name == "" and len(known) == 1:
        name = next(iter(known))
    if not isinstance(name, str) or name not in known:
        return [{}]
    here = places(known[name], hosts)
    same: list[str] = [other for other, one in known.items() if here & places(one, hosts)]
    return [{word: each} for each in dict.fromkeys((name, *same))]


def _of_redis(server: Redis, hosts: Mapping[str, Host]) -> frozenset[Place]:
    parts = urlsplit(server.url)
    through = _reached(str(parts.hostname), server.via, hosts)
    return frozenset({(*through, str(parts.port or 6379), parts.path.strip("/") or "0")})


def _of_database(database: Database, hosts: Mapping[str, Host]) -> frozenset[Place]:
    """Return where a database may be: its URL may name several hosts."""
    parts = urlsplit(database.url)
    options = dict(parse_qsl(parts.query))
    pairs = [_pair(one) for one in parts.netloc.rpartition("@")[2].split(",")]
    named = options.get("hostaddr") or options.get("host")
    addresses = named.split(",") if named else [unquote(host) for host, _ in pairs]
    ports = options["port"].split(",") if options.get("port") else [port for _, port in pairs]
    ports *= len(addresses) if len(ports) == 1 else 1
    which = options.get("dbname") or unquote(parts.path[1:])
    return frozenset(
        (*_reached(host, database.via, hosts), port or "5432", which)
        for host, port in zip(addresses, ports, strict=False)
    )


def _pair(written: str) -> tuple[str, str]:
    """Cut `HOST:PORT`, either of which may be missing; an address of IPv6 stands in brackets."""
    host, bracket, port = written.rpartition("]")
    if not bracket:
        host, _, port = written.partition(":")
    return host.strip("["), port.strip(":")


def _reached(host: str, via: str | None, hosts: Mapping[str, Host]) -> tuple[str, str]:
    """Return through whom, and at which address: what a host calls its own is the host's."""
    host = host if host.startswith("/") else host.lower()
    host = "localhost" if host in _HERE else host
    if via is None:
        return "", host
    own = hosts[via].address
    if host not in ("localhost", own.lower()):
        return via, host
    return (via, "localhost") if own in _HERE else ("", own.lower())
