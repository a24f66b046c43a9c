"""What is known of what a run waits for: from its record, and from hosts that are asked now.

Hosts are only looked at: over connections of their own, which make nothing there and know nothing
of the run's locks. No look takes longer than `LONGEST`, and none that fails is in anybody's way.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from opskit.app import secrets as fetching
from opskit.audit import Store
from opskit.audit.masking import Masker
from opskit.drivers.session import drop
from opskit.drivers.targets import Targets
from opskit.errors import InputError, OpskitError, UnreachableError
from opskit.execute.book import Book
from opskit.execute.journal import Stream
from opskit.execute.late import LateError, fill_work, secret_names
from opskit.execute.search import become_of
from opskit.model.event import Entry
from opskit.model.finding import Finding
from opskit.model.frozen import frozen
from opskit.model.inventory import CONTROLLER, Host
from opskit.model.job import Job
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord, Run
from opskit.model.value import Json, Secret
from opskit.model.work import Command, Remove, Upload, Work
from opskit.view import amounts

LONGEST = 10.0
"""How long all looks at the hosts of one question may take together; seconds."""
_CONNECT = 5.0
_LINES = 5
_HOSTS = 20
"""So many hosts are looked at where too many fell out."""
T = TypeVar("T")


@frozen
class Matter:
    """A run that waits, and all that is needed to look at what it waits for."""

    store: Store
    found: Run
    plan: Plan
    past: Sequence[Entry]
    known: Mapping[str, Secret]

    @property
    def question(self) -> Mapping[str, Json]:
        return self.found.question or {}


def gather(matter: Matter) -> tuple[Finding, ...]:
    """Return what is known of what a run asks, masked; the hosts are asked now."""
    action = _action(matter.plan, str(matter.question.get("key", "")))
    if action is not None:
        found = [*_recorded(matter, action), *_asked(matter, action)]
    else:
        found = list(_fallen(matter))
    masker = Masker.of(matter.known.values())
    return tuple(
        replace(one, says=masker.mask(one.says), lines=tuple(map(masker.mask, one.lines)))
        for one in found
    )


def _action(plan: Plan, key: str) -> Action | None:
    every = (one for action in plan.actions for one in (action, *action.undo))
    return next((one for one in every if one.key == key), None)


# --- the record ---


def _recorded(matter: Matter, action: Action) -> Iterator[Finding]:
    record = matter.found.actions.get(action.key)
    if record is None or not record.attempt:
        return
    yield Finding(source="record", host=record.host, says=_told(record))
    lines = last_words(matter.store, matter.found.id, record)
    if lines:
        yield Finding(source="output", host=record.host, lines=lines)


def _told(record: ActionRecord) -> str:
    """Say when an action was begun, and how that ended."""
    began = f", began {amounts.moment(record.started)}" if record.started else ""
    seconds, why = record.data.get("seconds"), str(record.data.get("reason") or "")
    took = amounts.duration(seconds) if isinstance(seconds, (int, float)) else ""
    ended = f", {record.state}" + (f" after {took}" if took else "") + (f": {why}" if why else "")
    return f"attempt {record.attempt}{began}{ended}"


def last_words(store: Store, run: str, record: ActionRecord) -> tuple[str, ...]:
    """Return the last lines of what an action printed."""
    lines: list[str] = []
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for stream in streams:
        tail = b""
        for piece in store.output(run, record.key, record.attempt, stream):
            tail = (tail + piece)[-4096:]
        lines += tail.decode(errors="replace").splitlines()[-_LINES:]
    return tuple(lines)


# --- hosts ---


def _asked(matter: Matter, action: Action) -> list[Finding]:
    """Ask the host of an action, and its `done_when`, what became of it."""
    look = _Look(matter, action)
    if not look.worth:
        return []
    late = Finding(source="host", host=action.target, says=f"no answer within {LONGEST:g} s",
                   data={"state": "unreachable"})  # fmt: skip
    found: list[Finding] = []
    if not _within(lambda: found.extend(look.findings()), look.targets):
        return [*found, *([] if any(one.source == "host" for one in found) else [late])]
    return found


def _fallen(matter: Matter) -> Iterator[Finding]:
    """Say of each host that fell out why, and whether it can be reached now."""
    names = matter.question.get("hosts")
    hosts = [str(name) for name in names] if isinstance(names, (list, tuple)) else []
    reached: dict[str, Finding] = {}
    targets = _targets(matter)

    def reach(host: str) -> None:
        try:
            targets.open(host, writes=False)
        except UnreachableError as error:
            says = f"it can't be reached: {error.line.removeprefix(f'host {host}: ')}"
            reached[host] = Finding(source="host", host=host, says=says, data={"reached": False})
        else:
            says = "it can be reached"
            reached[host] = Finding(source="host", host=host, says=says, data={"reached": True})

    def all_of_them() -> None:
        with ThreadPoolExecutor(_HOSTS) as pool:
            list(pool.map(reach, hosts[:_HOSTS]))

    if hosts:
        _within(all_of_them, targets)
    for host in hosts:
        yield Finding(source="record", host=host, says=_why(matter.found, host))
        if host in reached:
            yield reached[host]


def _why(found: Run, host: str) -> str:
    if host in found.unreachable:
        return f"unreachable: {found.unreachable[host].removeprefix(f'host {host}: ')}"
    bad = [r for r in found.actions.values() if r.host == host and r.state in ("failed", "unknown")]
    return "; ".join(f"{r.step!r}: {_told(r)}" for r in bad) or found.hosts.get(host, "unknown")


class _Look:
    """Looks at one action on its target, and changes nothing there."""

    def __init__(self, matter: Matter, action: Action) -> None:
        self.matter = matter
        self.action = action
        self.stage = matter.plan.stage(action)
        self.book = Book(matter.plan, matter.past, {"id": matter.found.id})
        self.record = self.book.records.get(action.key)
        self.targets = _targets(matter)

    @property
    def worth(self) -> bool:
        return self._traced or self.action.done_when is not None

    @property
    def _traced(self) -> bool:
        """Whether the action was sent, and leaves traces on a host."""
        work, record = self.action.work, self.record
        sent = record is not None and record.attempt and record.data.get("sent") is not False
        kept = isinstance(work, (Command, Upload, Remove)) and self.stage.effect == "change"
        return bool(sent) and kept

    def findings(self) -> Iterator[Finding]:
        if self._traced:
            job = self._job(self.action.key, self._filled(self.action.work), "change")
            contact = self.book.contact(self.action, become_of(self.action.work))
            trace = self.targets.tell(replace(job, contact=contact), LONGEST)
            data: Mapping[str, Json] = {"state": trace.state}
            yield Finding(source="host", host=self.action.target, says=trace.says, data=data)
            if isinstance(job.work, Upload) and trace.state != "unreachable":
                yield self._dest(job)
        if self.action.done_when is not None:
            yield self._done(self.action.done_when)

    def _dest(self, job: Job) -> Finding:
        """Say what stands where an upload goes."""
        seen = self.targets.probe(job).evidence
        if "same" not in seen:
            return Finding(source="dest", host=self.action.target, says="it can't be looked at")
        says = "nothing is there" if not seen.get("exists") else (
            "what was to be put there is there" if seen["same"] else "something else is there"
        )  # fmt: skip
        data: Mapping[str, Json] = {"same": seen["same"], "exists": seen.get("exists")}
        return Finding(source="dest", host=self.action.target, says=says, data=data)

    def _done(self, probe: Work) -> Finding:
        """Ask by `done_when`; what it says decides nothing here."""
        host = self.action.target
        try:
            work = fill_work(probe, self.book.values(self.action))
            secrets = self._secrets(work)
        except (LateError, InputError) as error:
            return Finding(source="done_when", host=host, says=f"it can't be asked: {error}",
                           data={"outcome": "unknown"})  # fmt: skip
        job = replace(self._job(f"{self.action.key}?done", work, "read"), secrets=secrets)
        output = self.targets.perform(job, drop)
        if output.outcome == "unknown" or not output.sent or output.status is None:
            says, outcome = f"it could not tell: {output.reason}", "unknown"
        elif output.outcome == "succeeded":
            says, outcome = "it has happened", "succeeded"
        else:
            says, outcome = f"it has not happened ({output.reason})", "failed"
        return Finding(source="done_when", host=host, says=says, data={"outcome": outcome})

    def _secrets(self, work: Work) -> Mapping[str, Secret]:
        missing = [name for name in secret_names(work) if name not in self.matter.known]
        if missing:
            raise LateError(f"the secret {missing[0]} is not known here")
        return {name: self.matter.known[name] for name in secret_names(work)}

    def _filled(self, work: Work) -> Work:
        try:
            return fill_work(work, self.book.values(self.action))
        except LateError:
            return work

    def _job(self, key: str, work: Work, effect: str) -> Job:
        return Job(
            run=self.matter.found.id,
            key=key,
            attempt=self.record.attempt if self.record is not None else 0,
            host=_host(self.matter.plan, self.action.target),
            work=work,
            effect="change" if effect == "change" else "read",
            timeout=min(self.stage.timeout, LONGEST),
        )


def _host(plan: Plan, name: str) -> Host:
    host = plan.hosts.get(name) or Host(name=CONTROLLER, address="127.0.0.1")
    patience = min(_CONNECT, host.connection.connect_timeout)
    return replace(host, connection=replace(host.connection, connect_timeout=patience))


def _targets(matter: Matter) -> Targets:
    """Return targets that know of no lock: hosts are shown nothing."""
    hidden = fetching.variables(matter.plan, matter.known)
    hosts = {name: _host(matter.plan, name) for name in matter.plan.hosts}
    return Targets(
        matter.found.id,
        hosts,
        hidden=hidden,
        databases=matter.plan.databases,
        redis=matter.plan.redis,
        secrets=matter.known,
        runbook=matter.plan.runbook,
    )


def _within(look: Callable[[], T], targets: Targets) -> bool:
    """Look, for a bounded time; tell whether it came to its end."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            look()
        except OpskitError:
            pass  # what was found until then counts
        except BaseException as error:  # noqa: BLE001 - told where it was asked for
            errors.append(error)
        finally:
            targets.close()

    thread = threading.Thread(target=work, name="look", daemon=True)
    thread.start()
    thread.join(LONGEST)
    if errors:
        raise errors[0]
    if thread.is_alive():
        targets.hang_up()
    return not thread.is_alive()
