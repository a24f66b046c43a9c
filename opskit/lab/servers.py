"""The lab's PostgreSQL and Redis together, from what was asked for to the last file."""

import json
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opskit.errors import InputError
from opskit.lab import (
    address,
    fixtures,
    limits,
    place,
    postgres,
    processes,
    programs,
    redis,
    release,
)
from opskit.lab.fixtures import Amount
from opskit.lab.layout import Layout, Server
from opskit.model.frozen import frozen


@frozen
class Wish:
    """Which servers a lab shall have (`embedded`, `system`, `auto`, or none), and what data."""

    postgres: str | None = None
    redis: str | None = None
    data: tuple[str, ...] = ()
    amount: Amount = Amount()


def find(wish: Wish) -> tuple[Server, ...]:
    """The servers that were asked for, all but their addresses; data need one to hold them.

    Raises InputError for what can't be had here.
    """
    fixtures.check(wish.data, wish.amount)
    if wish.amount != Amount() and not wish.data:
        raise InputError(
            "how much data there shall be is said, but not which",
            hint=f"add --data SET, one or more of {', '.join(fixtures.SETS)}",
        )
    found = []
    tables, keyed = _tables(wish), set(wish.data) & set(fixtures.KEYED)
    if wish.postgres or tables:
        source, folder = postgres.find(wish.postgres or "auto")
        databases = tables or postgres.EMPTY
        found.append(_server(postgres.NAME, source, folder, databases))
    if wish.redis or keyed:
        found.append(_server(redis.NAME, *redis.find(wish.redis or "auto"), sorted(keyed)))
    if found and place.words():
        programs.need(["setpriv"])
    return tuple(found)


def _tables(wish: Wish) -> tuple[str, ...]:
    return tuple(name for name in wish.data if name not in fixtures.KEYED)


def _server(name: str, source: str, folder: Path, databases: Sequence[str] = ()) -> Server:
    port = address.SERVERS[name][1]
    where = str(folder)
    return Server(
        name=name, source=source, programs=where, address="", port=port, databases=tuple(databases)
    )


def lay_out(layout: Layout) -> None:
    """The folders of the servers that the layout has, and a password for each user of theirs."""
    if not layout.servers:
        return
    place.make(layout.folder)
    for name in ("secrets", "planted"):
        (layout.folder / name).mkdir(mode=0o700)
    for server in layout.servers:
        for user in _users(server):
            file = layout.secret(f"{server.name}_{user}")
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(18) + "\n", encoding="ascii")


def start(layout: Layout, wish: Wish) -> None:
    """Start what the layout has, side by side; returns when all have their data, too."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda server: _start(layout, server, wish), layout.servers))


def _start(layout: Layout, server: Server, wish: Wish) -> None:
    if server.name == redis.NAME:
        redis.start(layout, server)
        if limits.NAME in wish.data:
            where, user = (server.address, server.port), "admin"
            manifest = limits.fill(where, user, redis.password(layout, user), wish.amount)
            _write(layout, limits.NAME, manifest)
        return
    postgres.start(layout, server)

    def fill(database: str) -> None:
        manifest = postgres.fill(layout, server, database, wish.amount)
        _write(layout, database, manifest)
        if database in fixtures.EXPECTED:
            expected = release.data(f"expect/{database}.yaml")
            _manifest(layout, database).with_suffix(".yaml").write_bytes(expected)
        if database in fixtures.LEDGERS:
            ledger = release.data(f"ledger/{database}.yaml")
            _manifest(layout, database).with_suffix(".ledger.yaml").write_bytes(ledger)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, _tables(wish)))


def _write(layout: Layout, name: str, manifest: Mapping[str, object]) -> None:
    text = json.dumps(manifest, indent=1) + "\n"
    _manifest(layout, name).write_text(text, encoding="utf-8")


def _users(server: Server) -> tuple[str, ...]:
    if server.name == redis.NAME:
        return redis.USERS
    return (postgres.SUPERUSER, *postgres.ROLES)


def _manifest(layout: Layout, database: str) -> Path:
    return layout.folder / "planted" / f"{database}.json"


def stop(folder: Path) -> None:
    """End what needs time to end well; the rest ends with the lab's other processes."""
    postgres.stop(folder / "run" / f"{postgres.NAME}.pid")


def remove(folder: Path) -> None:
    """Remove all that the servers have left, once their processes are gone."""
    postgres.clean(folder)
    place.remove(folder)


def status(layout: Layout, server: Server) -> Mapping[str, object]:
    """Where a server is, who may come in by which password, and what it holds."""
    process = processes.recorded(layout.record(server.name))
    found: dict[str, object] = {
        "name": server.name,
        "source": server.source,
        "address": server.address,
        "port": server.port,
        "pid": process.pid if process and process.alive() else None,
        "users": [
            {"name": user, "password_file": str(layout.secret(f"{server.name}_{user}"))}
            for user in _users(server)
        ],
    }
    if server.name == postgres.NAME:
        found["databases"] = [_database(layout, server, name) for name in server.databases]
    else:
        found["url"] = redis.url(server, "app")
        manifest = _manifest(layout, limits.NAME)
        found["manifest"] = str(manifest) if manifest.exists() else None
    return found


def _database(layout: Layout, server: Server, name: str) -> Mapping[str, object]:
    manifest = _manifest(layout, name)
    where = postgres.url(server, "owner", name)
    return {"name": name, "url": where, "manifest": str(manifest) if manifest.exists() else None}


def describe(layout: Layout) -> list[str]:
    """The same for a person: a line a server."""
    lines = []
    for server in layout.servers:
        process = processes.recorded(layout.record(server.name))
        state = "up" if process and process.alive() else "down"
        text = f"  {server.name:8} {state:8} {server.address}:{server.port}"
        lines.append(f"{text}   {', '.join(server.databases)}".rstrip())
    if lines:
        lines.append(f"passwords: {layout.folder / 'secrets'}")
    return lines
