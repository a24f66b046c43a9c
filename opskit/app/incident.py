"""What the record knows of an incident: what changed before it, and what was done since."""

from collections.abc import Iterator, Sequence

from opskit import audit
from opskit.audit import Store
from opskit.model.event import Entry
from opskit.model.incident import Change, Incident
from opskit.model.run import Run
from opskit.settings import Settings

_MOST = 200
"""So many runs are looked at, the newest ones."""


def incident(settings: Settings, name: str, within: float) -> Incident:
    """Gather what belongs to an incident that a run looked at; `within` in seconds."""
    store = audit.open(settings.store)
    try:
        run = store.load(store.find(name))
        runs = store.runs(since=run.created - within, limit=_MOST, previews=False)
        later = sorted((one for one in runs if one.created >= run.created), key=_begun)
        return Incident(
            run=run,
            plan=store.plan(run.id),
            within=within,
            before=tuple(_changes(store, [one for one in runs if one.created < run.created])),
            since=tuple((one, tuple(_noted(store, one))) for one in later),
        )
    finally:
        store.close()


def _begun(run: Run) -> float:
    return run.created


def _changes(store: Store, runs: Sequence[Run]) -> Iterator[Change]:
    for run in runs:
        plan = store.plan(run.id)
        if any(plan.stage(action).effect == "change" for action in plan.actions):
            yield Change(run=run, plan=plan)


def _noted(store: Store, run: Run) -> Iterator[Entry]:
    return (entry for entry in store.entries(run.id) if entry.event.kind in ("note", "decided"))
