"""The SSH library without what it loads for others: a third of the time that it takes to load."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def _version(name: str) -> str:
    """Return the version of an installed package, by the name of the folder that tells it."""
    found = PathFinder.find_spec(name)
    folder = Path(found.origin).parent.parent if found and found.origin else Path()
    told = next(folder.glob(f"{name}-*.dist-info"), Path(f"{name}-unknown"))
    return told.stem.partition("-")[2]


STAND_INS: Mapping[str, Mapping[str, object]] = {
    # Fabric brings a class for the tests of its users, and with it all of unittest and asyncio.
    "unittest.mock": {"Mock": object},
    # For one line, in which the library looks up its own version: the parser for e-mail, and zip.
    "importlib.metadata": {"version": _version},
}


@contextmanager
def lean() -> Iterator[None]:
    """Import the SSH library within this; whoever needs those modules later gets the real ones."""
    missing = [name for name in STAND_INS if name not in sys.modules]
    for name in missing:
        module = ModuleType(name)
        vars(module).update(STAND_INS[name])
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            sys.modules.pop(name, None)
