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
        work=Command(text=text(script), args=(text(host.connection.state_dir),)),
        effect="read",
        timeout=30.0,
    )
    before = time.time()
    output = targets.perform(job, lambda _stream, data: pieces.append(data))
    middle = (before + time.time()) / 2
    place = f"{opened.user}@{opened.address}, key known"
    reached = Fact(name="reachable", level="ok", text=place, figure="known")
    if output.outcome != "succeeded":
        fact = Fact(name="look", level="unknown", text=output.reason)
        return HostCheck(host=host.name, address=opened.address, facts=(reached, fact))
    said = dict(line.partition("=")[::2] for line in output.stdout.decode().splitlines())
    facts = tuple(_facts(said, middle))
    return HostCheck(host=host.name, address=opened.address, facts=(reached, *facts))


def _facts(said: dict[str, str], now: float) -> Iterator[Fact]:
    """Judge what the look said; what it left out is unknown, not fine."""
    judges: Sequence[tuple[str, Callable[[str], Judged]]] = (
        ("sudo", _sudo),
        ("clock", lambda value: _clock(float(value) - now)),
        ("state", _state),
        ("disk", lambda value: _free("disk", value)),
        ("inodes", lambda value: _free("inodes", value)),
        ("tools", _tools),
        ("home", _home),
        ("kill", _kill),
    )
    for name, judge in judges:
        value = said.get(name, "").strip()
        try:
            level, words, figure = (
                judge(value) if value else ("unknown", "the host did not say", "?")
            )
        except ValueError:
            level, words, figure = "unknown", f"not understood: {value[:60]!r}", "?"
        yield Fact(name=name, level=level, text=words, figure=figure)


Judged = tuple[Level, str, str]
"""How it is, in a sentence, and in a word for a table."""


def _sudo(value: str) -> Judged:
    if value == "yes":
        return "ok", "without a password", "yes"
    return "warning", "not without a password; steps with `sudo:` will fail", "no"


def _clock(skew: float) -> Judged:
    if abs(skew) < 1:
        return "ok", "in step", f"{abs(skew):.1f} s"
    figure = f"{skew:+.0f} s"
    side = "ahead" if skew > 0 else "behind"
    level: Level = "ok" if abs(skew) <= SKEW else "critical"
    return level, f"{abs(skew):.0f} s {side}", figure


def _state(value: str) -> Judged:
    """Judge whether the directory for opskit's files is there, or can be made."""
    kind, _, rest = value.partition(" ")
    if kind == "ok":
        return "ok", f"{rest} is there, or can be made", "yes"
    why = (
        f"{rest} belongs to somebody else"
        if kind == "foreign"
        else f"{rest.partition(' ')[0]} can't be made: {rest.rpartition(' ')[2]} is not writable"
    )
    return "critical", f"{why}; changes need it: name another `state_dir` in the inventory", "no"


def _free(what: str, value: str) -> Judged:
    if value == "-":  # a file system that makes inodes as it needs them
        return "ok", f"{what} without a limit", "-"
    free = 100 - int(value.removesuffix("%"))
    level: Level = "critical" if free <= 5 else "warning" if free <= 15 else "ok"
    return level, f"{free} % of {what} free where opskit keeps its files", f"{free} % free"


def _tools(value: str) -> Judged:
    if value == "all":
        return "ok", "sh, coreutils, setsid, /proc", "all"
    missing = " ".join(value.removeprefix("missing").split())
    return "critical", f"missing: {missing}; opskit can't run changes without", "missing"


_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb", "smb2", "smbfs", "fuse.sshfs", "fuseblk"})


def _home(value: str) -> Judged:
    """Judge the file systems of the home and of opskit's files, as `stat -f` names them."""
    home, _, state = value.partition(" ")
    if (state or home) in _NETWORK:
        return "warning", f"opskit's files are on {state or home}; name a local `state_dir`", home
    elsewhere = f"; opskit's files are on {state}" if state not in ("", home) else ""
    return "ok", f"on {home}{elsewhere}", home


_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
"""What systemd takes for yes, in capitals too."""


def _kill(value: str) -> Judged:
    if value.lower() in _TRUE:
        what = f"KillUserProcesses={value}: logind would end changes when the line drops"
        return "warning", what, "yes"
    return "ok", "logind leaves processes alone", "no"


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
