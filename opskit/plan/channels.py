"""What the inventory says of the channels that a message goes to."""

from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.model.channel import NOWHERE, Channel
from opskit.model.inventory import Inventory
from opskit.model.plan import Action
from opskit.model.runbook import Step
from opskit.model.text import text as known
from opskit.model.work import Notify
from opskit.steps.base import Value
from opskit.steps.notify import is_undo, named


def channels(inventory: Inventory, step: Step, args: Mapping[str, Value]) -> dict[str, Value]:
    """Return the channels that a step names, or those of all that name none; an undo has none."""
    names = () if is_undo(step) else named(args, step) or inventory.notify
    for name in names:
        if name != NOWHERE and name not in inventory.channels:
            there = ", ".join(sorted(inventory.channels))
            add = "add channels: {NAME: {webhook: SECRET}} to it, or name another one (-i)"
            raise InputError(
                f"the inventory has no channel {name[:60]!r}",
                where=str(step.places.get("notify.to") or step.place),
                hint=f"its channels: {there}" if there else add,
            )
    return {"to": tuple(known(name) for name in names)}


def channels_of(inventory: Inventory, actions: Iterable[Action]) -> Mapping[str, Channel]:
    """Return the channels that messages of a plan go to."""
    works = (action.work for action in actions)
    names = dict.fromkeys(name for work in works if isinstance(work, Notify) for name in work.to)
    return {name: inventory.channels[name] for name in names}
