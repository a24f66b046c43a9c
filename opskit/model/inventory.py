"""Hosts, how they are reached, and what is known about the systems on them."""

from collections.abc import Mapping
from dataclasses import field

from opskit.model.frozen import frozen
from opskit.model.value import Json, SecretSource

CONTROLLER = "controller"
"""The name of the machine that opskit itself runs on, where an action needs a target."""


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
class Inventory:
    """The hosts of one environment. `source` is the file's text, kept in the record of each run."""

    file: str
    source: str
    digest: str
    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    services: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    balancers: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    vars: Mapping[str, Json] = field(default_factory=dict)
