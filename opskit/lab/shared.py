"""Hosts on a machine that allows no namespaces: a folder each, one file system, one process tree.

Each host still has its own address, SSH server, host key, service and state folder. Commands see
the whole machine, its boot id and its users; the inventory gives every host its own paths.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import inventory, processes, programs, texts
from opskit.lab.layout import Host, Layout, Role
from opskit.lab.processes import Process

NEEDED: tuple[str, ...] = ("sshd", "ssh-keygen", "setsid")
HOST_MARK = "OPSKIT_LAB_HOST"
PRIVILEGE_SEPARATION = Path("/run/sshd")


def root(layout: Layout, host: Host) -> Path:
    """The host's folder, which stands for /."""
    return layout.folder / "hosts" / host.name / "root"


def start_keeper(layout: Layout, holder: int) -> None:
    """Start the process that holds the lab's addresses."""
    if os.geteuid() == 0:  # sshd insists on it; it is empty, and the machine's boot makes it too
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    processes.start(
        [programs.program("sleep"), "infinity"],
        record=layout.record("keeper"),
        log=layout.log("keeper"),
        folder=layout.folder,
        pass_fds=[holder],
    )


def prepare(layout: Layout, host: Host, key: tuple[bytes, bytes]) -> None:
    """Write the host's folder."""
    top = root(layout, host)
    for name in (
        "run",
        "tmp",
        "var/log/nginx",
        "var/log/haproxy",
        "home",
        "srv",
        "etc",
        "usr/local/bin",
    ):
        (top / name).mkdir(parents=True)
    (top / "home").chmod(0o700)
    files = _files(layout, host, str(top), key)
    texts.write(lambda path: top / path.lstrip("/"), files, None)
    if host.role is Role.WEB:
        link = top / texts.SERVICE_ROOT.lstrip("/") / "current"
        link.symlink_to(f"releases/{layout.release}")


def _files(
    layout: Layout, host: Host, top: str, key: tuple[bytes, bytes]
) -> tuple[texts.File, ...]:
    client = (layout.folder / f"{layout.key.name}.pub").read_bytes()
    authorized = "/etc/ssh/authorized_keys"
    sshd = texts.sshd_config(layout, host, top=top, keys=f"{top}{authorized}")
    environment = " ".join(f'"{name}={value}"' for name, value in _session(layout, host).items())
    sshd += f"StrictModes no\nSetEnv {environment}\n"
    temporary = texts.temporary(f"{top}/tmp/nginx")
    mark = {processes.MARK: str(layout.folder), HOST_MARK: host.name}
    return (
        texts.File(path="/etc/ssh/ssh_host_ed25519_key", content=key[0], mode=0o600),
        texts.File(path="/etc/ssh/ssh_host_ed25519_key.pub", content=key[1]),
        texts.File(path="/etc/ssh/sshd_config", content=sshd.encode()),
        texts.File(path=authorized, content=client, mode=0o600),
        *(
            texts.web(layout, host, top=top, environment=mark)
            if host.role is Role.WEB
            else texts.balancer(layout, host, top=top, temporary=temporary, account=_account())
        ),
    )


def _session(layout: Layout, host: Host) -> Mapping[str, str]:
    """What a login finds in its environment: a home of the host's, and the host's programs."""
    top = root(layout, host)
    return {
        "HOME": str(top / "home"),
        "PATH": f"{top}/usr/local/bin:{programs.PATH}",
        processes.MARK: str(layout.folder),
        HOST_MARK: host.name,
    }


def _account() -> str:
    return "user root;\n" if os.geteuid() == 0 else ""


def boot(layout: Layout, host: Host) -> None:
    """Start the host's SSH server, and its service or balancer as children of that."""
    processes.start(
        ["/bin/sh", layout.folder / "bin" / "init.sh", root(layout, host)],
        record=layout.record(host.name),
        log=layout.log(host.name),
        folder=layout.folder,
        environment={HOST_MARK: host.name},
    )


