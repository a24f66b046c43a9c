"""What the record knows of an incident: what changed before it, and what was done since."""

from collections.abc import Iterator, Sequence

from opskit import audit
from opskit.audit import Store
from opskit.model.event import Entry
from opskit.model.incident import Change, Incident
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.settings import Settings

_MOST = 3000
"""So many runs are looked at, the newest ones: ten days of a look every five minutes."""


def incident(settings: Settings, name: str, within: float) -> Incident:
    """Gather what belongs to an incident that a run looked at; `within` in seconds."""
    store = audit.open(settings.store)
    try:
        run = store.load(store.find(name))
        runs = store.runs(since=run.created - within, limit=_MOST, previews=False)
        plans = _Plans(store)
        later = sorted((one for one in runs if one.created >= run.created), key=_begun)
        return Incident(
            run=run,
            plan=store.plan(run.id),
            within=within,
            whole=len(runs) < _MOST,
            before=tuple(_changes(plans, [one for one in runs if one.created < run.created])),
            since=tuple(_told(store, plans, run, later)),
        )
    finally:
        store.close()


class _Plans:
    """The plans of runs. Most runs are looks that go by one plan, which is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: dict[str, bool] = {}

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
    store: Store, plans: _Plans, about: Run, runs: Sequence[Run]
) -> Iterator[tuple[Run, tuple[Entry, ...]]]:
    """Yield the runs since then with what people said in them; looks that found nothing are not."""
    for run in runs:
        kinds = ("note", "decided")
        noted = tuple(one for one in store.entries(run.id) if one.event.kind in kinds)
        if run.id == about.id or noted or run.state != "succeeded" or plans.changes(run):
            yield run, noted
