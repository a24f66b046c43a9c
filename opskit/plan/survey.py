"""Looks at what is changed, which opskit adds to a plan before all steps."""

from collections.abc import Iterable, Iterator, Mapping

from opskit.model.plan import Action, Stage
from opskit.model.runbook import Effect
from opskit.model.text import Fixed, Text
from opskit.model.work import Work
from opskit.plan.spread import PREFLIGHT

SURVEY = "0:"
"""What the position of a look has before the name of its server: it comes before all steps."""


def foreseen(deed: Action, work: Work, server: str, stages: dict[str, Stage]) -> Action:
    """Return a look at whether a deed can be done, to be taken before anything is.

    `work`: the deed's own, that only looks.
    """
    stage = stages[deed.position]
    position = f"{SURVEY}{server}:{deed.position}"
    stages[position] = Stage(
        position=position,
        name=f"Before: {stage.name}",
        kind=stage.kind,
        place=stage.place,
        phase="preflight",
        effect="read",
        scope="controller",
        timeout=stage.timeout,
    )
    return Action(
        key=f"{position}/",
        position=position,
        batch=PREFLIGHT,
        host="",
        target=deed.target,
        work=work,
        when=deed.when if deed.when is not None and not deed.when.late else None,
    )


def every(
    actions: Iterable[Action], stages: Mapping[str, Stage]
) -> Iterator[tuple[Action, Effect]]:
    """Yield actions and what takes them back, each with what it does to the world.

    Not what is left out for certain: nothing has to be there for it.
    """
    for action in actions:
        if never(action.when):
            continue
        yield action, stages[action.position].effect
        yield from every(action.undo, stages)


def never(when: Text | None) -> bool:
    """Tell whether a condition is known to be false when planning."""
    parts = when.parts if when is not None else ()
    return any(isinstance(part, Fixed) and part.text == "False" for part in parts)
