"""Values that a step uses though no step of this plan saves them: known before anything is done.

A step that saves a value may be left out by --from, or have a `when` that is false already when
planning. Whoever uses the value would then fail in the middle of the run, after changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from opskit.model.frozen import frozen
from opskit.model.plan import Action, Stage
from opskit.model.problem import Problem
from opskit.model.runbook import Step
from opskit.model.text import Late, Text
from opskit.model.value import SecretRef
from opskit.model.work import Command
from opskit.plan.expand import Placed
from opskit.render import TemplateError, fill

_ALL = ""
"""The key of what was saved for all hosts."""
_GUARDS = ("defined", "default", "d(")
"""Words of an expression that says itself what holds without the value."""


@frozen
class Saver:
    """The step that saves a value, and whether --from leaves it out."""

    step: Step
    left_out: bool


class _Look:
    """What is known of the values of a plan while its actions are walked through in order."""

    def __init__(self, savers: Mapping[str, Saver], stages: Mapping[str, Stage]) -> None:
        self.savers = savers
        self.stages = stages
        self.have: dict[str, set[str]] = {}
        """By host: the names of values that are there by now, as the run keeps them."""

    def lacks(self, action: Action) -> frozenset[str]:
        """Return the names, as the step writes them, whose values are not there for an action."""
        there = self.have.get(_ALL, set()) | self.have.get(action.host, set())
        renamed = self.stages[action.position].names
        kept = {name: renamed.get(name, name) for name in [*self.savers, *renamed]}
        return frozenset(n for n, k in kept.items() if k in self.savers and k not in there)

    def saves(self, action: Action) -> None:
        stage = self.stages[action.position]
        if stage.save is not None:
            host = _ALL if stage.scope in ("once", "batch", "controller") else action.host
            self.have.setdefault(host, set()).add(stage.save.name)

    def problem(self, used: Action, name: str) -> Problem:
        stage = self.stages[used.position]
        saver = self.savers[stage.names.get(name, name)]
        by = saver.step
        if saver.left_out:
            why, cure = "--from leaves it out", f"begin with --from {by.position}, or before it"
        else:
            where = f" on {used.host}" if used.host else ""
            idle = by.for_each is not None and by.when is None
            why = f"its {'`for_each` is empty' if idle else '`when` is false'}{where}"
            cure = f"give this step the same `when`, or write {name} | default('')"
        told = f"`{name}` will not be there: step {by.position} {by.name} ({by.place}) saves it"
        return Problem(place=stage.place, what=f"{told}, and {why}", write=cure)


def unsaved(
    actions: Sequence[Action],
    stages: Mapping[str, Stage],
    steps: Sequence[Placed],
    every: Sequence[Placed],
) -> list[Problem]:
    """Return a problem for each step that uses a value which its host will not have.

    `steps` are the plan's, `every` those of the runbook, before --from left any out.
    """
    if len(steps) == len(every) and not _some_idle(actions, stages, steps):
        return []
    look = _Look(_savers(steps, every), stages)
    found: dict[tuple[str, str], Problem] = {}
    for action in actions:
        for used, name in _walk(look, action):
            found.setdefault((used.position, name), look.problem(used, name))
    return list(found.values())


def _some_idle(
    actions: Sequence[Action], stages: Mapping[str, Stage], steps: Sequence[Placed]
) -> bool:
    """Tell whether a step that saves is known to be skipped, or planned nowhere, somewhere."""
    if any(_never(a.when) for a in actions if stages[a.position].save is not None):
        return True
    return any(p.step.save is not None and p.step.position not in stages for p in steps)


def _savers(steps: Sequence[Placed], every: Sequence[Placed]) -> Mapping[str, Saver]:
    """Return who saves what, by the name under which the run keeps it; the first where several."""
    planned = {placed.step.position for placed in steps}
    found: dict[str, Saver] = {}
    for placed in every:
        for step in _with_undo(placed.step):
            if step.save is not None:
                name = placed.frame.saved.get(step.save.name, step.save.name)
                out = placed.step.position not in planned
                found.setdefault(name, Saver(step=step, left_out=out))
    return found


def _with_undo(step: Step) -> Iterator[Step]:
    yield step
    for undo in step.undo:
        yield from _with_undo(undo)


def _walk(look: _Look, action: Action) -> Iterator[tuple[Action, str]]:
    """Yield the actions, this one and its undo, that use a value which is not there."""
    lacks = look.lacks(action)
    asked = _used_by_when(action.when, lacks)
    yield from ((action, name) for name in asked)
    if asked or _never(action.when, lacks):
        return
    lacks -= _guarded(action.when)
    for part in (action.work, action.skip_if, action.done_when):
        yield from ((action, name) for name in _used(part, lacks))
    look.saves(action)
    for undo in action.undo:
        yield from _walk(look, undo)


def _never(when: Text | None, lacks: frozenset[str] = frozenset()) -> bool:
    """Tell whether a condition is false whatever the run brings."""
    if when is None:
        return False
    return any(_said(part, lacks) == "False" for part in when.parts)


def _said(part: object, lacks: frozenset[str]) -> str | None:
    """Return what a part comes to; None when only the run knows. TemplateError: it fails."""
    if not isinstance(part, Late):
        return getattr(part, "text", "")
    if set(part.names) <= lacks:
        return fill(Text(parts=(part,)), {}).fixed()
    return None


def _used_by_when(when: Text | None, lacks: frozenset[str]) -> list[str]:
    """Return the names that a condition can't do without; one after a false one is not asked."""
    for part in when.parts if when is not None else ():
        names = _needed(part, lacks)
        if names:
            return names
        if _said(part, lacks) == "False":
            break
    return []


def _needed(part: object, lacks: frozenset[str]) -> list[str]:
    """Return the names that are not there and that a part of a text can't do without."""
    if not isinstance(part, Late) or not lacks & set(part.names):
        return []
    if set(part.names) <= lacks:
        try:
            _said(part, lacks)
        except TemplateError:
            return sorted(part.names)
        return []
    if any(word in part.source for word in _GUARDS):
        return []
    return sorted(lacks & set(part.names))


def _guarded(when: Text | None) -> frozenset[str]:
    """Return the names that a condition, true by now, has asked for: they are there."""
    parts = when.parts if when is not None else ()
    return frozenset(n for part in parts if isinstance(part, Late) for n in part.names)


def _used(value: object, lacks: frozenset[str]) -> list[str]:
    """Return the names that are not there and that something in a work can't do without."""
    if not lacks:
        return []
    if isinstance(value, Text):
        return [name for part in value.parts for name in _needed(part, lacks)]
    if isinstance(value, SecretRef):
        return [value.name] if value.name in lacks else []
    if isinstance(value, Mapping):
        return [name for inner in value.values() for name in _used(inner, lacks)]
    if isinstance(value, tuple):
        return [name for inner in value for name in _used(inner, lacks)]
    if not is_dataclass(value):
        return []
    secrets = (
        [n for n in value.secrets.values() if n in lacks] if isinstance(value, Command) else []
    )
    inside = [name for f in fields(value) for name in _used(getattr(value, f.name), lacks)]
    return secrets + inside
