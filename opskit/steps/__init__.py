"""The kinds of step, by the key that names them in a runbook; each is loaded where it is used."""

from collections.abc import Mapping

from opskit.model.runbook import Effect
from opskit.model.value import Json
from opskit.steps.base import Key, KeyType, Later, Scope, StepKind, Value
from opskit.steps.common import COMMON

KINDS: Mapping[str, StepKind] = {
    "run": Later("run"),
    "script": Later("script"),
    "upload": Later("upload"),
    "template": Later("template"),
    "http": Later("http"),
    "health": Later("health"),
    "sql": Later("sql"),
    "redis": Later("redis"),
    "keys": Later("keys"),
    "warm": Later("warm"),
    "queues": Later("queues"),
    "messages": Later("messages"),
    "indexes": Later("indexes"),
    "index": Later("index"),
    "duplicates": Later("duplicates"),
    "payouts": Later("payouts"),
    "rows": Later("rows"),
    "activity": Later("activity"),
    "sessions": Later("sessions"),
    "bloat": Later("bloat"),
    "traffic": Later("traffic"),
    "colours": Later("colours"),
    "gate": Later("gate"),
    "wait": Later("wait"),
    "assert": Later("assertion"),
    "confirm": Later("confirm"),
    "manual": Later("manual"),
    "notify": Later("notify"),
    "record": Later("record"),
    "runbook": Later("include"),
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
