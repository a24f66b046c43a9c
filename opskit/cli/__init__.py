"""The command line: arguments → one function of `opskit.app` → a view → an exit status."""

from opskit.cli.root import main

__all__ = ["main"]
