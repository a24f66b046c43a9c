"""Hosts that have files and processes of their own, by namespaces.

One keeper process holds a mount namespace with every host's disk (a tmpfs, and overlays of the
machine's /usr, /etc, /var over it), so a host can be rebooted and finds its files again, and
nothing is left when the keeper ends. A host is a tree of processes in further namespaces below.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import inventory, processes, programs, release, texts
from opskit.lab.layout import Host, Layout, Mode, Role
from opskit.lab.processes import Process

NEEDED: tuple[str, ...] = (
    *("sshd", "ssh-keygen", "setsid", "unshare", "nsenter", "setpriv"),
    *("mount", "umount", "pivot_root", "hostname"),
)


def start_keeper(layout: Layout, holder: int) -> None:
    """Start the process that holds the lab's mounts and, by `holder`, its addresses."""
    unshare = [programs.program("unshare"), "--mount", "--propagation", "private"]
    if layout.mode is Mode.USER_NAMESPACES:
        unshare += ["--user", "--map-root-user"]
    processes.start(
        [*unshare, "/bin/sh", layout.folder / "bin" / "keeper.sh", layout.folder],
        record=layout.record("keeper"),
        log=layout.log("keeper"),
        folder=layout.folder,
        pass_fds=[holder],
    )
    ready = layout.folder / "run" / "keeper.ready"
    processes.wait_until(ready.exists, 10, "the lab's keeper")


def prepare(layout: Layout, host: Host, key: tuple[bytes, bytes]) -> None:
    """Give a host its disk, with its files on it."""
    _disk(layout, host, "make")
    top = disk(layout, host)
    texts.write(lambda path: _place(top, path), _files(layout, host, key), owner(layout))
    (_place(top, "/var/log/nginx")).mkdir(parents=True, exist_ok=True)
    if host.role is Role.WEB:
        _go_live(top / "root", layout)
    _take_modes(top / "upper")
    _disk(layout, host, "cover")


def _disk(layout: Layout, host: Host, action: str) -> None:
    words = [
        *_enter_keeper(layout),
        *("/bin/sh", str(layout.folder / "bin" / "disk.sh"), action),
        *(str(layout.folder / "disk" / host.name), layout.disk_size),
        overlay_options(layout.mode),
    ]
    made = programs.run(words)
    if made.returncode:
        raise OpskitError(f"no disk for {host.name}: {made.stderr.strip()}", where=host.name)


def overlay_options(mode: Mode) -> str:
    """An ordinary user's overlay keeps its notes in attributes that he may write."""
    return ",userxattr" if mode is Mode.USER_NAMESPACES else ""


def _enter_keeper(layout: Layout) -> list[str]:
    """The words that run a command among the lab's mounts."""
    words = [programs.program("nsenter"), f"--target={_keeper(layout).pid}", "--mount"]
    if layout.mode is Mode.USER_NAMESPACES:
        words += ["--user", "--preserve-credentials"]
    return [*words, "--"]


def _keeper(layout: Layout) -> Process:
    keeper = processes.recorded(layout.record("keeper"))
    if keeper is None or not keeper.alive():
        raise OpskitError(
            "this lab is not running",
            where=str(layout.folder),
            hint="start it anew with: opskit lab up",
        )
    return keeper


def disk(layout: Layout, host: Host) -> Path:
    """A host's disk as this process can reach it: root/ and upper/ hold what is the host's own."""
    return Path(f"/proc/{_keeper(layout).pid}/root{layout.folder}") / "disk" / host.name


def _place(top: Path, path: str) -> Path:
    """Where a host's path lies on its disk before the machine's folders are laid under it."""
    first = Path(path).parts[1]
    below = "upper" if (top / "upper" / first).is_dir() else "root"
    return top / below / path.lstrip("/")


def _take_modes(upper: Path) -> None:
    """Folders that a host and the machine both have keep the machine's permissions."""
    for folder in (path for path in upper.rglob("*") if path.is_dir()):
        twin = Path("/") / folder.relative_to(upper)
        if twin.is_dir():
            folder.chmod(twin.stat().st_mode & 0o7777)


def _files(layout: Layout, host: Host, key: tuple[bytes, bytes]) -> tuple[texts.File, ...]:
    """What makes a disk this host: accounts, keys, configuration, service."""
    client = (layout.folder / f"{layout.key.name}.pub").read_bytes()
    sshd = texts.sshd_config(layout, host, keys=".ssh/authorized_keys")
    authorized = f"{layout.home}/.ssh/authorized_keys"
    by_root = layout.mode is Mode.NAMESPACES
    return (
        texts.File(path="/etc/hostname", content=f"{host.name}\n".encode()),
        texts.File(path="/etc/hosts", content=texts.hosts_file(layout).encode()),
        texts.File(path="/etc/ssh/ssh_host_ed25519_key", content=key[0], mode=0o600),
        texts.File(path="/etc/ssh/ssh_host_ed25519_key.pub", content=key[1]),
        texts.File(path="/etc/ssh/sshd_config", content=sshd.encode()),
        texts.File(path=authorized, content=client, mode=0o600, owned_by_user=True),
        texts.File(path="/usr/local/sbin/lab-init", content=release.data("init.sh"), mode=0o755),
        *(_service(layout, host)),
        *(texts.accounts(layout, _machine_accounts()) if by_root else ()),
    )


def _service(layout: Layout, host: Host) -> tuple[texts.File, ...]:
    if host.role is Role.WEB:
        return texts.web(layout, host)
    if layout.mode is Mode.NAMESPACES:
        return texts.balancer(layout, host, account=_account())
    return texts.balancer(layout, host, account="", temporary=texts.temporary("/tmp/nginx"))