def first_process(layout: Layout, host: Host) -> Process | None:
    """The host's SSH server, or None while it is down."""
    first = processes.recorded(layout.record(host.name))
    return first if first and first.alive() else None


def members(layout: Layout, host: Host) -> tuple[int, ...]:
    """What descends from the host's server, and what carries its mark though its parent is gone."""
    first = first_process(layout, host)
    seeds = processes.marked(layout.folder, {HOST_MARK: host.name})
    return processes.families([*seeds, *((first.pid,) if first else ())])


def halt(layout: Layout, host: Host) -> None:
    """Kill everything of the host; in rounds, as one may start another meanwhile."""
    for _ in range(10):
        pids = members(layout, host)
        if not pids:
            return
        found = [process for pid in pids if (process := processes.identify(pid))]
        processes.end(found)
    raise OpskitError(f"{host.name}: pid {pids[0]} does not end, not even by SIGKILL")


def enter(layout: Layout, host: Host, user: str | None) -> list[str]:
    """There is nothing to enter: the command runs on the machine, with the host's environment."""
    if first_process(layout, host) is None:
        raise OpskitError(f"{host.name} is down", hint=f"start it: opskit lab reboot {host.name}")
    if user not in (None, layout.user):
        raise OpskitError(
            f"hosts of this lab have no user {user!r}",
            hint=f"they share the machine's; this lab logs in as {layout.user}",
        )
    environment = [f"{name}={value}" for name, value in _session(layout, host).items()]
    return ["/usr/bin/env", "-C", str(root(layout, host)), *environment]


def files(layout: Layout, host: Host) -> Path:
    """The host's folder is all the disk it has."""
    return root(layout, host)


def overrides(layout: Layout, host: Host) -> Mapping[str, object]:
    """Every path of the host, as they differ from host to host."""
    top = root(layout, host)
    keys: dict[str, object] = {"connection": {"state_dir": str(top / "home" / ".opskit")}}
    if host.role is Role.WEB:
        folder = shlex.quote(f"{top}/usr/local/bin/")
        queue = {"queue": inventory.queue_keys(layout, folder)} if layout.broker else {}
        keys["services"] = {
            "app": {
                "root": f"{top}{texts.SERVICE_ROOT}",
                "restart": f"{folder}labctl restart app",
                "pids": f"{folder}labctl pids app",
                **queue,
            }
        }
    else:
        nginx = _balancer_keys(host, str(top))
        file, listen = f"{top}/etc/nginx/opskit/active.conf", inventory.listen_colours(host)
        colours: dict[str, object] = {}
        if layout.colours:
            colours["app"] = {**nginx, "file": file, "listen": listen}
        if layout.haproxy:
            colours["edge"] = _haproxy_keys(host, top)
        keys["balancers"] = {"web": nginx, **colours}
    return keys


def _balancer_keys(host: Host, top: str) -> Mapping[str, object]:
    nginx = f"{programs.program('nginx')} -p {shlex.quote(top)}/"
    nginx += f" -c {shlex.quote(top)}/etc/nginx/nginx.conf"
    return {
        "listen": inventory.listen(host),
        "file": f"{top}/etc/nginx/opskit/web.conf",
        "test": f"{nginx} -t",
        "reload": f"{nginx} -s reload",
        "pid": f"{top}/run/nginx.pid",
        "error_log": f"{top}/var/log/nginx/error.log",
        "sudo": None,
    }


def _haproxy_keys(host: Host, top: Path) -> Mapping[str, object]:
    return {
        "listen": inventory.listen_haproxy(host),
        "socket": f"{top}/run/haproxy.sock",
        "state_file": f"{top}/var/lib/haproxy/states",
        "test": f"{programs.program('haproxy')} -c -f {top}{texts.HAPROXY_CONF}",
        "sudo": None,
    }


def written(layout: Layout, host: Host) -> tuple[tuple[str, Path], ...]:
    """The host's folder; what a command writes elsewhere is the machine's."""
    return (("", root(layout, host)),)
