"""Runbook + inventory + parameters → Plan, and plans made from plans. Pure."""

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
from opskit.plan.make import make, seal
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
    "make",
    "preview",
    "progress",
    "reads_only",
    "remaining",
    "repeated",
    "reverse",
    "seal",
    "standing",
    "state_of",
]
