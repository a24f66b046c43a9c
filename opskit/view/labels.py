"""What to call an action on the screen."""

from collections.abc import Iterator, Mapping

from opskit.model.event import Event
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord
from opskit.view import safe


class Labels:
    """Finds position and name of a step from the key of one of its actions."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._actions: dict[str, Action] = {a.key: a for a in _all(plan.actions)} if plan else {}
        self._plan = plan
        self.host_columns = (
            min(20, max((len(name) for name in plan.hosts), default=4)) if plan else 8
        )

    def action(self, key: str) -> Action | None:
        return self._actions.get(key)

    def position(self, key: str) -> str:
        action = self._actions.get(key)
        return action.position if action else ""

    def step(self, item: Event | ActionRecord) -> str:
        """Return position, name and, where it is another, the target of an action."""
        action = self._actions.get(item.key)
        if action is None or self._plan is None:
            return safe.one_line(item.step or item.key)
        name = self._plan.stages[action.position].name
        target = f" [{action.target}]" if action.target != action.host else ""
        return safe.one_line(f"{action.position} {name}{target}")


def _all(actions: tuple[Action, ...]) -> Iterator[Action]:
    for action in actions:
        yield action
        yield from _all(action.undo)


def short(data: Mapping[str, object], key: str) -> str:
    """Return a value of an event as one harmless line, empty where there is none."""
    value = data.get(key)
    return "" if value is None else safe.one_line(str(value))
