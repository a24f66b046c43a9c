"""Includes are inlined: a runbook becomes one flat list of steps, each with the names it sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from opskit.model.frozen import frozen
from opskit.model.runbook import Phase, Runbook, Step
from opskit.model.value import Json
from opskit.plan.values import Frame, saved_names, saved_secrets


@frozen
class Placed:
    """A step with its frame, the runbook that it comes from, and the conditions of its includes."""

    step: Step
    phase: Phase
    frame: Frame
    runbook: Runbook
    conditions: tuple[tuple[str, Frame], ...] = ()


def top_frame(runbook: Runbook, parameters: Mapping[str, Json]) -> Frame:
    """Make the frame of the runbook that is run."""
    steps = [*runbook.steps, *runbook.always]
    hidden = saved_secrets(steps)
    return Frame(parameters=parameters, saved=saved_names(steps, ""), hidden=hidden)


def expand(runbook: Runbook, frame: Frame) -> Iterator[Placed]:
    """Yield every step in the order of its phase: preflight, main, always (the outer's first)."""
    placed = list(_walk(runbook, runbook.steps, frame, (), "main"))
    yield from (p for p in placed if p.phase == "preflight")
    yield from (p for p in placed if p.phase == "main")
    yield from _walk(runbook, runbook.always, frame, (), "always")
    yield from (p for p in placed if p.phase == "always")


def _walk(
    runbook: Runbook,
    steps: Sequence[Step],
    frame: Frame,
    conditions: tuple[tuple[str, Frame], ...],
    phase: Phase,
) -> Iterator[Placed]:
    for step in steps:
        within: Phase = phase if phase == "always" else step.phase
        if step.include is None:
            kept = _kept(step, frame)
            yield Placed(
                step=kept, phase=within, frame=frame, runbook=runbook, conditions=conditions
            )
            continue
        inner = inner_frame(step, step.include, frame)
        held = (*conditions, (step.when, frame)) if step.when else conditions
        include = step.include
        for found in _walk(include, _under(step, include.steps), inner, held, phase):
            yield _in_preflight(found) if within == "preflight" else found
        yield from _walk(include, _under(step, include.always), inner, held, "always")


def _kept(step: Step, frame: Frame) -> Step:
    """Name the secrets that a step uses as the run keeps them; those of includes are private."""
    return replace(
        step,
        secrets={k: frame.secret(name) or name for k, name in step.secrets.items()},
        undo=tuple(_kept(undo, frame) for undo in step.undo),
        done_when=_kept(step.done_when, frame) if step.done_when else None,
    )


def _under(outer: Step, steps: Sequence[Step]) -> list[Step]:
    """Number the steps of an include under the step that includes them: 3 → 2.3."""
    return [
        replace(
            step,
            position=f"{outer.position}.{step.position}",
            undo=tuple(_under(outer, step.undo)),
        )
        for step in steps
    ]


def _in_preflight(placed: Placed) -> Placed:
    """An include in preflight brings all its main steps there."""
    return replace(placed, phase="preflight") if placed.phase == "main" else placed


def inner_frame(step: Step, runbook: Runbook, outer: Frame) -> Frame:
    """Make the frame of a runbook that a step includes."""
    prefix = f"{step.position}:"
    saved = saved_names([*runbook.steps, *runbook.always], prefix)
    for name in runbook.export:
        saved[name] = outer.saved.get(name, outer.prefix + name)
    defaults = {p.name: p.default for p in runbook.params if p.name not in step.with_}
    return Frame(
        parameters=defaults,
        saved=saved,
        prefix=prefix,
        given=step.with_,
        outer=outer,
        hidden=saved_secrets([*runbook.steps, *runbook.always]),
    )


def included(runbook: Runbook) -> Iterator[str]:
    """Yield the names of all runbooks that one includes."""
    for step in [*runbook.steps, *runbook.always]:
        if step.include:
            yield step.include.name
            yield from included(step.include)
