"""The command line: arguments → one function of `opskit.app` → a view → an exit status."""

import gc
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit status."""
    # There are few cycles in a short life. To look for them took a tenth of it, and once more than
    # that with the 80 000 values that are there when the libraries are loaded.
    gc.set_threshold(200_000, 50, 50)
    from opskit.cli import root

    root.main(argv)
