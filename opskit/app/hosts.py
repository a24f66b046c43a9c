"""Hosts before anything is done there: reachable, fit, and the ones they claim to be."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

from opskit import load
from opskit.app import find
from opskit.drivers.keys import pin, show
from opskit.drivers.ssh import Connector
from opskit.drivers.targets import Targets
from opskit.errors import UnreachableError
from opskit.model.hostcheck import Fact, HostCheck, HostKey, Level
from opskit.model.inventory import Host
from opskit.model.job import Job
from opskit.model.text import text
from opskit.model.work import Command
from opskit.settings import Settings

SKEW = 5.0
"""Seconds that a host's clock may differ from ours; more makes timelines and TLS lie."""


def hosts_check(settings: Settings, inventory: str | None, expression: str) -> list[HostCheck]:
    """Look at every host of an expression, all at once; creates nothing there."""
    found = find.inventory(settings, inventory)
    hosts = [found.hosts[name] for name in load.select(found, expression)]
    targets = Targets("check", found.hosts)
    try:
        with ThreadPoolExecutor(max(1, min(100, len(hosts)))) as pool:
            try:
                return list(pool.map(lambda host: _check(targets, host), hosts))
            except KeyboardInterrupt:
                targets.hang_up()
                raise
    finally:
        targets.close()


def _check(targets: Targets, host: Host) -> HostCheck:
    try:
        opened = targets.open(host.name, writes=False)
    except UnreachableError as error:
        fact = Fact(name="reachable", level="critical", text=f"{error.what} → {error.hint}")
        return HostCheck(host=host.name, address=host.address, facts=(fact,))
    script = resources.files("opskit.app").joinpath("look.sh").read_text()
    pieces: list[bytes] = []
    job = Job(
        run="check",
        key="check",
        attempt=1,
        host=host,
        work=Command(text=text(script)),
        effect="read",
        timeout=30.0,
    )
    before = time.time()
    output = targets.perform(job, lambda _stream, data: pieces.append(data))
    middle = (before + time.time()) / 2
    reached = Fact(name="reachable", level="ok", text=f"{opened.user}@{opened.address}, key known")
    if output.outcome != "succeeded":
        fact = Fact(name="look", level="unknown", text=output.reason)
        return HostCheck(host=host.name, address=opened.address, facts=(reached, fact))
    said = dict(line.partition("=")[::2] for line in output.stdout.decode().splitlines())
    facts = tuple(_facts(said, middle))
    return HostCheck(host=host.name, address=opened.address, facts=(reached, *facts))


def _facts(said: dict[str, str], now: float) -> Iterator[Fact]:
    """Judge what the look said; what it left out is unknown, not fine."""
    judges: Sequence[tuple[str, Callable[[str], tuple[Level, str]]]] = (
        ("sudo", _sudo),
        ("clock", lambda value: _clock(float(value) - now)),
        ("disk", lambda value: _free("disk", value)),
        ("inodes", lambda value: _free("inodes", value)),
        ("tools", _tools),
        ("home", _home),
        ("kill", _kill),
    )
    for name, judge in judges:
        value = said.get(name, "")
        try:
            level, words = judge(value) if value else ("unknown", "the host did not say")
        except ValueError:
            level, words = "unknown", f"not understood: {value[:60]!r}"
        yield Fact(name=name, level=level, text=words)


def _sudo(value: str) -> tuple[Level, str]:
    if value == "yes":
        return "ok", "without a password"
    return "warning", "not without a password; steps with `sudo:` will fail"


def _clock(skew: float) -> tuple[Level, str]:
    if abs(skew) < 1:
        return "ok", "in step"
    side = "ahead" if skew > 0 else "behind"
    return "ok" if abs(skew) <= SKEW else "critical", f"{abs(skew):.0f} s {side}"


def _free(what: str, value: str) -> tuple[Level, str]:
    used = int(value.removesuffix("%") or 0) if value not in ("-", "") else 0
    level: Level = "critical" if used >= 95 else "warning" if used >= 85 else "ok"
    return level, f"{100 - used} % of {what} free where opskit keeps its files"


def _tools(value: str) -> tuple[Level, str]:
    missing = value.removeprefix("missing").split()
    if value == "all":
        return "ok", "sh, coreutils, setsid, /proc"
    return "critical", f"missing: {' '.join(missing)}; opskit can't run changes without"


def _home(value: str) -> tuple[Level, str]:
    if value in ("nfs", "nfs4", "cifs", "smbfs", "fuse.sshfs"):
        return "warning", f"the home is on {value}; name a local `state_dir` in the inventory"
    return "ok", f"on {value}"


def _kill(value: str) -> tuple[Level, str]:
    if value == "yes":
        return "warning", "KillUserProcesses=yes: logind would end changes when the line drops"
    return "ok", "logind leaves processes alone"


def hosts_keys(settings: Settings, inventory: str | None, expression: str) -> list[HostKey]:
    """Ask every host for its key, without logging in."""
    found = find.inventory(settings, inventory)
    hosts = [found.hosts[name] for name in load.select(found, expression)]
    connector = Connector()
    try:
        with ThreadPoolExecutor(max(1, min(50, len(hosts)))) as pool:
            return list(pool.map(lambda host: show(connector, host), hosts))
    finally:
        connector.close()


def hosts_pin(keys: Sequence[HostKey]) -> None:
    """Pin the keys that are new; what is known already stays as it is."""
    for key in keys:
        if key.state in ("new", "changed"):
            pin(key)
