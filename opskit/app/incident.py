"""What the record knows of an incident: what changed before, what was done and said since."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from opskit import audit
from opskit.app.inventories import of_inventory
from opskit.app.person import Person
from opskit.audit import Store
from opskit.errors import InputError
from opskit.model.event import Entry, Event
from opskit.model.incident import SAID, Change, Incident, Said, Word
from opskit.model.inventory import Inventory
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.settings import Settings

_MOST = 3000
"""So many runs are looked at, the newest ones: ten days of a look every five minutes."""
HEALTHY = 600.0
"""Seconds that all must have been well before an incident is resolved."""
LOOK, OVER = "sync-outage", "outage-over"
"""The runbooks that look at an outage, and whether it is over."""
_LASTS = 7 * 86400.0
"""So long after it began an incident that nobody has called resolved is still one."""


def incident(settings: Settings, name: str, within: float) -> Incident:
    """Gather what belongs to an incident that a run looked at; `within` in seconds.

    Without a name it is the one that was told of, unless it was looked again since it is resolved;
    else the newest look at an outage, else the last run.
    """
    store = audit.open(settings.store)
    try:
        run = store.load(store.find(name) if name else _meant(store))
        runs = store.runs(since=run.created - within, limit=_MOST, previews=False)
        plans = _Plans(store)
        later = sorted((one for one in runs if one.created >= run.created), key=_begun)
        plan = store.plan(run.id)
        wanted = (run.runbook, OVER)
        again = [
            one
            for one in later
            if one.id != run.id and one.runbook in wanted and plans.beside(one, run, plan)
        ]
        return Incident(
            run=run,
            plan=plan,
            within=within,
            whole=len(runs) < _MOST,
            before=tuple(_changes(plans, [one for one in runs if one.created < run.created])),
            since=tuple(_told(plans, run, later, store.said(run.created))),
            words=_words(store.entries(run.id)),
            latest=_latest(store, plans, [one for one in again if one.runbook == run.runbook]),
            over=_over([one for one in again if one.runbook == OVER]),
        )
    finally:
        store.close()


def _meant(store: Store) -> str:
    """Return the run of the incident that is meant where none is named."""
    looks, noted = _looks(store)
    for run in looks:
        said = _words(noted.get(run.id, ()))
        if said and (said[-1].said != "resolved" or said[-1].at >= looks[0].created):
            return run.id
    return looks[0].id if looks else store.find("last")


def open_one(settings: Settings, inventory: Inventory | None) -> str:
    """Return the run of the newest incident that was told of and is not resolved; "" if none is.

    `inventory`: the one that it must have been found with, where one is known.
    """
    store = audit.open(settings.store)
    try:
        looks, noted = _looks(store)
        for run in looks:
            said = _words(noted.get(run.id, ()))
            if not said or said[-1].said == "resolved":
                continue
            if inventory is None or of_inventory(store, run, inventory.file, inventory.hosts):
                return run.id
        return ""
    finally:
        store.close()


def _looks(store: Store) -> tuple[list[Run], Mapping[str, Sequence[Entry]]]:
    """Return the looks at outages, newest first, and what people said in them."""
    since = time.time() - _LASTS
    runs = store.runs(since=since, runbook=LOOK, limit=_MOST, previews=False)
    return runs, store.said(since, LOOK)


def _words(entries: Iterable[Entry]) -> tuple[Word, ...]:
    """Return what was said about an incident, oldest first."""
    return tuple(
        Word(at=entry.at, said=cast(Said, entry.event.data["word"]))
        for entry in entries
        if entry.event.kind == "note" and entry.event.data.get("word") in SAID
    )


def note_word(settings: Settings, run: str, said: Said, text: str, person: Person) -> None:
    """Keep in the record of an incident that something was said about it, and where."""
    store = audit.open(settings.store)
    try:
        data = {"who": person.who, "text": text, "word": said}
        store.append(run, Event(kind="note", data=data))
    finally:
        store.close()


def heard(settings: Settings, run: str) -> tuple[str, ...]:
    """Return the channels that have what a run told, also those that had it before."""
    store = audit.open(settings.store)
    try:
        came = [one.event.data for one in store.entries(run) if one.event.kind == "message"]
        return tuple(
            str(data["channel"])
            for data in came
            if data.get("delivered") is True or data.get("held") is True
        )
    finally:
        store.close()


def _latest(store: Store, plans: "_Plans", again: Sequence[Run]) -> Change | None:
    """Return the newest whole look of those that were made again."""
    ended = [run for run in again if run.ended is not None]
    if not ended:
        return None
    return Change(run=store.load(ended[-1].id), plan=plans.of(ended[-1]))


def _over(looks: Sequence[Run]) -> Run | None:
    return next((run for run in reversed(looks) if run.state == "succeeded"), None)


def refuse_resolved(found: Incident) -> None:
    """Refuse to call it resolved without a look that found nothing wrong for long enough."""
    last = found.newest.run
    bad = last.state != "succeeded" and (found.over is None or last.created > found.over.created)
    if found.over is None or bad or (found.over.ended or 0.0) - found.over.created < HEALTHY:
        raise InputError(
            f"nothing in the record shows that it is over: no {OVER} of ten minutes or more"
            f" succeeded after {last.runbook} {last.id}",
            hint=f"`opskit run {OVER}`, or add --unproven",
        )


class _Plans:
    """The plans of runs. Most runs are looks that go by one plan, which is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: dict[str, bool] = {}
        self._beside: dict[tuple[str, str], bool] = {}

    def beside(self, run: Run, other: Run, plan: Plan) -> bool:
        """Tell whether a run is for the inventory of the `other`, which goes by a plan."""
        key = (run.plan, run.inventory)
        if key not in self._beside:
            file = other.inventory or plan.inventory
            self._beside[key] = of_inventory(self._store, run, file, plan.hosts)
        return self._beside[key]

    def changes(self, run: Run) -> bool:
        """Tell whether a run changes something."""
        if run.plan not in self._reads:
            plan = self._store.plan(run.id)
            effects = (plan.stage(action).effect for action in plan.actions)
            self._reads[run.plan] = "change" not in effects
        return not self._reads[run.plan]

    def changed(self, run: Run) -> bool:
        """Tell whether a change of it was sent: one that was refused has changed nothing."""
        if not self.changes(run):
            return False
        plan = self.of(run)
        effects = {action.key: plan.stage(action).effect for action in plan.actions}
        return any(
            effects.get(key) == "change" and one.begun
            for key, one in self._store.load(run.id).actions.items()
        )

    def of(self, run: Run) -> Plan:
        return self._store.plan(run.id)


def _begun(run: Run) -> float:
    return run.created


def _changes(plans: _Plans, runs: Sequence[Run]) -> Iterator[Change]:
    return (Change(run=run, plan=plans.of(run)) for run in runs if plans.changed(run))


def _told(
    plans: _Plans, about: Run, runs: Sequence[Run], noted: Mapping[str, Sequence[Entry]]
) -> Iterator[tuple[Run, tuple[Entry, ...]]]:
    """Yield the runs since then with what people said in them; looks that found nothing are not."""
    for run in runs:
        said = tuple(noted.get(run.id, ()))
        if run.id == about.id or said or run.state != "succeeded" or plans.changes(run):
            yield run, said
