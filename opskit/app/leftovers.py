"""What runs have left on hosts that nobody will ask for any more: found by its age, and removed."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

from opskit import audit, load
from opskit.app import find
from opskit.audit.fold import OPEN
from opskit.drivers.targets import Targets
from opskit.errors import InputError, UnreachableError
from opskit.model.inventory import Host
from opskit.model.job import Job
from opskit.model.leftover import Leftover, Leftovers
from opskit.model.text import text
from opskit.model.work import Command
from opskit.settings import Settings


def leftovers(
    settings: Settings, inventory: str | None, expression: str, older: float
) -> Leftovers:
    """Look for what runs have left that is older than so many seconds, by each host's own clock.

    What a run of this record may still ask for, and what still runs, is to stay.
    """
    known = find.inventory(settings, inventory)
    hosts = [known.hosts[name] for name in load.select(known, expression)]
    asked = _on_all(known.hosts, hosts, lambda host: (older, ()))
    return Leftovers(found=tuple(_judged(settings, asked.found)), failed=asked.failed)


def remove(
    settings: Settings, inventory: str | None, gone: Sequence[Leftover], older: float
) -> Leftovers:
    """Remove these; return what was there at that moment. What has come to life again stays."""
    known = find.inventory(settings, inventory)
    names = sorted({one.host for one in gone})
    runs = {name: tuple(one.run for one in gone if one.host == name) for name in names}
    hosts = [known.hosts[name] for name in names]
    return _on_all(known.hosts, hosts, lambda host: (older, runs[host.name]))


def _on_all(
    known: Mapping[str, Host],
    hosts: Sequence[Host],
    how: Callable[[Host], tuple[float, tuple[str, ...]]],
) -> Leftovers:
    targets = Targets("clean", known)
    try:
        with ThreadPoolExecutor(max(1, min(100, len(hosts)))) as pool:
            answers = list(pool.map(lambda host: _ask(targets, host, *how(host)), hosts))
    finally:
        targets.close()
    found = [one for answer in answers if not isinstance(answer, str) for one in answer]
    failed = {h.name: a for h, a in zip(hosts, answers, strict=True) if isinstance(a, str)}
    return Leftovers(found=tuple(found), failed=failed)


def _ask(targets: Targets, host: Host, older: float, runs: Sequence[str]) -> list[Leftover] | str:
    """Return what there is on a host, or why that can't be said."""
    script = resources.files("opskit.app").joinpath("leftovers.sh").read_text("utf-8")
    words = (host.connection.state_dir, str(max(1, round(older / 60))), *runs)
    work = Command(text=text(script), args=tuple(text(word) for word in words))
    job = Job(
        run="clean", key="clean", attempt=1, host=host, work=work, effect="read", timeout=120.0
    )
    try:
        targets.open(host.name, writes=False)
    except UnreachableError as error:
        return error.line
    output = targets.perform(job, lambda _stream, _data: None)
    if output.outcome != "succeeded":
        return output.reason
    lines = [line.split() for line in output.stdout.decode("utf-8", "replace").splitlines()]
    return [
        Leftover(
            host=host.name, run=run, kib=int(kib), kept="it still runs" if state == "busy" else ""
        )
        for run, kib, state in lines
    ]


def _judged(settings: Settings, found: Sequence[Leftover]) -> list[Leftover]:
    """Keep what this record may still ask for."""
    open_: dict[str, str] = {}
    store = audit.open(settings.store)
    try:
        for run in {one.run for one in found}:
            try:
                is_open = store.state(run) in (*OPEN, "unknown")
                open_[run] = "its run has not come to its end" if is_open else ""
            except InputError:
                open_[run] = ""  # of another record, or of none any more
    finally:
        store.close()
    return [
        Leftover(host=one.host, run=one.run, kib=one.kib, kept=one.kept or open_[one.run])
        for one in found
    ]
