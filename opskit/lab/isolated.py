"""Hosts that have files and processes of their own, by namespaces.

One keeper process holds a mount namespace with every host's disk (a tmpfs, and overlays of the
machine's /usr, /etc, /var over it), so a host can be rebooted and finds its files again, and
nothing is left when the keeper ends. A host is a tree of processes in further namespaces below.
"""

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import processes, programs, release, texts
from opskit.lab.layout import Host, Layout, Mode, Role
from opskit.lab.processes import Process

SCRIPTS = ("start.sh", "keeper.sh", "disk.sh", "boot.sh", "init.sh")
CUT_FLAG = "/run/lab.cut"
NEEDED = ("sshd", "ssh-keygen", "unshare", "nsenter", "mount", "setsid", "hostname")


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


def make_disk(layout: Layout, host: Host) -> None:
    """Mount a host's disk in the keeper's namespace."""
    words = [
        *enter_keeper(layout),
        "/bin/sh",
        layout.folder / "bin" / "disk.sh",
        layout.folder / "disk" / host.name,
        layout.disk_size,
        ",userxattr" if layout.mode is Mode.USER_NAMESPACES else "",
    ]
    made = programs.run(words)
    if made.returncode:
        raise OpskitError(f"no disk for {host.name}: {made.stderr.strip()}", where=host.name)


def enter_keeper(layout: Layout) -> list[str]:
    """The words that run a command among the lab's mounts."""
    keeper = processes.recorded(layout.record("keeper"))
    if keeper is None or not keeper.alive():
        raise OpskitError(
            "this lab is not running",
            where=str(layout.folder),
            hint="start one with: opskit lab up",
        )
    words = [programs.program("nsenter"), f"--target={keeper.pid}", "--mount"]
    if layout.mode is Mode.USER_NAMESPACES:
        words += ["--user", "--preserve-credentials"]
    return [*words, "--"]


def disk(layout: Layout, host: Host) -> Path:
    """A host's disk as this process can reach it: root/ and upper/ hold what is the host's own."""
    keeper = processes.recorded(layout.record("keeper"))
    top = f"/proc/{keeper.pid}/root" if keeper else ""
    return Path(f"{top}{layout.folder}") / "disk" / host.name


def fill_disk(layout: Layout, host: Host, key: tuple[bytes, bytes]) -> None:
    """Write what makes the disk this host: accounts, keys, configuration, service."""
    root = disk(layout, host) / "root"
    client = (layout.folder / f"{layout.key.name}.pub").read_bytes()
    files = [
        texts.File(path="/etc/hostname", content=f"{host.name}\n".encode()),
        texts.File(path="/etc/hosts", content=texts.hosts_file(layout).encode()),
        texts.File(path="/etc/ssh/ssh_host_ed25519_key", content=key[0], mode=0o600),
        texts.File(path="/etc/ssh/ssh_host_ed25519_key.pub", content=key[1]),
        texts.File(
            path="/etc/ssh/sshd_config",
            content=texts.sshd_config(layout, host, keys=".ssh/authorized_keys").encode(),
        ),
        texts.File(path="/usr/local/sbin/lab-init", content=release.data("init.sh"), mode=0o755),
        *_home(layout, client),
        *(_web(layout, host) if host.role is Role.WEB else _balancer(layout, host)),
    ]
    if layout.mode is Mode.NAMESPACES:
        files += texts.accounts(layout, _machine_accounts())
    _forget_machine(root)
    write(root, files, layout)
    if host.role is Role.WEB:
        _go_live(root, layout)


def _machine_accounts() -> dict[str, str]:
    return {
        name: Path("/etc", name).read_text(encoding="utf-8", errors="surrogateescape")
        for name in ("passwd", "group", "shadow")
    }


def _home(layout: Layout, client: bytes) -> list[texts.File]:
    ssh = f"{layout.home}/.ssh"
    return [
        texts.File(path=f"{ssh}/authorized_keys", content=client, mode=0o600, owned_by_user=True)
    ]


