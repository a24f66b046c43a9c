"""Runbook + inventory + parameters → Plan, and plans made from plans. Pure."""

from opskit.plan.progress import Progress, progress

__all__ = ["Progress", "progress"]