def _account() -> str:
    """Debian's packages run the workers as www-data by a line in the configuration only."""
    try:
        pwd.getpwnam("www-data")
    except KeyError:
        return ""
    return "user www-data;\n"


def _machine_accounts() -> dict[str, str]:
    return {
        name: Path("/etc", name).read_text(encoding="utf-8", errors="surrogateescape")
        for name in ("passwd", "group", "shadow")
    }


def _go_live(root: Path, layout: Layout) -> None:
    """Point `current` to the first release."""
    link = root / texts.SERVICE_ROOT.lstrip("/") / "current"
    link.symlink_to(f"releases/{layout.release}")
    if who := owner(layout):
        os.chown(link, *who, follow_symlinks=False)


def owner(layout: Layout) -> tuple[int, int] | None:
    """Whom the service's files belong to, where that is not the lab's own user."""
    return (layout.uid, layout.gid) if layout.mode is Mode.NAMESPACES else None


def boot(layout: Layout, host: Host) -> None:
    """Start a host's process tree; returns before its services answer."""
    unshare = [programs.program("unshare"), "--mount", "--pid", "--uts", "--ipc", "--fork"]
    unshare += ["--kill-child=KILL", "--propagation", "private"]
    script = layout.folder / "bin" / "boot.sh"
    root = layout.folder / "disk" / host.name / "root"
    words = [*_enter_keeper(layout), *unshare, "/bin/sh", str(script), str(root), host.name]
    processes.start(
        [*words, *as_user(layout)],
        record=layout.record(host.name),
        log=layout.log(host.name),
        folder=layout.folder,
    )


def as_user(layout: Layout) -> list[str]:
    """The words that turn a user namespace's root back into the user; sshd needs to be one."""
    if layout.mode is Mode.NAMESPACES:
        return []
    ids = [f"--map-user={layout.uid}", f"--map-group={layout.gid}"]
    return [programs.program("unshare"), "--user", *ids]


def first_process(layout: Layout, host: Host) -> Process | None:
    """The host's pid 1, as this machine numbers it, or None while the host is down."""
    outer = processes.recorded(layout.record(host.name))
    if outer is None or not outer.alive():
        return None
    for child in processes.children_of(outer.pid):
        return processes.identify(child)
    return None


def _running(layout: Layout, host: Host) -> Process:
    first = first_process(layout, host)
    if first is None:
        raise OpskitError(f"{host.name} is down", hint=f"start it: opskit lab reboot {host.name}")
    return first


def enter(layout: Layout, host: Host, user: str | None) -> list[str]:
    """The words that run a command in a host's namespaces, as root or as one of its users."""
    pid = _running(layout, host).pid
    words = [programs.program("nsenter"), f"--target={pid}"]
    words += ["--mount", "--pid", "--uts", "--ipc"]
    if layout.mode is Mode.USER_NAMESPACES:
        words += [f"--user=/proc/{_keeper(layout).pid}/ns/user", "--preserve-credentials"]
        return [*words, "--", *(as_user(layout) if user == layout.user else ())]
    if user is None:
        return [*words, "--"]
    return [
        *(*words, "--", programs.program("setpriv")),
        *(f"--reuid={user}", f"--regid={user}", "--init-groups"),
    ]


def halt(layout: Layout, host: Host) -> None:
    """Cut the power: every process of the host is gone when this returns."""
    first = first_process(layout, host)
    outer = processes.recorded(layout.record(host.name))
    left = processes.end([process for process in (first, outer) if process])
    if left:
        raise OpskitError(f"{host.name}: pid {left[0].pid} does not end, not even by SIGKILL")


def members(layout: Layout, host: Host) -> tuple[int, ...]:
    """The pids of all processes of a host, oldest first."""
    first = first_process(layout, host)
    return processes.in_pid_namespace_of(first.pid) if first else ()


def root(layout: Layout, host: Host) -> Path:
    """Where this machine sees the host's /; raises OpskitError when it is down."""
    return Path(f"/proc/{_running(layout, host).pid}/root")


def files(layout: Layout, host: Host) -> Path:
    """The host's disk among the keeper's mounts; /run, /proc and /dev are not on it."""
    return disk(layout, host) / "root"


def overrides(layout: Layout, host: Host) -> Mapping[str, object]:
    """With a file system of its own, only what a balancer must say about itself."""
    keys: dict[str, object] = {}
    where: dict[str, object] = {}
    edge: dict[str, object] = {}
    if host in layout.of(Role.LB)[1:]:
        keys["listen"] = inventory.listen(host)
        where["listen"] = inventory.listen_colours(host)
        edge["listen"] = inventory.listen_haproxy(host)
    if host.role is Role.LB and layout.mode is Mode.USER_NAMESPACES:
        nginx = programs.program("nginx")
        keys |= {"test": f"{nginx} -t", "reload": f"{nginx} -s reload", "sudo": None}
        edge |= {"test": f"{programs.find('haproxy')} -c -f {texts.HAPROXY_CONF}", "sudo": None}
    if not keys:
        return {}
    colours = {"app": keys | where} if layout.colours else {}
    colours |= {"edge": edge} if layout.haproxy else {}
    return {"balancers": {"web": keys, **colours}}


def written(layout: Layout, host: Host) -> tuple[tuple[str, Path], ...]:
    """What is the host's own: on its disk, beside and over the machine's files, and in memory."""
    top, live = disk(layout, host), root(layout, host)
    memory = ((name, live / name.lstrip("/")) for name in ("/run", "/dev/shm"))
    return (("", top / "root"), ("", top / "upper"), *memory)
