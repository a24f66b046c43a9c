"""The two tables of states and the moves that are allowed between them."""

from collections.abc import Mapping
from typing import Literal

ActionState = Literal[
    "planned", "started", "succeeded", "failed", "unknown", "skipped", "undone", "undo failed"
]
RunState = Literal[
    "planned",
    "running",
    "waiting",
    "undoing",
    "succeeded",
    "failed",
    "undone",
    "aborted",
    "unknown",
]

ACTION_MOVES: Mapping[ActionState, frozenset[ActionState]] = {
    "planned": frozenset({"started", "skipped"}),
    "started": frozenset({"succeeded", "failed", "unknown", "planned"}),
    "succeeded": frozenset({"undone", "undo failed"}),
    "failed": frozenset({"started", "succeeded", "skipped", "undone", "undo failed"}),
    "unknown": frozenset({"started", "succeeded", "failed", "skipped", "planned"}),
    "skipped": frozenset(),
    "undone": frozenset({"started"}),
    "undo failed": frozenset({"undone", "undo failed"}),
}

RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    "planned": frozenset({"running", "aborted"}),
    "running": frozenset(
        {"running", "waiting", "undoing", "succeeded", "failed", "aborted", "unknown"}
    ),
    "waiting": frozenset({"running", "undoing", "aborted", "failed"}),
    "undoing": frozenset(
        {"undoing", "running", "waiting", "undone", "failed", "unknown", "aborted"}
    ),
    "succeeded": frozenset({"undoing"}),
    "failed": frozenset({"running", "undoing"}),
    "undone": frozenset(),
    "aborted": frozenset({"running", "undoing"}),
    "unknown": frozenset({"running", "undoing", "failed", "succeeded"}),
}
