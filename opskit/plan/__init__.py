"""Runbook + inventory + parameters → Plan, and plans made from plans. Pure.

What makes one stands in `plan.make`: a run that is only looked at does without.
"""

from opskit.plan.again import (
    acts,
    changes,
    closing,
    concerned,
    failed_undos,
    preview,
    reads_only,
    remaining,
    repeated,
    reverse,
    standing,
    state_of,
)
from opskit.plan.progress import EXCLUDE, UNDO, Progress, progress
from opskit.plan.spread import ALWAYS, PREFLIGHT

__all__ = [
    "ALWAYS",
    "EXCLUDE",
    "PREFLIGHT",
    "UNDO",
    "Progress",
    "acts",
    "changes",
    "closing",
    "concerned",
    "failed_undos",
    "preview",
    "progress",
    "reads_only",
    "remaining",
    "repeated",
    "reverse",
    "standing",
    "state_of",
]
