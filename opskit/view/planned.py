"""A plan as JSON objects: the plan, then each action with its text and what was read for it."""

import time
from collections.abc import Iterator, Mapping

from opskit.model.plan import Action, Plan
from opskit.model.value import Json
from opskit.view import works
from opskit.view.plan import counts
from opskit.view.readings import Reading, Readings, keys


def objects(
    plan: Plan, readings: Readings, *, run: str | None, refused: str | None
) -> Iterator[Mapping[str, Json]]:
    """Yield the plan as a whole, then its actions in their order."""
    total = counts(plan.actions, plan.stages)
    yield {
        "kind": "plan",
        "digest": plan.digest,
        "runbook": plan.runbook,
        "version": plan.version,
        "file": plan.file,
        "inventory": plan.inventory,
        "parameters": dict(plan.parameters),
        "batches": [list(batch) for batch in plan.batches],
        "max_failures": plan.max_failures,
        "on_failure": plan.on_failure,
        "counts": {
            "read": total.read,
            "change": total.change,
            "undetermined": total.undetermined,
        },
        "preview": run,
        "refused": refused,
        **({"changes_now": _hours(plan)} if plan.windows or plan.freezes else {}),
    }
    for action in plan.actions:
        yield _action(plan, action, readings)


def _hours(plan: Plan) -> Json:
    from opskit.plan import reads_only  # few inventories have any hours
    from opskit.plan.windows import shut

    now = None if reads_only(plan) else shut(plan, time.time())
    if now is None:
        return {"allowed": True}
    opens = now.opens.isoformat() if now.opens else None
    return {"allowed": False, "why": now.why, "where": now.where, "opens": opens}


def _action(plan: Plan, action: Action, readings: Readings) -> Mapping[str, Json]:
    stage = plan.stages[action.position]
    waits = works.late_names(action)
    return {
        "kind": "action",
        "key": action.key,
        "batch": action.batch,
        "position": action.position,
        "step": stage.name,
        "host": action.host,
        "target": action.target,
        "effect": stage.effect,
        "determined": not waits,
        "waits_for": list(waits),
        "when": None if action.when is None else str(action.when),
        "text": works.lines(action.work, full=True),
        "undo": [line for undo in action.undo for line in works.lines(undo.work, full=True)],
        "readings": [_reading(readings[key]) for key in keys(action) if key in readings],
    }


def _reading(reading: Reading) -> Mapping[str, Json]:
    return {
        "outcome": reading.outcome,
        "text": reading.text,
        "evidence": dict(reading.evidence),
        "at": reading.at,
    }
