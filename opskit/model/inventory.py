"""Hosts, how they are reached, and what is known about the systems on them."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.channel import Channel
from opskit.model.frozen import frozen
from opskit.model.value import Json, SecretSource
from opskit.model.windows import Freeze, Window

CONTROLLER = "controller"
"""The name of the machine that opskit itself runs on, where an action needs a target."""
DATABASE = "db:"
"""What the name of a database has before it where it is a target."""
REDIS = "redis:"
"""The same before the name of a Redis server."""
MARKERS = "opskit_db"
"""The schema in which changes leave their marks, unless the inventory says otherwise."""


@frozen
class Connection:
    """How a host is reached. Paths absolute or from `~`; times in seconds; sizes in bytes."""

    user: str | None = None
    port: int | None = None
    key: str | None = None
    known_hosts: str | None = None
    ssh_config: str | None = None
    jump: str | None = None
    state_dir: str = "~/.opskit"
    read_user: str | None = None
    max_output: int = 256 * 1024 * 1024
    connect_timeout: float = 15.0


@frozen
class Host:
    """One host with everything that the inventory says about it, groups merged in."""

    name: str
    address: str
    connection: Connection = field(default_factory=Connection)
    vars: Mapping[str, Json] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    services: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    balancers: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


@frozen
class Database:
    """A PostgreSQL database. `url` has no password in it; `password` names the secret.

    `via`: the host through whose connection it is reached. `standby`: whether it is one, which is
    asserted. `read_role`: what reads are made as. `marker_schema`: where the table is in which
    changes leave their mark.
    """

    name: str
    url: str
    password: str | None = None
    via: str | None = None
    standby: bool = False
    system_identifier: str | None = None
    read_role: str | None = None
    marker_schema: str = MARKERS
    max_output: int = 16 * 1024 * 1024
    connect_timeout: float = 10.0


@frozen
class Redis:
    """A Redis server. `url` has no password in it; `password` names the secret.

    `via`: the host through whose connection it is reached. `role` and, where it is said, `run_id`
    are what it must turn out to be. `ca`: path of the certificates that its own is proved by.
    """

    name: str
    url: str
    password: str | None = None
    via: str | None = None
    role: Literal["master", "replica"] = "master"
    run_id: str | None = None
    ca: str | None = None
    max_output: int = 16 * 1024 * 1024
    connect_timeout: float = 10.0


def database_target(name: str) -> str:
    """Return what a database is called as a target; no host can be called so."""
    return f"{DATABASE}{name}"


def database_of(target: str) -> str | None:
    """Return the name of the database that a target is, None where it is a host."""
    return target.removeprefix(DATABASE) if target.startswith(DATABASE) else None


def redis_target(name: str) -> str:
    """Return what a Redis server is called as a target."""
    return f"{REDIS}{name}"


def redis_of(target: str) -> str | None:
    """Return the name of the Redis server that a target is, None where it is something else."""
    return target.removeprefix(REDIS) if target.startswith(REDIS) else None


@frozen
class Inventory:
    """The hosts of one environment. `source` is the file's text, kept in the record of each run.

    `others`: the texts of more files that it was read from, by path. `withheld`: vars that it has
    and whose value is not known here, each with the reason: no step may use one. `notify`: the
    channels of messages that name none.
    """

    file: str
    source: str
    digest: str
    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    services: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    balancers: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    redis: Mapping[str, Redis] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    notify: tuple[str, ...] = ()
    change_windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    vars: Mapping[str, Json] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    withheld: Mapping[str, str] = field(default_factory=dict)
