"""A lab from its first process to its last: up, down, and what a person does to its hosts."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from opskit.errors import InputError, OpskitError
from opskit.lab import (
    address,
    faults,
    ground,
    inventory,
    keys,
    layout,
    mode,
    processes,
    programs,
    servers,
    tree,
)
from opskit.lab import release as releases
from opskit.lab.layout import Host, Layout, Mode, Role
from opskit.lab.lock import lock
from opskit.lab.servers import Wish
from opskit.model.frozen import frozen

BOOT_SECONDS = 20.0
ENDED = "run/lab.ended"  # on a host: what it serves with has ended
SCRIPTS = ("start.sh", "keeper.sh", "disk.sh", "boot.sh", "init.sh")
FOLDERS = ("run", "log", "bin", "keys", "disk", "hosts")
LATER = ("secrets", "planted")  # only where there are servers
FILES = ("id_ed25519", "id_ed25519.pub", "known_hosts", "inventory.yaml", layout.STATE_FILE)


@frozen
class Lab:
    """A running practice fleet."""

    layout: Layout

    @classmethod
    def load(cls, folder: Path | str | None = None) -> "Lab":
        """The lab that runs in a folder; raises OpskitError when none does."""
        folder = layout.folder_of(folder)
        found = layout.load(folder)
        if found is None or not found.ready:
            state = "was never finished" if found else "is not there"
            raise OpskitError(f"the lab {state}", where=str(folder), hint="run: opskit lab up")
        return cls(layout=found)

    @property
    def inventory(self) -> Path:
        """The inventory file that opskit takes with -i."""
        return self.layout.inventory

    @property
    def folder(self) -> Path:
        """Where the lab keeps everything."""
        return self.layout.folder

    def status(self) -> dict[str, object]:
        """Where the inventory lies, and each host's address, login, first pid and root folder.

        With PostgreSQL or Redis also `servers`: where they are, and who comes in how.
        """
        found: dict[str, object] = {
            "inventory": str(self.inventory),
            "hosts": [self._host_status(host) for host in self.layout.hosts],
        }
        if self.layout.servers:
            found["servers"] = [servers.status(self.layout, one) for one in self.layout.servers]
        return found

    def host_status(self, name: str) -> dict[str, object]:
        """The same of one host, and whether it is up, frozen or cut off."""
        host = next(host for host in self.layout.hosts if host.name == name)
        return {**self._host_status(host), "state": faults.state(self.layout, host)}

    def _host_status(self, host: Host) -> dict[str, object]:
        first = ground.of(self.layout).first_process(self.layout, host)
        root = str(ground.of(self.layout).root(self.layout, host)) if first else None
        return {
            "name": host.name,
            "address": host.address,
            "port": address.SSH,
            "user": self.layout.user,
            "pid": first.pid if first else None,
            "root": root,
        }

    def describe(self) -> str:
        """The same for a person: a line a host, and how far the hosts are kept apart."""
        lines = [f"{len(self.layout.hosts)} hosts, kept apart by: {self.layout.mode}"]
        if self.layout.mode is Mode.SHARED:
            lines += [f"hosts share this machine's files and processes ({self.layout.why})"]
        if self.layout.mode is not Mode.NAMESPACES:
            lines += [f"everybody on a host is {self.layout.user}: there is no sudo to practise"]
        for host in self.layout.hosts:
            login = f"ssh -p {address.SSH} {self.layout.user}@{host.address}"
            lines.append(f"  {host.name:8} {faults.state(self.layout, host):8} {login}")
        if self.layout.of(Role.LB) and self.layout.no_haproxy:
            lines.append(f"there is no HAProxy ({self.layout.no_haproxy})")
        lines += servers.describe(self.layout)
        return "\n".join(lines)

    def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout: float | None = 60,
        capture: bool = True,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on a host behind SSH's back, as root or as one of the host's users.

        `timeout` is in seconds. Without `capture` the command has this process's own outputs.
        """
        words = ground.of(self.layout).enter(self.layout, self.layout.host(name), user)
        home = self.layout.home if user or self.layout.mode is not Mode.NAMESPACES else "/root"
        quiet = capture and stdin is None
        return subprocess.run(
            [*words, *argv],
            input=stdin,
            stdin=subprocess.DEVNULL if quiet else None,
            capture_output=capture,
            timeout=timeout,
            check=False,
            cwd="/",
            env=programs.plain_environment() | {"HOME": home},
        )

    def reboot(self, name: str) -> bool:
        """Cut the power and start again: same files, new processes, new boot id.

        False when its service or balancer did not come back, for want of a sound release, say.
        """
        host = self.layout.host(name)
        ground.of(self.layout).halt(self.layout, host)
        faults.uncut(self.layout, host)
        faults.forget(self.layout, host)
        ground.of(self.layout).boot(self.layout, host)
        return wait_for(self.layout, host)

    def freeze(self, name: str) -> None:
        """Stop all processes of a host, as when a machine hangs."""
        faults.freeze(self.layout, self.layout.host(name))

    def cut(self, name: str, *, reset: bool = False) -> None:
        """Take a host off the net: silent, or by resets and refusals. What runs there goes on."""
        faults.cut(self.layout, self.layout.host(name), reset=reset)

    def heal(self, name: str) -> None:
        """Take back freeze and cut."""
        faults.heal(self.layout, self.layout.host(name))

    def tree(self, name: str) -> Mapping[str, str]:
        """All that was ever written on a host: path → type, owner, size and digest."""
        return tree.read(ground.of(self.layout).written(self.layout, self.layout.host(name)))

    def pids(self, name: str) -> tuple[int, ...]:
        """All processes of a host, as this machine numbers them."""
        return ground.of(self.layout).members(self.layout, self.layout.host(name))

    @property
    def url(self) -> str:
        """Where the first balancer takes requests; raises InputError when there is none."""
        return inventory.front(self.layout, "web")

    def release(self, name: str, path: Path | str, fault: str | None = None) -> Path:
        """Write a release's tarball, good or with a fault."""
        return releases.write(name, Path(path), fault)

    def down(self) -> None:
        """End the lab; no process, mount or file of it is left."""
        down(self.folder)


