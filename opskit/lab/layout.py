"""What a lab consists of, as a value that lies in its folder as lab.json from the first moment."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path

from opskit.errors import InputError
from opskit.lab import address
from opskit.model.frozen import frozen

VERSION = 1
STATE_FILE = "lab.json"
TYPED = ("version", "folder", "mode", "hosts", "servers")
QUEUED = "limits"  # the data of a Redis that has queues among it
BROKER = 1  # the index of the database that they are in; all else is in 0
CUT_FLAG = "/run/lab.cut"  # on a host: it is cut off the net


class Mode(StrEnum):
    """How far hosts are kept apart on this machine."""

    NAMESPACES = "namespaces"  # own files, own process tree; started by root
    USER_NAMESPACES = "user-namespaces"  # the same for an ordinary user; log in as that user
    SHARED = "shared"  # one file system and one process tree, a folder each


class Role(StrEnum):
    """What a practice host is for."""

    WEB = "web"
    LB = "lb"


@frozen
class Host:
    """One practice host."""

    name: str
    role: Role
    address: str


@frozen
class Server:
    """PostgreSQL or Redis, beside the hosts; `programs` is the folder that its programs are in.

    `databases`: of PostgreSQL; of a Redis the data that it holds.
    """

    name: str
    source: str  # embedded or system
    programs: str
    address: str
    port: int
    databases: tuple[str, ...] = ()


@frozen
class Layout:
    """A lab: where it lies, which hosts it has, and how they are kept apart."""

    folder: Path
    made_folder: bool
    net: int
    mode: Mode
    why: str  # the reason for anything less than namespaces, for a person
    user: str  # who logs in
    uid: int
    gid: int
    home: str
    python: str
    release: str
    disk_size: str
    hosts: tuple[Host, ...]
    ready: bool = False
    servers: tuple[Server, ...] = ()
    no_haproxy: str = "this lab was made without"  # why; nothing where there is one

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    @property
    def isolated(self) -> bool:
        """Whether hosts have files and processes of their own."""
        return self.mode is not Mode.SHARED

    def host(self, name: str) -> Host:
        """The host of this name; raises InputError that lists the names there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise InputError(f"this lab has no host {name!r}", hint=f"it has {known}")

    def of(self, role: Role) -> tuple[Host, ...]:
        """The hosts of one role, in order."""
        return tuple(host for host in self.hosts if host.role is role)

    @property
    def colours(self) -> Mapping[str, tuple[Host, ...]]:
        """The web hosts by colour: the first half is blue, the rest green; none if there is one."""
        web = self.of(Role.WEB)
        half = len(web) // 2
        return {"blue": web[:half], "green": web[half:]} if half else {}

    @property
    def broker(self) -> Server | None:
        """The Redis that queues are in, if there is one."""
        return next((one for one in self.servers if QUEUED in one.databases), None)

    @property
    def haproxy(self) -> bool:
        """Whether there is an HAProxy beside each nginx, for the two colours."""
        return bool(self.colours and self.of(Role.LB)) and not self.no_haproxy

    def readdressed(self, net: int) -> "Layout":
        """The same hosts and servers in another net."""
        hosts = fleet(len(self.of(Role.WEB)), len(self.of(Role.LB)), net)
        servers = (replace(one, address=address.of_server(net, one.name)) for one in self.servers)
        return replace(self, net=net, hosts=hosts, servers=tuple(servers))

    def secret(self, name: str) -> Path:
        """The file that holds a password."""
        return self.folder / "secrets" / name

    def record(self, name: str) -> Path:
        """Where the pid and start time of a daemon of the lab are written."""
        return self.folder / "run" / f"{name}.pid"

    def flag(self, host: Host, what: str) -> Path:
        """A file that says that a host is frozen or cut."""
        return self.folder / "run" / f"{host.name}.{what}"

    def log(self, name: str) -> Path:
        """What a daemon of the lab wrote to its outputs."""
        return self.folder / "log" / f"{name}.log"

    def save(self) -> None:
        """Write it aside, then rename: a reader sees the old or the new one."""
        value = asdict(self) | {"version": VERSION, "folder": str(self.folder)}
        new = self.folder / f"{STATE_FILE}.new"
        new.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        new.replace(self.folder / STATE_FILE)


def fleet(web: int, lb: int, net: int) -> tuple[Host, ...]:
    """The hosts of a lab, each with the address of its place."""
    names = [(f"web{i + 1}", Role.WEB) for i in range(web)]
    names += [(f"lb{i + 1}", Role.LB) for i in range(lb)]
    return tuple(
        Host(name=name, role=role, address=address.address(net, place))
        for place, (name, role) in enumerate(names)
    )


def load(folder: Path) -> Layout | None:
    """The layout that lies in a folder, or None when no lab was begun there."""
    try:
        value = json.loads((folder / STATE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(
            f"lab.json can't be read: {error}",
            where=str(folder / STATE_FILE),
            hint="end what is left of this lab: opskit lab down",
        ) from None
    return _from_value(value, folder)


def _from_value(value: Mapping[str, object], folder: Path) -> Layout:
    if value.get("version") != VERSION:
        raise InputError(
            f"this lab was made by another version of opskit ({value.get('version')})",
            where=str(folder / STATE_FILE),
            hint="end it with that version, or: opskit lab down",
        )
    rest = {k: v for k, v in value.items() if k not in TYPED}
    hosts, servers = value["hosts"], value.get("servers", [])
    assert isinstance(hosts, list)
    assert isinstance(servers, list)
    return Layout(
        folder=folder,
        mode=Mode(str(value["mode"])),
        hosts=tuple(Host(**host | {"role": Role(host["role"])}) for host in hosts),
        servers=tuple(Server(**one | {"databases": tuple(one["databases"])}) for one in servers),
        **rest,  # type: ignore[arg-type]  # save() wrote these from a Layout
    )


def folder_of(chosen: Path | str | None) -> Path:
    """A lab's folder: the one chosen, or OPSKIT_LAB, or one in the user's state directory.

    Always the same spelling for the same folder, because processes are found by it.
    """
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = chosen or os.environ.get("OPSKIT_LAB") or f"{state}/opskit/lab"
    return Path(folder).expanduser().resolve()
