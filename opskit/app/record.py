"""What the record has: runs, their events, outputs, and whether it proves itself."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opskit import audit
from opskit.audit import Finding, Store
from opskit.audit.sink import Stream
from opskit.errors import DamagedError, InputError
from opskit.model.event import Entry
from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, Run
from opskit.settings import Settings
from opskit.view.labels import Labels

_LOOK = 0.5
"""Seconds between two looks whether a process elsewhere lives."""


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    store = audit.open(settings.store)
    try:
        yield store
    finally:
        store.close()


def load_run(settings: Settings, name: str) -> Run:
    """Return a run by id, unique prefix, or "last"."""
    with _opened(settings) as store:
        return store.load(store.find(name))


def free_run(settings: Settings, name: str) -> Run:
    """Return a run once it is clear whether another process carries it out."""
    with _opened(settings) as store:
        return once_clear(store, store.find(name))


def once_clear(store: Store, run: str) -> Run:
    """Return a run; where a process elsewhere may carry it out or not, watch that first."""
    while (driver := store.driver(run)) is not None and not driver.sure:
        time.sleep(_LOOK)
    return store.load(run)


def plan_of(settings: Settings, name: str) -> Plan:
    """Return the plan that a run carried out."""
    with _opened(settings) as store:
        return store.plan(store.find(name))


def runs(
    settings: Settings,
    *,
    since: float | None = None,
    runbook: str | None = None,
    limit: int = 50,
    previews: bool = True,
) -> list[Run]:
    """Return the newest runs; `since` in UTC seconds, `previews`: dry runs too."""
    with _opened(settings) as store:
        return store.runs(since=since, runbook=runbook, limit=limit, previews=previews)


def entries(settings: Settings, name: str) -> Iterator[Entry]:
    """Yield the events of a run in their order."""
    with _opened(settings) as store:
        yield from store.entries(store.find(name))


def output(settings: Settings, name: str, step: str, host: str, stream: Stream) -> Iterator[bytes]:
    """Yield what a step printed on a host, in its last attempt.

    `step`: its name, its position, or both as they are shown, also of one of several (`Read #2`).
    """
    with _opened(settings) as store:
        found = store.load(store.find(name))
        labels = Labels(store.plan(found.id))
        here = [r for r in found.actions.values() if host in (r.host, _target(r.key))]
        wanted = [r for r in here if step.lower() in _names(labels, r)]
        if not wanted:
            hosts = ", ".join(
                dict.fromkeys(r.host or _target(r.key) for r in found.actions.values())
            )
            steps = "; ".join(dict.fromkeys(labels.step(record) for record in here))
            raise InputError(
                f"run {found.id} has no output of step {step!r} on {host!r}",
                hint=f"steps on {host}: {steps}" if here else f"hosts: {hosts or 'none yet'}",
            )
        for record in wanted:
            yield from store.output(found.id, record.key, record.attempt, stream)


def _names(labels: Labels, record: ActionRecord) -> tuple[str, ...]:
    shown, position = labels.step(record).lower(), labels.position(record.key)
    return record.step.lower(), position, shown, shown.removeprefix(f"{position} ")


def last_words(
    settings: Settings, run: str, records: Iterable[ActionRecord]
) -> Mapping[str, tuple[str, ...]]:
    """Return by action the last lines that it printed: of standard error, if there are any."""
    with _opened(settings) as store:
        return {record.key: _last(store, run, record) for record in records}


def _last(store: Store, run: str, record: ActionRecord) -> tuple[str, ...]:
    streams: tuple[Stream, ...] = ("stderr", "stdout")
    for stream in streams:
        tail = b""
        for piece in store.output(run, record.key, record.attempt, stream):
            tail = (tail + piece)[-4096:]
        lines = tuple(line for line in tail.decode(errors="replace").splitlines() if line.strip())
        if lines:
            return lines[-5:]
    return ()


def _target(key: str) -> str:
    """Return the target that a key names beside its host."""
    return key.partition(">")[2].partition("#")[0].partition("@")[0]


def verify(settings: Settings, name: str | None = None) -> list[Finding]:
    """Return everything that is wrong with the record; none means that it proves itself."""
    try:
        with _opened(settings) as store:
            return store.verify(store.find(name) if name else None)
    except DamagedError as error:
        from opskit.audit.verify import damaged  # a run has no use for it

        return damaged(error)