def up(
    folder: Path | str | None = None,
    web: int = 4,
    lb: int = 1,
    release: str = "A",
    *,
    disk_size: str = "512m",
    isolation: Mode | None = None,
    wish: Wish | None = None,
) -> Lab:
    """Start a practice fleet in a folder that is empty or absent; returns when all hosts answer.

    `wish` asks for a PostgreSQL or a Redis beside the hosts, and for data.

    Raises InputError when it can't be done here, OpskitError when a host does not come up.
    """
    folder = layout.folder_of(folder)
    _check(folder, web=web, lb=lb, release=release, disk_size=disk_size)
    wish = wish or Wish()
    wanted = servers.find(wish)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        made = _make_room(folder) or made
        try:
            plan = _plan(folder, isolation, made=made, web=web, lb=lb, release=release)
            return _start(replace(plan, disk_size=disk_size, servers=wanted), wish)
        except BaseException as error:
            log = _last_words(folder)
            _remove(folder, made=made)
            if isinstance(error, processes.TooLateError):
                raise OpskitError(f"the lab did not start: {error.what}\n{log}") from error
            raise


def _check(folder: Path, *, web: int, lb: int, release: str, disk_size: str) -> None:
    """Raise InputError for what could not become a lab."""
    if not 1 <= web <= 200 or not 0 <= lb <= 20:
        raise InputError("a lab has 1 to 200 web hosts and 0 to 20 balancers")
    releases.check(release)
    if not re.fullmatch(r"[1-9][0-9]*[kmg]", disk_size):
        raise InputError(f"no size of a disk: {disk_size!r}", hint="write it like 512m or 1g")
    if odd := re.search(r"[^\w /.,:;=@+~()'#&-]", str(folder)):
        raise InputError(
            f"the folder's name has {odd[0]!r} in it, which servers' configuration can't hold",
            where=str(folder),
            hint="take another --dir",
        )


def _make_room(folder: Path) -> bool:
    """Clear away what a crash left; True when the folder was made by that lab, too.

    Raises InputError for a lab that runs, and for a folder that holds other things.
    """
    found = layout.load(folder)
    if found and found.ready and _processes(folder):
        raise InputError(
            "a lab is running here already",
            where=str(folder),
            hint="use it, end it with `opskit lab down`, or take another --dir",
        )
    _remove(folder, made=False)
    for other in folder.iterdir():
        raise InputError(
            f"this folder has other files in it ({other.name})",
            where=str(folder),
            hint="give a folder that is empty or does not exist: --dir DIR",
        )
    return found is not None and found.made_folder


def _plan(
    folder: Path, isolation: Mode | None, *, made: bool, web: int, lb: int, release: str
) -> Layout:
    """What will be started, all but its addresses."""
    chosen, why = mode.choose(folder, isolation, balancers=lb > 0)
    user, uid, gid, home = mode.login(chosen)
    return Layout(
        folder=folder,
        made_folder=made,
        net=0,
        mode=chosen,
        why=why,
        user=user,
        uid=uid,
        gid=gid,
        home=home,
        python=programs.host_python(),
        release=release,
        disk_size="",
        hosts=layout.fleet(web, lb, 0),
        no_haproxy=mode.no_haproxy(chosen, folder),
    )


