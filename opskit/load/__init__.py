"""Files → Runbook, Inventory, parameters, and every problem in them."""

from opskit.load.runbook import check, runbook

__all__ = ["check", "runbook"]
