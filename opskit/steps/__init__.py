"""The kinds of step, by the key that names them in a runbook."""

from collections.abc import Mapping

from opskit.model.runbook import Effect
from opskit.model.value import Json
from opskit.steps import (
    activity,
    assertion,
    confirm,
    duplicates,
    health,
    http,
    include,
    index,
    indexes,
    manual,
    notify,
    payouts,
    record,
    run,
    script,
    sessions,
    sql,
    template,
    traffic,
    upload,
    wait,
)
from opskit.steps.base import Key, KeyType, Later, Scope, StepKind, Value
from opskit.steps.common import COMMON

KINDS: Mapping[str, StepKind] = {
    "run": run,
    "script": script,
    "upload": upload,
    "template": template,
    "http": http,
    "health": health,
    "sql": sql,
    "redis": Later("redis"),
    "keys": Later("keys"),
    "warm": Later("warm"),
    "queues": Later("queues"),
    "messages": Later("messages"),
    "indexes": indexes,
    "index": index,
    "duplicates": duplicates,
    "payouts": payouts,
    "rows": Later("rows"),
    "activity": activity,
    "sessions": sessions,
    "traffic": traffic,
    "colours": Later("colours"),
    "gate": Later("gate"),
    "wait": wait,
    "assert": assertion,
    "confirm": confirm,
    "manual": manual,
    "notify": notify,
    "record": record,
    "runbook": include,
}
SELF_UNDOING = frozenset(
    {"upload", "template", "index", "payouts", "rows", "keys", "warm", "messages", "gate"}
)
"""Kinds whose effect opskit can take back without an `undo`, or that leave none."""


def effect_of(kind: StepKind, args: Mapping[str, Json]) -> Effect:
    """Tell whether a step reads or changes when it doesn't say so itself."""
    for key in kind.KEYS:
        if key.reads:
            return "read" if args.get(key.name, key.default) in key.reads else "change"
    return kind.EFFECT


__all__ = [
    "COMMON",
    "KINDS",
    "SELF_UNDOING",
    "Key",
    "KeyType",
    "Scope",
    "StepKind",
    "Value",
    "effect_of",
]
