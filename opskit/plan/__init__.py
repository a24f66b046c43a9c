"""Runbook + inventory + parameters → Plan, and plans made from plans. Pure."""

from opskit.plan.again import (
    concerned,
    failed_undos,
    preview,
    reads_only,
    remaining,
    repeated,
    reverse,
    state_of,
)
from opskit.plan.make import make, seal
from opskit.plan.progress import Progress, progress
from opskit.plan.spread import ALWAYS, PREFLIGHT

__all__ = [
    "ALWAYS",
    "PREFLIGHT",
    "Progress",
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
    "state_of",
]
