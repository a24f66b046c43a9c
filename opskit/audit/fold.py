"""Entries → Run: what a run is follows from what happened in it, and from nothing else."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never, cast

from opskit.model.event import Entry, Event
from opskit.model.frozen import frozen
from opskit.model.run import ActionRecord, HostState, Run
from opskit.model.states import RunState
from opskit.model.value import Json

OPEN: frozenset[RunState] = frozenset({"planned", "running", "waiting", "undoing"})
"""A run in one of these has not ended: it keeps its locks, whether its process lives or not."""

SHARED = ""
"""The host of a value that a step saved for all hosts."""


@frozen
class Standing:
    """Where a run as a whole stands after some of its events."""

    state: RunState = "planned"
    ended: float | None = None
    hosts: Mapping[str, Json] | None = None
    question: Mapping[str, Json] | None = None
    exit: int | None = None


def moved(standing: Standing, event: Event, at: float) -> Standing:
    """Return where the run stands after one more event, at `at` in UTC seconds."""
    match event.kind:
        case (
            "run created" | "run imported" | "note" | "message" | "budget tripped" | "plan amended"
        ):  # fmt: skip
            return standing
        case "step ended" | "step skipped" | "step silent":
            # What was in flight may come in after the run has begun to wait.
            return standing
        case "run resumed":
            # Whoever came may have gone before anything was answered: the question stands.
            return standing if standing.state in ("undoing", "waiting") else _RUNNING
        case "decided" | "host opened" | "host unreachable":
            return standing if standing.state == "undoing" else _RUNNING
        case "step started":
            return Standing(state="undoing" if _takes_back(event) else "running")
        case "undo began":
            return Standing(state="undoing")
        case "waiting":
            asked = {"key": event.key, "host": event.host, "step": event.step, **event.data}
            return Standing(state="waiting", question=asked)
        case "run ended":
            status = cast(RunState, event.data["status"])
            code = event.data.get("exit")
            return Standing(
                state=status,
                ended=at,
                hosts=_object(event.data.get("hosts")),
                exit=code if isinstance(code, int) else None,
            )
        case _:
            assert_never(event.kind)


_RUNNING = Standing(state="running")


def _takes_back(event: Event) -> bool:
    """Tell whether an action is of an undo: "3/web1!1" is the first undo of 3 on web1."""
    return "!" in event.key


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def run(
    id_: str,
    number: int,
    entries: Sequence[Entry],
    plan: Callable[[], Mapping[str, Any]],
    *,
    driver: str = "",
) -> Run:
    """Fold the entries of a run; `plan` fetches its plan as JSON, `driver` carries it out now."""
    from opskit.plan import Progress  # brings all that makes plans: lists of runs don't need it

    standing, so_far, asked = Standing(), Progress(), 0
    for entry in entries:
        asked = entry.number if entry.event.kind == "waiting" else asked
        standing = moved(standing, entry.event, entry.at)
        so_far.take(entry.event, entry.at)
    actions: Mapping[str, ActionRecord] = so_far.records
    hosts = standing.hosts
    if hosts is None:
        actions = actions if driver else _left(actions, plan())
        known = {key: record for key, record in actions.items() if record.state != "planned"}
        begun = _begun(plan(), actions)
        found = _hosts(entries, known, plan(), begun, alive=bool(driver))
        hosts = {name: _kept_out(state, name, so_far.excluded) for name, state in found.items()}
    created = entries[0]
    return Run(
        id=id_,
        number=number,
        created=created.at,
        state=standing.state,
        ended=standing.ended,
        exit=standing.exit,
        hosts=cast(Mapping[str, HostState], hosts),
        actions=actions,
        saved=_saved(entries),
        question=standing.question,
        asked=asked if standing.question is not None else 0,
        entries=len(entries),
        driver=driver if standing.state in OPEN else "",
        unreachable=_unreachable(entries),
        **{**facts(created.event), **_amended(entries)},
    )


def _kept_out(state: HostState, host: str, excluded: Collection[str]) -> HostState:
    """Say of a host that the run goes on without it, unless something is known that counts more."""
    kept = host in excluded and state not in ("undo failed", "unknown", "undone")
    return "excluded" if kept else state


def _amended(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the digest of the plan that a run carries out by now, where that was changed."""
    last = next((e.event for e in reversed(entries) if e.event.kind == "plan amended"), None)
    return {} if last is None else {"plan": str(last.data.get("plan") or "")}