def _web(layout: Layout, host: Host) -> list[texts.File]:
    conf = texts.labctl_conf(layout, host, cut_flag=CUT_FLAG)
    live = f"{texts.SERVICE_ROOT}/releases/{layout.release}"
    return [
        texts.File(path="/usr/local/bin/labctl", content=texts.labctl(layout), mode=0o755),
        texts.File(path="/etc/labctl/app.conf", content=conf.encode()),
        texts.File(
            path=f"{texts.SERVICE_ROOT}/shared/switches.json", content=b"{}\n", owned_by_user=True
        ),
        *(
            texts.File(path=f"{live}/{name}", content=content, owned_by_user=True)
            for name, content in release.files(layout.release).items()
        ),
    ]


def _balancer(layout: Layout, host: Host) -> list[texts.File]:
    return [
        texts.File(path="/etc/nginx/nginx.conf", content=texts.nginx_conf(host).encode()),
        texts.File(path="/etc/nginx/opskit/web.conf", content=texts.pool(layout).encode()),
    ]


def _forget_machine(root: Path) -> None:
    """The machine's own logs and host keys are not this host's."""
    for pattern in ("var/log/nginx/*.log*", "etc/ssh/ssh_host_*", "etc/ssh/sshd_config.d/*"):
        for path in root.glob(pattern):
            path.unlink()


def write(root: Path, files: Iterable[texts.File], layout: Layout) -> None:
    """Write files below a host's /; what belongs to the user does so with its new folders."""
    for file in files:
        path = root / file.path.lstrip("/")
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        if file.owned_by_user and os.geteuid() == 0:
            for owned in (path, *missing):
                os.chown(owned, layout.uid, layout.gid)


def _go_live(root: Path, layout: Layout) -> None:
    """Point `current` to the first release."""
    link = root / texts.SERVICE_ROOT.lstrip("/") / "current"
    link.symlink_to(f"releases/{layout.release}")
    if os.geteuid() == 0:
        os.chown(link, layout.uid, layout.gid, follow_symlinks=False)


def boot(layout: Layout, host: Host) -> None:
    """Start a host's process tree; returns before its services answer."""
    unshare = [programs.program("unshare"), "--mount", "--pid", "--uts", "--ipc", "--fork"]
    unshare += ["--kill-child=KILL", "--propagation", "private"]
    script = layout.folder / "bin" / "boot.sh"
    root = layout.folder / "disk" / host.name / "root"
    processes.start(
        [*enter_keeper(layout), *unshare, "/bin/sh", str(script), str(root), host.name],
        record=layout.record(host.name),
        log=layout.log(host.name),
        folder=layout.folder,
    )


def first_process(layout: Layout, host: Host) -> Process | None:
    """The host's pid 1, as this machine numbers it, or None while the host is down."""
    outer = processes.recorded(layout.record(host.name))
    if outer is None or not outer.alive():
        return None
    for child in processes.children_of(outer.pid):
        return processes.identify(child)
    return None


def enter(layout: Layout, host: Host, user: str | None) -> list[str]:
    """The words that run a command in a host's namespaces, as root or as one of its users."""
    first = first_process(layout, host)
    if first is None:
        raise OpskitError(f"{host.name} is down", hint=f"start it: opskit lab reboot {host.name}")
    words = [programs.program("nsenter"), f"--target={first.pid}"]
    words += ["--mount", "--pid", "--uts", "--ipc"]
    if layout.mode is Mode.USER_NAMESPACES:
        return [*words, "--user", "--preserve-credentials", "--"]
    words.append("--")
    if user is not None:
        who = [f"--reuid={user}", f"--regid={user}", "--init-groups"]
        words += [programs.program("setpriv"), *who]
    return words


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


def login(mode: Mode) -> tuple[str, int, int, str]:
    """Who logs in: name, uid, gid, home."""
    if mode is Mode.NAMESPACES:
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        uid = next(number for number in range(2001, 60000) if number not in taken)
        return "ops", uid, uid, "/home/ops"
    me = pwd.getpwuid(os.geteuid())
    return me.pw_name, me.pw_uid, me.pw_gid, me.pw_dir


def clear(layout: Layout) -> None:
    """Remove the empty mount points."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(layout.folder / "disk")
