"""The dry run: what the hosts say now, beside a plan. Changes nothing."""

from collections.abc import Mapping
from dataclasses import field
from typing import cast

from opskit import audit
from opskit.app import secrets as fetching
from opskit.app.person import Person
from opskit.app.prepare import Prepared
from opskit.app.runs import announce
from opskit.app.session import Session, session
from opskit.execute import Stop, Watcher, execute
from opskit.execute.journal import Stream
from opskit.model.event import Entry, Event, Outcome
from opskit.model.frozen import frozen
from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, Run
from opskit.model.value import Json
from opskit.plan import PREFLIGHT, preview, progress
from opskit.plan.make import seal
from opskit.settings import Settings

STREAMS: tuple[Stream, ...] = ("stderr", "stdout")


@frozen
class Reading:
    """What one look came to. `at`: UTC seconds; `text`: the output, masked."""

    outcome: Outcome
    text: str
    evidence: Mapping[str, Json]
    at: float


@frozen
class Preview:
    """A plan with what was read for it. `refused` says why a run would end in preflight."""

    plan: Plan
    run: str | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    refused: str | None = None


def look(
    settings: Settings,
    prepared: Prepared,
    person: Person,
    watch: Watcher,
    *,
    reads: bool = True,
    command: str = "",
    stop: Stop | None = None,
) -> Preview:
    """Make the reads and probes of a plan, recorded as a run of kind *preview*."""
    plan = prepared.plan
    first = seal(preview(plan, {}))
    if not reads or not first.actions:
        return Preview(plan=plan)
    known = fetching.fetch(first, prepared.secrets, settings.environ)
    store = audit.open(settings.store)
    journal = store.create(
        first,
        kind="preview",
        who=person.who,
        origin=person.origin,
        reason="",
        command=command,
        documents=prepared.documents(),
        locks=(),
        secrets=list(known.values()),
        instead_of=audit.location(settings.instead),
    )
    with session(
        store, journal, first, known=known, person=person, watch=watch, stop=stop
    ) as current:
        announce(current)
        _read_on(current, plan)
        return _preview(current, plan)


def _read_on(current: Session, plan: Plan) -> None:
    """Read as far as the plan allows: a change that would not act lets the next reads happen."""
    while True:
        past = current.past()
        looks = preview(plan, progress(past))
        if not looks.actions:
            return
        state = execute(looks, past, current.outside, current.facts())
        before, after = len(progress(past)), len(progress(current.past()))
        if state == "waiting" or before == after:
            return


def _preview(current: Session, plan: Plan) -> Preview:
    entries = current.past()
    readings: dict[str, Reading] = {}
    for entry in entries:
        if entry.event.kind == "step ended":
            readings[entry.event.key.removesuffix("?dest")] = _reading(current, entry)
    return Preview(
        plan=plan,
        run=current.run,
        readings=readings,
        refused=_refusal(current, plan),
    )


def _reading(current: Session, entry: Entry) -> Reading:
    event = entry.event
    evidence = event.data.get("evidence")
    outcome = cast(Outcome, event.data["outcome"])
    return Reading(
        outcome=outcome,
        text=_printed(current, event, "stdout") if outcome == "succeeded" else _why(current, event),
        evidence=evidence if isinstance(evidence, Mapping) else {},
        at=entry.at,
    )


def _why(current: Session, event: Event) -> str:
    """Return why a read did not succeed, with what it printed: standard error says most."""
    reason = str(event.data.get("reason") or "")
    said = (_printed(current, event, stream).strip("\n") for stream in STREAMS)
    return "\n".join(filter(None, (reason, *said)))


def _printed(current: Session, event: Event, stream: Stream) -> str:
    output = current.store.output(current.run, event.key, event.attempt, stream)
    return b"".join(output).decode(errors="replace")


def _refusal(current: Session, plan: Plan) -> str | None:
    """Say why a run would be refused: preflight that failed on more hosts than the budget has.

    So would one whose read was refused for what it names.
    """
    found = current.store.load(current.run)
    failed: dict[str, str] = {}
    for action in plan.actions:
        record = found.actions.get(action.key)
        if record is None or record.state not in ("failed", "unknown"):
            continue
        if action.batch == PREFLIGHT or record.refused:
            why = f"{plan.stage(action).name}: {_in_short(current, record)}"
            failed.setdefault(action.host or action.target, why)
    for host in (h for h, state in found.hosts.items() if state == "unreachable"):
        why = found.unreachable.get(host, "").removeprefix(f"host {host}: ")
        failed[host] = f"unreachable: {why}" if why else "unreachable"
    if len(failed) <= plan.max_failures:
        return None
    told = _by_server(found, failed)
    host, why = next(iter(told.items()))
    noun = "" if len(told) > len(failed.keys() & told.keys()) else " host"
    others = f"{len(told) - 1} more{noun}{'s' if noun and len(told) > 2 else ''}"
    return f"{host}: {why}" + (f"; and {others}" if len(told) > 1 else "")


def _by_server(found: Run, failed: Mapping[str, str]) -> Mapping[str, str]:
    """Name the server that can't be reached instead of every host whose steps need it."""
    servers = {n: f"unreachable: {why}" for n, why in found.unreachable.items()
               if n not in found.hosts}  # fmt: skip
    if not servers:
        return failed
    return servers | {host: why for host, why in failed.items() if why != "unreachable"}


def _in_short(current: Session, record: ActionRecord) -> str:
    """Return why a read failed, and the last that it said: an exit status alone tells nobody."""
    reason = str(record.data.get("reason") or record.state)
    for stream in STREAMS:
        output = current.store.output(current.run, record.key, record.attempt, stream)
        rows = b"".join(output).decode(errors="replace").strip().splitlines()
        if rows:
            return f"{reason}: {rows[-1].strip()}"
    return reason