def _unreachable(entries: Sequence[Entry]) -> Mapping[str, str]:
    """Return why hosts can't be reached, by host."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.event.kind == "host unreachable":
            found[entry.event.host] = str(entry.event.data.get("reason") or "")
        elif entry.event.kind == "host opened":
            found.pop(entry.event.host, None)
    return found


def facts(created: Event) -> dict[str, Any]:
    """Return what a run's first event says of it, by the fields of `Run`."""
    names = {"kind": "kind", "runbook": "runbook", "version": "version", "plan": "plan",
             "who": "who", "origin": "from", "reason": "reason", "inventory": "inventory",
             "override": "override_window"}  # fmt: skip
    return {field: str(created.data.get(name) or "") for field, name in names.items()}


def _saved(entries: Sequence[Entry]) -> Mapping[str, Mapping[str, str]]:
    saved: dict[str, dict[str, str]] = {}
    for entry in entries:
        for host, name, value in saved_by(entry.event):
            saved.setdefault(host, {})[name] = value
    return saved


def saved_by(event: Event) -> Iterator[tuple[str, str, str]]:
    """Yield the values that an action saved: host (SHARED: for all), name, value."""
    values = event.data.get("saved") if event.kind == "step ended" else None
    if isinstance(values, Mapping):
        host = SHARED if event.data.get("shared") else event.host
        for name, value in values.items():
            yield host, name, str(value)


# ---- hosts of a run that has not ended


def _hosts(
    entries: Sequence[Entry],
    actions: Mapping[str, ActionRecord],
    plan: Mapping[str, Any],
    begun: Collection[str],
    *,
    alive: bool = False,
) -> Mapping[str, HostState]:
    """Return where hosts stand, of which these have `begun`; `alive`: what was started may well be
    going on."""
    states: dict[str, set[str]] = {}
    for record in actions.values():
        if record.undoes is None:
            states.setdefault(record.host, set()).add(record.state)
    for host in _unreachable(entries):
        states.setdefault(host, set()).add("unreachable")
    left: dict[str, HostState] = {
        a["host"]: "not started" for a in _own_actions(plan) if a["key"] not in actions
    }
    left |= dict.fromkeys(left.keys() & begun, "begun")
    if alive:
        left |= {host: "begun" for host, found in states.items() if "started" in found}
        states = {host: found - {"started"} for host, found in states.items()}
    everyone = (host for batch in plan.get("batches", ()) for host in batch)
    return {host: _host(states.get(host, set()), left.get(host, "done")) for host in everyone}


def _left(
    actions: Mapping[str, ActionRecord], plan: Mapping[str, Any]
) -> Mapping[str, ActionRecord]:
    """Take reads and waits that nobody carries on with for planned: they are done again."""
    again = {
        position
        for position, stage in plan.get("stages", {}).items()
        if stage["effect"] == "read" or stage["kind"] == "wait"
    }
    spots = {a["key"]: a["position"] for a in _every_action(plan)}
    return {
        key: replace(record, state="planned")
        if record.state == "started" and spots.get(key) in again
        else record
        for key, record in actions.items()
    }


def _every_action(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for action in plan.get("actions", ()):
        yield action
        yield from action.get("undo", ())


def _begun(plan: Mapping[str, Any], actions: Mapping[str, ActionRecord]) -> Collection[str]:
    """Return the hosts on which something of the main part was done and still stands."""
    main = (a for a in plan.get("actions", ()) if a["batch"] >= 0 and a["key"] in actions)
    idle = ("planned", "skipped", "undone")
    return {a["host"] for a in main if actions[a["key"]].stands not in idle}


def _own_actions(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the main actions that each host has to itself."""
    own = {p for p, stage in plan.get("stages", {}).items() if stage["scope"] in ("each", "group")}
    return (a for a in plan.get("actions", ()) if a["batch"] >= 0 and a["position"] in own)


def _host(states: Collection[str], otherwise: HostState) -> HostState:
    """Return the worst that is known of a host; what has started and not ended is unknown."""
    if "undo failed" in states:
        return "undo failed"
    if "unknown" in states or "started" in states:
        return "unknown"
    if "undone" in states:
        return "undone"
    if "unreachable" in states:
        return "unreachable"
    if "failed" in states:
        return "failed"
    return otherwise