def _start(plan: Layout, wish: Wish) -> Lab:
    """Keeper, then hosts and servers side by side, then the inventory: they are up when it is."""
    net, holder = address.claim(server.name for server in plan.servers)
    with holder:
        plan = plan.readdressed(net)
        plan.save()
        _lay_out(plan)
        servers.lay_out(plan)
        ground.of(plan).start_keeper(plan, holder.fileno())
    pairs = keys.make(plan)

    def bring_up(host: Host) -> None:
        ground.of(plan).prepare(plan, host, pairs[host.name])
        ground.of(plan).boot(plan, host)

    with ThreadPoolExecutor(8) as pool:
        beside = pool.submit(servers.start, plan, wish)
        list(pool.map(bring_up, plan.hosts))
        beside.result()
    for host in plan.hosts:
        if not wait_for(plan, host):
            raise processes.TooLateError(f"{host.name} serves nobody; see {plan.log(host.name)}")
    overrides = {host.name: ground.of(plan).overrides(plan, host) for host in plan.hosts}
    plan.inventory.write_text(inventory.text(plan, overrides), encoding="utf-8")
    plan = replace(plan, ready=True)
    plan.save()
    return Lab(layout=plan)


def _lay_out(plan: Layout) -> None:
    """The folders of a lab, and the scripts that its daemons are started with."""
    for name in FOLDERS:
        (plan.folder / name).mkdir(mode=0o700 if name == "keys" else 0o755)
    for name in SCRIPTS:
        (plan.folder / "bin" / name).write_bytes(releases.data(name))


def wait_for(plan: Layout, host: Host) -> bool:
    """Return when the host's SSH server greets and its service or balancer listens or has ended.

    False when it has ended: the host is up, but serves nobody.
    """
    port = address.SERVICE if host.role is Role.WEB else address.BALANCER
    ports = (port, address.HAPROXY) if host.role is Role.LB and plan.haproxy else (port,)
    seen = f"see {plan.log(host.name)}"
    processes.wait_until(
        lambda: address.speaks_ssh(host.address, address.SSH) or _died(plan, host),
        BOOT_SECONDS,
        f"{host.name}'s SSH server; {seen}",
    )
    if _died(plan, host):
        raise processes.TooLateError(f"{host.name} ended while it started; {seen}")
    ended = ground.of(plan).root(plan, host) / ENDED
    processes.wait_until(
        lambda: all(address.listens(host.address, p) for p in ports) or ended.exists(),
        BOOT_SECONDS,
        f"{host.name} to listen on port {port}; {seen}",
    )
    return not ended.exists()


def _died(plan: Layout, host: Host) -> bool:
    started = processes.recorded(plan.record(host.name))
    return started is None or not started.alive()


def down(folder: Path | str | None = None) -> bool:
    """End the lab in a folder, however far it got; False when there was none."""
    folder = layout.folder_of(folder)
    if not folder.is_dir():
        return False
    with lock(folder):
        state = (layout.STATE_FILE, f"{layout.STATE_FILE}.new")
        if not any((folder / name).exists() for name in state) and not _processes(folder):
            return False
        try:
            found = layout.load(folder)
        except InputError:  # of another version, or cut short: it must go all the same
            found = None
        _remove(folder, made=found is None or found.made_folder)
    return True


def _processes(folder: Path) -> tuple[int, ...]:
    """Every process of the lab in this folder: recorded, marked, or descended from these."""
    recorded = [processes.recorded(record) for record in (folder / "run").glob("*.pid")]
    alive = [process.pid for process in recorded if process and process.alive()]
    return processes.families([*alive, *processes.marked(folder)])


def _remove(folder: Path, *, made: bool) -> None:
    """Processes first: the mounts go with the last of them."""
    servers.stop(folder)
    for _ in range(10):  # what is killed may have started another a moment before
        pids = _processes(folder)
        if not pids:
            break
        processes.end([process for pid in pids if (process := processes.identify(pid))])
    else:
        raise OpskitError(f"pid {pids[0]} does not end, not even by SIGKILL", where=str(folder))
    servers.remove(folder)
    for name in (*FOLDERS, *LATER):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (*FILES, f"{layout.STATE_FILE}.new"):
        (folder / name).unlink(missing_ok=True)
    if made:
        with contextlib.suppress(OSError):  # somebody put other files there; those stay
            folder.rmdir()


def _last_words(folder: Path) -> str:
    """The last lines of each daemon's log, for the error message."""
    texts = []
    for log in sorted((folder / "log").glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        texts += [f"  {log.stem}: {line}" for line in lines]
    return "\n".join(texts)
