"""A lab from its first process to its last: up, down, and what a person does to its hosts."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from opskit.errors import InputError, OpskitError
from opskit.lab import address, inventory, isolated, keys, layout, processes, programs, release
from opskit.lab.layout import Host, Layout, Mode, Role

BOOT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lab:
    """A running practice fleet."""

    layout: Layout

    @classmethod
    def load(cls, folder: Path | str | None = None) -> "Lab":
        """The lab that runs in a folder; raises OpskitError when none does."""
        folder = Path(folder).absolute() if folder else layout.default_folder()
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
        """Where the inventory lies, and each host's address, login, first pid and root folder."""
        return {
            "inventory": str(self.inventory),
            "hosts": [self._host_status(host) for host in self.layout.hosts],
        }

    def describe(self) -> str:
        """The same for a person: a line a host, and how far the hosts are kept apart."""
        lines = [
            f"{host.name:8} ssh {self.layout.user}@{host.address} -p {address.SSH}"
            for host in self.layout.hosts
        ]
        return "\n".join([f"{len(lines)} hosts by {self.layout.mode}", *lines])

    def _host_status(self, host: Host) -> dict[str, object]:
        first = isolated.first_process(self.layout, host)
        return {
            "name": host.name,
            "address": host.address,
            "port": address.SSH,
            "user": self.layout.user,
            "pid": first.pid if first else None,
            "root": f"/proc/{first.pid}/root" if first else None,
        }

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
        """Run a command on a host behind SSH's back, as root or as one of the host's users."""
        words = isolated.enter(self.layout, self.layout.host(name), user)
        home = self.layout.home if user else "/root"
        return subprocess.run(
            [*words, *argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None and capture else None,
            capture_output=capture,
            timeout=timeout,
            check=False,
            cwd="/",
            env=programs.plain_environment() | {"HOME": home},
        )

    def reboot(self, name: str) -> None:
        """Cut the power and start again: same files, new processes, new boot id."""
        host = self.layout.host(name)
        isolated.halt(self.layout, host)
        isolated.boot(self.layout, host)
        wait_for(self.layout, [host])

    def release(self, name: str, path: Path | str, fault: str | None = None) -> Path:
        """Write a release's tarball, good or with a fault."""
        return release.write(name, Path(path), fault)

    def down(self) -> None:
        """End the lab; no process, mount or file of it is left."""
        down(self.folder)


def up(
    folder: Path | str | None = None,
    web: int = 4,
    lb: int = 1,
    release: str = "A",
    disk_size: str = "512m",
) -> Lab:
    """Start a practice fleet in a folder that is empty or absent; returns when all hosts answer."""
    folder = Path(folder).absolute() if folder else layout.default_folder()
    if not 1 <= web <= 200 or not 0 <= lb <= 20:
        raise InputError("a lab has 1 to 200 web hosts and 0 to 20 balancers")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        _refuse_if_taken(folder)
        try:
            return _start(folder, made=made, web=web, lb=lb, release=release, disk_size=disk_size)
        except BaseException as error:
            log = _last_words(folder)
            _remove(folder, made=made)
            if isinstance(error, TimeoutError):
                raise OpskitError(f"the lab did not start: {error}\n{log}") from error
            raise


def _refuse_if_taken(folder: Path) -> None:
    """A lab that runs is left alone; what a crash left is cleared away; other files are kept."""
    found = layout.load(folder)
    if found:
        if found.ready and processes.marked(folder):
            raise InputError(
                "a lab is running here already",
                where=str(folder),
                hint="use it, end it with `opskit lab down`, or take another --dir",
            )
        _remove(folder, made=found.made_folder)
        folder.mkdir(parents=True, exist_ok=True)
        return
    others = [entry.name for entry in folder.iterdir() if entry.name != "lock"]
    if others:
        raise InputError(
            f"this folder has other files in it ({others[0]})",
            where=str(folder),
            hint="give a folder that is empty or does not exist: --dir DIR",
        )


def _start(folder: Path, *, made: bool, web: int, lb: int, release: str, disk_size: str) -> Lab:
    mode, why = Mode.NAMESPACES, ""
    programs.need(isolated.NEEDED + (("nginx",) if lb else ()))
    user, uid, gid, home = isolated.login(mode)
    net, holder = address.claim()
    with holder:
        plan = Layout(
            folder=folder, made_folder=made, net=net, mode=mode, why=why,
            user=user, uid=uid, gid=gid, home=home, python=programs.host_python(),
            release=release, disk_size=disk_size, hosts=layout.fleet(web, lb, net),
        )  # fmt: skip
        plan.save()
        _lay_out(plan)
        isolated.start_keeper(plan, holder.fileno())
    pairs = keys.make(plan)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: _bring_up(plan, host, pairs[host.name]), plan.hosts))
    wait_for(plan, plan.hosts)
    plan.inventory.write_text(inventory.text(plan, {}), encoding="utf-8")
    plan = replace(plan, ready=True)
    plan.save()
    return Lab(layout=plan)


def _lay_out(plan: Layout) -> None:
    """The folders of a lab, and the scripts that its daemons are started with."""
    for name in ("run", "log", "bin", "disk"):
        (plan.folder / name).mkdir()
    for name in isolated.SCRIPTS:
        (plan.folder / "bin" / name).write_bytes(release.data(name))


def _bring_up(plan: Layout, host: Host, key: tuple[bytes, bytes]) -> None:
    isolated.make_disk(plan, host)
    isolated.fill_disk(plan, host, key)
    isolated.boot(plan, host)


def wait_for(plan: Layout, hosts: Sequence[Host]) -> None:
    """Return when the hosts' SSH servers greet and their services and balancers listen."""
    for host in hosts:
        _wait_for_host(host, plan.log(host.name))


def _wait_for_host(host: Host, log: Path) -> None:
    port = address.SERVICE if host.role is Role.WEB else address.BALANCER
    processes.wait_until(
        lambda: address.speaks_ssh(host.address, address.SSH),
        BOOT_SECONDS,
        f"{host.name}'s SSH server; see {log}",
    )
    processes.wait_until(
        lambda: address.listens(host.address, port),
        BOOT_SECONDS,
        f"{host.name} to listen on port {port}; see {log}",
    )


def down(folder: Path | str | None = None) -> bool:
    """End the lab in a folder, however far it got; False when there was none."""
    folder = Path(folder).absolute() if folder else layout.default_folder()
    if not folder.is_dir():
        return False
    with lock(folder):
        if not (folder / layout.STATE_FILE).exists() and not processes.marked(folder):
            return False
        found = layout.load(folder)
        _remove(folder, made=found is None or found.made_folder)
    return True


def _remove(folder: Path, *, made: bool) -> None:
    """Processes first: the mounts go with the last of them."""
    for _ in range(3):  # a process killed while it started another leaves one more round to do
        left = processes.end(processes.marked(folder))
        if left:
            raise OpskitError(f"pid {left[0].pid} does not end, not even by SIGKILL")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if made:
        folder.rmdir()


def _last_words(folder: Path) -> str:
    """The last lines of each daemon's log, for the error message."""
    texts = []
    for log in sorted((folder / "log").glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        texts += [f"  {log.stem}: {line}" for line in lines]
    return "\n".join(texts)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time in a folder."""
    path = folder / "lock"
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OpskitError(
            "another `opskit lab` command works on this lab", where=str(folder), hint="try again"
        ) from None
    finally:
        os.close(handle)
