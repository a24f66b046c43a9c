"""What to call an action on the screen."""

from collections.abc import Iterator, Mapping

from opskit.model.event import Event
from opskit.model.inventory import CONTROLLER
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord
from opskit.view import amounts, names, safe


class Labels:
    """Finds position and name of a step from the key of one of its actions."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._actions: dict[str, Action] = {a.key: a for a in _all(plan.actions)} if plan else {}
        self._plan = plan
        self.elsewhere = elsewhere(plan)
        self.host_columns = (
            min(20, max((len(name) for name in [*plan.hosts, *run_hosts(plan)]), default=4))
            if plan
            else 8
        )

    def action(self, key: str) -> Action | None:
        """Return the action of a key; the probes of a dry run have a `?` after it."""
        return self._actions.get(key) or self._actions.get(key.partition("?")[0])

    def position(self, key: str) -> str:
        action = self.action(key)
        return action.position if action else ""

    def step(self, item: Event | ActionRecord) -> str:
        """Return position, name and, where there are several, which item and which target."""
        return self.named(item.key, item.step)

    def named(self, key: str, otherwise: str = "") -> str:
        """Return the same of a key; `otherwise`: what it is called that no plan has."""
        action = self.action(key)
        if action is None or self._plan is None:
            return safe.one_line(otherwise or key)
        name = self._plan.stages[action.position].name
        target = f" [{action.target}]" if action.host not in ("", action.target) else ""
        item_ = f" #{action.index + 1}" if "#" in action.key else ""
        return safe.one_line(f"{action.position} {name}{item_}{target}")


def _all(actions: tuple[Action, ...]) -> Iterator[Action]:
    for action in actions:
        yield action
        yield from _all(action.undo)


def short(data: Mapping[str, object], key: str) -> str:
    """Return a value of an event as one harmless line, empty where there is none."""
    value = data.get(key)
    return "" if value is None else safe.one_line(str(value))


def machine(action: Action) -> str:
    """Return the host that an action is for; where it is for none, the machine it runs on."""
    return action.host or action.target


def run_hosts(plan: Plan) -> tuple[str, ...]:
    """Return the hosts that a run is for; balancers and others that it also touches are not."""
    return tuple(host for batch in plan.batches for host in batch)


def elsewhere(plan: Plan | None) -> tuple[str, ...]:
    """Return the servers that a run works at, where it works at none of its hosts; or nothing.

    A runbook for one Redis has the hosts of the inventory like any other, and leaves them alone.
    """
    if plan is None:
        return ()
    own, found = frozenset(run_hosts(plan)), dict[str, None]()
    for action in _all(plan.actions):
        if machine(action) in own:  # mostly the first: this is asked for each part of a long plan
            return ()
        found[machine(action)] = None
    return tuple(name for name in found if name != CONTROLLER) or tuple(found)


def extent(plan: Plan) -> str:
    """Say where a run works: how many hosts, or which servers."""
    at = elsewhere(plan)
    return names.listed(at, 40) if at else amounts.count(len(run_hosts(plan)), "host")
