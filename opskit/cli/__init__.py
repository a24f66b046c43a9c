"""The command line: arguments → one function of `opskit.app` → a view → an exit status."""

import gc
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit status."""
    # There are few cycles in a short life. To look for them took a tenth of it, and once more than
    # that with the 80 000 values that are there when the libraries are loaded.
    gc.set_threshold(200_000, 50, 50)
    sys.modules.setdefault(_MOCK, _left_out())
    from opskit.cli import root

    root.main(argv)


_MOCK = "unittest.mock"


def _left_out() -> ModuleType:
    """Return what stands in for `unittest.mock` until somebody wants more of it than `Mock`.

    Invoke, on which Fabric stands, imports that for one class that helps to test its users. It
    brings asyncio with it, and was a fifth of what Fabric costs at each start.
    """
    module = ModuleType(_MOCK)
    module.Mock = object  # type: ignore[attr-defined]

    def real(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        sys.modules.pop(_MOCK, None)
        import unittest.mock

        return getattr(unittest.mock, name)

    module.__getattr__ = real  # type: ignore[method-assign]
    return module
